"""Restores: how a service takes back what it had announced before its database was restored.

A backup is older than the last entries of the log.  Others hold these entries, and go on from
them; here their numbers would be given out again.  So the entries come back from the frames, under
their old numbers, with the records that they assert.  What was announced since the restore moves
behind them, to be numbered anew.  What never left the node (numbers of people, and the sections
that no view shows above) cannot come back: such records are listed in `taken_back`, for people.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from kit.copies import row_of
from kit.db import Connection, Pool
from kit.frames import FrameBroken, Line
from kit.log import COLUMNS, Change, Outbox, run_of
from kit.records import CERTIFICATE, SECTIONS, Kind, hash_of
from smartunion.event.v1 import log_pb2 as pb


@dataclass(slots=True)
class Found:
    """What became of a take-back."""

    run: bytes = b""
    """The run in which the log goes on."""
    records: int = 0
    """Records that were put into a state that was lost here."""
    moved: int = 0
    """Entries of the time since the restore that are numbered anew."""


async def take_back(
    pool: Pool, kinds: Sequence[Kind], node: UUID, first: pb.TakeBackRequest,
    parts: AsyncIterator[pb.TakeBackRequest],
) -> Found:  # fmt: skip
    """Take back entries, all in one transaction; again does no harm.

    Numbering waits meanwhile: it needs the row of `logs` that is locked here.
    """
    channel = first.channel
    of_channel = [kind for kind in kinds if kind.channel == channel]
    async with pool.acquire() as conn, conn.transaction():
        head = await conn.fetchval("SELECT head FROM logs WHERE channel = $1 FOR UPDATE", channel)
        restore = _Restore(conn, of_channel, node, channel, head)
        await restore.take(first.entries)
        async for part in parts:
            await restore.take(part.entries)
        await restore.end(first.head)
    return restore.found


async def list_taken_back(pool: Pool, after: str, limit: int) -> list[pb.TakenBack]:
    """What was taken back, in the order of `key_of`, from behind the key `after` on."""
    rows = await pool.fetch(
        """
        SELECT kind, id, reason, take_time FROM taken_back
         WHERE (kind || '/' || id) COLLATE "C" > $1
         ORDER BY (kind || '/' || id) COLLATE "C" LIMIT $2
        """,
        after, limit,
    )  # fmt: skip
    return [
        pb.TakenBack(
            kind=row["kind"], id=row["id"].bytes, reason=row["reason"], take_time=row["take_time"]
        )
        for row in rows
    ]


def key_of(record: pb.TakenBack) -> str:
    """The key by which the list is in order."""
    return f"{record.kind}/{UUID(bytes=record.id)}"


class _Restore:
    """One take-back, inside its transaction."""

    def __init__(
        self, conn: Connection, kinds: Sequence[Kind], node: UUID, channel: str, head: int
    ) -> None:
        self._conn, self._node, self._channel, self._head = conn, node, channel, head
        self._kinds = {kind.name: kind for kind in kinds}
        self._begun = False
        self._kept: dict[tuple[str, UUID], int] = {}
        """Records changed since the restore, with the version in which they would come back."""
        self.found = Found()

    async def take(self, entries: Sequence[pb.Entry]) -> None:
        """Take entries that follow those before; what the log has already is passed over."""
        if not self._begun:
            entries = await self._unknown(entries)
        if not entries:
            return
        numbered = [entry for entry in entries if entry.number]
        if not self._begun:
            await self._begin(numbered[0].number if numbered else self._head + 1)
        if numbered:
            await self._insert(numbered)
        for name, kind in self._kinds.items():
            latest = {entry.id: _line(entry) for entry in entries if entry.kind == name}
            await self._assert(kind, list(latest.values()))

    async def end(self, head: int) -> None:
        """Let the log go on after all that was taken back."""
        if not self._begun and head > self._head:
            await self._begin(self._head + 1)  # no frame is kept of what is missing
        if self._begun:
            self._head = max(self._head, head)
            await self._conn.execute(
                "UPDATE logs SET head = $2 WHERE channel = $1", self._channel, self._head
            )
            for (name, record), version in self._kept.items():
                await self._outlive(self._kinds[name], record, version)
            for kind in self._kinds.values():
                await self._sum(kind)
        self.found.run = await run_of(self._conn, self._channel, self._head)

    async def _unknown(self, entries: Sequence[pb.Entry]) -> Sequence[pb.Entry]:
        """From the first on that is not in the log here, or is another."""
        rows = await self._conn.fetch(
            "SELECT number, event_id FROM entries WHERE channel = $1 AND number = ANY ($2)",
            self._channel, [entry.number for entry in entries],
        )  # fmt: skip
        held = {row["number"]: row["event_id"].bytes for row in rows}
        oldest = await self._conn.fetchval(
            "SELECT coalesce(min(number), $2) FROM entries WHERE channel = $1",
            self._channel, self._head + 1,
        )  # fmt: skip
        for at, entry in enumerate(entries):
            freed = 0 < entry.number < oldest
            if held.get(entry.number) != entry.event_id and not freed:
                return entries[at:]
        return []

    async def _begin(self, first: int) -> None:
        """A new run begins here; what had been numbered from here on goes back to the outbox.

        The running sums have it already: so it changes no record when it is numbered anew.
        """
        self._begun = True
        await self._conn.execute(
            "INSERT INTO runs (channel, first, run) VALUES ($1, $2, $3)",
            self._channel, first, uuid4(),
        )  # fmt: skip
        moved = await self._conn.fetch(
            """
            WITH gone AS (DELETE FROM entries WHERE channel = $1 AND number >= $2 RETURNING *)
            INSERT INTO outbox (channel, kind, id, owner_epoch, version, before, hash, public,
                                event_id, event_type, event_time, event, personal)
            SELECT channel, kind, id, owner_epoch, version, hash, hash, public,
                   event_id, event_type, event_time, event, personal
              FROM gone WHERE kind <> $3 ORDER BY number
            RETURNING id
            """,
            self._channel, first, CERTIFICATE,
        )  # fmt: skip
        self.found.moved = len(moved)
        self._head = first - 1

    async def _insert(self, entries: Sequence[pb.Entry]) -> None:
        """Entries under their old numbers; what still waited for these numbers has them now."""
        await self._conn.execute(
            "DELETE FROM outbox WHERE channel = $1 AND event_id = ANY ($2)",
            self._channel, [UUID(bytes=entry.event_id) for entry in entries],
        )  # fmt: skip
        await self._conn.executemany(
            f"""
            INSERT INTO entries (channel, {COLUMNS})
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
            """,
            [
                (
                    self._channel, entry.number, entry.kind, UUID(bytes=entry.id),
                    entry.owner_epoch, entry.version, entry.hash, entry.public,
                    UUID(bytes=entry.event_id), entry.event_type,
                    entry.event_time.ToDatetime(UTC), entry.event,
                    *(hash_of(one) if (one := entry.sections.get(name)) else None
                      for name in SECTIONS),
                )
                for entry in entries
            ],
        )  # fmt: skip
        self._head = entries[-1].number

    async def _assert(self, kind: Kind, lines: Sequence[Line]) -> None:
        """Put own records into the states that were lost, except those changed since."""
        lines = await self._with_held(kind, lines)
        rows = [row for line in lines if (row := _readable(kind, self._node, line))]
        ids = [row[0] for row in rows]
        since = {
            row["id"]
            for row in await self._conn.fetch(
                "SELECT id FROM outbox WHERE channel = $1 AND kind = $2 AND id = ANY ($3)",
                self._channel, kind.name, ids,
            )
        }  # fmt: skip
        self._kept |= {(kind.name, row[0]): row[2] for row in rows if row[0] in since}
        columns = ["id", "owner_epoch", "version", "hash", "public", *kind.sections, *kind.fields]
        types = ["uuid", "int", "bigint", "bytea", "bytea", *["bytea" for _ in kind.sections],
                 *kind.fields.values()]  # fmt: skip
        arrays = ", ".join(f"${at}::{type_}[]" for at, type_ in enumerate(types, start=2))
        names = ", ".join(columns)
        lost = [row for row in rows if row[0] not in since]
        changed = await self._conn.fetch(
            f"""
            INSERT INTO {kind.held} AS held (origin, {names})
            SELECT $1, {names} FROM unnest({arrays}) AS line({names})
            ON CONFLICT (id, origin) DO UPDATE
               SET {", ".join(f"{name} = excluded.{name}" for name in columns[1:])}
             WHERE held.version < excluded.version
            RETURNING id
            """,
            self._node, *(zip(*lost, strict=True) if lost else [[]] * len(columns)),
        )  # fmt: skip
        self.found.records += len(changed)
        await self._list(kind, [row["id"] for row in changed], pb.TakenBack.RETURNED)

    async def _with_held(self, kind: Kind, lines: Sequence[Line]) -> Sequence[Line]:
        """The lines, each with the sections that came back as a hash alone and are here still."""
        if not kind.sections:
            return lines
        held = await self._conn.fetch(
            f"SELECT id, {', '.join(kind.sections)} FROM {kind.held}"
            " WHERE origin = $1 AND id = ANY ($2)",
            self._node, [line.id for line in lines],
        )  # fmt: skip
        here = {row["id"]: dict(row) for row in held}
        return [
            line._replace(sections={
                name: own if (own := here.get(line.id, {}).get(name))
                and hash_of(own) == hash_of(section) else section
                for name, section in line.sections.items()
            })
            for line in lines
        ]  # fmt: skip

    async def _outlive(self, kind: Kind, record: UUID, version: int) -> None:
        """Keep what was decided since the restore, as a newer state than what came back."""
        own: Any = await self._conn.fetchrow(
            f"SELECT * FROM {kind.held} WHERE origin = $1 AND id = $2 FOR UPDATE",
            self._node, record,
        )  # fmt: skip
        waiting = await self._conn.fetchval(
            "SELECT EXISTS (SELECT FROM outbox WHERE channel = $1 AND kind = $2 AND id = $3)",
            self._channel, kind.name, record,
        )  # fmt: skip
        if own is None or not waiting or own["version"] > version:
            return
        change = Change(
            kind=kind, id=record, version=version + 1, before=own["hash"], public=own["public"],
            sections={name: own[name] for name in kind.sections if own[name] is not None},
            event=pb.RecordReasserted(), event_time=datetime.now(UTC),
        )  # fmt: skip
        await self._conn.execute(
            f"UPDATE {kind.table} SET version = $3, hash = $4 WHERE origin = $1 AND id = $2",
            self._node, record, change.version, change.hash,
        )  # fmt: skip
        await Outbox(self._conn).put(change)
        await self._list(kind, [record], pb.TakenBack.CHANGED_SINCE)

    async def _list(self, kind: Kind, ids: Sequence[UUID], reason: int) -> None:
        await self._conn.execute(
            """
            INSERT INTO taken_back (kind, id, reason) SELECT $1, id, $3 FROM unnest($2::uuid[]) id
            ON CONFLICT (kind, id) DO UPDATE
               SET reason = excluded.reason, take_time = clock_timestamp()
            """,
            kind.name, ids, reason,
        )  # fmt: skip

    async def _sum(self, kind: Kind) -> None:
        """The running sums anew, from the table less what has no number yet, of one moment."""
        await self._conn.execute(
            "DELETE FROM sums WHERE origin = $1 AND channel = $2 AND kind = $3",
            self._node, self._channel, kind.name,
        )  # fmt: skip
        await self._conn.execute(
            f"""
            INSERT INTO sums (origin, channel, kind, bucket, records, digest)
            SELECT $1, $2, $3, bucket, sum(records), modulo(sum(digest)) FROM (
                SELECT bucket(id) AS bucket, 1 AS records, element(hash) AS digest
                  FROM {kind.table} WHERE origin = $1
                 UNION ALL
                SELECT bucket(id), CASE WHEN before IS NULL THEN -1 ELSE 0 END,
                       coalesce(element(before), 0) - element(hash)
                  FROM outbox WHERE channel = $2 AND kind = $3) found
             GROUP BY bucket
            """,
            self._node, self._channel, kind.name,
        )  # fmt: skip


def _readable(kind: Kind, node: UUID, line: Line) -> tuple[Any, ...] | None:
    """A line as columns; None if this version cannot read it: it stays in the log."""
    try:
        return row_of(kind, node, line)
    except (FrameBroken, ValueError):
        return None


def _line(entry: pb.Entry) -> Line:
    return Line(entry.number, entry.kind, UUID(bytes=entry.id), entry.owner_epoch, entry.version,
                entry.hash, entry.public, sections=entry.sections)  # fmt: skip
