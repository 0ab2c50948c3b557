"""Frames: made of the logs of this node, sent to its parent, read by its services."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from kit import frames, trust
from kit.records import DOWN
from services.sync.domain.nodes import tree
from services.sync.domain.streams import Cursor, Stream, StreamKey
from services.sync.store import Store
from services.sync.usecases import Means
from services.sync.usecases.messages import PUSH_BYTES, READ_BYTES, fitting, to_stream
from smartunion.event.v1 import log_pb2
from smartunion.sync.v1 import frame_pb2


class Frames:
    def __init__(self, means: Means) -> None:
        self._means = means

    async def append(
        self, stream: StreamKey, cursor: Cursor, read: log_pb2.ReadLogResponse, *,
        view: UUID | None = None,
    ) -> Cursor | None:  # fmt: skip
        """Make frames of what was read of an own log behind a cursor; the new cursor.

        None, and nothing is made, if the stream does not stand there any more.  Its number alone
        does not tell: frames that came back from the parent may end at the same one.

        The frames are committed before they are sent: what was made is sent, also after a crash.

        Args:
            view: the one by which sections besides `public` were asked for.
        """
        if not read.entries:
            async with self._means.look() as store:
                return cursor if await store.streams.hear_own(stream, cursor, read.head) else None
        async with self._means.transaction() as store:
            row = await store.streams.lock(stream, via=None)
            if Cursor(row["number"], row["run"]) != cursor:
                return None
            number, hash_ = row["frame"], row["hash"]
            for part in frames.split(read.entries):
                frame = frames.make(to_stream(stream), number + 1, hash_, part, self._means.signer)
                await store.streams.advance(
                    frame, stream, run=read.run, verified=True,
                    view=view if frames.has_others(frame) else None,
                )  # fmt: skip
                number, hash_, cursor = frame.number, frame.hash, Cursor(frame.last, read.run)
            await store.streams.hear([(stream, read.head, timedelta(0))], via=None)
        self._means.tell(set())  # no service reads its own node's
        return cursor

    async def read(
        self, reader: str, cursors: Mapping[StreamKey, int], *, waited: bool = False
    ) -> tuple[list[frame_pb2.Frame], list[StreamKey]]:
        """Frames of other nodes for a service of this one, and the streams that have a hole.

        Only frames whose signature was checked with the key of their origin.

        Args:
            waited: whether the cursors are from before a wait, and settled then.  A snapshot may
                have moved one since, so what is missing behind it is no hole.
        """
        found: list[frame_pb2.Frame] = []
        gaps: list[StreamKey] = []
        async with self._means.transaction() as store:
            if not waited:
                await store.frames.settle(reader, cursors.items())
            further = [
                stream for stream in await store.streams.list()
                if stream.key.service == reader and stream.via is not None
                and stream.frame > cursors.get(stream.key, 0)
            ]  # fmt: skip
            keys = await self._keys(store) if further else {}
            for stream in sorted(further, key=_urgent_first):
                if stream.key.origin not in keys:
                    continue
                after = cursors.get(stream.key, 0)
                part = await _next(store, stream.key, after, keys[stream.key.origin])
                found += part
                if not part and not waited:
                    missing = await store.frames.missing(stream.key, after, stream.frame)
                    self._means.wants.add(stream.key, frames=missing)
                    gaps.append(stream.key)
                if sum(frame.ByteSize() for frame in found) > READ_BYTES:
                    break
        return found, gaps

    async def _keys(self, store: Store) -> dict[UUID, bytes]:
        """The public keys of the nodes below and above."""
        nodes = tree(self._means.own.id, await store.nodes.list())
        keys = {node.id: node.public_key for node in nodes.values()}
        above = trust.chained(await store.uplink.chain(), at=self._means.clock())
        return keys | {key.node: key.public_key for key in above if key.node != self._means.own.id}

    async def next_push(
        self, cursors: Mapping[StreamKey, int], again: Mapping[StreamKey, set[int]],
        resting: Collection[StreamKey] = (), *, most: int = PUSH_BYTES,
    ) -> tuple[list[frame_pb2.Frame], list[StreamKey], list[Stream]]:  # fmt: skip
        """What the parent is sent next: what it asked for again, then what follows its receipts.
        Also the streams of which that is no longer kept, and how far every stream goes.

        Args:
            resting: streams that the parent does not take at the moment.
            most: about how many bytes of frames.
        """
        found: list[bytes] = []
        freed: list[StreamKey] = []
        async with self._means.snapshot() as store:  # no frame beyond the heads that are told
            for key, numbers in again.items():
                found += await store.frames.some(key, numbers)
            streams = await store.streams.list()
            for stream in sorted(streams, key=_urgent_first):
                after = cursors.get(stream.key, 0)
                room = most - sum(map(len, found))
                settled = stream.frame <= after or stream.key in resting
                if settled or room <= 0 or stream.key.channel == DOWN:
                    continue
                rows = await store.frames.after(stream.key, after, most=room)
                whole = [row for at, row in enumerate(rows) if row["number"] == after + 1 + at]
                found += [row["body"] for row in whole]
                if not whole and (
                    stream.via is None or await store.frames.freed(stream.key, after + 1)
                ):
                    freed.append(stream.key)
                elif not whole:
                    missing = await store.frames.missing(stream.key, after, stream.frame)
                    self._means.wants.add(stream.key, frames=missing)
        fit = fitting(found, most)
        for frame in fit:
            with suppress(frames.FrameBroken):
                frames.strip(frame, self._means.shown.above)  # what is stored here may be more
        return fit, freed, streams

    async def free(self, keep: timedelta, detach: timedelta, *, parent: bool) -> int:
        """Forget the frames that no reader and no backup needs; how many."""
        own = self._means.own.id
        async with self._means.transaction() as store:
            return await store.frames.free(own=own, parent=parent, keep=keep, detach=detach)


async def _next(
    store: Store, key: StreamKey, after: int, public_key: bytes
) -> list[frame_pb2.Frame]:
    """The stored frames that follow without a hole, each with a checked signature."""
    part: list[frame_pb2.Frame] = []
    for row in await store.frames.after(key, after, most=READ_BYTES // 4):
        frame = frame_pb2.Frame.FromString(row["body"])
        if frame.number != after + 1 + len(part):
            break
        if not row["verified"]:
            try:
                frames.check(frame, public_key)
            except frames.FrameBroken:
                break
            await store.frames.verify(key, frame.number)
        part.append(frame)
    return part


def _urgent_first(stream: Stream) -> tuple[bool, str, str]:
    return stream.key.channel != "urgent", str(stream.key.origin), stream.key.service
