"""Coupons in the hands of members and merchants."""

import base64
import hmac
from uuid import UUID

from kit.ids import uuid_of
from kit.rpc import Call, Page
from kit.sealing import Keyring
from services.benefits import events
from services.benefits.domain.coupons import Coupon, CouponUnknown
from services.benefits.domain.programmes import Programme
from services.benefits.usecases import Means

Held = tuple[Coupon, Programme]


class Coupons:
    def __init__(self, means: Means, keyring: Keyring) -> None:
        """`keyring`: its index vouches for codes, so that none is kept."""
        self._means, self._keyring = means, keyring

    def code_of(self, coupon: UUID) -> str:
        """What the merchant scans: the id, and 15 bytes that only this node can make."""
        mac = self._keyring.index("coupon", str(coupon))[:15]
        return f"{coupon}.{base64.urlsafe_b64encode(mac).decode()}"

    def coupon_in(self, code: str) -> UUID:
        """The coupon of a code.  Raises CouponUnknown."""
        try:
            coupon = uuid_of(code.partition(".")[0])
        except ValueError:
            raise CouponUnknown() from None
        if not hmac.compare_digest(self.code_of(coupon).encode(), code.encode()):
            raise CouponUnknown()
        return coupon

    async def page(self, member: UUID, *, page: Page) -> tuple[list[Held], str | None]:
        """A member's, the newest first, and the key of the next page."""
        await self._means.reads.roll.member(member)
        found = await self._means.reads.coupons.page(
            member, before=page.before(), limit=page.size + 1
        )
        shown, key = page.cut(found)
        known = await self._means.reads.programmes.some({one.programme for one in shown})
        held = [(coupon, known[coupon.programme]) for coupon in shown]
        return held, key

    async def redeem(self, code: str, *, call: Call) -> Held:
        name = self.coupon_in(code)
        async with self._means.database.transaction() as store:
            if earlier := await store.calls.earlier(call, Coupon):
                return earlier, await store.programmes.get(earlier.programme, scope=None)
            coupon = await store.coupons.lock(name)
            programme = await store.programmes.get(coupon.programme, scope=None)
            used, fact = coupon.redeem(programme, at=self._means.clock())
            change = events.of_coupon(used, fact)
            await store.coupons.save_redemption(used, change, merchant=call.caller)
            await store.outbox.put(change)
            await store.calls.answer(call, used)
        self._means.committed()
        return used, programme
