"""What travels down: the streams of the channel `down`.

A child asks for them in its pushes, and the parent's answer brings what follows: its own streams
and those that came to it from above, all alike for every child.  A frame is taken if its origin is
an ancestor by the chain of certificates, and signed it.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from kit import frames, trust
from kit.records import DOWN
from kit.trust import NodeKey
from services.sync.domain.streams import Stream, StreamKey
from services.sync.store import Store
from services.sync.usecases import Means
from services.sync.usecases.keys import Keys
from services.sync.usecases.messages import PUSH_BYTES, fitting, key_of, to_age, to_head, to_stream
from services.sync.usecases.pushes import Pushes, refill
from smartunion.sync.v1 import frame_pb2, sync_pb2

MOST_WANTED = 100
"""Frames that are sent again at once."""

logger = logging.getLogger(__name__)


class Down:
    def __init__(self, means: Means, keys: Keys, pushes: Pushes) -> None:
        self._means, self._keys, self._pushes = means, keys, pushes

    # -- at the parent

    async def receive(
        self, child: UUID, request: sync_pb2.PushFramesRequest
    ) -> sync_pb2.PushFramesResponse:
        """A push of a child, however it came: stored, and answered with receipts, wants, and what
        travels down."""
        response = await self._pushes.receive(child, request)
        if request.HasField("pull"):
            await self.answer(child, request.pull, response)
        return response

    async def answer(
        self, child: UUID, pull: sync_pb2.Pull, response: sync_pb2.PushFramesResponse
    ) -> None:
        """Add to the answer of a push what the child has not got of what travels down."""
        cursors = {key_of(receipt.stream): receipt.frame for receipt in pull.after}
        async with self._means.transaction() as store:
            streams = [
                stream for stream in await store.streams.list() if stream.key.channel == DOWN
            ]
            known = {stream.key for stream in streams}
            reached = [(key, frame) for key, frame in cursors.items() if key in known]
            await store.frames.settle(str(child), reached)
            bodies: list[bytes] = []
            for want in pull.wants:
                if (key := key_of(want.stream)) in known:
                    bodies += await store.frames.some(key, want.frames[:MOST_WANTED])
                    self._means.wanted(want)
            for stream in streams:
                room = PUSH_BYTES - sum(map(len, bodies))
                bodies += await self._following(store, stream, cursors, room, response)
            response.frames.extend(fitting(bodies))
            response.down.extend(map(to_head, streams))
            chain = await self._keys.chain_of(store, child, pull.certificate)
        if hashlib.sha256(b"".join(chain)).digest() != pull.chain_hash:
            response.chain.extend(chain)

    async def _following(
        self, store: Store, stream: Stream, cursors: Mapping[StreamKey, int], room: int,
        response: sync_pb2.PushFramesResponse,
    ) -> list[bytes]:  # fmt: skip
        after = cursors.get(stream.key, 0)
        if stream.frame <= after or room <= 0:
            return []
        rows = await store.frames.after(stream.key, after, most=room)
        whole = [row["body"] for at, row in enumerate(rows, 1) if row["number"] == after + at]
        if not whole and await store.frames.freed(stream.key, after + 1):
            response.freed.append(to_stream(stream.key))
        elif not whole:
            missing = await store.frames.missing(stream.key, after, stream.frame)
            self._means.wants.add(stream.key, frames=missing)
        return whole

    # -- at the child

    async def pull(self) -> sync_pb2.Pull:
        """What to ask the parent for."""
        async with self._means.transaction() as store:
            streams = [stream for stream in await store.streams.list() if is_from_above(stream)]
            chain = await store.uplink.chain()
        alive = self._means.wants.alive()
        return sync_pb2.Pull(
            after=[
                sync_pb2.Receipt(stream=to_stream(stream.key), frame=stream.frame, hash=stream.hash)
                for stream in streams
            ],
            chain_hash=hashlib.sha256(b"".join(chain)).digest() if chain else b"",
            certificate=self._keys.own_certificate(),
            wants=[alive[stream.key] for stream in streams if stream.key in alive],
        )

    async def take(self, parent: UUID, response: sync_pb2.PushFramesResponse) -> list[StreamKey]:
        """Store what the parent's answer brings; the streams that go on by a snapshot."""
        async with self._means.transaction() as store:
            if response.chain:
                await self._take_chain(store, list(response.chain))
            chain = await store.uplink.chain()
            above = self._above(chain)
            for frame in response.frames:
                await self._store_frame(store, parent, above, frame)
            told = {key_of(head.stream): head for head in response.down}
            heads = {
                key: head
                for key, head in told.items()
                if key.origin in above and key.channel == DOWN
            }
            await store.streams.hear(
                [(key, head.head, to_age(head.heard_age)) for key, head in heads.items()],
                via=parent,
            )
            streams = [stream for stream in await store.streams.list() if is_from_above(stream)]
            for stream in streams:
                if head := heads.get(stream.key):
                    await self._compare(store, stream, head)
            streams = [stream for stream in await store.streams.list() if is_from_above(stream)]
        if response.frames:
            self._means.tell({frame.stream.service for frame in response.frames})
        freed = [key for key in map(key_of, response.freed) if key in heads]
        passed = [
            stream.key
            for stream in streams
            if stream.rewound and heads.get(stream.key, sync_pb2.StreamHead()).frame > stream.frame
        ]
        return [*freed, *passed]

    async def _take_chain(self, store: Store, chain: list[bytes]) -> None:
        held, own = await self._keys.chain(store), self._means.own
        if trust.continues(chain, held, own.id, own.public_key, at=self._now()):
            await store.uplink.save_chain(chain)
        else:
            logger.error("chain from above refused")

    def _above(self, chain: Sequence[bytes]) -> dict[UUID, NodeKey]:
        """The nodes above, by the chain."""
        keys = trust.chained(chain, at=self._now())
        return {key.node: key for key in keys if key.node != self._means.own.id}

    async def _store_frame(
        self, store: Store, parent: UUID, above: Mapping[UUID, NodeKey], frame: frame_pb2.Frame
    ) -> None:
        key = key_of(frame.stream)
        try:
            if key.channel != DOWN or key.origin not in above:
                raise frames.FrameBroken("origin")
            frames.check(frame, above[key.origin].public_key)
            frames.strip(frame, ())
        except frames.FrameBroken as broken:
            facts = {"origin": str(key.origin), "reason": str(broken)}
            return logger.error("frame from above refused", extra=facts)
        row = await store.streams.lock(key, via=parent)
        if frame.number <= row["frame"]:
            await refill(store, key, row, frame, verified=True)
        elif frame.number == row["frame"] + 1 and frame.previous_hash == row["hash"]:
            await store.streams.advance(frame, key, verified=True)
            await store.streams.rewind(key, False)
        elif frame.number == row["frame"] + 1:
            await store.streams.rewind(key, True)

    async def _compare(self, store: Store, stream: Stream, head: sync_pb2.StreamHead) -> None:
        """Show whether the parent has less than it had, or something else: it was restored."""
        if head.frame == stream.frame:
            await store.streams.rewind(stream.key, head.hash != stream.hash)
        elif head.frame < stream.frame:
            await store.streams.rewind(stream.key, True)

    def _now(self) -> datetime:
        return self._means.clock()


def is_from_above(stream: Stream) -> bool:
    """Whether a stream travels down to this node."""
    return stream.key.channel == DOWN and stream.via is not None
