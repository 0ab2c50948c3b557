"""Officers (工会干部): who holds which office at which organisation, and for how long."""

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from kit.authority import SUBJECT, Role
from kit.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from kit.headers import Header

HOLDER = re.compile(f"officers/{SUBJECT}|members/[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}")
LATE = timedelta(minutes=5)
"""So far may the clock of a caller be behind: a term that begins in that time begins now."""
LONGEST_PROXY = timedelta(days=366)


class OfficeNotFound(NotFound):
    message = "there is no {office} at this node"
    chinese = "本节点没有 {office}"


class HolderMalformed(InvalidArgument):
    field = "office.holder"
    message = (
        "a holder is members/ and the id of an active member of this node whom a person is bound "
        "to (BindIdentity), or officers/ and 1 to 64 letters, digits, dots, underscores and "
        "hyphens, but no phone or ID number"
    )
    chinese = (
        "任职人应为 members/ 加本节点已绑定登录身份的在册会员的编号，"
        "或 officers/ 加 1 至 64 个字母、数字、点、"
        "下划线或连字符，且不得为手机号或身份证号"
    )


class TermUnreadable(InvalidArgument):
    message = "set a time between the years 1 and 9999, such as 2026-12-01T00:00:00Z"
    chinese = "请填写公元 1 年至 9999 年之间的时间，例如 2026-12-01T00:00:00Z"


class TermPassed(InvalidArgument):
    field = "office.begin_time"
    message = "an office counts from now or later, not from {begin_time}"
    chinese = "任期应从现在或以后开始，而不是 {begin_time}"


class TermEmpty(InvalidArgument):
    field = "office.end_time"
    message = "a term ends after it begins, at {begin_time}, and not at {end_time}"
    chinese = "任期应在开始（{begin_time}）之后结束，而不是 {end_time}"


class ProxyUnlimited(InvalidArgument):
    field = "office.end_time"
    message = "a PROXY has an end, at most 366 days after it begins"
    chinese = "代办（PROXY）必须有截止时间，且最长 366 天"


class StillInOffice(FailedPrecondition):
    message = (
        "{member} holds {office}; dismiss them from it first, and then end the membership or the "
        "binding"
    )
    chinese = "{member} 仍担任 {office}；请先免去职务，再终止会籍或解除绑定"


class OfficeHeld(AlreadyExists):
    message = "{holder} is {role} there already, by {office}; dismiss that one first"
    chinese = "{holder} 已在该组织担任 {role}（{office}）；请先免去原职务"


class OfficeEnded(FailedPrecondition):
    message = "{office} ended at {end_time}"
    chinese = "{office} 已于 {end_time} 终止"


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficerAppointed:
    office: str
    organization: str
    occur_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficerDismissed:
    office: str
    organization: str
    occur_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """What a person is at an organisation, from a time and perhaps until a time."""

    id: UUID
    header: Header
    holder: str
    organization: UUID
    role: Role
    begin_time: datetime
    end_time: datetime | None
    """The first moment at which it no longer counts."""
    appointer: str
    dismisser: str = ""
    """Who took it away; empty if nobody did."""

    @property
    def name(self) -> str:
        return f"offices/{self.id}"

    def dismiss(self, *, by: str, at: datetime) -> tuple["Office", OfficerDismissed]:
        """The office that counts no more, and the fact to announce.

        Raises:
            OfficeEnded: if it counts no more already.
            OwnedElsewhere: if this is a copy.
        """
        header = self.header.next(resource=self.name)
        if self.end_time is not None and self.end_time <= max(at, self.begin_time):
            raise OfficeEnded(office=self.name, end_time=self.end_time)
        dismissed = replace(self, header=header, end_time=max(at, self.begin_time), dismisser=by)
        fact = OfficerDismissed(
            office=self.name, organization=f"organizations/{self.organization}", occur_time=at
        )
        return dismissed, fact


def appoint(
    *,
    id: UUID,
    header: Header,
    holder: str,
    organization: UUID,
    role: Role,
    begin_time: datetime | None = None,
    end_time: datetime | None = None,
    by: str,
    at: datetime,
) -> tuple[Office, OfficerAppointed]:
    """A new office, and the fact to announce.

    Args:
        begin_time: None: now.
        end_time: None: until it is taken away.

    Raises:
        HolderMalformed, TermPassed, TermEmpty, ProxyUnlimited
    """
    if not HOLDER.fullmatch(holder):
        raise HolderMalformed()
    begin = begin_time or at
    if begin < at - LATE:
        raise TermPassed(begin_time=begin)
    begin = max(begin, at)
    if end_time is not None and end_time <= begin:
        raise TermEmpty(begin_time=begin, end_time=end_time)
    if role is Role.PROXY and (end_time is None or end_time > begin + LONGEST_PROXY):
        raise ProxyUnlimited()
    office = Office(
        id=id, header=header, holder=holder, organization=organization, role=role,
        begin_time=begin, end_time=end_time, appointer=by,
    )  # fmt: skip
    fact = OfficerAppointed(
        office=office.name, organization=f"organizations/{organization}", occur_time=at
    )
    return office, fact
