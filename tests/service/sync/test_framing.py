"""An own log becomes frames, also where frames of an earlier life come back in between."""

from dataclasses import replace
from uuid import uuid4

from kit import db, frames
from kit.ids import utc_now, uuid7
from kit.records import group_hash
from services.sync.domain.streams import Cursor, StreamKey
from services.sync.domain.views import Shown, View
from services.sync.usecases import Means
from services.sync.usecases.frames import Frames
from services.sync.usecases.messages import to_stream
from services.sync.usecases.pushes import Pushes
from services.sync.usecases.streams import Streams
from services.sync.usecases.views import Views
from smartunion.event.v1 import log_pb2
from smartunion.sync.v1 import frame_pb2, sync_pb2
from tests.service.sync.conftest import KEY, OWN, admitted

LOG = StreamKey(OWN.id, "things", "records")
RUN, LATER_RUN = uuid4().bytes, uuid4().bytes


def entries(first: int, count: int) -> list[log_pb2.Entry]:
    return [
        log_pb2.Entry(number=number, kind="things", id=uuid7().bytes, version=1, hash=bytes(16))
        for number in range(first, first + count)
    ]


def read(first: int, count: int, run: bytes) -> log_pb2.ReadLogResponse:
    found = entries(first, count)
    return log_pb2.ReadLogResponse(head=first + count - 1, run=run, entries=found)


def made(after: frame_pb2.Frame, count: int) -> frame_pb2.Frame:
    """The frame of an earlier life that the parent has behind one that both have."""
    part = entries(after.last + 1, count)
    return frames.make(to_stream(LOG), after.number + 1, after.hash, part, KEY)


async def both_have_ten(means: Means) -> tuple[Cursor, frame_pb2.Frame]:
    cursor = await Frames(means).append(LOG, await Streams(means).cursor(LOG), read(1, 10, RUN))
    assert cursor == (10, RUN)
    [frame] = [frame async for frame in Streams(means).kept(LOG)]
    return cursor, frame


async def test_a_read_from_before_frames_came_back_makes_none(means: Means) -> None:
    cursor, common = await both_have_ten(means)
    after = await Frames(means).append(LOG, cursor, read(11, 5, LATER_RUN))
    late = read(16, 3, LATER_RUN)  # is on its way while frames come back, up to the same number
    lost = made(common, 5)
    await Streams(means).adopt(LOG, [lost])
    assert after is not None and lost.last == after.number
    assert await Frames(means).append(LOG, after, late) is None
    assert [frame.hash async for frame in Streams(means).kept(LOG)] == [common.hash, lost.hash]
    stands = await Streams(means).cursor(LOG)
    assert stands.run not in (RUN, LATER_RUN)  # the service must take back first


async def test_a_log_is_not_read_on_by_what_it_took_back_before_more_frames_came(
    means: Means,
) -> None:
    cursor, common = await both_have_ten(means)
    await Frames(means).append(LOG, cursor, read(11, 5, LATER_RUN))
    stream = await Streams(means).get(LOG)  # what is here now is given to the service
    await Streams(means).adopt(LOG, [made(common, 5)])
    await Streams(means).resume(stream, run=LATER_RUN)
    assert (await Streams(means).cursor(LOG)).run != LATER_RUN


SECTION = b"salt of 16 bytes" + b"and a name"
OPEN = View(
    id=uuid7(), origin=uuid7(), number=1, effective_time=utc_now(), create_time=utc_now(),
    rules={"things/personal": "province"},
)  # fmt: skip


async def sent(means: Means) -> list[frame_pb2.Frame]:
    found, _, _ = await Frames(means).next_push({}, {})
    return found


def personal(frame: frame_pb2.Frame) -> list[bytes]:
    return [line.sections["personal"] for line in frames.lines(frame)]


def with_sections(count: int) -> log_pb2.ReadLogResponse:
    asked = read(1, count, RUN)
    for entry in asked.entries:
        entry.sections["personal"], entry.event_id = SECTION, uuid7().bytes
    return asked


async def stored(means: Means, key: StreamKey = LOG) -> bytes:
    async with means.look() as store:
        [body] = await store.frames.some(key, [1])
    return body


async def test_the_parent_is_sent_no_section_that_the_view_does_not_show_there(
    means: Means,
) -> None:
    """Also in the moment before the frames that are stored here are narrowed."""
    means.shown = Shown(OPEN, frozenset(), frozenset({"things/personal"}))
    await Frames(means).append(
        LOG, await Streams(means).cursor(LOG), with_sections(3), view=OPEN.id
    )
    [frame] = await sent(means)
    assert personal(frame) == [SECTION] * 3
    means.shown = Shown(replace(OPEN, id=uuid7()))
    [less] = await sent(means)
    assert personal(less) == [group_hash(SECTION)] * 3 and less.hash == frame.hash
    assert frame == frame_pb2.Frame.FromString(await stored(means))
    await Views(means).refresh()
    body = await stored(means)
    assert SECTION not in body and personal(frame_pb2.Frame.FromString(body)) == personal(less)
    frames.check(frame_pb2.Frame.FromString(body), OWN.public_key)


async def test_own_frames_that_come_back_hold_what_the_view_shows_and_are_narrowed_later(
    means: Means,
) -> None:
    back = frames.make(to_stream(LOG), 1, frames.START, with_sections(3).entries, KEY)
    copy = frame_pb2.Frame.FromString(back.SerializeToString())
    await Streams(means).adopt(LOG, [copy])  # nothing is shown above any more
    assert personal(frame_pb2.Frame.FromString(await stored(means))) == [group_hash(SECTION)] * 3
    means.shown = Shown(OPEN, frozenset(), frozenset({"things/personal"}))
    await Streams(means).adopt(LOG, [back])
    assert personal(frame_pb2.Frame.FromString(await stored(means))) == [SECTION] * 3
    await Views(means).refresh()  # no view is in force
    assert personal(frame_pb2.Frame.FromString(await stored(means))) == [group_hash(SECTION)] * 3


async def test_a_node_says_that_it_holds_to_a_view_when_its_frames_do(means: Means) -> None:
    means.shown = Shown(OPEN, frozenset(), frozenset({"things/personal"}))
    await Frames(means).append(
        LOG, await Streams(means).cursor(LOG), with_sections(3), view=OPEN.id
    )
    less, views = Shown(replace(OPEN, id=uuid7())), Views(means)
    means.shown = less
    await views.report()
    assert await views.reports() == {}
    await views.refresh()
    means.shown = less
    await views.report()
    assert await views.reports() == {OWN.id: less.id}


async def test_a_section_that_cannot_be_read_is_named_and_the_stream_goes_on(
    means: Means, pool: db.Pool
) -> None:
    key = StreamKey(uuid7(), "things", "records")
    await admitted(pool, "510104", by=OWN.id, public_key=OWN.public_key, node=key.origin)
    means.shown = Shown(OPEN, frozenset({"things/personal"}))
    frame = frames.make(to_stream(key), 1, frames.START, with_sections(3).entries, KEY)
    for section in frame.sections:
        if section.name == "personal":
            section.body = b"x"
    head = sync_pb2.StreamHead(stream=to_stream(key), head=3, frame=1, hash=frame.hash)
    streams, refused = await Pushes(means).push(key.origin, [frame], [head])
    assert [stream.frame for stream in streams] == [1] and not refused
    assert await pool.fetchval("SELECT refusal FROM streams WHERE origin = $1", key.origin)


async def test_a_channel_that_was_never_used_is_no_stream(means: Means) -> None:
    assert await Streams(means).cursor(LOG) == (0, b"")
    assert await Streams(means).all() == []
