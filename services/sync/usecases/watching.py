"""Watching: the events of all nodes from here down, in the order in which they arrived."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any
from uuid import UUID

from kit import frames
from kit.carrier import Tail
from kit.frames import FrameBroken, Line
from kit.records import CERTIFICATE
from services.sync.domain import watching
from services.sync.domain.nodes import Node, tree
from services.sync.domain.streams import StreamKey
from services.sync.domain.watching import EventFilter, Position, Subscriber
from services.sync.store import Store
from services.sync.usecases import Means
from services.sync.usecases.nodes import below
from smartunion.sync.v1 import frame_pb2

PROGRESS = 2.0
"""Seconds without an event after which those who watch are told how far they have come."""

FRAMES = 8
"""Frames that are read at once for one who watches: at most about 4 MiB."""

WATCHERS = 200
"""Calls that may watch one process."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Watched:
    """An event, as it is told to those who watch."""

    key: StreamKey
    line: Line
    event_id: UUID
    event_time: datetime
    position: Position
    """Of who has seen it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames that follow a position, of one snapshot."""

    rows: Sequence[Any]
    end: Position
    """Behind the last of them, and behind those between that were not asked for."""


class Watching:
    """What is read in the order of arrival; and who does so."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._watchers = 0
        self.tail = Tail()
        """Its head is the greatest arrival number."""

    async def arrive(self, store: Store) -> int:
        """Number what can be numbered, on the connection that may; how many frames."""
        if not await store.arrivals.waiting():
            return 0
        nodes = tree(self._means.own.id, await store.nodes.list())
        for row in await store.arrivals.unverified(nodes):
            frame = frame_pb2.Frame.FromString(row["body"])
            with suppress(FrameBroken):  # not numbered, so it keeps its stream waiting alone
                frames.check(frame, nodes[row["origin"]].public_key)
                await store.frames.verify(_key(row), row["number"])
        numbered = await store.arrivals.number()
        for key, frame_number in await store.arrivals.stalled() if not numbered else ():
            self._means.wants.add(key, frames=[frame_number])
        return numbered

    async def watch(
        self, asked: EventFilter, token: str, *, from_beginning: bool, stop: asyncio.Event
    ) -> AsyncGenerator[tuple[Watched | None, Position], None]:
        """Events and how far one has come with each; None: only how far.  Until `stop` is set.

        Raises:
            Refusal: as WatchEvents says.
        """
        if self._watchers >= WATCHERS:
            raise watching.TooManyWatchers(most=WATCHERS)
        self._watchers += 1
        try:
            position = await self._start(asked, token, from_beginning=from_beginning)
            yield None, position
            told = monotonic()
            while not stop.is_set():
                batch = await self._read(position, asked)
                for event in self._events(batch.rows, asked, position):
                    yield event, event.position
                    told = monotonic()
                    if stop.is_set():
                        return
                position = batch.end
                if not batch.rows:
                    await self.tail.passed(position.number, PROGRESS)
                if monotonic() - told >= PROGRESS:
                    yield None, position
                    told = monotonic()
        finally:
            self._watchers -= 1

    async def _start(self, asked: EventFilter, token: str, *, from_beginning: bool) -> Position:
        watching.check_filter(asked, self._means.own, await below(self._means))
        if token and from_beginning:
            raise watching.StartAmbiguous()
        if token:
            return watching.position_of(token)
        async with self._means.transaction() as store:
            mark = await store.arrivals.mark()
        start = "trimmed" if from_beginning else "head"
        return Position(mark[f"{start}_run"], mark[start])

    async def _read(self, position: Position, asked: EventFilter) -> Batch:
        """What follows, of one snapshot: a node that joins is in all of it, or not at all."""
        async with self._means.snapshot() as store:
            nodes = tree(self._means.own.id, await store.nodes.list())
            mark = await store.arrivals.mark()
            run = await store.arrivals.run_of(position.number)
            watching.check_continues(position, run=run, head=mark["head"], trimmed=mark["trimmed"])
            within = asked.nodes([self._means.own, *nodes.values()])
            rows = await store.arrivals.after(position.through, within, most=FRAMES)
        if len(rows) < FRAMES:
            return Batch(rows, Position(mark["head_run"], mark["head"]))
        return Batch(rows, Position(rows[-1]["run"], rows[-1]["number"]))

    def _events(
        self, rows: Sequence[Any], asked: EventFilter, position: Position
    ) -> Iterator[Watched]:
        for row in rows:
            if row["body"] is None:
                self._means.wants.add(_key(row), frames=[row["frame"]])
                raise watching.EventsMissing(**_facts(row))
            try:
                found = events_of(row, asked)
            except FrameBroken:
                raise watching.EventsUnreadable(**_facts(row)) from None
            partly = row["number"] == position.number  # the frame that was not through
            yield from (
                event for event in found if not partly or event.position.lines > position.lines
            )

    # -- the stream BELOW

    async def unpublished(self, *, most: int) -> tuple[int, Batch]:
        """The cursor of the stream BELOW, and what follows it."""
        async with self._means.snapshot() as store:
            mark = await store.arrivals.mark()
            after = max(mark["published"], mark["trimmed"])
            rows = await store.arrivals.after(after, None, most=most)
        number = rows[-1]["number"] if rows else after
        return mark["published"], Batch(rows, Position(mark["head_run"], number))

    async def publish(self, before: int, after: int) -> None:
        """Move the cursor of the stream BELOW, unless someone else has."""
        async with self._means.transaction() as store:
            await store.arrivals.publish(before, after)

    async def pass_over(self) -> None:
        """Without subscribers nothing is published: the cursor follows the head."""
        async with self._means.transaction() as store:
            mark = await store.arrivals.mark()
            if mark["published"] < mark["head"]:
                await store.arrivals.publish(mark["published"], mark["head"])

    async def subscriptions(self) -> tuple[list[Subscriber], list[Node]]:
        """All subscribers, and the nodes from here down."""
        async with self._means.transaction() as store:
            nodes = tree(self._means.own.id, await store.nodes.list())
            return await store.subscribers.all(), [self._means.own, *nodes.values()]


def events_of(row: Any, asked: EventFilter) -> list[Watched]:
    """The events of a frame that are asked for.

    Raises:
        FrameBroken: if this version cannot read it.
    """
    found = []
    for at, line in enumerate(frames.lines(frame_pb2.Frame.FromString(row["body"])), start=1):
        if line.kind == CERTIFICATE or not asked.takes(line.event_type):
            continue
        try:
            event_id = UUID(bytes=line.event_id)
            event_time = EPOCH + timedelta(microseconds=line.event_time)
        except (ValueError, OverflowError):
            raise FrameBroken("columns") from None
        position = Position(row["run"], row["number"], at)
        found.append(Watched(_key(row), line, event_id, event_time, position))
    return found


def _key(row: Any) -> StreamKey:
    return StreamKey(row["origin"], row["service"], row["channel"])


def _facts(row: Any) -> dict[str, Any]:
    return {"frame": row["frame"], "service": row["service"], "channel": row["channel"],
            "origin": f"nodes/{row['origin']}"}  # fmt: skip
