"""Followers: how a service learns what another service of its node has committed.

The same log and cursor as between nodes, without frames: the cursor moves in the transaction of
the effect.  What an effect is given is the state of a record, so the same state may come again, and
a log that was trimmed or restored is taken up by a snapshot of all records.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from time import monotonic
from uuid import UUID

import grpc

from kit.carrier import LONG_WAIT, WAIT
from kit.db import PASSING, Connection, Pool
from kit.log import BATCH
from kit.records import CERTIFICATE, LOCAL
from kit.status import refused
from kit.waiting import unhurried
from smartunion.event.v1 import log_pb2, log_pb2_grpc

LONGEST = 3600.0
"""Seconds that a snapshot may take."""

Effect = Callable[[Connection, Sequence[log_pb2.Entry]], Awaitable[None]]
"""What entries lead to.  It is given a record's states in their order, and perhaps again, and of a
snapshot without an event; it does nothing in a kind that it does not know."""

Forget = Callable[[Connection], Awaitable[None]]
"""What a snapshot is to replace is deleted."""


Done = Callable[[], Awaitable[None]]


async def keep_all(conn: Connection) -> None:
    """Where what is gone from the writer is kept by the reader."""


async def rest() -> None:
    """Where nobody waits for what was read."""


logger = logging.getLogger(__name__)


class Follower:
    """Reads one channel of the log of one service of this node, each entry once and in order."""

    def __init__(
        self, pool: Pool, node: UUID, reader: str, *, peer: str, channel: str,
        stub: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...], effect: Effect,
        forget: Forget = keep_all, done: Done = rest,
    ) -> None:  # fmt: skip
        """
        Args:
            node: this node.
            reader: the service that reads.
            peer: the service that is read.
            effect: committed together with the cursor.
            forget: before the effect of a snapshot, in its transaction.
            done: called whenever nothing is left to read.
        """
        self._pool, self._node, self._reader = pool, node, reader
        self._peer, self._channel = peer, channel
        self._log, self._metadata = log_pb2_grpc.LogServiceStub(stub), metadata
        self._effect, self._forget, self._done = effect, forget, done
        self._wait = WAIT if channel == LOCAL else LONG_WAIT  # who may do what is known soon
        self._place = f"{peer}/{channel}"
        """In `parked`, in place of a channel."""

    async def run(self) -> None:
        """Until cancelled.  What passes by itself is survived by beginning again."""
        away, redriven, idle = False, False, False
        while True:
            began, waits = monotonic(), idle
            try:
                if not redriven:
                    await self._redrive()
                    redriven = True
                idle = not await self._step(wait=self._wait if waits else 0.0)
                away = False
                if idle:
                    await self._done()
            except (*PASSING, grpc.aio.AioRpcError) as error:
                if not away:
                    facts = {"peer": self._peer, "error": type(error).__name__}
                    logger.info("follower begins again", extra=facts)
                away, idle = True, False
                await asyncio.sleep(0.2)
            else:
                if idle and waits:
                    await unhurried(began)

    async def _step(self, *, wait: float = 0.0) -> bool:
        """Read and apply what follows the cursor, for which the peer waits so many seconds; whether
        there may be more."""
        after, run = await self._cursor()
        request = log_pb2.ReadLogRequest(
            reader=self._reader, channel=self._channel, after=after, run=run, page_size=BATCH,
            wait=timedelta(seconds=wait),
        )  # fmt: skip
        try:
            answer = await self._log.ReadLog(request, metadata=self._metadata, timeout=10)
        except grpc.aio.AioRpcError as error:
            info = refused(error)
            if info.reason == "LOG_TRIMMED":
                await self._take_snapshot(after, int(info.metadata["first"]) - 1)
            elif info.reason == "LOG_REWOUND":
                await self._take_snapshot(after, int(info.metadata["head"]))
            else:
                raise
            return True
        if not answer.entries:
            return False
        async with self._pool.acquire() as conn, conn.transaction():
            if await self._move(conn, after, answer.entries[-1].number, answer.run):
                await self._apply(conn, answer.entries)
        return answer.head > answer.entries[-1].number

    async def _cursor(self) -> tuple[int, bytes]:
        row = await self._pool.fetchrow(
            """
            INSERT INTO followed (peer, channel) VALUES ($1, $2)
            ON CONFLICT (peer, channel) DO UPDATE SET peer = excluded.peer
            RETURNING number, run
            """,
            self._peer, self._channel,
        )  # fmt: skip
        assert row is not None
        return row["number"], row["run"]

    async def _move(self, conn: Connection, after: int, number: int, run: bytes) -> bool:
        """Whether the cursor stood where it was read; moving it first locks replicas out."""
        return bool(
            await conn.fetchval(
                """
                UPDATE followed SET number = $4, run = $5
                 WHERE peer = $1 AND channel = $2 AND number = $3 RETURNING true
                """,
                self._peer, self._channel, after, number, run,
            )
        )  # fmt: skip

    async def _take_snapshot(self, after: int, number: int) -> None:
        """Apply every record of the peer as it is now, and go on behind `number`: what was
        numbered up to there was committed before the snapshot."""
        logger.warning("follower takes a snapshot", extra={"peer": self._peer, "number": number})
        request = log_pb2.ReadSnapshotRequest(origin=self._node.bytes, channel=self._channel)
        parts = self._log.ReadSnapshot(request, metadata=self._metadata, timeout=LONGEST)
        async with self._pool.acquire() as conn, conn.transaction():
            if await self._move(conn, after, number, b""):
                await self._forget(conn)
                async for part in parts:
                    await self._apply(conn, part.records)

    async def _apply(self, conn: Connection, entries: Sequence[log_pb2.Entry]) -> None:
        records = [entry for entry in entries if entry.kind != CERTIFICATE]
        if records:
            await self._halve(conn, records)

    async def _halve(self, conn: Connection, entries: Sequence[log_pb2.Entry]) -> None:
        """Halve a failing batch until the failing entry is alone, and park that: it blocks
        nothing and is not dropped."""
        try:
            async with conn.transaction():
                await self._effect(conn, entries)
        except Exception as error:
            if isinstance(error, PASSING) and not isinstance(error, ValueError):
                raise
            if len(entries) > 1:
                middle = len(entries) // 2
                await self._halve(conn, entries[:middle])
                await self._halve(conn, entries[middle:])
                return
            (entry,), reason = entries, type(error).__name__
            facts = {"peer": self._peer, "kind": entry.kind, "reason": reason}
            logger.warning("parked", extra=facts)
            await conn.execute(
                """
                INSERT INTO parked VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
                ON CONFLICT DO NOTHING
                """,
                self._node, self._place, entry.number, entry.kind, UUID(bytes=entry.id),
                entry.owner_epoch, entry.version, entry.hash, entry.public, reason,
            )  # fmt: skip

    async def _redrive(self) -> None:
        """Apply what was parked, as far as this version of the software can."""
        async with self._pool.acquire() as conn, conn.transaction():
            rows = await conn.fetch(
                """
                DELETE FROM parked WHERE origin = $1 AND channel = $2
                RETURNING number, kind, id, owner_epoch, version, hash, public
                """,
                self._node, self._place,
            )  # fmt: skip
            entries = [
                log_pb2.Entry(**{**row, "id": row["id"].bytes})
                for row in sorted(rows, key=lambda row: row["number"])
            ]
            await self._apply(conn, entries)
