"""The carrier: NATS.  It may lose, repeat and reorder, and nothing depends on its state.

It brings heads (`head.{service}.{channel}`: the number of the newest entry) to the replicas in
which readers wait; and the events themselves to whoever subscribes to the node's stream EVENTS.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import StreamConfig

from kit.waiting import happened, within

EVENTS = StreamConfig(name="EVENTS", subjects=["smartunion.>", "head.>"], max_age=3600)
"""The node's own stream: events by their type, and heads.  Kept for an hour, in seconds."""

WAIT, LONG_WAIT = 1.0, 5.0
"""Seconds that a reader waits in its call for something to read: a head may be lost, so it asks
again.  The longer ones are for what is not urgent, and where nobody hears by the call that the
writer lives."""
ENDLESS = 2**63
"""More than any head."""

ATTEMPT, CLOSING = 10.0, 1.0
"""Seconds for a connection to come to be, and to end: after a handshake that failed, nats-py waits
for ever."""

FAILURES = (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError, asyncio.TimeoutError)

logger = logging.getLogger(__name__)


async def _on_error(error: Exception) -> None:
    logger.debug("carrier", extra={"error": type(error).__name__})


def trusting(url: str, ca: str) -> ssl.SSLContext | None:
    """How a server at tls:// must prove itself; None if it speaks plainly.

    Args:
        ca: the path of the CAs that vouch for it; empty: those of the machine.
    """
    return ssl.create_default_context(cafile=ca or None) if url.startswith("tls://") else None


async def dial(url: str, ca: str = "", **options: Any) -> Client:
    """A connection that is tried for ever, and again whenever it is lost; `ca` as above."""
    options = {
        "allow_reconnect": True,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 0.25,
        "connect_timeout": 2,
        "ping_interval": 5,
        "max_outstanding_pings": 2,
        "error_cb": _on_error,
        **options,
    }
    while True:
        with suppress(*FAILURES):
            return await _connected(url, trusting(url, ca), options)
        await asyncio.sleep(0.5)


async def _connected(url: str, tls: ssl.SSLContext | None, options: dict[str, Any]) -> Client:
    client = Client()
    try:
        await within(ATTEMPT, client.connect(url, tls=tls, **options))
    except BaseException:
        await close(client)
        raise
    return client


async def close(client: Client) -> None:
    """End a connection, also one that never came to be: of that, nats-py asserts that it has."""
    with suppress(*FAILURES, AssertionError):
        await within(CLOSING, client.close())


@dataclass(slots=True)
class Tail:
    """How far something goes, as far as this process knows, and who waits for it to go further."""

    head: int = 0
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it moves; then another takes its place.  Who takes it before they look, and waits
    for it if they find nothing, misses nothing."""

    def move(self, head: int) -> None:
        """Say what it is now; less than before, if the database was restored."""
        if head != self.head:
            self.head = head
            moved, self.moved = self.moved, asyncio.Event()
            moved.set()

    async def passed(self, number: int, seconds: float) -> None:
        """Wait until it moves, unless it is beyond a number already, but not longer than so many
        seconds."""
        if self.head <= number:
            await happened(self.moved, seconds)


class Carrier:
    """The node's NATS, as far as it is there.  Without one, everything works, slower."""

    def __init__(self, url: str = "", creds: str = "", ca: str = "") -> None:
        self._url, self._creds, self._ca = url, creds, ca
        self._client: Client | None = None
        self._tails: dict[str, Tail] = {}
        self._draining = False
        self._answers: dict[str, Callable[[Msg], Awaitable[None]]] = {}
        self._waiting: dict[tuple[str, str], tuple[int, UUID, list[Any]]] = {}
        self._something = asyncio.Event()

    async def run(self) -> None:
        """Keep connected, and publish what is announced, until cancelled."""
        if not self._url:
            await asyncio.Event().wait()
        options = {"user_credentials": self._creds} if self._creds else {}
        self._client = await dial(self._url, self._ca, **options)
        try:
            await self._make_stream(self._client)
            for subject in self._tails:
                await self._client.subscribe(subject, cb=self._on_head)
            for subject, answer in self._answers.items():
                await self._client.subscribe(subject, queue="sync", cb=answer)
            while True:
                await self._something.wait()
                self._something.clear()
                await self._publish()
        finally:
            await close(self._client)

    @property
    def client(self) -> Client | None:
        """The connection; None while it is not there."""
        return self._client if self._client is not None and self._client.is_connected else None

    def announce(
        self, service: str, channel: str, head: int, run: UUID | None, rows: list[Any]
    ) -> None:
        """Tell a head to those who wait here; publish it, and the events of `rows` before it, soon
        and without waiting."""
        self._move(f"head.{service}.{channel}", head)
        _, _, pending = self._waiting.get((service, channel), (0, None, []))
        if len(pending) > 5_000:
            pending = []  # subscribers with a gap read the log
        self._waiting[service, channel] = (head, run or UUID(int=0), pending + rows)
        self._something.set()

    def tail(self, service: str, channel: str) -> Tail:
        """How far a log goes, by what this process and its replicas announce.  Before `run`."""
        return self._tails.setdefault(f"head.{service}.{channel}", Tail())

    async def drain(self, stop: asyncio.Event) -> None:
        """Keep nobody waiting any more once `stop` is set."""
        await stop.wait()
        for subject in self._tails:
            self._move(subject, ENDLESS)
        self._draining = True

    def serve(self, subject: str, answer: Callable[[Msg], Awaitable[None]]) -> None:
        """Answer requests on a subject, one replica each.  Before `run`."""
        self._answers[subject] = answer

    def _move(self, subject: str, head: int) -> None:
        if subject in self._tails and not self._draining:
            self._tails[subject].move(head)

    async def _on_head(self, msg: Msg) -> None:
        with suppress(ValueError):  # anybody at this NATS can publish nonsense
            self._move(msg.subject, int(msg.data))

    async def _publish(self) -> None:
        client = self.client
        waiting, self._waiting = self._waiting, {}
        if client is None:
            return
        try:
            for (service, channel), (head, run, rows) in waiting.items():
                for row in rows:
                    await client.publish(
                        row["event_type"], row["event"],
                        headers=_headers(service, channel, run, row),
                    )  # fmt: skip
                # The head is acknowledged, and so all before it: one round trip a batch.
                await client.jetstream().publish(
                    f"head.{service}.{channel}", str(head).encode(), timeout=2.0
                )
        except FAILURES as error:
            logger.info("carrier lost a batch", extra={"error": type(error).__name__})
            await self._make_stream(client)

    async def _make_stream(self, client: Client) -> None:
        """Make EVENTS, unless it is there.

        Without it a publish may find no stream, or only a reader of heads that does not answer.
        """
        with suppress(*FAILURES):
            await client.jetstream().add_stream(EVENTS)


def _headers(service: str, channel: str, run: UUID, row: Any) -> dict[str, str]:
    """The attributes of an event.  Source: CloudEvents 1.0, NATS protocol binding."""
    return {
        "ce-specversion": "1.0",
        "ce-id": str(row["event_id"]),
        "ce-type": row["event_type"],
        "ce-source": f"/{service}/{channel}",
        "ce-subject": f"{row['kind']}/{row['id']}",
        "ce-time": row["event_time"].isoformat(),
        "content-type": "application/protobuf",
        "run": str(run),
        "number": str(row["number"]),
    }
