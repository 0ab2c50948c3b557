"""What a stream goes on with when its frames cannot.

    snapshot up    a frame that the parent needs is no longer kept: the service here that holds the
                   records sends them all, past both syncs, to the same service one level up
    take back      this node was restored from a backup, and the parent holds more: own frames (or,
                   where they are freed, a snapshot) come down, and the service takes them back
    restart        neither is possible: the stream leaves its chain and goes on by a snapshot

The child dials in all of them.  Nothing is kept of one that was cut: it begins again.
"""

import logging
from collections.abc import AsyncIterator, Collection, Mapping
from uuid import UUID

import grpc

from kit import frames
from kit.errors import Unavailable
from services.sync.domain.streams import (
    PageInvalid,
    ServiceUnknown,
    SnapshotMalformed,
    Stream,
    StreamKey,
    StreamUnknown,
)
from services.sync.usecases import Means
from services.sync.usecases.messages import key_of, to_stream
from services.sync.usecases.nodes import below
from services.sync.usecases.streams import Streams
from smartunion.event.v1 import log_pb2, log_pb2_grpc
from smartunion.sync.v1 import sync_pb2, sync_pb2_grpc

LONGEST = 3600.0
"""Seconds that one snapshot may take."""

MOST = 2**62
"""No number is as great: PostgreSQL's bigint holds it."""

Metadata = tuple[tuple[str, str], ...]

logger = logging.getLogger(__name__)


class SnapshotAway(Unavailable):
    message = "the service {service} of this node cannot serve or take a snapshot now; try again"
    chinese = "本节点的 {service} 服务暂时不能提供或接收快照；请稍后重试"


class Restores:
    def __init__(
        self,
        means: Means,
        streams: Streams,
        peers: Mapping[str, grpc.aio.Channel],
        metadata: Metadata,
    ) -> None:
        """
        Args:
            peers: the services of this node, by name.
            metadata: this service's token for them.
        """
        self._means, self._streams, self._metadata = means, streams, metadata
        self._logs = {name: log_pb2_grpc.LogServiceStub(peer) for name, peer in peers.items()}

    # -- at the parent

    async def accept(
        self, child: UUID, requests: AsyncIterator[sync_pb2.PushSnapshotRequest]
    ) -> Stream:
        """A child's snapshot, handed on to the service that keeps the copies; then the stream goes
        on behind it.

        Raises:
            SnapshotMalformed: if the first part does not say of what it is.
            OriginForeign: if the origin does not lie below the child.
            StreamUnknown: if the origin is not known here: nobody could prove its records.
            SnapshotAway: if the service does not take it now.
        """
        first = await anext(requests, sync_pb2.PushSnapshotRequest())
        key, head = key_of(first.stream), first.part.head
        if not _is_sound(key, head, first.hash):
            raise SnapshotMalformed()
        await self._streams.check_below(key, child)
        if key.origin not in await below(self._means):
            raise StreamUnknown(origin=f"nodes/{key.origin}")

        async def parts() -> AsyncIterator[log_pb2.WriteSnapshotRequest]:
            yield log_pb2.WriteSnapshotRequest(part=first.part)
            async for request in requests:
                yield log_pb2.WriteSnapshotRequest(part=request.part)

        try:
            await self._log(key).WriteSnapshot(parts(), metadata=self._metadata, timeout=LONGEST)
        except grpc.aio.AioRpcError:
            raise SnapshotAway(service=key.service) from None
        logger.info("snapshot taken", extra={"origin": str(key.origin), "frame": head.frame})
        return await self._streams.jump(
            key, frame=head.frame, hash_=first.hash, number=head.number, via=child
        )

    async def serve(
        self, child: UUID, key: StreamKey
    ) -> AsyncIterator[sync_pb2.ReadSnapshotResponse]:
        """A snapshot of a stream of a child's subtree, for a child that was restored.

        Raises:
            OriginForeign: if the origin does not lie below the child.
            StreamUnknown: if no record of it was ever read here.
            SnapshotAway: if the service does not serve it now.
        """
        await self._streams.check_below(key, child)
        try:
            async for request in self._read(key, self._means.shown.here):
                yield sync_pb2.ReadSnapshotResponse(hash=request.hash, part=request.part)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise StreamUnknown(origin=f"nodes/{key.origin}") from None
            raise SnapshotAway(service=key.service) from None

    # -- at the child

    async def push(
        self, stub: "sync_pb2_grpc.SyncServiceAsyncStub", metadata: Metadata, key: StreamKey
    ) -> None:
        """Send the parent a snapshot of a stream, from the service here that holds its records."""
        parts = self._read(key, self._means.shown.above)
        answer = await stub.PushSnapshot(parts, metadata=metadata, timeout=LONGEST)
        facts = {"origin": str(key.origin), "frame": answer.receipt.frame}
        logger.info("snapshot pushed", extra=facts)

    async def take(
        self, stub: "sync_pb2_grpc.SyncServiceAsyncStub", metadata: Metadata, key: StreamKey, *,
        parent: UUID,
    ) -> None:  # fmt: skip
        """A snapshot of a stream that travels down, in place of frames that the parent has not."""
        answers = stub.ReadSnapshot(
            sync_pb2.ReadSnapshotRequest(stream=to_stream(key)), metadata=metadata, timeout=LONGEST
        )
        first = await anext(aiter(answers), sync_pb2.ReadSnapshotResponse())
        if not _is_sound(key, first.part.head, first.hash):
            raise SnapshotAway(service=key.service)

        async def parts() -> AsyncIterator[log_pb2.WriteSnapshotRequest]:
            yield log_pb2.WriteSnapshotRequest(part=first.part)
            async for answer in answers:
                yield log_pb2.WriteSnapshotRequest(part=answer.part)

        head = first.part.head
        await self._log(key).WriteSnapshot(parts(), metadata=self._metadata, timeout=LONGEST)
        await self._streams.jump(
            key, frame=head.frame, hash_=first.hash, number=head.number, via=parent
        )

    async def take_back(
        self, stub: "sync_pb2_grpc.SyncServiceAsyncStub", metadata: Metadata, key: StreamKey,
        receipt: sync_pb2.Receipt,
    ) -> None:  # fmt: skip
        """Put an own stream where the parent has it; the framer then has the service follow."""
        if await self._frames_back(stub, metadata, key, receipt):
            return
        try:
            await self._snapshot_back(stub, metadata, key)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            await self._streams.restart(key, beyond=receipt.frame)

    async def _frames_back(
        self, stub: "sync_pb2_grpc.SyncServiceAsyncStub", metadata: Metadata, key: StreamKey,
        receipt: sync_pb2.Receipt,
    ) -> bool:  # fmt: skip
        """Replace own frames by those of the parent behind the last one that both have; whether
        there is such a frame."""
        after, step = min(receipt.frame, (await self._streams.get(key)).frame), 1
        while True:
            own = await self._streams.hash_at(key, after)
            if own is None:
                return False
            if after == receipt.frame and own == receipt.hash:
                return True
            answer = await stub.ReadFrames(
                sync_pb2.ReadFramesRequest(stream=to_stream(key), after=after),
                metadata=metadata, timeout=30,
            )  # fmt: skip
            if answer.frames and answer.frames[0].previous_hash == own:
                after, step = await self._streams.adopt(key, answer.frames), 1
            elif after == 0 or (not answer.frames and after < receipt.frame):
                return False
            else:
                after, step = max(0, after - step), step * 2

    async def _snapshot_back(
        self, stub: "sync_pb2_grpc.SyncServiceAsyncStub", metadata: Metadata, key: StreamKey
    ) -> None:
        answers = stub.ReadSnapshot(
            sync_pb2.ReadSnapshotRequest(stream=to_stream(key)), metadata=metadata, timeout=LONGEST
        )
        first = await anext(aiter(answers), sync_pb2.ReadSnapshotResponse())
        head = first.part.head
        if not _is_sound(key, head, first.hash):
            raise SnapshotAway(service=key.service)

        async def parts() -> AsyncIterator[log_pb2.TakeBackRequest]:
            yield log_pb2.TakeBackRequest(channel=key.channel, head=head.number)
            async for answer in answers:
                yield log_pb2.TakeBackRequest(entries=answer.part.records)

        taken = await self._log(key).TakeBack(parts(), metadata=self._metadata, timeout=LONGEST)
        await self._streams.jump(
            key, frame=head.frame, hash_=first.hash, number=head.number, via=None, run=taken.run,
            back=True,
        )  # fmt: skip
        self._said(key, taken)

    async def give_back(self, key: StreamKey) -> None:
        """Have an own service take back what its log has lost, from the frames that are here."""
        stream = await self._streams.get(key)

        async def parts() -> AsyncIterator[log_pb2.TakeBackRequest]:
            yield log_pb2.TakeBackRequest(channel=key.channel, head=stream.number)
            async for frame in self._streams.kept(key):
                yield log_pb2.TakeBackRequest(entries=frames.entries(frame))

        taken = await self._log(key).TakeBack(parts(), metadata=self._metadata, timeout=LONGEST)
        await self._streams.resume(stream, run=taken.run)
        self._said(key, taken)

    async def list_taken_back(
        self, service: str, page_size: int, page_token: str
    ) -> log_pb2.ListTakenBackResponse:
        """What an own service has taken back.

        Raises:
            ServiceUnknown: if this node has no such service.
            PageInvalid: if the service does not take the page.
            SnapshotAway: if it does not answer.
        """
        if service not in self._logs:
            raise ServiceUnknown(service=service[:50], known=", ".join(sorted(self._logs)))
        request = log_pb2.ListTakenBackRequest(page_size=page_size, page_token=page_token)
        try:
            return await self._logs[service].ListTakenBack(
                request, metadata=self._metadata, timeout=10
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise PageInvalid() from None
            raise SnapshotAway(service=service) from None

    def _said(self, key: StreamKey, taken: log_pb2.TakeBackResponse) -> None:
        facts = {"service": key.service, "records": taken.records, "moved": taken.moved}
        logger.warning("taken back", extra=facts)

    async def _read(
        self, key: StreamKey, shown: Collection[str]
    ) -> AsyncIterator[sync_pb2.PushSnapshotRequest]:
        """The parts of a snapshot as the service of this node holds the records.

        Args:
            shown: the sections besides `public` that go with them.
        """
        stream = await self._streams.get(key)  # before: the snapshot has all up to its frame
        request = log_pb2.ReadSnapshotRequest(
            origin=key.origin.bytes, channel=key.channel, sections=shown
        )
        parts = self._log(key).ReadSnapshot(request, metadata=self._metadata, timeout=LONGEST)
        first = True
        async for part in parts:
            if not first:
                yield sync_pb2.PushSnapshotRequest(part=part)
                continue
            first = False
            if key.origin == self._means.own.id:
                part.head.frame, part.head.number = stream.frame, stream.number
            hash_ = await self._streams.stand(key, part.head)
            if hash_ is None:
                raise SnapshotAway(service=key.service)
            yield sync_pb2.PushSnapshotRequest(stream=to_stream(key), hash=hash_, part=part)

    def _log(self, key: StreamKey) -> "log_pb2_grpc.LogServiceAsyncStub":
        if key.service not in self._logs:
            raise SnapshotAway(service=key.service)
        return self._logs[key.service]


def _is_sound(key: StreamKey, head: log_pb2.SnapshotHead, hash_: bytes) -> bool:
    """Whether a snapshot says that it is of a stream, and where it stands."""
    of_stream = (head.origin, head.channel) == (key.origin.bytes, key.channel)
    within = 0 < head.frame < MOST and head.number < MOST and head.settled < MOST
    return len(hash_) == 32 and of_stream and within
