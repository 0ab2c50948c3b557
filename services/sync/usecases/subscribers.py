"""Subscribers: programs that read the stream BELOW with credentials of their own."""

from dataclasses import replace
from typing import Protocol
from uuid import UUID

from kit.ids import uuid7
from kit.rpc import Call, Page
from services.sync.domain import watching
from services.sync.domain.watching import EventFilter, Subscriber
from services.sync.usecases import Means
from services.sync.usecases.nodes import below


class Door(Protocol):
    """NATS, as far as subscribers are let in."""

    def sign(self, subscriber: UUID, user_key: str) -> str:
        """The JWT of a subscriber's user; empty if nobody can be let in here."""

    async def settle(self, subscriber: Subscriber) -> None:
        """Let a subscriber in, or cut it off, if NATS is there now; it is tried again later."""


class Subscribers:
    def __init__(self, means: Means, door: Door) -> None:
        self._means, self._door = means, door

    async def create(
        self, display_name: str, nats_user_key: str, asked: EventFilter, *, call: Call
    ) -> Subscriber:
        """A new subscriber, let in at once if NATS is there."""
        watching.check_subscriber(display_name, nats_user_key)
        watching.check_filter(asked, self._means.own, await below(self._means))
        id_ = uuid7()
        user_jwt = self._door.sign(id_, nats_user_key)
        if not user_jwt:
            raise watching.NatsForeign()
        subscriber = Subscriber(
            id=id_, display_name=display_name, nats_user_key=nats_user_key, filter=asked,
            user_jwt=user_jwt, create_time=self._means.clock(),
        )  # fmt: skip
        async with self._means.transaction() as store:
            if earlier := await store.calls.earlier(call, Subscriber):
                return earlier
            await store.subscribers.add(subscriber)
            await store.calls.answer(call, subscriber)
        await self._door.settle(subscriber)
        return subscriber

    async def page(self, page: Page) -> tuple[list[Subscriber], str | None]:
        """Some of them, and the key with which to go on."""
        async with self._means.transaction() as store:
            return page.cut(await store.subscribers.page(page.after(), page.size + 1))

    async def revoke(self, id_: UUID, *, call: Call) -> Subscriber:
        """Cut a subscriber off; again does no harm."""
        async with self._means.transaction() as store:
            if earlier := await store.calls.earlier(call, Subscriber):
                return earlier
            subscriber = await store.subscribers.lock(id_)
            if subscriber is None:
                raise watching.SubscriberNotFound(subscriber=f"subscribers/{id_}")
            if subscriber.revoke_time is None:
                subscriber = replace(subscriber, revoke_time=self._means.clock())
                await store.subscribers.revoke(subscriber)
            await store.calls.answer(call, subscriber)
        await self._door.settle(subscriber)
        return subscriber
