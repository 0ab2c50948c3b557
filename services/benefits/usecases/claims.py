"""The claim engine: a queue for each programme, and one claimer that serves it in order.

The claimer takes whoever waits, up to BATCH, into one transaction that holds the row of the stock:
one lock, one commit, for a hundred members.  So a rush on one programme is as fast as its batches
and not as slow as its row; other processes take turns at the row, and nothing is given out twice,
whoever dies.  Who waits is answered after the commit.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextvars import Context
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from kit.calls import RequestIdReused
from kit.errors import Refusal
from kit.headers import new_header
from kit.ids import uuid7
from kit.log import Change
from kit.organizations import Organization, OrganizationNotFound
from kit.roll import Enrolled, NotAMember
from kit.rpc import Call
from services.benefits import events
from services.benefits.domain import coupons as domain
from services.benefits.domain.coupons import AlreadyClaimed, Coupon, SoldOut
from services.benefits.domain.programmes import NotEligible, Programme
from services.benefits.store import Store
from services.benefits.usecases import Means

BATCH = 100
"""Claims in one transaction."""

Outcome = Coupon | Exception
NEVER = datetime.min


@dataclass(frozen=True, slots=True)
class Claim:
    """One who waits."""

    member: UUID
    call: Call
    answer: "asyncio.Future[Coupon]"


@dataclass(slots=True)
class Desk:
    """Where the claims of one programme are decided, in this process."""

    programme: Programme
    organization: Organization
    waiting: "deque[Claim]" = field(default_factory=deque)
    claimer: "asyncio.Task[None] | None" = None
    sold_out: bool = False
    counted: datetime | None = NEVER
    """When coupons had come back last, after a restore, as the stock was counted."""


class Claims:
    def __init__(self, means: Means) -> None:
        self._means = means
        self._desks: dict[UUID, Desk] = {}

    async def claim(self, programme: UUID, *, member: UUID, call: Call) -> tuple[Coupon, Programme]:
        """A member's coupon of a programme.

        Raises:
            ProgrammeNotFound, NotAMember, NotEligible, NotStarted, Ended, AlreadyClaimed, SoldOut,
            RequestIdReused: if they get none.
        """
        desk = self._desks.get(programme) or await self._open(programme, member)
        if desk.sold_out and not await self._has(programme, member):
            raise SoldOut(programme=desk.programme.name)
        claim = Claim(member, call, asyncio.get_running_loop().create_future())
        desk.waiting.append(claim)
        if desk.claimer is None:
            # For all, and not in the name of who came first.
            desk.claimer = asyncio.create_task(self._serve(desk), context=Context())
        return await claim.answer, desk.programme

    async def _open(self, programme: UUID, member: UUID) -> Desk:
        found = await self._means.reads.programmes.get(programme, scope=None)
        try:
            organization = await self._means.reads.organizations.get(found.organization)
        except OrganizationNotFound:  # in a part of the tree that is not held here
            raise NotEligible(programme=found.name, member=f"members/{member}") from None
        return self._desks.setdefault(programme, Desk(found, organization))

    async def _has(self, programme: UUID, member: UUID) -> bool:
        return bool(await self._means.reads.coupons.of_members(programme, [member]))

    async def _serve(self, desk: Desk) -> None:
        """Until nobody waits."""
        try:
            while desk.waiting:
                size = min(len(desk.waiting), BATCH)
                taken = [desk.waiting.popleft() for _ in range(size)]
                claims = [claim for claim in taken if not claim.answer.done()]  # who has gone
                try:
                    outcomes: Sequence[Outcome] = await self._decide(desk, claims)
                except Exception as error:
                    outcomes = [error] * len(claims)
                for claim, outcome in zip(claims, outcomes, strict=True):
                    if claim.answer.done():
                        continue
                    if isinstance(outcome, Coupon):
                        claim.answer.set_result(outcome)
                    else:
                        claim.answer.set_exception(outcome)
        finally:
            desk.claimer = None

    async def _decide(self, desk: Desk, claims: Sequence[Claim]) -> list[Outcome]:
        """What each gets: one transaction."""
        at = self._means.clock()
        async with self._means.database.transaction() as store:
            remaining = await self._lock(store, desk)
            batch = await Batch.load(store, desk, claims, remaining=remaining, at=at)
            outcomes = [batch.decide(claim, node=self._means.node) for claim in claims]
            if batch.given:
                coupons = [coupon for coupon, _, _ in batch.given]
                changes = [change for _, change, _ in batch.given]
                await store.coupons.add_all(coupons, changes)
                await store.outbox.put(*changes)
                await store.stocks.take(desk.programme.id, len(coupons))
                await store.calls.answer_all([(call, one) for one, _, call in batch.given])
        desk.sold_out = batch.remaining == 0
        if batch.given:
            self._means.committed()
        return outcomes

    async def _lock(self, store: Store, desk: Desk) -> int:
        """What is left, counted if that was never done here, or not since coupons came back."""
        remaining, returned = await store.stocks.lock(desk.programme.id)
        if remaining is None or desk.counted != returned:
            remaining = await store.stocks.count(desk.programme)
            _, desk.counted = await store.stocks.lock(desk.programme.id)
        return remaining


@dataclass(slots=True)
class Batch:
    """Claims that are decided together, one after the other."""

    desk: Desk
    at: datetime
    remaining: int
    roll: dict[UUID, Enrolled]
    held: dict[UUID, Coupon]
    """What members have of the programme."""
    answered: dict[tuple[str, UUID | None], tuple[bytes, Coupon]]
    """What calls were answered, by caller and request_id, with the hashes of their requests."""
    given: list[tuple[Coupon, Change, Call]] = field(default_factory=list)

    @classmethod
    async def load(
        cls, store: Store, desk: Desk, claims: Sequence[Claim], *, remaining: int, at: datetime
    ) -> "Batch":
        """All that deciding needs, read at once."""
        members = [claim.member for claim in claims]
        answered = await store.calls.answered([claim.call for claim in claims], Coupon)
        return cls(
            desk, at, remaining, await store.roll.members(members),
            await store.coupons.of_members(desk.programme.id, members), answered,
        )  # fmt: skip

    def decide(self, claim: Claim, *, node: UUID) -> Outcome:
        """The coupon, or why there is none."""
        try:
            return self._repeated(claim.call) or self._claimed(claim, node=node)
        except Refusal as refusal:
            return refusal

    def _repeated(self, call: Call) -> Coupon | None:
        found = self.answered.get((call.caller, call.request_id))
        if found is None or call.request_id is None:
            return None
        if found[0] != call.request_hash:
            raise RequestIdReused(request_id=call.request_id)
        return found[1]

    def _claimed(self, claim: Claim, *, node: UUID) -> Coupon:
        programme, name = self.desk.programme, f"members/{claim.member}"
        enrolled = self.roll.get(claim.member)
        if enrolled is None:
            raise NotAMember(member=name)
        if not programme.is_for(enrolled.path, organization=self.desk.organization, node=node):
            raise NotEligible(programme=programme.name, member=name)
        if claim.member in self.held:
            raise AlreadyClaimed(programme=programme.name, coupon=self.held[claim.member].name)
        programme.check_window(self.at)
        if self.remaining == 0:
            raise SoldOut(programme=programme.name)
        coupon, fact = domain.claim(
            programme, id=uuid7(), header=new_header(node), member=claim.member,
            organization=enrolled.organization, at=self.at,
        )  # fmt: skip
        change = events.of_coupon(coupon, fact)
        self.remaining -= 1
        self.held[claim.member] = coupon
        self.answered[claim.call.caller, claim.call.request_id] = claim.call.request_hash, coupon
        self.given.append((coupon, change, claim.call))
        return coupon
