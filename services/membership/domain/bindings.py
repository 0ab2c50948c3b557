"""Bindings: which person of the issuer is which member, after the real-name check (实名核验)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from kit.errors import AlreadyExists, FailedPrecondition, PermissionDenied, ResourceExhausted
from kit.headers import Header
from services.membership.domain.members import Member, MemberState

MOST_OF_PERSON = 5
MOST_OF_NUMBER = 10
"""More than of one person: whoever wants to keep a member out needs several accounts."""
WITHIN = timedelta(days=1)
"""In which so many attempts may fail."""


class IdentityUnproven(PermissionDenied):
    message = (
        "this name and ID number are not those of an active member of this node whom nobody is "
        "bound to yet; look at both again, or ask an officer of your union"
    )
    chinese = "姓名与身份证号不能对应到本节点尚未绑定的在册会员；请核对，或向所在工会的干部求助"


class TooManyAttempts(ResourceExhausted):
    message = "too many attempts have failed; try again in {seconds} s, or ask an officer"
    chinese = "核验失败次数过多；请在 {seconds} 秒后重试，或向工会干部求助"


class PersonBound(AlreadyExists):
    message = "you are {member} here already; end that first by UnbindMyIdentity"
    chinese = "您已绑定为 {member}；如需更换，请先用 UnbindMyIdentity 解除"


class NotBound(FailedPrecondition):
    message = "nobody is bound to this member, or you to none; there is nothing to end"
    chinese = "没有可解除的绑定"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityBound:
    binding: str
    member: str
    occur_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityUnbound:
    binding: str
    member: str
    occur_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """That a person is a member."""

    id: UUID
    header: Header
    person: UUID
    """The keyed hash of what the issuer calls them."""
    member: UUID
    active: bool = True

    @property
    def name(self) -> str:
        return f"bindings/{self.id}"

    def end(self, *, at: datetime) -> tuple["Binding", IdentityUnbound]:
        """The binding that counts no more, and the fact to announce."""
        ended = replace(self, header=self.header.next(resource=self.name), active=False)
        fact = IdentityUnbound(binding=self.name, member=f"members/{self.member}", occur_time=at)
        return ended, fact


def bind(
    *, id: UUID, header: Header, person: UUID, member: UUID, at: datetime
) -> tuple[Binding, IdentityBound]:
    """A new binding, and the fact to announce."""
    binding = Binding(id=id, header=header, person=person, member=member)
    fact = IdentityBound(binding=binding.name, member=f"members/{member}", occur_time=at)
    return binding, fact


def named(members: Iterable[Member], full_name: str) -> Member | None:
    """The active one of the members with an ID number, if that is their name."""
    for one in members:
        right = one.person is not None and one.person.full_name == full_name
        if one.state is MemberState.ACTIVE and right:
            return one
    return None


def check_attempts(of_person: int, of_number: int) -> None:
    """Raises TooManyAttempts if as many as may have failed."""
    if of_person >= MOST_OF_PERSON or of_number >= MOST_OF_NUMBER:
        raise TooManyAttempts(seconds=WITHIN.total_seconds())
