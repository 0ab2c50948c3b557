"""Members (会员), and the applications (入会申请) that make them."""

from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import IntEnum
from uuid import UUID

from kit.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from kit.headers import Header
from kit.texts import check_characters
from services.membership.domain.identity import Person, beijing_date

MOST_REASON_CHARACTERS = 500


class ApplicationNotFound(NotFound):
    message = "there is no {application} at this node"
    chinese = "本节点没有 {application}"


class MemberNotFound(NotFound):
    message = "there is no {member} at this node"
    chinese = "本节点没有 {member}"


class ApplicantLost(FailedPrecondition):
    message = (
        "{application} came back after a restore without its person; "
        "reject it, and let them apply again"
    )
    chinese = "{application} 在恢复备份后缺少申请人信息；请驳回并请本人重新申请"


class AlreadyDecided(FailedPrecondition):
    message = "{application} is {state}; only a PENDING application can be decided"
    chinese = "{application} 的状态是 {state}；只有待审（PENDING）的申请可以审批"


class AlreadyAMember(AlreadyExists):
    message = (
        "the person with this ID number is a member already; a membership is transferred, "
        "not made twice"
    )
    chinese = "该身份证号的持有人已是会员；会籍应办理转接，不能重复入会"


class ApplicationPending(AlreadyExists):
    message = "the person with this ID number has a pending application; decide that one first"
    chinese = "该身份证号的持有人已有一份待审的入会申请；请先审批该申请"


class ApplicationGranted(FailedPrecondition):
    message = (
        "{application} was approved; of the membership that came of it, ask an officer of the "
        "union, who can end it, and then erase you"
    )
    chinese = "{application} 已获批准；如需退会并删除个人信息，请联系工会干部"


class KnownAlready(AlreadyExists):
    message = (
        "whoever has this ID number is a member here or has applied; a member binds with "
        "BindIdentity; an officer of the union can help"
    )
    chinese = "该身份证号的持有人已是会员或已申请入会；会员请用 BindIdentity 绑定，或向工会干部求助"


class ApplicationWaits(AlreadyExists):
    message = "your {application} waits for a decision; a person applies once at a time"
    chinese = "您的 {application} 正在等待审批；请勿重复申请"


class MembershipEnded(FailedPrecondition):
    message = "{member} is {state}; only a membership that is ACTIVE can end"
    chinese = "{member} 的状态是 {state}；只有在籍（ACTIVE）的会籍可以终止"


class MembershipLasts(FailedPrecondition):
    message = (
        "{member} is ACTIVE, so the union needs the personal data; end the membership first, and "
        "then erase"
    )
    chinese = "{member} 仍在籍（ACTIVE），工会履职需要其个人信息；请先终止会籍，再删除个人信息"


class RejectReasonLength(InvalidArgument):
    field = "reason"
    message = "a reason that the applicant is told has 1 to 500 characters, not {length}"
    chinese = "告知申请人的理由应为 1 至 500 个字，而不是 {length} 个"


class ApplicationState(IntEnum):
    """Where an application stands, with the numbers of the contract."""

    PENDING = 1
    APPROVED = 2
    REJECTED = 3
    WITHDRAWN = 4


class MemberState(IntEnum):
    """Where a membership stands, with the numbers of the contract."""

    ACTIVE = 1
    LEFT = 2
    ERASED = 3


class Ground(IntEnum):
    """Why personal data is erased: the cases of article 47 PIPL, with the numbers of the contract.
    No text, which might hold what was to be erased."""

    PURPOSE_ENDED = 1
    RETENTION_ENDED = 2
    CONSENT_WITHDRAWN = 3
    UNLAWFUL = 4
    OTHER_LAW = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationCreated:
    application: str
    organization: str
    occur_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationApproved:
    application: str
    organization: str
    member: str
    occur_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationRejected:
    application: str
    organization: str
    occur_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationWithdrawn:
    application: str
    organization: str
    occur_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberAdmitted:
    member: str
    organization: str
    occur_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberLeft:
    member: str
    organization: str
    occur_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberErased:
    member: str
    organization: str
    occur_time: datetime


Fact = (
    ApplicationCreated
    | ApplicationApproved
    | ApplicationRejected
    | ApplicationWithdrawn
    | MemberAdmitted
    | MemberLeft
    | MemberErased
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A person who belongs to one organisation."""

    id: UUID
    header: Header
    organization: UUID
    state: MemberState
    person: Person | None = None
    """None in a copy, as are the fields that follow, and when it is erased."""
    approval_date: date | None = None
    """The day in Beijing from which membership counts."""
    approval_number: str = ""
    """Of the approval document, if a roster gave one."""
    personal_salt: str = ""
    """32 hex digits, of the section `personal`; empty if it has none."""
    erase_time: datetime | None = None
    erase_ground: Ground | None = None

    @property
    def name(self) -> str:
        return f"members/{self.id}"

    def leave(self, *, at: datetime) -> tuple["Member", MemberLeft]:
        """The membership that has ended, and the fact to announce.

        Raises:
            MembershipEnded: unless it is active.
            OwnedElsewhere: if this is a copy.
        """
        header = self.header.next(resource=self.name)
        if self.state is not MemberState.ACTIVE:
            raise MembershipEnded(member=self.name, state=self.state.name)
        left = replace(self, header=header, state=MemberState.LEFT)
        return left, MemberLeft(
            member=self.name, organization=f"organizations/{self.organization}", occur_time=at
        )

    def erase(self, *, ground: Ground, at: datetime) -> tuple["Member", MemberErased]:
        """The member without anything personal, and the fact to announce.

        Raises:
            MembershipLasts: if it is active.
            OwnedElsewhere: if this is a copy.
        """
        header = self.header.next(resource=self.name)
        if self.state is MemberState.ACTIVE:
            raise MembershipLasts(member=self.name)
        erased = replace(
            self, header=header, state=MemberState.ERASED, person=None, personal_salt="",
            erase_time=at, erase_ground=ground,
        )  # fmt: skip
        return erased, MemberErased(
            member=self.name, organization=f"organizations/{self.organization}", occur_time=at
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A person's wish to join one organisation."""

    id: UUID
    header: Header
    organization: UUID
    state: ApplicationState
    person: Person | None = None
    """None in a copy, as are the fields that follow."""
    create_time: datetime | None = None
    filer: str = ""
    """Who asked for it, and so does not approve it."""
    decide_time: datetime | None = None
    decider: str = ""
    reject_reason: str = ""
    member: UUID | None = None
    erase_time: datetime | None = None
    """When the person was erased, who had been turned down or had withdrawn."""

    @property
    def name(self) -> str:
        return f"applications/{self.id}"

    def approve(
        self, *, by: str, at: datetime, member: UUID, salt: str, personal_salt: str = ""
    ) -> tuple["Application", Member, ApplicationApproved, MemberAdmitted]:
        """The approved application, the member that came of it, and the facts to announce.

        Args:
            member: the id for the member.
            salt: the salt for the member, 32 hex digits.
            personal_salt: that for its section `personal`; empty: it has none.

        Raises:
            AlreadyDecided: unless the application is pending.
            ApplicantLost: if a restore left the application without its person.
            OwnedElsewhere: if this is a copy.
        """
        decided = replace(
            self._decided(by=by, at=at), state=ApplicationState.APPROVED, member=member
        )
        if self.person is None:
            raise ApplicantLost(application=self.name)
        admitted, fact = admit(
            id=member,
            header=Header(origin=self.header.origin, salt=salt),
            organization=self.organization,
            person=self.person,
            approval_date=beijing_date(at),
            personal_salt=personal_salt,
            at=at,
        )
        approved = ApplicationApproved(
            application=self.name, organization=fact.organization, member=admitted.name,
            occur_time=at,
        )  # fmt: skip
        return decided, admitted, approved, fact

    def reject(
        self, *, by: str, at: datetime, reason: str
    ) -> tuple["Application", ApplicationRejected]:
        """The application turned down, and the fact to announce.

        Raises:
            RejectReasonLength: unless the trimmed reason has 1 to 500 characters.
            TextCharacters: if it holds control characters other than line breaks and tabs.
            AlreadyDecided: unless the application is pending.
            OwnedElsewhere: if this is a copy.
        """
        told = reason.strip()
        if not 1 <= len(told) <= MOST_REASON_CHARACTERS:
            raise RejectReasonLength(length=len(told))
        check_characters(told, field="reason", lines=True)
        decided = replace(
            self._decided(by=by, at=at), state=ApplicationState.REJECTED, reject_reason=told
        )
        fact = ApplicationRejected(
            application=self.name, organization=f"organizations/{self.organization}", occur_time=at
        )
        return decided, fact

    def withdraw(self, *, at: datetime) -> tuple["Application", ApplicationWithdrawn]:
        """The application without its person, also if it was turned down before; and the fact to
        announce.

        Raises:
            ApplicationGranted: if it was approved.
            OwnedElsewhere: if this is a copy.
        """
        header = self.header.next(resource=self.name)
        if self.state is ApplicationState.APPROVED:
            raise ApplicationGranted(application=self.name)
        withdrawn = replace(
            self, header=header, state=ApplicationState.WITHDRAWN, person=None, reject_reason="",
            decide_time=self.decide_time or at, decider=self.decider or self.filer, erase_time=at,
        )  # fmt: skip
        fact = ApplicationWithdrawn(
            application=self.name, organization=f"organizations/{self.organization}", occur_time=at
        )
        return withdrawn, fact

    def _decided(self, *, by: str, at: datetime) -> "Application":
        header = self.header.next(resource=self.name)
        if self.state is not ApplicationState.PENDING:
            raise AlreadyDecided(application=self.name, state=self.state.name)
        return replace(self, header=header, decider=by, decide_time=at)


def apply(
    *, id: UUID, header: Header, organization: UUID, person: Person, by: str, at: datetime
) -> tuple[Application, ApplicationCreated]:
    """A pending application, and the fact to announce."""
    application = Application(
        id=id, header=header, organization=organization, state=ApplicationState.PENDING,
        person=person, create_time=at, filer=by,
    )  # fmt: skip
    fact = ApplicationCreated(
        application=application.name, organization=f"organizations/{organization}", occur_time=at
    )
    return application, fact


def admit(
    *,
    id: UUID,
    header: Header,
    organization: UUID,
    person: Person | None,
    approval_date: date,
    approval_number: str = "",
    personal_salt: str = "",
    at: datetime,
) -> tuple[Member, MemberAdmitted]:
    """An active member, and the fact to announce."""
    member = Member(
        id=id, header=header, organization=organization, state=MemberState.ACTIVE, person=person,
        approval_date=approval_date, approval_number=approval_number, personal_salt=personal_salt,
    )  # fmt: skip
    fact = MemberAdmitted(
        member=member.name, organization=f"organizations/{organization}", occur_time=at
    )
    return member, fact
