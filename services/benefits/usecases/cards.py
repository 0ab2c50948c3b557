"""Cards: issued as members come, revoked as they go or by an officer, shown by their holders."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from kit.authority import scope
from kit.headers import new_header
from kit.ids import uuid7
from kit.roll import Enrolment
from kit.rpc import Call, Page
from services.benefits import events
from services.benefits.domain import cards as domain
from services.benefits.domain import tokens
from services.benefits.domain.cards import Card, CardActive, CardState, NoCard
from services.benefits.store import Store
from services.benefits.usecases import Means


class Cards:
    def __init__(self, means: Means) -> None:
        self._means = means

    async def get(self, card: UUID) -> Card:
        return await self._means.reads.cards.get(card, scope=scope.get())

    async def page(self, parent: str, *, page: Page) -> tuple[list[Card], str | None]:
        """Those of `parent` and all below, oldest first, and the key of the next page."""
        within = await self._means.reads.organizations.within(parent, scope.get())
        cards = self._means.reads.cards
        return await page.across(
            within, lambda path: cards.page(path, after=page.after(), limit=page.size + 1)
        )

    async def issue(self, member: UUID, *, call: Call) -> Card:
        async with self._means.database.transaction() as store:
            enrolled = await store.roll.member(member)
            scope.get().check(enrolled.path)
            if earlier := await store.calls.earlier(call, Card):
                return earlier
            await store.cards.lock_issuing()
            held = (await store.cards.last_of([member])).get(member)
            if held and held.state is CardState.ACTIVE:
                raise CardActive(member=f"members/{member}", card=held.name)
            at = self._means.clock()
            (index,) = await store.cards.draw(1)
            people = [(member, enrolled.organization, index)]
            (card,) = await _issue(store, people, node=self._means.node, at=at)
            await store.calls.answer(call, card)
        self._means.committed()
        return card

    async def revoke(self, name: UUID, *, reason: str, call: Call) -> Card:
        async with self._means.database.transaction() as store:
            card = await store.cards.lock(name, scope=scope.get())
            if earlier := await store.calls.earlier(call, Card):
                return replace(earlier, revoke_reason=card.revoke_reason)
            revoked, fact = card.revoke(by=call.caller, reason=reason, at=self._means.clock())
            change = events.of_card(revoked, fact)
            await store.cards.save_all([revoked], [change])
            await store.outbox.put(change)
            await store.calls.answer(call, replace(revoked, revoke_reason=""))
        self._means.committed()
        self._means.revoked.set()
        return revoked

    async def mine(self, member: UUID) -> tuple[Card, str, datetime]:
        """A member's own card, the text of its QR code, and until when that is good."""
        enrolled = await self._means.reads.roll.member(member)
        card = (await self._means.reads.cards.last_of([member])).get(member)
        if card is None or card.state is not CardState.ACTIVE:
            raise NoCard(member=f"members/{member}")
        at = self._means.clock().replace(microsecond=0)
        token = tokens.Token(
            node=self._means.node, card=card.id, code=enrolled.path.rpartition(".")[2],
            status_index=card.status_index, sign_time=at, begin_time=at - tokens.SKEW,
            expire_time=at + self._means.card_valid,
        )  # fmt: skip
        return card, tokens.text_of(token, self._means.key), token.expire_time


async def follow(
    store: Store, enrolments: Sequence[Enrolment], *, node: UUID, at: datetime
) -> None:
    """What has become of members, and what that leads to for their cards."""
    await store.cards.lock_issuing()
    held = await store.cards.last_of([one.id for one in enrolments], lock=True)
    changed = [
        card.move(one.organization, at=at) if one.active else card.end(at=at)
        for one in enrolments
        if (card := held.get(one.id)) and card.state is CardState.ACTIVE
        and not (one.active and one.organization == card.organization)
    ]  # fmt: skip
    if changed:
        changes = [events.of_card(card, fact) for card, fact in changed]
        await store.cards.save_all([card for card, _ in changed], changes)
        await store.outbox.put(*changes)
    new = [one for one in enrolments if one.active and _is_due(held.get(one.id))]
    if new:
        indexes = await store.cards.draw(len(new))
        people = [
            (one.id, one.organization, index) for one, index in zip(new, indexes, strict=True)
        ]
        await _issue(store, people, node=node, at=at)


def _is_due(last: Card | None) -> bool:
    return last is None or last.renewable


async def _issue(
    store: Store, people: Iterable[tuple[UUID, UUID, int]], *, node: UUID, at: datetime
) -> list[Card]:
    """New cards of members, given with their organisations and indexes."""
    issued = [
        domain.issue(
            id=uuid7(), header=new_header(node), member=member, organization=organization,
            status_index=index, at=at,
        )
        for member, organization, index in people
    ]  # fmt: skip
    changes = [events.of_card(card, fact) for card, fact in issued]
    cards = [card for card, _ in issued]
    await store.cards.add_all(cards, changes)
    await store.outbox.put(*changes)
    return cards
