"""The table of coupons: records, own ones and copies, and who redeemed own ones."""

from collections.abc import Sequence
from datetime import UTC
from typing import Any
from uuid import UUID

from kit.db import Connection, Pool
from kit.log import Change
from kit.rows import RECORD, columns_of, header_of
from services.benefits.domain.coupons import Coupon, CouponState, CouponUnknown
from smartunion.benefits.v1.records_pb2 import PublicCoupon

COUPON = f"SELECT {RECORD}, NULL AS certificate FROM coupons record WHERE record.origin = $1"


class Coupons:
    """Of this node: copies are counted and proved, but nobody asks for them here."""

    def __init__(self, conn: "Connection | Pool", node: UUID) -> None:
        self._conn, self._node = conn, node

    async def lock(self, coupon: UUID) -> Coupon:
        """One, held until the transaction ends.  Raises CouponUnknown."""
        row = await self._conn.fetchrow(
            f"{COUPON} AND record.id = $2 FOR UPDATE OF record", self._node, coupon
        )
        if row is None:
            raise CouponUnknown()
        return self._of(row)

    async def of_members(self, programme: UUID, members: Sequence[UUID]) -> dict[UUID, Coupon]:
        """What members have of a programme."""
        rows = await self._conn.fetch(
            f"{COUPON} AND record.programme = $2 AND record.member = ANY ($3)",
            self._node, programme, members,
        )  # fmt: skip
        return {coupon.member: coupon for coupon in map(self._of, rows)}

    async def page(self, member: UUID, *, before: UUID, limit: int) -> list[Coupon]:
        """A member's, the newest first."""
        rows = await self._conn.fetch(
            f"""
            {COUPON} AND record.member = $2 AND record.id < $3 ORDER BY record.id DESC LIMIT $4
            """,
            self._node, member, before, limit,
        )  # fmt: skip
        return [self._of(row) for row in rows]

    async def add_all(self, coupons: Sequence[Coupon], changes: Sequence[Change]) -> None:
        """Many new ones at once."""
        await self._conn.copy_records_to_table(
            "coupons",
            columns=["origin", "id", "owner_epoch", "version", "hash", "public", "programme",
                     "member", "organization", "state", "claimant"],
            records=[
                (*columns_of(coupon, change), coupon.programme, coupon.member,
                 coupon.organization, coupon.state, coupon.member)
                for coupon, change in zip(coupons, changes, strict=True)
            ],
        )  # fmt: skip

    async def save_redemption(self, coupon: Coupon, change: Change, *, merchant: str) -> None:
        await self._conn.execute(
            """
            WITH record AS (
                UPDATE coupons SET owner_epoch = $3, version = $4, hash = $5, public = $6,
                       state = $7
                 WHERE origin = $1 AND id = $2
            )
            INSERT INTO redemptions (coupon, merchant) VALUES ($2, $8)
            """,
            *columns_of(coupon, change), coupon.state, merchant,
        )  # fmt: skip

    def _of(self, row: Any) -> Coupon:
        public = PublicCoupon.FromString(row["public"])
        used = public.HasField("redeem_time")
        return Coupon(
            id=row["id"], header=header_of(row, self._node, public.salt),
            programme=UUID(bytes=public.programme), member=UUID(bytes=public.member),
            organization=UUID(bytes=public.organization), state=CouponState(public.state),
            claim_time=public.claim_time.ToDatetime(UTC),
            redeem_time=public.redeem_time.ToDatetime(UTC) if used else None,
        )  # fmt: skip
