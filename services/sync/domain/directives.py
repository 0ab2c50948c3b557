"""Directives (工作部署): who is asked, what each reports, and how the parts add up."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import IntEnum
from uuid import UUID, uuid5

from kit.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from kit.texts import check_characters
from services.sync.domain.nodes import LEVELS, Node

LONGEST = timedelta(days=3 * 366)
MOST_TITLE, MOST_TEXT, MOST_REASON = 100, 20_000, 500


class DirectiveInvalid(InvalidArgument):
    message = "{field_name} has 1 to {most} characters, not {length}"
    chinese = "{field_name} 应为 1 至 {most} 个字，而不是 {length} 个"


class LevelUnknown(InvalidArgument):
    field = "directive.levels"
    message = "a directive is addressed to one or more of {known}, each once; not to {level}"
    chinese = "工作部署应下达给 {known} 中的一个或多个层级，不得重复；没有 {level}"


class DueTimeOutOfRange(InvalidArgument):
    field = "directive.due_time"
    message = "due_time lies in the future and within three years"
    chinese = "办结期限应在当前时间之后、三年之内"


class SubtreeNotHeld(InvalidArgument):
    field = "directive.subtree"
    message = "{code} is no division code at or below {own}, which this node serves"
    chinese = "{code} 不是本节点所辖的 {own} 或其下级的行政区划代码"


class NobodyAddressed(FailedPrecondition):
    field = "directive.levels"
    message = "no node of these levels lies within {code} below this node"
    chinese = "本节点之下的 {code} 范围内没有这些层级的节点"


class DirectiveNotFound(NotFound):
    message = "there is no {directive} at this node"
    chinese = "本节点没有 {directive}"


class NotAddressed(PermissionDenied):
    message = "{directive} is not addressed to this node"
    chinese = "{directive} 未下达给本节点"


class DirectiveSettled(FailedPrecondition):
    message = "this node has reported {directive} as {state}, for good"
    chinese = "本节点已将 {directive} 报告为 {state}，不能再更改"


class State(IntEnum):
    """Where a node stands, with the numbers of the contract."""

    RECEIVED = 1
    READ = 2
    BROKEN_DOWN = 3
    COMPLETED = 4
    REFUSED = 5


SETTLED = (State.COMPLETED, State.REFUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Directive:
    """What a union asks of the unions below it."""

    id: UUID
    origin: UUID
    title: str
    text: str
    subtree: str
    levels: tuple[str, ...]
    due_time: datetime
    create_time: datetime
    expected: tuple[UUID, ...]
    """The nodes that it is addressed to."""
    parent: UUID | None = None
    """The directive that it breaks down."""

    @property
    def name(self) -> str:
        return f"directives/{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one node reports of one directive."""

    directive: UUID
    node: UUID
    state: State
    report_time: datetime
    reason: str = ""

    @property
    def id(self) -> UUID:
        """One for each directive and node."""
        return uuid5(self.directive, str(self.node))

    def moved(self, state: State, *, at: datetime, reason: str = "") -> "Report":
        """The report that follows.

        Raises:
            DirectiveSettled: if this one is for good.
        """
        if self.state in SETTLED:
            name = f"directives/{self.directive}"
            raise DirectiveSettled(directive=name, state=self.state.name)
        return replace(self, state=max(self.state, state), report_time=at, reason=reason)


@dataclass(slots=True)
class Progress:
    """How many nodes stand where."""

    expected: int = 0
    states: dict[State, int] = field(default_factory=lambda: dict.fromkeys(State, 0))
    overdue: int = 0

    @property
    def silent(self) -> int:
        """Those of which nothing has been heard."""
        return self.expected - sum(self.states.values())


def issue(
    *, id: UUID, own: Node, below: Mapping[UUID, Node], title: str, text: str, subtree: str,
    levels: Sequence[str], due_time: datetime, parent: UUID | None, at: datetime,
) -> Directive:  # fmt: skip
    """A directive to the nodes that are below `own` now.

    Args:
        subtree: a division code; empty for all below.

    Raises:
        DirectiveInvalid, TextCharacters, LevelUnknown, DueTimeOutOfRange, SubtreeNotHeld,
        NobodyAddressed
    """
    for name, value, most, lines in (
        ("directive.title", title, MOST_TITLE, False), ("directive.text", text, MOST_TEXT, True),
    ):  # fmt: skip
        check_text(value, most=most, field=name, lines=lines)
    known = LEVELS[LEVELS.index(own.level) + 1 :] if own.level in LEVELS else LEVELS[1:]
    wrong = [
        level for at_, level in enumerate(levels) if level not in known or level in levels[:at_]
    ]
    if wrong or not levels:
        raise LevelUnknown(known=", ".join(known), level=(wrong or [""])[0][:30] or "—")
    if not at < due_time <= at + LONGEST:
        raise DueTimeOutOfRange()
    code = subtree or own.organization_code
    inside = own.organization_code == "0" or code.startswith(own.organization_code)
    if not (code == own.organization_code or (code.isascii() and code.isdigit() and inside)):
        raise SubtreeNotHeld(code=code[:30], own=own.organization_code)
    expected = tuple(
        node.id
        for node in below.values()
        if node.level in levels and (code == "0" or node.organization_code.startswith(code))
    )
    if not expected:
        raise NobodyAddressed(code=code)
    return Directive(
        id=id, origin=own.id, title=title, text=text, subtree=code, levels=tuple(levels),
        due_time=due_time, create_time=at, expected=expected, parent=parent,
    )  # fmt: skip


def check_text(text: str, *, most: int, field: str, lines: bool) -> None:
    """Whether a text can be sent.

    Raises:
        DirectiveInvalid: if it is empty or too long.
        TextCharacters: if it holds control characters.
    """
    if not text.strip() or len(text) > most:
        length = len(text.strip()) and len(text)
        raise DirectiveInvalid(field=field, field_name=field, most=most, length=length)
    check_characters(text, field=field, lines=lines)


def progress(
    directive: Directive, reports: Mapping[UUID, Report], nodes: Iterable[UUID], *, at: datetime
) -> Progress:
    """What became of a directive at some nodes.

    Args:
        reports: by node.
    """
    found = Progress()
    addressed = set(directive.expected)
    for node in nodes:
        if node not in addressed:
            continue
        found.expected += 1
        report = reports.get(node)
        if report is not None:
            found.states[report.state] += 1
        if at > directive.due_time and (report is None or report.state not in SETTLED):
            found.overdue += 1
    return found


def parts(own: UUID, below: Mapping[UUID, Node]) -> dict[UUID, list[UUID]]:
    """The nodes from here down, as this node alone and each child with all below it.

    Args:
        below: parents before children.
    """
    found: dict[UUID, list[UUID]] = {own: [own]}
    part_of: dict[UUID, UUID] = {}
    for node in below.values():
        assert node.parent is not None
        part = node.id if node.parent == own else part_of[node.parent]
        part_of[node.id] = part
        found.setdefault(part, []).append(node.id)
    return found
