"""Log, carrier, cursor: how every change travels.

    writer's transaction          publisher                     reader's transaction
    rows + outbox row  ──COMMIT─▶ number, COMMIT, head ───────▶ effect + cursor, COMMIT
                                       │ the carrier may lose, repeat, reorder  │ receipt
                                       └── read_log(after cursor) ◀── a head ───┘

The log is the truth.  The carrier only says that there is something to read, and so it brings
heads to our own readers; whatever happens to it, a reader that hears nothing looks for itself.
A publisher that crashes between numbering and publishing publishes nothing again.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from kit import audit, proofs
from kit.carrier import Carrier
from kit.db import EVERYTHING, PASSING, Connection, Pool
from kit.errors import FailedPrecondition, Unavailable
from kit.ids import uuid7
from kit.records import (
    CERTIFICATE,
    CHANNELS,
    NO_SECTIONS,
    SECTIONS,
    Kind,
    groups_of,
    hash_of,
    named,
    record_hash,
)
from kit.waiting import waited
from smartunion.event.v1 import log_pb2

BATCH = 2_000
"""Entries numbered, read and framed at once."""
BULK = 500
"""From so many entries on, a batch is copied, and publishes its head alone."""
POLL = 0.2
"""Seconds after which a publisher looks for what writers of other processes have committed."""
HEARTBEAT = 1.0
"""Seconds between the heads that a publisher announces when nothing changes."""
QUIET = 2.0
"""Seconds without entries after which a certificate is due."""
CERTIFY_EVERY = 60.0
"""Seconds after which a certificate is due in any case."""
AUDIT_EVERY = 10.0
"""Seconds between two recounts of some of the own tables."""
CHAIN_EVERY = 0.2
"""Seconds between two batches of the audit trail, for which nobody waits: each costs a commit."""
CERTIFY_ENTRIES = 10_000
"""Entries after which a certificate is due in any case."""

NO_RECORD = UUID(int=0)

RUN = """
    SELECT run FROM runs WHERE channel = $1 AND first <= $2
     ORDER BY first DESC, start_time DESC LIMIT 1
"""

logger = logging.getLogger(__name__)


class LogTrimmed(FailedPrecondition):
    message = "the log keeps nothing between {after} and {first}: it was freed or lost"
    chinese = "日志已不再保留 {after} 与 {first} 之间的条目：已清理或丢失"


class LogUnnumbered(Unavailable):
    message = "what was committed last has no number yet; read again in a moment"
    chinese = "最近提交的内容尚未编号；请稍后再读"


class LogRewound(FailedPrecondition):
    message = "the log ends at {head} and does not continue {after}: it was restored from a backup"
    chinese = "日志止于 {head}，与 {after} 不连续：它是从备份恢复的"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A record in its new state, and the event that led to it: one row of the outbox."""

    kind: Kind
    id: UUID
    owner_epoch: int = 1
    version: int
    before: bytes | None
    """The hash of the record before; None if it is new."""
    public: bytes
    """The section `public` in the new state."""
    sections: Mapping[str, bytes] = field(default_factory=dict)
    """The other sections by name, or the hash of one that is not at hand."""
    event: Message
    event_time: datetime

    @cached_property
    def hash(self) -> bytes:
        """The hash of the record in its new state."""
        groups = groups_of(self.public, self.sections)
        return record_hash(self.kind.name, self.id, self.owner_epoch, self.version, groups)


class Outbox:
    """What a transaction announces.  The records must be locked before."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def put(self, *changes: Change) -> None:
        """Announce the changes, in their order, if the caller's transaction commits."""
        if act := audit.acting.get(None):
            act.touch(*(f"{one.kind.name}/{one.id}" for one in changes[: audit.MOST_NAMES]))
        rows = [
            (
                change.kind.channel, change.kind.name, change.id, change.owner_epoch,
                change.version, change.before, change.hash, change.public, uuid7(),
                change.event.DESCRIPTOR.full_name, change.event_time,
                change.event.SerializeToString(), *map(change.sections.get, SECTIONS),
            )
            for change in changes
        ]  # fmt: skip
        if len(rows) >= BULK:  # COPY takes half the time for many, and two round trips.
            await self._conn.copy_records_to_table("outbox", columns=WAITING, records=rows)
            return
        await self._conn.execute(
            f"""
            INSERT INTO outbox ({", ".join(WAITING)})
            SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[], $4::int[], $5::bigint[],
                                 $6::bytea[], $7::bytea[], $8::bytea[], $9::uuid[], $10::text[],
                                 $11::timestamptz[], $12::bytea[], $13::bytea[])
            """,
            *zip(*rows, strict=True),
        )


WAITING = ["channel", "kind", "id", "owner_epoch", "version", "before", "hash", "public",
           "event_id", "event_type", "event_time", "event", *SECTIONS]  # fmt: skip
COLUMNS = f"""number, kind, id, owner_epoch, version, hash, public,
              event_id, event_type, event_time, event, {", ".join(SECTIONS)}"""


def to_entry(row: Any, shown: Collection[str] = ()) -> log_pb2.Entry:
    """A row of the table `entries` as it travels.

    Args:
        shown: the sections besides `public` that go with it, as `kit.records.named` names them.
    """
    return log_pb2.Entry(
        number=row["number"], kind=row["kind"], id=row["id"].bytes,
        owner_epoch=row["owner_epoch"], version=row["version"], hash=row["hash"],
        public=row["public"], event_id=row["event_id"].bytes, event_type=row["event_type"],
        event_time=_timestamp(row["event_time"]), event=row["event"],
        sections=sections_of(row, shown),
    )  # fmt: skip


def sections_of(row: Any, shown: Collection[str]) -> Mapping[str, bytes]:
    """The sections besides `public` in a row with a `kind`: those shown, of the others the hash."""
    found = NO_SECTIONS
    for name in SECTIONS:
        if (section := row[name]) is not None:
            kept = section if named(row["kind"], name) in shown else hash_of(section)
            found = {**found, name: kept}
    return found


@lru_cache
def _timestamp(at: datetime) -> Timestamp:
    """The time as a message: kept, as all that one transaction announces has one time."""
    timestamp = Timestamp()
    timestamp.FromDatetime(at)
    return timestamp


async def read_log(
    pool: Pool, channel: str, *, after: int, run: bytes, limit: int, shown: Collection[str] = (),
    reader: str | None = None,
) -> log_pb2.ReadLogResponse:  # fmt: skip
    """The head, and the entries that follow `after` without a hole; fewer than `limit` only before
    a hole and at the head.

    One statement, one snapshot: the head and the entries must not come from two.

    Args:
        shown: as `to_entry` takes it.
        reader: whose cursor (run, after) is, and so its receipt.

    Raises:
        LogTrimmed: if an entry that follows is no longer kept.
        LogRewound: if the cursor (run, after) is not on this log's lineage.
    """
    rows = await pool.fetch(
        f"""
        SELECT head, ({RUN}) AS lineage, {COLUMNS},
               (SELECT number FROM receipts WHERE reader = $4 AND channel = $1) AS receipt
          FROM logs
          LEFT JOIN LATERAL (SELECT * FROM entries WHERE channel = $1 AND number > $2
                              ORDER BY number LIMIT $3) entry ON true
         WHERE logs.channel = $1 ORDER BY number
        """,
        channel, after, limit, reader,
    )  # fmt: skip
    head, lineage = rows[0]["head"], rows[0]["lineage"]
    if head < after or (after and run and run != (lineage.bytes if lineage else b"")):
        raise LogRewound(head=head, after=after)
    kept = [row for row in rows if row["number"] is not None]
    found = [row for at, row in enumerate(kept, start=after + 1) if row["number"] == at]
    if head > after and not found:
        raise LogTrimmed(after=after, first=kept[0]["number"] if kept else head + 1)
    if reader and rows[0]["receipt"] != after:
        await _receive(pool, reader, channel, after)
    return log_pb2.ReadLogResponse(
        head=head,
        run=await run_of(pool, channel, found[-1]["number"]) if found else run,
        entries=[to_entry(row, shown) for row in found],
    )


async def _receive(pool: Pool, reader: str, channel: str, after: int) -> None:
    """Keep a receipt.  It is not flushed: when a crash takes it, the next call brings it again."""
    await pool.execute(
        """
        INSERT INTO receipts (reader, channel, number)
        SELECT $1, $2, $3::bigint FROM set_config('synchronous_commit', 'off', true)
        ON CONFLICT (reader, channel) DO UPDATE
           SET number = excluded.number, read_time = clock_timestamp()
        """,
        reader, channel, after,
    )  # fmt: skip


async def check_numbered(pool: Pool, channel: str) -> None:
    """Raises LogUnnumbered if something is committed that has no number: a reader who must not
    believe that it has read all would."""
    if await pool.fetchval("SELECT EXISTS (SELECT FROM outbox WHERE channel = $1)", channel):
        raise LogUnnumbered()


async def run_of(pool: "Connection | Pool", channel: str, number: int) -> bytes:
    """The run in which an entry was numbered.  Runs are only ever added, at the end."""
    run = await pool.fetchval(RUN, channel, number)
    return run.bytes if run else b""


async def free(pool: Pool, channel: str, *, keep_days: float) -> int:
    """Forget entries that every reader has passed and that no backup may need; how many.

    Without readers nothing is freed: the first one may still come.
    """
    status = await pool.execute(
        """
        DELETE FROM entries
         WHERE channel = $1
           AND number <= (SELECT min(number) FROM receipts WHERE channel = $1)
           AND number_time < clock_timestamp() - make_interval(secs => $2 * 86400)
        """,
        channel, keep_days,
    )  # fmt: skip
    return int(status.split()[-1])


async def number_entries(conn: Connection, node: UUID, channel: str) -> list[Any]:
    """Move what is committed from the outbox to the log, in order of position, with its sums.

    Returns the entries, each beside how many were `taken`; of BULK or more only the last.
    Only on the connection that holds the publisher's lock: when the lock is gone, so is this.
    A move is three times as fast as UPDATE outbox SET number, which rewrites row and indexes.
    It never asks for positions after the last: rows commit out of order.
    """
    rows: list[Any] = await conn.fetch(
        f"""
        WITH taken AS (
            DELETE FROM outbox WHERE channel = $2 AND position = ANY (ARRAY(
                SELECT position FROM outbox WHERE channel = $2 ORDER BY position LIMIT $3))
            RETURNING *
        ), moved AS (
            UPDATE logs SET head = head + (SELECT count(*) FROM taken)
             WHERE channel = $2 AND EXISTS (SELECT FROM taken)
            RETURNING head, head - (SELECT count(*) FROM taken) AS before
        ), summed AS (
            INSERT INTO sums (origin, channel, kind, bucket, records, digest)
            SELECT $1, channel, kind, bucket(id), count(*) FILTER (WHERE before IS NULL),
                   modulo(sum(element(hash)) - coalesce(sum(element(before)), 0))
              FROM taken GROUP BY channel, kind, bucket(id)
            ON CONFLICT (origin, channel, kind, bucket) DO UPDATE
               SET records = sums.records + excluded.records,
                   digest = modulo(sums.digest + excluded.digest)
        ), entered AS (
            INSERT INTO entries (channel, {COLUMNS})
            SELECT channel, moved.before + row_number() OVER (ORDER BY position), kind, id,
                   owner_epoch, version, hash, public, event_id, event_type, event_time, event,
                   {", ".join(SECTIONS)}
              FROM taken, moved
            RETURNING {COLUMNS}
        )
        SELECT head - before AS taken, {COLUMNS} FROM entered, moved
         WHERE number = head OR head - before < $4 ORDER BY number
        """,
        node, channel, BATCH, BULK,
    )  # fmt: skip
    return rows


class Publisher:
    """The only one that numbers a database's log; a second waits at the advisory lock."""

    def __init__(
        self, url: str, node: UUID, service: str, kinds: Sequence[Kind], carrier: Carrier
    ) -> None:
        self._url, self._node, self._service = url, node, service
        self._kinds, self._carrier = kinds, carrier
        self._away = False
        self.wake = asyncio.Event()
        """Set by a writer of this process after its commit; others are seen within POLL."""

    async def run(self) -> None:
        """Until cancelled.  What passes by itself is survived by beginning again."""
        while True:
            try:
                conn = await asyncpg.connect(self._url, server_settings=EVERYTHING)
                try:
                    await self._lead(conn)
                finally:
                    conn.terminate()
            except PASSING as error:
                if not self._away:
                    logger.warning("publisher begins again", extra={"error": type(error).__name__})
                self._away = True
                await asyncio.sleep(0.2)

    async def _lead(self, conn: Connection) -> None:
        await conn.execute("SELECT pg_advisory_lock(hashtext('publisher'))")
        self._away, run = False, uuid4()
        await conn.execute(
            "INSERT INTO runs (channel, first, run) SELECT channel, head + 1, $1 FROM logs", run
        )
        logs = [_Channel(self, conn, channel, run) for channel in CHANNELS]
        chained_at = 0.0
        while True:
            rows = await conn.fetch(
                """
                SELECT channel, head, channel IN (SELECT channel FROM outbox) AS waiting FROM logs
                 UNION ALL SELECT 'audit', 0, EXISTS (SELECT FROM audit_waiting)
                """
            )
            found = {row["channel"]: row for row in rows}
            full = [
                await log.step(found[log.channel]["head"], waiting=found[log.channel]["waiting"])
                for log in logs
            ]
            if found["audit"]["waiting"] and monotonic() - chained_at > CHAIN_EVERY:
                full.append(await audit.number(conn))
                chained_at = monotonic()
            if not any(full):
                await waited(self.wake, POLL)


class _Channel:
    """One channel of the log during one run: its numbering, heads and certificates."""

    def __init__(self, publisher: Publisher, conn: Connection, channel: str, run: UUID) -> None:
        self._p, self._conn, self.channel, self._run = publisher, conn, channel, run
        self._head = 0
        self._uncertified = 1  # what an earlier run left uncertified is not known
        self._certified_at = self._entered_at = monotonic()
        self._beat_at = 0.0
        self._audited_at = monotonic()

    async def step(self, head: int, *, waiting: bool) -> bool:
        """Number a batch, announce it, certify if that is due; whether there may be more.

        Args:
            head: of the log, as it was just now.
            waiting: whether anything was committed that has no number.
        """
        node = self._p._node
        rows = await number_entries(self._conn, node, self.channel) if waiting else []
        taken = rows[0]["taken"] if rows else 0
        if rows:
            self._uncertified += taken
            self._entered_at = monotonic()
            self._announce(rows[-1]["number"], rows if taken < BULK else [])
        elif self._due():
            await self._certify(used=head > 0)
        elif (head or not self._beat_at) and monotonic() - self._beat_at > HEARTBEAT:
            self._beat(head)
        if self._uncertified >= CERTIFY_ENTRIES or await self._audit_says_otherwise():
            await self._certify(used=head + taken > 0)
        return bool(taken == BATCH)

    def _due(self) -> bool:
        now = monotonic()
        quiet = self._uncertified > 0 and now - self._entered_at > QUIET
        return quiet or now - self._certified_at > CERTIFY_EVERY

    async def _audit_says_otherwise(self) -> bool:
        """Recount some own tables, now and then; whether the last certificate is not true."""
        if monotonic() - self._audited_at < AUDIT_EVERY:
            return False
        self._audited_at = monotonic()
        was = await proofs.proof_of(self._conn, self._p._node, self.channel)
        await proofs.audit(self._conn, self._p._kinds, self._p._node, self.channel)
        now = await proofs.proof_of(self._conn, self._p._node, self.channel)
        return was.certified > 0 and was.verdict != now.verdict

    def _beat(self, head: int) -> None:
        if head != self._head:  # what a restore took back, no certificate speaks of yet
            self._uncertified += 1
            self._entered_at = monotonic()
        self._announce(head, [])

    def _announce(self, head: int, rows: list[Any]) -> None:
        self._head, self._beat_at = head, monotonic()
        self._p._carrier.announce(self._p._service, self.channel, head, self._run, rows)

    async def _certify(self, *, used: bool) -> None:
        """Write a certificate into the log, after a recount of some of the tables.

        Args:
            used: whether the channel ever was; one that never was is no stream.
        """
        self._uncertified, self._certified_at = 0, monotonic()
        if self.channel != "records" and not used:
            return
        node = self._p._node
        await proofs.audit(
            self._conn, self._p._kinds, node, self.channel, rows=proofs.CERTIFIED_ROWS
        )
        async with self._conn.transaction():
            number = await self._conn.fetchval(
                "UPDATE logs SET head = head + 1 WHERE channel = $1 RETURNING head", self.channel
            )
            certificate = await proofs.certify(
                self._conn, node, self.channel, number=number, run=self._run
            )
            await self._conn.execute(
                f"""
                INSERT INTO entries (channel, {COLUMNS})
                VALUES ($1, $2, $3, $4, 0, 0, $5, '', $6, $7, $8, $9, NULL)
                """,
                self.channel, number, CERTIFICATE, NO_RECORD, bytes(16), uuid7(),
                certificate.DESCRIPTOR.full_name, certificate.certify_time.ToDatetime(UTC),
                certificate.SerializeToString(),
            )  # fmt: skip
        self._announce(number, [])
