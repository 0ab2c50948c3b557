"""Programmes (普惠活动): coupons for the members of a part of the tree, given out in shares."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from kit.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from kit.headers import Header
from kit.organizations import Organization
from kit.texts import check_characters

MOST_TITLE_CHARACTERS = 100
MOST = 100_000_000
"""Of coupons in a share, and of fen that one is worth."""
MOST_SHARES = 1_000


class ProgrammeNotFound(NotFound):
    message = "there is no {programme} at this node"
    chinese = "本节点没有 {programme}"


class TitleLength(InvalidArgument):
    field = "programme.title"
    message = "a title that members read has 1 to 100 characters, not {length}"
    chinese = "活动名称应为 1 至 100 个字，而不是 {length} 个"


class FaceValueOutOfRange(InvalidArgument):
    field = "programme.face_value_fen"
    message = "a face value is 1 to 100,000,000 fen, not {face_value_fen}"
    chinese = "面值应为 1 至 100000000 分，而不是 {face_value_fen}"


class SharesCount(InvalidArgument):
    field = "programme.shares"
    message = "a programme has 1 to 1,000 shares, not {count}"
    chinese = "一个活动应有 1 至 1000 个份额，而不是 {count} 个"


class ShareStockOutOfRange(InvalidArgument):
    field = "programme.shares"
    message = "a share holds 1 to 100,000,000 coupons, not {stock}"
    chinese = "一个份额应有 1 至 100000000 张券，而不是 {stock}"


class ShareTwice(InvalidArgument):
    field = "programme.shares"
    message = "{node} has two shares; give each node one"
    chinese = "{node} 有两个份额；每个节点只应有一个"


class ShareNodeUnknown(InvalidArgument):
    field = "programme.shares"
    message = "{node} is neither this node nor one below it"
    chinese = "{node} 既不是本节点，也不是其下级节点"


class TimesOutOfOrder(InvalidArgument):
    field = "programme.claim_end_time"
    message = (
        "set claim_start_time before claim_end_time, and use_by_time not before claim_end_time"
    )
    chinese = "领取开始时间应早于领取结束时间，使用截止时间不得早于领取结束时间"


class ProgrammeOpen(FailedPrecondition):
    message = "{programme} is open already, and is not changed any more"
    chinese = "{programme} 已经发布，不能再更改"


class NotStarted(FailedPrecondition):
    message = "{programme} begins at {claim_start_time}; come again then"
    chinese = "{programme} 将于 {claim_start_time} 开始领取；请届时再来"


class Ended(FailedPrecondition):
    message = "{programme} ended at {claim_end_time}; nothing can be claimed any more"
    chinese = "{programme} 已于 {claim_end_time} 结束领取"


class NotEligible(PermissionDenied):
    message = "{programme} is not for {member}: it is for another part of the union, or not here"
    chinese = "{member} 不在 {programme} 的范围内：该活动面向其他组织，或未在本节点投放"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgrammeCreated:
    programme: str
    organization: str
    occur_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one node gives out."""

    node: UUID
    stock: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Programme:
    """Coupons of one face value for the members of an organisation and all below it."""

    id: UUID
    header: Header
    organization: UUID
    title: str
    face_value_fen: int
    shares: tuple[Share, ...]
    claim_start_time: datetime
    claim_end_time: datetime
    use_by_time: datetime

    @property
    def name(self) -> str:
        return f"programmes/{self.id}"

    @property
    def stock(self) -> int:
        return sum(share.stock for share in self.shares)

    def share_of(self, node: UUID) -> int:
        """How many coupons a node gives out."""
        return sum(share.stock for share in self.shares if share.node == node)

    def is_for(self, path: str, *, organization: Organization, node: UUID) -> bool:
        """Whether members of the organisation at a path can claim of it at a node.

        Args:
            organization: the one that the programme is of.
        """
        return f"{path}.".startswith(f"{organization.path}.") and self.share_of(node) > 0

    def check_window(self, at: datetime) -> None:
        """Whether coupons can be claimed now.

        Raises:
            NotStarted, Ended: if they cannot.
        """
        if at < self.claim_start_time:
            raise NotStarted(programme=self.name, claim_start_time=self.claim_start_time)
        if at >= self.claim_end_time:
            raise Ended(programme=self.name, claim_end_time=self.claim_end_time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A programme that an officer has made, and another opens."""

    programme: Programme
    creator: str
    opener: str = ""
    """Empty until it is open."""

    @property
    def name(self) -> str:
        return self.programme.name

    def open(self, *, by: str, at: datetime) -> tuple["Draft", ProgrammeCreated]:
        """The draft that is open, and the fact to announce.

        Raises:
            ProgrammeOpen: if it is open already.
        """
        if self.opener:
            raise ProgrammeOpen(programme=self.name)
        organization = f"organizations/{self.programme.organization}"
        fact = ProgrammeCreated(programme=self.name, organization=organization, occur_time=at)
        return replace(self, opener=by), fact


def create(
    *,
    id: UUID,
    header: Header,
    organization: UUID,
    title: str,
    face_value_fen: int,
    shares: Sequence[Share],
    claim_start_time: datetime,
    claim_end_time: datetime,
    use_by_time: datetime,
) -> Programme:
    """A new programme.

    Raises:
        TitleLength, TextCharacters, FaceValueOutOfRange, SharesCount, ShareStockOutOfRange,
        ShareTwice, TimesOutOfOrder: if it is not right.
    """
    title = title.strip()
    if not 1 <= len(title) <= MOST_TITLE_CHARACTERS:
        raise TitleLength(length=len(title))
    check_characters(title, field="programme.title")
    if not 1 <= face_value_fen <= MOST:
        raise FaceValueOutOfRange(face_value_fen=face_value_fen)
    _check_shares(shares)
    if not claim_start_time < claim_end_time <= use_by_time:
        raise TimesOutOfOrder()
    return Programme(
        id=id, header=header, organization=organization, title=title,
        face_value_fen=face_value_fen, shares=tuple(shares), claim_start_time=claim_start_time,
        claim_end_time=claim_end_time, use_by_time=use_by_time,
    )  # fmt: skip


def _check_shares(shares: Sequence[Share]) -> None:
    if not 1 <= len(shares) <= MOST_SHARES:
        raise SharesCount(count=len(shares))
    seen: set[UUID] = set()
    for share in shares:
        if not 1 <= share.stock <= MOST:
            raise ShareStockOutOfRange(stock=share.stock)
        if share.node in seen:
            raise ShareTwice(node=f"nodes/{share.node}")
        seen.add(share.node)
