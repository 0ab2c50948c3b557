"""Snapshots: all records of a stream at one moment, in place of entries that are no longer kept.

    holder (origin, or a service with copies)              reader (the same service, one level up)
    read: REPEATABLE READ ── head, records … ──────────▶ write: one transaction, cursor = head

A snapshot needs no moment at which nothing is written.  It stands at a frame of its stream and may
hold newer states than that frame; what follows the frame is read on, and an older state never
replaces a newer.  `settled` is the number from which on a certificate speaks of all that the
snapshot holds, and the first certificate after it proves the snapshot, whoever served it.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from uuid import UUID

from kit.copies import Copies
from kit.db import Connection, Pool
from kit.errors import InvalidArgument, NotFound, Unavailable
from kit.frames import Line
from kit.log import BATCH, sections_of
from kit.records import SECTIONS, Kind
from smartunion.event.v1 import log_pb2 as pb

PART_BYTES = 512 * 1024
"""About how large a part of a snapshot is."""


class SnapshotOwn(InvalidArgument):
    field = "part.head.origin"
    message = "a snapshot holds records of another node, never this node's own"
    chinese = "快照只能包含其他节点的记录，不能是本节点自己的记录"


class SnapshotStale(Unavailable):
    message = "what a node of this level may hold has changed meanwhile; send the snapshot again"
    chinese = "本级节点可持有的内容在此期间已变更；请重新发送快照"


class SnapshotUnknown(NotFound):
    field = "origin"
    message = "this service holds nothing of {origin}; ask a node that has read its records"
    chinese = "本服务没有 {origin} 的记录；请向已读取其记录的节点索取"


class SnapshotHeadless(InvalidArgument):
    field = "part"
    message = "the first part of a snapshot holds its head, with an origin of 16 bytes"
    chinese = "快照的第一部分应包含 head，其 origin 为 16 字节"


async def read(
    pool: Pool, kinds: Sequence[Kind], node: UUID, origin: UUID, channel: str,
    shown: Collection[str] = (),
) -> AsyncIterator[pb.SnapshotPart]:  # fmt: skip
    """The head, then the records in parts, all of one moment.

    Args:
        shown: the sections besides `public` that go with them, as `kit.records.named` names them.

    Raises:
        SnapshotUnknown: if nothing of the stream is held here.
    """
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        if origin == node:
            head = await _own_head(pool, conn, node, channel)
        else:
            head = await _head_of_copies(conn, origin, channel)
        yield pb.SnapshotPart(head=head)
        for kind in kinds:
            if kind.channel == channel:
                sections = ", ".join(
                    name if name in kind.sections else f"NULL::bytea AS {name}" for name in SECTIONS
                )
                query = f"""SELECT '{kind.name}' AS kind, id, owner_epoch, version, hash, public,
                                   {sections}
                              FROM {kind.held} WHERE origin = $1"""
                async for part in _parts(conn, shown, query, origin):
                    yield part
        parked = "SELECT * FROM parked WHERE origin = $1 AND channel = $2"
        async for part in _parts(conn, shown, parked, origin, channel):
            yield part


async def _own_head(pool: Pool, conn: Connection, node: UUID, channel: str) -> pb.SnapshotHead:
    """Settled is where the log stands once all that this moment shows has a number."""
    position = await conn.fetchval(
        "SELECT coalesce(max(position), 0) FROM outbox WHERE channel = $1", channel
    )
    while await pool.fetchval(
        "SELECT EXISTS (SELECT FROM outbox WHERE channel = $1 AND position <= $2)",
        channel, position,
    ):  # fmt: skip
        await asyncio.sleep(0.02)
    settled = await pool.fetchval("SELECT head FROM logs WHERE channel = $1", channel)
    return pb.SnapshotHead(origin=node.bytes, channel=channel, settled=settled)


async def _head_of_copies(conn: Connection, origin: UUID, channel: str) -> pb.SnapshotHead:
    row = await conn.fetchrow(
        """
        SELECT frame, applied, greatest(applied, settled) AS settled FROM proofs
         WHERE origin = $1 AND channel = $2 AND frame > 0
        """,
        origin, channel,
    )  # fmt: skip
    if row is None:
        raise SnapshotUnknown(origin=f"nodes/{origin}")
    return pb.SnapshotHead(
        origin=origin.bytes, channel=channel, frame=row["frame"], number=row["applied"],
        settled=row["settled"],
    )  # fmt: skip


async def _parts(
    conn: Connection, shown: Collection[str], query: str, *arguments: object
) -> AsyncIterator[pb.SnapshotPart]:
    part, size = pb.SnapshotPart(), 0
    async for row in conn.cursor(query, *arguments, prefetch=BATCH):
        part.records.add(
            kind=row["kind"], id=row["id"].bytes, owner_epoch=row["owner_epoch"],
            version=row["version"], hash=row["hash"], public=row["public"],
            sections=sections_of(row, shown),
        )  # fmt: skip
        size += 100 + part.records[-1].ByteSize()
        if size > PART_BYTES:
            yield part
            part, size = pb.SnapshotPart(), 0
    if part.records:
        yield part


async def write(pool: Pool, copies: Copies, parts: AsyncIterator[pb.SnapshotPart]) -> int:
    """Take the records as copies and move the cursor; the frame at which it stands then.

    All or nothing: a reader sees the stream as it was, or with the whole snapshot.  A snapshot of
    a frame that was passed is not needed any more.

    Raises:
        SnapshotHeadless: if the first part has no head.
        SnapshotOwn: if it is of this node's own records, which nobody else decides.
    """
    head = await head_of(parts)
    origin, channel = UUID(bytes=head.origin), head.channel
    if origin == copies.node:
        raise SnapshotOwn()
    shown = copies.shown
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute(
            "INSERT INTO proofs (origin, channel) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            origin, channel,
        )  # fmt: skip
        frame: int = await conn.fetchval(
            "SELECT frame FROM proofs WHERE origin = $1 AND channel = $2 FOR UPDATE",
            origin, channel,
        )  # fmt: skip
        if frame >= head.frame:
            return frame
        async for part in parts:
            if copies.shown is not shown:  # what is not committed is not found when it is deleted
                raise SnapshotStale()
            await copies.apply(
                conn, origin, channel, [_line(entry, head) for entry in part.records]
            )
        await conn.execute(
            """
            UPDATE proofs SET frame = $3, applied = $4, settled = $5, verdict = $6, buckets = '{}'
             WHERE origin = $1 AND channel = $2
            """,
            origin, channel, head.frame, head.number, head.settled, pb.UNPROVEN,
        )  # fmt: skip
    if copies.shown is not shown:
        copies.view = ""  # look again at what was committed since
    return head.frame


async def head_of(parts: AsyncIterator[pb.SnapshotPart]) -> pb.SnapshotHead:
    """The head in the first part.

    Raises:
        SnapshotHeadless: if there is none.
    """
    first = await anext(parts, None)
    if first is None or len(first.head.origin) != 16:
        raise SnapshotHeadless()
    return first.head


def _line(entry: pb.Entry, head: pb.SnapshotHead) -> Line:
    return Line(head.number, entry.kind, UUID(bytes=entry.id), entry.owner_epoch, entry.version,
                entry.hash, entry.public, sections=entry.sections)  # fmt: skip
