"""smartunion.event.v1.LogService: every service serves its own log, and what it can prove."""

from collections.abc import Callable, Sequence
from uuid import UUID

from kit import proofs
from kit.db import Connection, Pool
from kit.errors import InvalidArgument
from kit.ids import uuid7
from kit.log import BATCH, read_log
from kit.records import CHANNELS, Kind
from kit.rpc import AccessDenied, Context, caller
from smartunion.event.v1 import log_pb2 as pb
from smartunion.event.v1 import log_pb2_grpc


class OriginMalformed(InvalidArgument):
    field = "origin"
    message = "an origin is a node's UUID of 16 bytes"
    chinese = "origin 应为节点的 16 字节 UUID"


class ChannelUnknown(InvalidArgument):
    field = "channel"
    message = "a channel is `urgent` or `records`, not {channel}"
    chinese = "channel 只能是 urgent 或 records，而不是 {channel}"


class LogServicer(log_pb2_grpc.LogServiceServicer):
    def __init__(
        self, pool: Pool, node: UUID, kinds: Sequence[Kind], wake: Callable[[], None]
    ) -> None:
        self._pool, self._node, self._kinds, self._wake = pool, node, kinds, wake

    async def ReadLog(self, request: pb.ReadLogRequest, context: Context) -> pb.ReadLogResponse:
        if caller.get() != f"services/{request.reader}":
            raise AccessDenied(method=f"ReadLog as {request.reader[:50]}", caller=caller.get())
        answer = await read_log(
            self._pool, _channel(request.channel), after=min(request.after, 2**62), run=request.run,
            limit=min(request.page_size or BATCH, 5_000),
        )  # fmt: skip
        # After the lineage was checked: a cursor of another life is no receipt.
        await self._pool.execute(
            """
            INSERT INTO receipts AS held (reader, channel, number) VALUES ($1, $2, $3)
            ON CONFLICT (reader, channel) DO UPDATE
               SET number = excluded.number, read_time = clock_timestamp()
             WHERE held.number <> excluded.number
            """,
            request.reader, request.channel, request.after,
        )  # fmt: skip
        return answer

    async def ListProofs(
        self, request: pb.ListProofsRequest, context: Context
    ) -> pb.ListProofsResponse:
        return pb.ListProofsResponse(proofs=await proofs.list_proofs(self._pool))

    async def Recount(self, request: pb.RecountRequest, context: Context) -> pb.Proof:
        if len(request.origin) != 16:
            raise OriginMalformed()
        origin, channel = UUID(bytes=request.origin), _channel(request.channel)
        async with self._pool.acquire() as conn:
            if origin == self._node:
                await proofs.audit(conn, self._kinds, origin, channel, whole=True)
            else:
                await proofs.recount_copies(conn, self._kinds, origin, channel)
            return await proofs.proof_of(conn, origin, channel)

    async def Reassert(self, request: pb.ReassertRequest, context: Context) -> pb.ReassertResponse:
        channel, records = _channel(request.channel), 0
        buckets = [bucket for bucket in request.buckets if bucket < 256]
        async with self._pool.acquire() as conn, conn.transaction():
            for kind in self._kinds:
                if kind.channel == channel:
                    records += await self._reassert(conn, kind, buckets)
        self._wake()
        return pb.ReassertResponse(records=records)

    async def _reassert(self, conn: Connection, kind: Kind, buckets: list[int]) -> int:
        rows = await conn.fetch(
            f"""
            SELECT id FROM {kind.table} WHERE origin = $1 AND bucket(id) = ANY ($2)
             ORDER BY id FOR UPDATE
            """,
            self._node, buckets,
        )  # fmt: skip
        ids = [row["id"] for row in rows]
        await conn.execute(
            f"""
            INSERT INTO outbox (channel, kind, id, owner_epoch, version, before, hash, public,
                                event_id, event_type, event_time, event)
            SELECT $1, $2, record.id, owner_epoch, version, hash, hash, public,
                   event_id, $5, clock_timestamp(), ''
              FROM {kind.table} record
              JOIN unnest($3::uuid[], $4::uuid[]) AS asked(id, event_id) USING (id)
             WHERE origin = $6
            """,
            kind.channel, kind.name, ids, [uuid7() for _ in ids],
            pb.RecordReasserted.DESCRIPTOR.full_name, self._node,
        )  # fmt: skip
        return len(ids)


def _channel(name: str) -> str:
    if name not in CHANNELS:
        raise ChannelUnknown(channel=name[:50])
    return name
