"""What children push: checked, stored, and answered with receipts and wants."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from kit import frames
from kit.records import DOWN
from services.sync.domain.nodes import Node, lies_below, tree
from services.sync.domain.streams import FrameRejected, OriginForeign, Stream, StreamKey
from services.sync.domain.views import Shown
from services.sync.store import Store
from services.sync.usecases import Means
from services.sync.usecases.messages import key_of, to_age, to_receipt, to_stream
from smartunion.sync.v1 import frame_pb2, sync_pb2

logger = logging.getLogger(__name__)

SECTION_ALTERED = "SECTION_ALTERED"
"""Why a row of a section was not taken: it is not what the skeleton of its frame says."""


class Pushes:
    def __init__(self, means: Means) -> None:
        self._means = means

    async def receive(
        self, child: UUID, request: sync_pb2.PushFramesRequest
    ) -> sync_pb2.PushFramesResponse:
        """A push of a child, however it came: stored, and answered with receipts and wants."""
        streams, refused = await self.push(child, request.frames, request.heads)
        alive = self._means.wants.alive()
        return sync_pb2.PushFramesResponse(
            receipts=[
                *(to_receipt(stream) for stream in streams if stream.key not in refused),
                *(
                    sync_pb2.Receipt(stream=to_stream(key), refused=reason)
                    for key, reason in refused.items()
                ),
            ],
            wants=[alive[stream.key] for stream in streams if stream.key in alive],
        )

    async def push(
        self, child: UUID, pushed: Sequence[frame_pb2.Frame], heads: Sequence[sync_pb2.StreamHead]
    ) -> tuple[list[Stream], dict[StreamKey, str]]:
        """Store what follows of each stream; how far each stream of the child goes.

        Frames that are known are passed over, and frames after a hole: the receipt says where to
        go on.  Also the streams of which a frame was refused, with the reason.
        """
        refused: dict[StreamKey, str] = {}
        async with self._means.transaction() as store:
            nodes = tree(self._means.own.id, await store.nodes.list())
            held: dict[StreamKey, Any] = {}
            for frame in pushed:
                try:
                    await self._store_frame(store, child, nodes, held, frame)
                except (FrameRejected, OriginForeign) as refusal:
                    key = key_of(frame.stream)
                    refused[key] = refusal.reason  # the other streams go on
                    if isinstance(refusal, FrameRejected):
                        await store.streams.refuse(key, refusal.reason)
                    facts = {"child": str(child), "reason": refusal.reason}
                    logger.error("frame refused", extra=facts)
            told = {key_of(head.stream): head for head in heads}
            known = {
                key: head
                for key, head in told.items()
                if key.channel != DOWN and lies_below(key.origin, child, self._means.own.id, nodes)
            }
            await store.streams.hear(
                [(key, head.head, to_age(head.heard_age)) for key, head in known.items()],
                via=child,
            )
            streams = [stream for stream in await store.streams.list() if stream.via == child]
            for at, stream in enumerate(streams):
                if head := known.get(stream.key):
                    rewound = await self._is_rewound(store, child, stream, head)
                    if rewound != stream.rewound:
                        await store.streams.rewind(stream.key, rewound)
                        streams[at] = replace(stream, rewound=rewound)
        if pushed:
            self._means.tell({frame.stream.service for frame in pushed})
        return streams, refused

    async def _is_rewound(
        self, store: Store, child: UUID, stream: Stream, head: sync_pb2.StreamHead
    ) -> bool:
        """Whether what the child has of a stream is not, or not all of, what is stored here."""
        if head.rewound or not head.hash:
            return stream.rewound or head.rewound
        if head.frame == stream.frame:
            return head.hash != stream.hash
        if head.frame > stream.frame:
            return stream.rewound
        if stream.key.origin == child:
            return True
        held = await store.frames.hash(stream.key, head.frame)
        return held is not None and held != head.hash

    async def _store_frame(
        self, store: Store, child: UUID, nodes: Mapping[UUID, Node], held: dict[StreamKey, Any],
        frame: frame_pb2.Frame,
    ) -> None:  # fmt: skip
        """
        Args:
            held: the rows of streams that this push has locked, as they stand now.
        """
        key = key_of(frame.stream)
        if key.channel == DOWN or not lies_below(key.origin, child, self._means.own.id, nodes):
            raise OriginForeign(origin=f"nodes/{key.origin}", child=f"nodes/{child}")
        row = held.get(key) or await store.streams.lock(key, via=child)
        held[key] = row
        if frame.number > row["frame"] + 1:
            return
        origin = nodes.get(key.origin)
        try:
            frames.check(frame, origin.public_key if origin else None)
        except frames.FrameBroken as broken:
            raise FrameRejected(number=frame.number, part=str(broken)) from None
        verified, shown = origin is not None, self._means.shown
        refusal = row["refusal"]
        if refusal != SECTION_ALTERED or frames.has_others(frame):
            wrong = self._sift(frame, shown)
            if wrong or refusal:
                refusal = SECTION_ALTERED if wrong else ""
                await store.streams.refuse(key, refusal, wrong)
        view = shown.id if frames.has_others(frame) else None
        if frame.number == row["frame"] + 1 and frame.previous_hash == row["hash"]:
            await store.streams.advance(frame, key, verified=verified, view=view)
            held[key] = {"frame": frame.number, "hash": frame.hash, "refusal": refusal}
        elif frame.number == row["frame"] + 1:
            await store.streams.rewind(key, True)
        else:
            await refill(store, key, row, frame, verified=verified, view=view)

    def _sift(self, frame: frame_pb2.Frame, shown: Shown) -> int:
        """Keep of a frame the sections that the view shows here, as its origin signed them; how
        many rows are not."""
        try:
            wrong = frames.strip(frame, shown.here)
        except frames.FrameBroken:
            wrong = 1  # Nothing but `public` is left of it.
        if wrong:
            facts = {"origin": str(UUID(bytes=frame.stream.origin)), "rows": wrong}
            logger.error("section altered on the way", extra=facts)
        return wrong


async def refill(
    store: Store, key: StreamKey, row: Any, frame: frame_pb2.Frame, *, verified: bool,
    view: UUID | None = None,
) -> None:  # fmt: skip
    """A frame at or before the cursor: known, or gone from storage and sent again."""
    held = await store.frames.hash(key, frame.number)
    if held is None and frame.number == row["frame"]:
        held = row["hash"]
    expected = held or await store.frames.follower(key, frame.number)
    if expected is not None and expected != frame.hash:
        await store.streams.rewind(key, True)
    elif await store.frames.hash(key, frame.number) is None:
        await store.streams.store(frame, key, verified=verified, view=view)
