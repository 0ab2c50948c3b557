"""Frames of all streams in one order; and from it the stream BELOW, for subscribers on NATS.

    Numbering   gives frames their arrival numbers           (one a node, by advisory lock)
    Below       publishes their events, and lets subscribers in      (where Numbering leads)

BELOW is convenient, not complete: NATS may lose it at any time, and it goes on after its cursor.
"""

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, StreamConfig

from kit import accounts
from kit.carrier import FAILURES, Carrier
from kit.db import PASSING, Connection
from kit.frames import FrameBroken
from kit.waiting import waited
from services.sync.domain.nodes import Node
from services.sync.domain.watching import EventFilter, Subscriber, is_type
from services.sync.link.children import Children
from services.sync.usecases import Means
from services.sync.usecases.watching import Watched, Watching, events_of

POLL = 0.25
"""Seconds after which who numbers looks for what other replicas have committed."""

SETTLE_EVERY = 30.0
"""Seconds after which NATS is told again who is let in: it may have lost its folder."""

STREAM = StreamConfig(
    name="BELOW", subjects=["below.>"], max_age=timedelta(days=7).total_seconds(),
    max_bytes=256 * 2**20,
)  # fmt: skip
"""Old events go when there are too many."""

NATS_FAILURES = (*FAILURES, accounts.ClaimsRefused)

logger = logging.getLogger(__name__)


class Numbering:
    """Numbers frames, if no other replica does; and tells this process how far they go."""

    def __init__(self, url: str, means: Means, watching: Watching) -> None:
        """
        Args:
            url: of the database of sync.
        """
        self._url, self._means, self._watching = url, means, watching
        self.leads = False
        """Whether this replica is the one."""
        self.wake = asyncio.Event()
        """Set when frames were committed by this process."""

    async def run(self) -> None:
        """Until cancelled.  What passes by itself is survived by beginning again."""
        while True:
            try:
                conn = await asyncpg.connect(self._url)
                try:
                    await self._follow(conn)
                finally:
                    self.leads = False
                    conn.terminate()
            except PASSING as error:
                logger.info("numbering begins again", extra={"error": type(error).__name__})
                await asyncio.sleep(0.2)

    async def _follow(self, conn: Connection) -> None:
        """On one connection, whose lock says whether it may number."""
        store, run = self._means.on(conn), uuid4()
        while True:
            self.leads = self.leads or await store.arrivals.lead(run)
            while self.leads and await self._watching.arrive(store):
                pass
            self._watching.tail.move(await store.arrivals.head())
            await waited(self.wake, POLL)


class Below:
    """The stream BELOW, and who may read it."""

    def __init__(
        self, watching: Watching, numbering: Numbering, children: Children, carrier: Carrier
    ) -> None:
        self._watching, self._numbering = watching, numbering
        self._children, self._carrier = children, carrier
        self._sequence = 0
        self._settled: Any = None
        self._settled_at = 0.0

    # -- who may read it

    def sign(self, subscriber: UUID, user_key: str) -> str:
        """The JWT of a subscriber's user; empty if nobody can be let in here."""
        operator = self._children.operator
        return accounts.subscriber_user_jwt(operator, str(subscriber), user_key) if operator else ""

    async def settle(self, subscriber: Subscriber) -> None:
        """Let a subscriber in, or cut it off, if NATS is there; `run` tries again."""
        with suppress(*NATS_FAILURES, *PASSING):
            if (client := self._carrier.client) is not None:
                await self._make_stream(client)
            _, nodes = await self._watching.subscriptions()
            await self._settle(subscriber, nodes)

    async def _settle(self, subscriber: Subscriber, nodes: list[Node]) -> None:
        system, client, children = self._children.system, self._carrier.client, self._children
        if system is None or client is None or children.operator is None:
            return
        name, revoked = str(subscriber.id), subscriber.revoke_time is not None
        jwt = accounts.subscriber_account_jwt(
            children.operator, children.account, name, revoked=revoked
        )
        await accounts.update(system, jwt)
        js = client.jetstream()
        if revoked:
            with suppress(nats.js.errors.NotFoundError):
                await js.delete_consumer("BELOW", name)
        else:
            await js.add_consumer(
                "BELOW",
                ConsumerConfig(
                    durable_name=name, filter_subjects=subscriber.filter.subjects(nodes)
                ),
            )

    # -- what is in it

    async def run(self) -> None:
        """Until cancelled.  Without NATS, or without subscribers, the cursor waits or moves on."""
        if self._children.operator is None:
            return await asyncio.Event().wait()  # type: ignore[return-value]
        while True:
            try:
                if self._numbering.leads and (client := self._carrier.client) is not None:
                    await self._step(client)
                    continue
            except (*NATS_FAILURES, *PASSING) as error:
                logger.info("BELOW begins again", extra={"error": type(error).__name__})
                self._settled = None
            await asyncio.sleep(0.5)

    async def _step(self, client: Client) -> None:
        """Settle what has changed, then publish what follows the cursor, or wait for it."""
        subscribers, nodes = await self._watching.subscriptions()
        wanted = (subscribers, nodes, client.stats["reconnects"])
        if wanted != self._settled or monotonic() - self._settled_at > SETTLE_EVERY:
            self._sequence = await self._make_stream(client)
            for subscriber in subscribers:
                await self._settle(subscriber, nodes)
            self._settled, self._settled_at = wanted, monotonic()
        if all(subscriber.revoke_time for subscriber in subscribers):
            await self._watching.pass_over()
            await self._watching.tail.passed(self._watching.tail.head, 1.0)
            return
        before, batch = await self._watching.unpublished(most=1)
        for row in batch.rows:
            await self._publish(client, row)
        if batch.end.number > before:
            await self._watching.publish(before, batch.end.number)
        if not batch.rows:
            await self._watching.tail.passed(batch.end.number, 1.0)

    async def _make_stream(self, client: Client) -> int:
        """Make BELOW, unless it is there; the number of its last message."""
        made = await client.jetstream().add_stream(STREAM)
        return made.state.last_seq

    async def _publish(self, client: Client, row: Any) -> None:
        """The events of a frame; the last is acknowledged, and its number says that all are there.

        Raises:
            nats.errors.Error: if not.
        """
        try:
            events = events_of(row, EventFilter()) if row["body"] is not None else []
        except FrameBroken:
            events = []
        events = [event for event in events if _fits(event, client.max_payload)]
        for event in events[:-1]:
            await client.publish(subject(event), event.line.event, headers=headers(event))
        if not events:
            return
        last = events[-1]
        ack = await client.jetstream().publish(
            subject(last), last.line.event, headers=headers(last), timeout=2.0
        )
        if ack.seq != self._sequence + len(events):
            raise nats.errors.Error("nats: messages of a frame were lost")
        self._sequence = ack.seq


def subject(event: Watched) -> str:
    """Where an event is published."""
    return f"below.{event.key.origin}.{event.line.event_type}"


def headers(event: Watched) -> dict[str, str]:
    """The attributes of an event.  Source: CloudEvents 1.0, NATS protocol binding.

    With the resume token, a subscriber can go on by WatchEvents right after the event.
    """
    key, line = event.key, event.line
    return {
        "ce-specversion": "1.0",
        "ce-id": str(event.event_id),
        "ce-type": line.event_type,
        "ce-source": f"/nodes/{key.origin}/{key.service}/{key.channel}",
        "ce-subject": f"{line.kind}/{line.id}",
        "ce-time": event.event_time.isoformat(),
        "content-type": "application/protobuf",
        "number": str(line.number),
        "owner-epoch": str(line.owner_epoch),
        "version": str(line.version),
        "resume-token": event.position.token(),
    }


def _fits(event: Watched, max_payload: int) -> bool:
    """Whether NATS can carry it; what it cannot is for WatchEvents."""
    line = event.line
    named = is_type(line.event_type) and is_type(line.kind)
    fits = named and len(line.event) + 2_000 < max_payload
    if not fits:
        logger.error("event not in BELOW", extra={"origin": str(event.key.origin)})
    return fits
