"""How far each stream is, and where it goes on."""

import logging
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from kit import frames
from kit.log_service import ChannelUnknown
from kit.records import DOWN, TRAVELLING
from services.sync.domain.nodes import NodeUnknown, lies_below
from services.sync.domain.streams import (
    UNKNOWN_RUN,
    Cursor,
    FrameRejected,
    OriginForeign,
    ServiceUnknown,
    Stream,
    StreamKey,
)
from services.sync.usecases import Means
from services.sync.usecases.messages import READ_BYTES, key_of
from services.sync.usecases.nodes import below
from smartunion.event.v1 import log_pb2
from smartunion.sync.v1 import frame_pb2, sync_pb2

logger = logging.getLogger(__name__)


class Streams:
    def __init__(self, means: Means) -> None:
        self._means = means

    async def cursor(self, key: StreamKey) -> Cursor:
        """How far an own log is framed."""
        async with self._means.look() as store:
            return await store.streams.cursor(key)

    async def all(self) -> list[Stream]:
        """How far every stream is known and stored."""
        async with self._means.look() as store:
            return await store.streams.list()

    async def get(self, key: StreamKey) -> Stream:
        """How far a stream is known and stored; at 0 if it is not."""
        for stream in await self.all():
            if stream.key == key:
                return stream
        return Stream(key=key, frame=0, hash=frames.START, number=0, head=0,
                      heard_age=timedelta(0), rewound=False, via=None)  # fmt: skip

    async def key(self, origin: UUID, service: str, channel: str) -> StreamKey:
        """The stream that an officer asks about.

        Raises:
            ServiceUnknown, ChannelUnknown, NodeUnknown
        """
        if service not in self._means.services:
            known = ", ".join(self._means.services)
            raise ServiceUnknown(service=service[:50], known=known)
        if channel not in TRAVELLING:
            raise ChannelUnknown(channel=repr(channel[:50]), known=", ".join(TRAVELLING))
        if origin != self._means.own.id and origin not in await below(self._means):
            raise NodeUnknown(node=f"nodes/{origin}")
        return StreamKey(origin, service, channel)

    async def freed(self, key: StreamKey, frame: int) -> bool:
        """Whether a frame and all before it are gone."""
        async with self._means.transaction() as store:
            return await store.frames.freed(key, frame)

    async def hash_at(self, key: StreamKey, frame: int) -> bytes | None:
        """The hash of a frame that is or was here; None if it is not known any more."""
        stream = await self.get(key)
        if frame in (0, stream.frame):
            return stream.hash if frame else frames.START
        async with self._means.look() as store:
            held = await store.frames.hash(key, frame)
            return held or await store.frames.follower(key, frame)

    async def lost(self, key: StreamKey) -> None:
        """An own log does not continue what was framed of it: show it, here and above."""
        async with self._means.transaction() as store:
            await store.streams.lock(key, via=None)
            await store.streams.rewind(key, True)

    async def compare_receipts(
        self, receipts: Sequence[sync_pb2.Receipt]
    ) -> list[sync_pb2.Receipt]:
        """The receipts of own streams of which the parent has stored more than there is here, or
        other: this node was restored from a backup.  It is shown."""
        told = {key_of(receipt.stream): receipt for receipt in receipts if not receipt.refused}
        found = []
        for stream in await self.all():
            receipt = told.get(stream.key)
            if receipt is None or stream.via is not None:
                continue
            ahead = receipt.frame > stream.frame
            own = stream.hash
            if receipt.frame < stream.frame:
                own = await self.hash_at(stream.key, receipt.frame) or receipt.hash
            if ahead or (receipt.frame and own != receipt.hash):
                found.append(receipt)
                if not stream.rewound:
                    await self.lost(stream.key)
        return found

    async def check_below(self, key: StreamKey, child: UUID) -> None:
        """Raises OriginForeign if a stream is none that a child may ask about: it lies below it, or
        travels down to it."""
        if key.channel == DOWN:
            stream = await self.get(key)
            fits = stream.via is not None or key.origin == self._means.own.id
        else:
            nodes = await below(self._means)
            fits = lies_below(key.origin, child, self._means.own.id, nodes)
        if not fits:
            raise OriginForeign(origin=f"nodes/{key.origin}", child=f"nodes/{child}")

    async def stand(self, key: StreamKey, head: log_pb2.SnapshotHead) -> bytes | None:
        """Put a snapshot one frame back, if that frame is here: it may be the certificate that
        proves the snapshot.  The hash there; None if it is not known."""
        async with self._means.transaction() as store:
            last = await store.frames.one(key, head.frame)
        if last is None or last.number == 1:
            return await self.hash_at(key, head.frame)
        head.frame, head.number = last.number - 1, last.first - 1
        return last.previous_hash

    async def following(self, key: StreamKey, child: UUID, after: int) -> list[frame_pb2.Frame]:
        """Stored frames of a stream of a child's subtree, without a hole."""
        await self.check_below(key, child)
        async with self._means.transaction() as store:
            rows = await store.frames.after(key, after, most=READ_BYTES)
        whole = [row for at, row in enumerate(rows) if row["number"] == after + 1 + at]
        return [frame_pb2.Frame.FromString(row["body"]) for row in whole]

    async def kept(self, key: StreamKey) -> AsyncIterator[frame_pb2.Frame]:
        """All frames of a stream that are stored, in order."""
        after = 0
        while True:
            async with self._means.transaction() as store:
                rows = await store.frames.after(key, after, most=READ_BYTES)
            for row in rows:
                yield frame_pb2.Frame.FromString(row["body"])
            if not rows:
                return
            after = rows[-1]["number"]

    async def adopt(self, key: StreamKey, taken: Sequence[frame_pb2.Frame]) -> int:
        """Own frames that the parent had stored, in place of what was made here instead; the number
        of the last.

        Raises:
            FrameRejected: if one is not this node's own.
        """
        async with self._means.transaction() as store:
            await store.streams.lock(key, via=None)
            await store.frames.cut(key, taken[0].number)
            await store.arrivals.cut(key, taken[0].number)
            await store.streams.put(
                key, frame=taken[0].number - 1, hash_=taken[0].previous_hash,
                number=taken[0].first - 1, run=UNKNOWN_RUN,
            )  # fmt: skip
            for frame in taken:
                try:
                    frames.check(frame, self._means.own.public_key)
                except frames.FrameBroken as broken:
                    raise FrameRejected(number=frame.number, part=str(broken)) from None
                with suppress(frames.FrameBroken):
                    frames.strip(frame, self._means.shown.above)
                view = self._means.shown.id if frames.has_others(frame) else None
                await store.streams.advance(frame, key, run=UNKNOWN_RUN, verified=True, view=view)
        return taken[-1].number

    async def jump(
        self, key: StreamKey, *, frame: int, hash_: bytes, number: int, via: UUID | None,
        run: bytes = b"", back: bool = False,
    ) -> Stream:  # fmt: skip
        """Let a stream go on behind a snapshot; the frames before are of no use any more.

        Args:
            back: whether the snapshot may stand before what is stored.
        """
        async with self._means.transaction() as store:
            row = await store.streams.lock(key, via=via)
            if back or frame > row["frame"]:
                await store.frames.cut(key, 0)
                await store.arrivals.jump(key, frame)
                await store.streams.put(key, frame=frame, hash_=hash_, number=number, run=run)
        self._means.tell({key.service})
        return await self.get(key)

    async def restart(self, key: StreamKey, *, beyond: int = 0, number: int | None = None) -> None:
        """Let an own stream leave its chain: the parent gets a snapshot.

        Args:
            beyond: the frame that the parent has stored.
            number: the entry after which the log is read on; as it was if None.
        """
        stream = await self.get(key)
        logger.error("stream restarts", extra={"service": key.service, "frame": stream.frame})
        await self.jump(
            key, frame=max(stream.frame, beyond) + 1, hash_=secrets.token_bytes(32),
            number=stream.number if number is None else number, via=None, run=UNKNOWN_RUN,
        )  # fmt: skip

    async def resume(self, stream: Stream, *, run: bytes) -> None:
        """Read an own log on that has taken back what it had lost, unless the stream has moved."""
        async with self._means.transaction() as store:
            await store.streams.resume(stream, run=run)

    async def detached(self) -> Mapping[StreamKey, list[str]]:
        """The readers that need frames that are no longer kept, by stream."""
        async with self._means.transaction() as store:
            return await store.frames.detached()
