"""Authority: what an officer may do, where, and until when.  Nobody may do anything by default.

An office is held at an organisation, in a role, for a term.  It permits what its role permits, at
that organisation and all below.  Every method of officers names one permission (access.proto); the
gate refuses who holds it nowhere, and what the call is about is decided on where the record is
read: `Scope.check` takes the path of the organisation of the stored row, never of the request.

Pure: offices and the time come in.
"""

from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from uuid import UUID

from kit.errors import PermissionDenied, Unavailable

SUBJECT = "(?![0-9]{11,}[Xx]?$)[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""How a token names an officer, after `officers/`.  A phone or ID number is no name: names stand in
logs and in the audit trail."""

REVEAL = "pii.reveal"
"""The permission to see personal data with nothing masked, for a purpose that is recorded."""

FOR_EVER = datetime.max.replace(tzinfo=UTC)


class Role(IntEnum):
    """What an officer is, with the numbers of the contract."""

    CHAIR = 1
    MEMBERSHIP = 2
    FINANCE = 3
    BENEFITS = 4
    RIGHTS = 5
    AUDITOR = 6
    NODE_OPERATOR = 7
    PROXY = 8


_READING = frozenset(
    {
        "organization.read", "office.read", "application.read", "member.read", "roster.read",
        "card.read", "programme.read", "notice.read", "voice.read", "directive.read",
        "network.read", "audit.read",
    }
)  # fmt: skip

PERMISSIONS: dict[Role, frozenset[str]] = {
    Role.CHAIR: _READING
    | {
        "office.appoint", "application.create", "application.decide", "roster.import", REVEAL,
        "member.unbind", "member.end", "member.erase", "card.manage", "programme.manage",
        "notice.post", "voice.handle", "directive.issue", "directive.report",
        "view.set",
    },
    Role.MEMBERSHIP: frozenset(
        {
            "organization.read", "application.create", "application.read", "application.decide",
            "member.read", "member.unbind", "member.end", "roster.import", "roster.read",
            "card.read", "card.manage", "notice.read", REVEAL,
        }
    ),
    Role.FINANCE: frozenset({"organization.read", "programme.read", "notice.read"}),
    Role.BENEFITS: frozenset(
        {
            "organization.read", "member.read", "card.read", "card.manage", "programme.read",
            "programme.manage", "notice.read", "notice.post",
        }
    ),
    Role.RIGHTS: frozenset(
        {"organization.read", "voice.read", "voice.handle", "notice.read", "notice.post"}
    ),
    Role.AUDITOR: _READING,
    Role.NODE_OPERATOR: frozenset(
        {
            "organization.read", "network.read", "node.admit", "event.watch", "subscriber.manage",
            "directive.read", "view.set",
        }
    ),
    Role.PROXY: frozenset(
        {
            "organization.read", "application.create", "application.read", "roster.import",
            "roster.read",
        }
    ),
}  # fmt: skip
"""What each role permits.  The one place."""


class NoOffice(PermissionDenied):
    message = (
        "{caller} holds no office at this node, in force now, that permits {permission}; "
        "ExplainAccess says which would"
    )
    chinese = (
        "{caller} 在本节点没有可执行 {permission} 的有效职务；ExplainAccess 会说明需要何种职务"
    )


class OutsideScope(PermissionDenied):
    message = (
        "no office of {caller} permits {permission} for this organisation; an officer of it or of "
        "one above may; ExplainAccess says more"
    )
    chinese = (
        "{caller} 的职务不能对该组织执行 {permission}；应由该组织或其上级的干部办理；"
        "ExplainAccess 会说明详情"
    )


class FiledByCaller(PermissionDenied):
    message = (
        "{caller} filed {resource}, and who files does not decide: another officer may, of "
        "{organization} or above, who is permitted {permission}"
    )
    chinese = (
        "{resource} 由 {caller} 提交，提交人不得审批；应由 {organization} 或其上级中"
        "具有 {permission} 权限的其他干部办理"
    )


class DecidedAbove(PermissionDenied):
    message = (
        "fewer than two officers of the organisation of {resource} may decide, so the next one "
        "above does: an officer of {organization} or above who is permitted {permission}"
    )
    chinese = (
        "{resource} 所属组织中可审批的干部不足两人，应由上级办理：{organization} 或其上级中"
        "具有 {permission} 权限的干部"
    )


class ScopeUndecided(PermissionDenied):
    message = "{method} has not asked whose the records are; so nothing of them is answered"
    chinese = "{method} 未核对记录所属的组织，因此不予返回"


class OfficesUnread(Unavailable):
    message = "this service has not read yet who holds which office; repeat the call in a moment"
    chinese = "本服务尚未读取干部职务信息；请稍后重试"


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """One office of one holder."""

    id: UUID
    holder: str
    role: Role
    path: str
    """Of the organisation: see `kit.organizations`."""
    begin_time: datetime
    end_time: datetime | None
    """The first moment at which it no longer counts."""

    @property
    def name(self) -> str:
        return f"offices/{self.id}"

    @property
    def ends(self) -> datetime:
        """Like `end_time`, also of an office without an end."""
        return self.end_time or FOR_EVER

    def counts(self, at: datetime) -> bool:
        """Whether it is in force."""
        return self.begin_time <= at < self.ends

    def covers(self, path: str) -> bool:
        """Whether an organisation is that of the office, or below."""
        return is_within(path, self.path)

    def permits(self, permission: str) -> bool:
        """Whether its role does."""
        return permission in PERMISSIONS[self.role]


def is_within(path: str, above: str) -> bool:
    """Whether a path is another or below it.

    >>> is_within("0.11", "0.11"), is_within("0.11.1101", "0.11"), is_within("0.110", "0.11")
    (True, True, False)
    """
    return f"{path}.".startswith(f"{above}.")


def decide(offices: Iterable[Office], permission: str, path: str, *, at: datetime) -> Office | None:
    """The office by which a permission is held for an organisation: of several the one that lasts
    longest.  None: it is not held."""
    right = [
        one for one in offices if one.counts(at) and one.covers(path) and one.permits(permission)
    ]
    return max(right, key=lambda one: one.ends) if right else None


def deciding(
    seats: Callable[[str], Iterable[Office]], permission: str, path: str, home: str, *,
    at: datetime,
) -> str:  # fmt: skip
    """The path of the organisation whose officers, and those above, decide by four eyes: the
    nearest, from one upwards, of which two officers may; at last the node's own.

    Args:
        seats: the offices of exactly one organisation, by its path.
        home: the path of the node's own organisation.
    """
    while path != home and is_within(path, home):
        right = (one for one in seats(path) if one.counts(at) and one.permits(permission))
        if len({one.holder for one in right}) >= 2:
            return path
        path = path.rpartition(".")[0]
    return home


@dataclass(slots=True, kw_only=True)
class Scope:
    """Where the officer who calls may do what the method does.

    The offices are looked at anew each time: what is taken away ends also a call that lasts.
    """

    caller: str
    permission: str
    offices: Callable[[], Sequence[Office]]
    """Those of the caller."""
    clock: Callable[[], datetime]
    seats: Callable[[str], Iterable[Office]] = lambda path: ()
    """All offices of exactly one organisation, by its path."""
    home: str = ""
    """The path of the node's own organisation."""
    decided: dict[str, str] = field(default_factory=dict)
    """By path for which the permission was found to be held, the office that decided."""
    reached: Sequence[str] | None = None
    """The paths that a session of the database sees, once one was taken for the call.  Beyond them
    nothing is decided: an office that came since would act on people whom that does not see."""

    def check(self, path: str | None) -> None:
        """Raises OutsideScope unless the permission is held for the organisation at a path; None:
        of an organisation that is not known here, for which nobody holds any."""
        if path is None or not self._decide(path):
            raise OutsideScope(caller=self.caller, permission=self.permission)

    def check_second(self, resource: str, *, filer: str) -> None:
        """Four eyes, of what was found to be in scope: who filed does not decide, and where fewer
        than two officers of an organisation may, the next one above does.

        Raises:
            FiledByCaller, DecidedAbove
        """
        at = self.clock()
        for path in tuple(self.decided):
            place = deciding(self.seats, self.permission, path, self.home, at=at)
            facts = {
                "resource": resource, "permission": self.permission,
                "organization": f"organizations/{place.rpartition('.')[2]}",
            }  # fmt: skip
            if filer == self.caller:
                raise FiledByCaller(caller=self.caller, **facts)
            if not decide(self.offices(), self.permission, place, at=at):
                raise DecidedAbove(**facts)

    def check_line(self, path: str | None) -> None:
        """Like `check`, of what is handed down: those below may see it too."""
        below = [place for place in self.paths() if path and is_within(place, path)]
        if not any([self._decide(place) for place in below]):
            self.check(path)

    def within(self, path: str) -> list[str]:
        """The paths of a subtree for which the permission is held, none of them below another: the
        subtree itself, or parts of it.  Raises OutsideScope if there are none."""
        held = self.paths()
        if any(is_within(path, place) for place in held):
            found = [path]
        else:
            found = [place for place in held if is_within(place, path)]
        if not any([self._decide(place) for place in found]):
            raise OutsideScope(caller=self.caller, permission=self.permission)
        return found

    def places(self) -> list[str]:
        """Like `paths`, for a call that asks for all of them."""
        found = self.paths()
        for place in found:
            self._decide(place)
        return found

    def holds(self) -> bool:
        """Whether the permission is held anywhere: what the gate asks at every call."""
        at = self.clock()
        return any(one.counts(at) and one.permits(self.permission) for one in self.offices())

    def paths(self) -> list[str]:
        """All paths for which the permission is held, none of them below another."""
        at = self.clock()
        right = (one for one in self.offices() if one.permits(self.permission) and one.counts(at))
        return highest(one.path for one in right)

    def _decide(self, path: str) -> bool:
        """Whether the permission is held for an organisation; by which office, is noted."""
        if self.reached is not None and not any(is_within(path, one) for one in self.reached):
            return False
        office = decide(self.offices(), self.permission, path, at=self.clock())
        if office:
            self.decided[path] = office.name
        return office is not None

    def reach(self) -> list[str]:
        """How far a session of the database sees that is taken now: see `kit.db.reach`."""
        self.reached = self.paths()
        return [f"{path}." for path in self.reached]

    def confirm(self) -> None:
        """Before each message of a call that lasts: what was decided must still hold.  Raises
        OutsideScope if it does not."""
        for path in tuple(self.decided):
            self.check(path)


def highest(paths: Iterable[str]) -> list[str]:
    """Those that are not below another.

    >>> highest(["0.51.5101", "0.510", "0.51", "0.51"])
    ['0.51', '0.510']
    """
    found: list[str] = []
    for path in sorted(paths, key=lambda path: f"{path}."):
        if not found or not is_within(path, found[-1]):
            found.append(path)
    return found


scope: ContextVar[Scope] = ContextVar("scope")
"""Set by the gate for each call of an officer; nobody else has one."""


class Finding(IntEnum):
    """Why somebody may or may not, with the numbers of the contract."""

    ALLOWED = 1
    NO_OFFICE = 2
    ELSEWHERE = 3
    NOT_PERMITTED = 4
    ENDED = 5
    NOT_BEGUN = 6
    NOT_FOR_CALLER = 7


def explain(
    offices: Sequence[Office], permission: str, path: str | None, *, at: datetime
) -> tuple[Finding, Office | None]:
    """Why a holder may or may not, and the office that decides.

    Args:
        offices: the holder's, also those that do not count now.
        path: of the organisation that it is about; None: of any.
    """
    near = [one for one in offices if path is None or one.covers(path)]
    right = [one for one in near if one.permits(permission)]
    last = max(right, key=lambda one: (one.counts(at), one.ends), default=None)
    if last is not None:
        if last.counts(at):
            return Finding.ALLOWED, last
        return (Finding.NOT_BEGUN if at < last.begin_time else Finding.ENDED), last
    in_force = [one for one in offices if one.counts(at)]
    other = next((one for one in near if one.counts(at)), None)
    if other is not None:
        return Finding.NOT_PERMITTED, other
    return (Finding.ELSEWHERE, in_force[0]) if in_force else (Finding.NO_OFFICE, None)


def roles_for(permission: str) -> list[Role]:
    """The roles that permit something."""
    return [role for role, permitted in PERMISSIONS.items() if permission in permitted]
