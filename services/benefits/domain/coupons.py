"""Coupons (优惠券): one a member and programme, claimed from a share, redeemed once."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum
from uuid import UUID

from kit.errors import AlreadyExists, FailedPrecondition, NotFound, ResourceExhausted
from kit.headers import Header
from services.benefits.domain.programmes import Programme


class SoldOut(ResourceExhausted):
    message = "all coupons of {programme} that this node gives out are claimed"
    chinese = "{programme} 在本节点的券已领完"


class AlreadyClaimed(AlreadyExists):
    message = "you have {coupon} of {programme}; a member gets one"
    chinese = "您已领取 {programme} 的券 {coupon}；每位会员限领一张"


class CouponUnknown(NotFound):
    field = "code"
    message = "this code is not of a coupon of this node; scan it again, from the member's phone"
    chinese = "该券码不是本节点发出的；请在会员手机上重新扫描"


class CouponRedeemed(FailedPrecondition):
    message = "{coupon} was redeemed at {redeem_time}; a coupon is good once"
    chinese = "{coupon} 已于 {redeem_time} 核销；每张券只能使用一次"


class CouponExpired(FailedPrecondition):
    message = "{coupon} was good until {use_by_time}"
    chinese = "{coupon} 的使用期限截至 {use_by_time}，已过期"


class CouponState(IntEnum):
    """Where a coupon stands, with the numbers of the contract."""

    CLAIMED = 1
    REDEEMED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CouponClaimed:
    coupon: str
    programme: str
    organization: str
    occur_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CouponUsed:
    """That a coupon was redeemed; `CouponRedeemed` is the refusal."""

    coupon: str
    programme: str
    organization: str
    occur_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Coupon:
    """A member's claim to what a programme gives."""

    id: UUID
    header: Header
    programme: UUID
    member: UUID
    organization: UUID
    """Of the member when it was claimed."""
    state: CouponState
    claim_time: datetime
    redeem_time: datetime | None = None

    @property
    def name(self) -> str:
        return f"coupons/{self.id}"

    def redeem(self, programme: Programme, *, at: datetime) -> tuple["Coupon", CouponUsed]:
        """The coupon when it is used, and the fact to announce.

        Raises:
            CouponRedeemed: if it is used already.
            CouponExpired: if it is too late.
            OwnedElsewhere: if this is a copy.
        """
        header = self.header.next(resource=self.name)
        if self.redeem_time is not None:
            raise CouponRedeemed(coupon=self.name, redeem_time=self.redeem_time)
        if at >= programme.use_by_time:
            raise CouponExpired(coupon=self.name, use_by_time=programme.use_by_time)
        used = replace(self, header=header, state=CouponState.REDEEMED, redeem_time=at)
        return used, CouponUsed(
            coupon=self.name, programme=programme.name,
            organization=f"organizations/{self.organization}", occur_time=at,
        )  # fmt: skip


def claim(
    programme: Programme, *, id: UUID, header: Header, member: UUID, organization: UUID,
    at: datetime,
) -> tuple[Coupon, CouponClaimed]:  # fmt: skip
    """A new coupon, and the fact to announce."""
    coupon = Coupon(
        id=id, header=header, programme=programme.id, member=member, organization=organization,
        state=CouponState.CLAIMED, claim_time=at,
    )  # fmt: skip
    return coupon, CouponClaimed(
        coupon=coupon.name, programme=programme.name,
        organization=f"organizations/{organization}", occur_time=at,
    )  # fmt: skip
