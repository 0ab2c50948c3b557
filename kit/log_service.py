"""smartunion.event.v1.LogService: every service serves its own log, and what it can prove."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from uuid import UUID

from google.protobuf.duration_pb2 import Duration

from kit import proofs, ranges, restores, snapshots
from kit.carrier import Carrier
from kit.copies import Copies
from kit.db import Connection, Pool
from kit.errors import InvalidArgument
from kit.gate import AccessDenied
from kit.ids import uuid7
from kit.log import BATCH, check_numbered, read_log
from kit.records import CHANNELS, LOCAL, Kind, hash_of, named
from kit.rpc import Context, caller, page_of
from kit.waiting import happened
from smartunion.event.v1 import log_pb2 as pb
from smartunion.event.v1 import log_pb2_grpc

Figures = Callable[[], Awaitable[Sequence[tuple[UUID, str, int]]]]
"""What a service counts of each node: origin, name, number."""


async def no_figures() -> Sequence[tuple[UUID, str, int]]:
    """Of a service that counts nothing for people."""
    return []


Reveal = Callable[[str, Sequence[UUID]], Awaitable[Mapping[UUID, Mapping[str, bytes]]]]
"""The sections besides `public` of some own records of a kind, by name, as far as they are sealed
at the service and only their hashes stand in the record and in the log."""


async def nothing_sealed(kind: str, ids: Sequence[UUID]) -> Mapping[UUID, Mapping[str, bytes]]:
    """Of a service whose sections stand in its records."""
    return {}


class OriginMalformed(InvalidArgument):
    field = "origin"
    message = "an origin is a node's UUID of 16 bytes"
    chinese = "origin 应为节点的 16 字节 UUID"


class ChannelUnknown(InvalidArgument):
    field = "channel"
    message = "a channel is one of {known}, not {channel}"
    chinese = "channel 只能是以下之一：{known}，而不是 {channel}"


class IdsMalformed(InvalidArgument):
    field = "ids"
    message = "ids are at most 10,000 UUIDs of 16 bytes each"
    chinese = "ids 应为至多 10,000 个 16 字节的 UUID"


LONGEST_WAIT = 10.0
"""Seconds for which a reader may wait."""


class LogServicer(log_pb2_grpc.LogServiceServicer):
    def __init__(
        self, pool: Pool, node: UUID, kinds: Sequence[Kind], copies: Copies,
        wake: Callable[[], None], figures: Figures, carrier: Carrier, service: str,
        reveal: Reveal = nothing_sealed,
    ) -> None:  # fmt: skip
        self._pool, self._node, self._kinds = pool, node, kinds
        self._copies, self._wake, self._figures = copies, wake, figures
        self._reveal = reveal
        self._tails = {channel: carrier.tail(service, channel) for channel in CHANNELS}

    async def ReadLog(self, request: pb.ReadLogRequest, context: Context) -> pb.ReadLogResponse:
        if caller.get() != f"services/{request.reader}":
            raise AccessDenied(method=f"ReadLog as {request.reader[:50]}", caller=caller.get())
        moved = self._tails[_channel(request.channel)].moved
        answer = await self._read(request)
        if not answer.entries and await happened(moved, seconds_of(request.wait)):
            answer = await self._read(request)
        return answer

    async def _read(self, request: pb.ReadLogRequest) -> pb.ReadLogResponse:
        channel = request.channel
        if channel == LOCAL:  # Nobody is refused for good while an office waits for its number.
            await check_numbered(self._pool, channel)
        answer = await read_log(
            self._pool, channel, after=min(request.after, 2**62), run=request.run,
            limit=min(request.page_size or BATCH, 5_000), shown=_shown(request),
            reader=request.reader,
        )  # fmt: skip
        await self._fill(answer.entries, _shown(request))
        return answer

    async def ListProofs(
        self, request: pb.ListProofsRequest, context: Context
    ) -> pb.ListProofsResponse:
        found, copies = await proofs.list_proofs(self._pool), self._copies
        for proof in found:
            stream = UUID(bytes=proof.origin), proof.channel
            proof.lacking_buckets.extend(copies.lacking.get(stream, ()))
        return pb.ListProofsResponse(proofs=found, view=copies.view)

    async def ListFigures(
        self, request: pb.ListFiguresRequest, context: Context
    ) -> pb.ListFiguresResponse:
        return pb.ListFiguresResponse(
            figures=[
                pb.Figure(origin=origin.bytes, name=name, value=value)
                for origin, name, value in await self._figures()
            ]
        )

    async def Recount(self, request: pb.RecountRequest, context: Context) -> pb.Proof:
        origin, channel = _origin(request.origin), _channel(request.channel)
        async with self._pool.acquire() as conn:
            if origin == self._node:
                await proofs.audit(conn, self._kinds, origin, channel, whole=True)
            else:
                await proofs.recount_copies(conn, self._kinds, origin, channel)
            return await proofs.proof_of(conn, origin, channel)

    async def ReadSnapshot(
        self, request: pb.ReadSnapshotRequest, context: Context
    ) -> AsyncIterator[pb.SnapshotPart]:
        origin, channel = _origin(request.origin), _channel(request.channel)
        shown = _shown(request)
        async for part in snapshots.read(
            self._pool, self._kinds, self._node, origin, channel, shown
        ):
            if origin == self._node:
                await self._fill(part.records, shown)
            yield part

    async def _fill(self, entries: Sequence[pb.Entry], shown: Collection[str]) -> None:
        """Put sections of own records in the place of their hashes: those that are asked for, and
        that are still what the hash says."""
        if not shown:
            return
        for kind in self._kinds:
            names = [name for name in kind.sections if named(kind.name, name) in shown]
            of_kind = [entry for entry in entries if names and entry.kind == kind.name]
            ids = [UUID(bytes=entry.id) for entry in of_kind]
            held = await self._reveal(kind.name, ids) if ids else {}
            for entry in of_kind:
                for name, section in held.get(UUID(bytes=entry.id), {}).items():
                    if name in names and entry.sections.get(name) == hash_of(section):
                        entry.sections[name] = section

    async def WriteSnapshot(
        self, requests: AsyncIterator[pb.WriteSnapshotRequest], context: Context
    ) -> pb.WriteSnapshotResponse:
        parts = (request.part async for request in requests)
        frame = await snapshots.write(self._pool, self._copies, parts)
        return pb.WriteSnapshotResponse(frame=frame)

    async def TakeBack(
        self, requests: AsyncIterator[pb.TakeBackRequest], context: Context
    ) -> pb.TakeBackResponse:
        first = await anext(requests, pb.TakeBackRequest())
        _channel(first.channel)
        found = await restores.take_back(self._pool, self._kinds, self._node, first, requests)
        self._wake()
        return pb.TakeBackResponse(run=found.run, records=found.records, moved=found.moved)

    async def ListTakenBack(
        self, request: pb.ListTakenBackRequest, context: Context
    ) -> pb.ListTakenBackResponse:
        page = page_of(request)
        found = await restores.list_taken_back(self._pool, page.key, page.size + 1)
        records, key = page.cut(found, key=restores.key_of)
        return pb.ListTakenBackResponse(records=records, next_page_token=page.token(key))

    async def Reassert(self, request: pb.ReassertRequest, context: Context) -> pb.ReassertResponse:
        channel, records = _channel(request.channel), 0
        if len(request.ids) > 10_000 or any(len(id_) != 16 for id_ in request.ids):
            raise IdsMalformed()
        buckets = [bucket for bucket in request.buckets if bucket < 256]
        ids = [UUID(bytes=id_) for id_ in request.ids]
        async with self._pool.acquire() as conn, conn.transaction():
            for kind in self._kinds:
                if kind.channel == channel:
                    records += await self._reassert(conn, kind, buckets, ids)
        self._wake()
        return pb.ReassertResponse(records=records)

    async def SumRanges(
        self, request: pb.SumRangesRequest, context: Context
    ) -> pb.SumRangesResponse:
        origin, channel = _origin(request.origin), _channel(request.channel)
        async with self._pool.acquire() as conn:
            return await ranges.sum_ranges(conn, self._kinds, origin, channel, request.ranges)

    async def _reassert(
        self, conn: Connection, kind: Kind, buckets: list[int], ids: list[UUID]
    ) -> int:
        rows = await conn.fetch(
            f"""
            SELECT id FROM {kind.table}
             WHERE origin = $1 AND (bucket(id) = ANY ($2) OR id = ANY ($3))
             ORDER BY id FOR UPDATE
            """,
            self._node, buckets, ids,
        )  # fmt: skip
        ids = [row["id"] for row in rows]
        await conn.execute(
            f"""
            INSERT INTO outbox (channel, kind, id, owner_epoch, version, before, hash, public,
                                event_id, event_type, event_time, event
                                {"".join(f", {name}" for name in kind.sections)})
            SELECT $1, $2, record.id, owner_epoch, version, hash, hash, public,
                   event_id, $5, clock_timestamp(), ''
                   {"".join(f", {name}" for name in kind.sections)}
              FROM {kind.held} record
              JOIN unnest($3::uuid[], $4::uuid[]) AS asked(id, event_id) USING (id)
             WHERE origin = $6
            """,
            kind.channel, kind.name, ids, [uuid7() for _ in ids],
            pb.RecordReasserted.DESCRIPTOR.full_name, self._node,
        )  # fmt: skip
        return len(ids)


def seconds_of(wait: Duration) -> float:
    """For how long a reader waits."""
    return min(max(wait.seconds + wait.nanos / 1e9, 0.0), LONGEST_WAIT)


def _shown(request: pb.ReadLogRequest | pb.ReadSnapshotRequest) -> frozenset[str]:
    """The sections besides `public` that are asked for, which leave the service for sync alone."""
    if request.sections and caller.get() != "services/sync":
        raise AccessDenied(method="sections besides public", caller=caller.get())
    return frozenset(request.sections)


def _origin(node: bytes) -> UUID:
    if len(node) != 16:
        raise OriginMalformed()
    return UUID(bytes=node)


def _channel(name: str) -> str:
    if name not in CHANNELS:
        raise ChannelUnknown(channel=name[:50], known=", ".join(CHANNELS))
    return name
