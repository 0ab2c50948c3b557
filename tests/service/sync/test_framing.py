"""An own log becomes frames, also where frames of an earlier life come back in between."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit import db, frames
from kit.ids import utc_now, uuid7
from kit.records import group_hash
from kit.sealing import FileKeys, Keyring
from kit.server import KIT_MIGRATIONS
from node import databases
from services.sync.__main__ import MIGRATIONS
from services.sync.domain import Cursor, Node, StreamKey
from services.sync.domain.views import Shown, View
from services.sync.usecases import Sync, to_stream
from services.sync.usecases.views import Views
from smartunion.event.v1 import log_pb2
from smartunion.sync.v1 import frame_pb2

KEY = Ed25519PrivateKey.generate()
OWN = Node(
    id=uuid7(), parent=None, organization_code="5101", display_name="成都", level="city",
    public_key=KEY.public_key().public_bytes_raw(),
)  # fmt: skip
LOG = StreamKey(OWN.id, "things", "records")
RUN, LATER_RUN = uuid4().bytes, uuid4().bytes


async def admit(node: UUID, user_key: str) -> str:
    raise NotImplementedError


async def cut(node: UUID) -> None:
    raise NotImplementedError


@pytest.fixture
async def sync(postgres: str, tmp_path: Path) -> AsyncIterator[Sync]:
    url = await databases.create(postgres, f"sync_{uuid4().hex}", password="test")
    (tmp_path / "data.key").write_text("00" * 32)
    async with db.connect(url, KIT_MIGRATIONS, MIGRATIONS) as pool:
        keyring = await Keyring.open(pool, FileKeys(tmp_path / "data.key"))
        yield Sync(
            pool, keyring, OWN, signer=KEY, admit=admit, cut=cut, nats_url="",
            services=("things",), wake=lambda: None,
        )  # fmt: skip


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


async def both_have_ten(sync: Sync) -> tuple[Cursor, frame_pb2.Frame]:
    cursor = await sync.append(LOG, await sync.cursor(LOG), read(1, 10, RUN), key=KEY)
    assert cursor == (10, RUN)
    [frame] = [frame async for frame in sync.kept(LOG)]
    return cursor, frame


async def test_a_read_from_before_frames_came_back_makes_none(sync: Sync) -> None:
    cursor, common = await both_have_ten(sync)
    after = await sync.append(LOG, cursor, read(11, 5, LATER_RUN), key=KEY)
    late = read(16, 3, LATER_RUN)  # is on its way while frames come back, up to the same number
    lost = made(common, 5)
    await sync.adopt(LOG, [lost])
    assert after is not None and lost.last == after.number
    assert await sync.append(LOG, after, late, key=KEY) is None
    assert [frame.hash async for frame in sync.kept(LOG)] == [common.hash, lost.hash]
    assert (await sync.cursor(LOG)).run not in (RUN, LATER_RUN)  # the service must take back first


async def test_a_log_is_not_read_on_by_what_it_took_back_before_more_frames_came(
    sync: Sync,
) -> None:
    cursor, common = await both_have_ten(sync)
    await sync.append(LOG, cursor, read(11, 5, LATER_RUN), key=KEY)
    stream = await sync.stream(LOG)  # what is here now is given to the service
    await sync.adopt(LOG, [made(common, 5)])
    await sync.resume(stream, run=LATER_RUN)
    assert (await sync.cursor(LOG)).run != LATER_RUN


SECTION = b"salt of 16 bytes" + b"and a name"
OPEN = View(
    id=uuid7(), origin=uuid7(), number=1, effective_time=utc_now(), create_time=utc_now(),
    rules={"things/personal": "province"},
)  # fmt: skip


async def sent(sync: Sync) -> list[frame_pb2.Frame]:
    found, _, _ = await sync.next_push({}, {})
    return found


def personal(frame: frame_pb2.Frame) -> list[bytes]:
    return [line.sections["personal"] for line in frames.lines(frame)]


async def test_the_parent_is_sent_no_section_that_the_view_does_not_show_there(sync: Sync) -> None:
    """Also in the moment before the frames that are stored here are narrowed."""
    asked = read(1, 3, RUN)
    for entry in asked.entries:
        entry.sections["personal"], entry.event_id = SECTION, uuid7().bytes
    sync.shown = Shown(OPEN, frozenset(), frozenset({"things/personal"}))
    await sync.append(LOG, await sync.cursor(LOG), asked, key=KEY, view=OPEN.id)
    [frame] = await sent(sync)
    assert personal(frame) == [SECTION] * 3
    sync.shown = Shown(replace(OPEN, id=uuid7()))
    [less] = await sent(sync)
    assert personal(less) == [group_hash(SECTION)] * 3 and less.hash == frame.hash
    async with sync.look() as store:
        assert [frame] == [frame_pb2.Frame.FromString(b) for b in await store.frames.some(LOG, [1])]
    await Views(sync).refresh()
    async with sync.look() as store:
        [body] = await store.frames.some(LOG, [1])
    assert SECTION not in body and personal(frame_pb2.Frame.FromString(body)) == personal(less)
    frames.check(frame_pb2.Frame.FromString(body), OWN.public_key)


async def test_a_channel_that_was_never_used_is_no_stream(sync: Sync) -> None:
    assert await sync.cursor(LOG) == (0, b"")
    assert await sync.streams() == []
