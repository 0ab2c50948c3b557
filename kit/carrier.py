"""The carrier: NATS.  It may lose, repeat and reorder, and nothing depends on its state.

It brings heads (`head.{service}.{channel}`: the number of the newest entry) to readers, who then
read the log; and the events themselves to whoever subscribes to the node's stream EVENTS.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import StreamConfig

EVENTS = StreamConfig(name="EVENTS", subjects=["smartunion.>", "head.>"], max_age=3600)
"""The node's own stream: events by their type, and heads.  Kept for an hour, in seconds."""

SILENCE = 3.0
"""Seconds without a head after which a reader looks for itself."""
ALONE = 0.25
"""The same while there is no carrier."""

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
    while True:
        try:
            async with asyncio.timeout(ATTEMPT):
                return await nats.connect(
                    url,
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.25,
                    connect_timeout=2,
                    ping_interval=5,
                    max_outstanding_pings=2,
                    error_cb=_on_error,
                    tls=trusting(url, ca),
                    **options,
                )
        except FAILURES:
            await asyncio.sleep(0.5)


async def close(client: Client) -> None:
    """End a connection, also one that never came to be."""
    with suppress(*FAILURES):
        async with asyncio.timeout(CLOSING):
            await client.close()


class Carrier:
    """The node's NATS, as far as it is there.  Without one, everything works, slower."""

    def __init__(self, url: str = "", creds: str = "", ca: str = "") -> None:
        self._url, self._creds, self._ca = url, creds, ca
        self._client: Client | None = None
        self._wakers: dict[str, list[asyncio.Event]] = {}
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
            for subject in self._wakers:
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
        """Publish a head, and the events of `rows` before it, soon and without waiting."""
        _, _, pending = self._waiting.get((service, channel), (0, None, []))
        if len(pending) > 5_000:
            pending = []  # subscribers with a gap read the log
        self._waiting[service, channel] = (head, run or UUID(int=0), pending + rows)
        self._something.set()

    def waker(self, service: str, channel: str) -> asyncio.Event:
        """An event that is set at every head of that log.  Before `run`."""
        event = asyncio.Event()
        self._wakers.setdefault(f"head.{service}.{channel}", []).append(event)
        return event

    async def heard(self, waker: asyncio.Event) -> bool:
        """Wait for a head, but not for ever; whether there was one."""
        return await waited(waker, SILENCE if self.client else ALONE)

    def serve(self, subject: str, answer: Callable[[Msg], Awaitable[None]]) -> None:
        """Answer requests on a subject, one replica each.  Before `run`."""
        self._answers[subject] = answer

    async def _on_head(self, msg: Msg) -> None:
        for event in self._wakers[msg.subject]:
            event.set()

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


async def waited(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event was set within so many seconds; it is cleared."""
    # Not wait_for, which before Python 3.12 can lose a cancellation.
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    finally:
        event.clear()
    return True
