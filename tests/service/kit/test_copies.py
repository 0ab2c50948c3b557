"""Copies follow the numbers of their stream, and what is broken keeps nobody else waiting."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import grpc
import pytest

from kit import db, frames
from kit.copies import Copies
from kit.ids import uuid7
from kit.server import KIT_MIGRATIONS
from node import databases
from smartunion.event.v1 import log_pb2
from smartunion.sync.v1 import frame_pb2
from tests.federation.things import MIGRATIONS, THING, change
from tests.unit.kit.test_frames import KEY

NODE = uuid4()


@pytest.fixture
async def pool(postgres: str) -> AsyncIterator[db.Pool]:
    url = await databases.create(postgres, f"copies_{uuid4().hex}", password="test")
    db.reach.set(db.everything)
    async with db.connect(url, KIT_MIGRATIONS, MIGRATIONS) as pool:
        yield pool


def frame(origin: UUID, number: int, *, first: int) -> frame_pb2.Frame:
    """Of one new thing."""
    new = change(uuid7(), 1, None)
    entry = log_pb2.Entry(
        number=first, kind="things", id=new.id.bytes, owner_epoch=1, version=1, hash=new.hash,
        public=new.public, event_id=uuid4().bytes, event_type="a.B",
    )  # fmt: skip
    stream = frame_pb2.Stream(origin=origin.bytes, service="things", channel="records")
    return frames.make(stream, number, frames.START, [entry], KEY)


async def test_a_frame_that_leaves_out_a_number_is_not_applied_and_told_once(
    pool: db.Pool, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = uuid4(), uuid4()
    async with grpc.aio.insecure_channel("127.0.0.1:1") as nobody:
        copies = Copies(pool, NODE, "things", (THING,), nobody, ())

        async def held() -> list[UUID]:
            return [row[0] for row in await pool.fetch("SELECT origin FROM things ORDER BY id")]

        assert await copies._apply_all([frame(one, 1, first=1)])
        torn = frame(one, 2, first=3)
        after = frame(one, 3, first=4)
        assert await copies._apply_all([torn, after, frame(other, 1, first=1)])
        assert sorted(await held()) == sorted([one, other])
        assert not await copies._apply_all([torn])
        assert not await copies._apply_all([frame(other, 1, first=1)]), "again, and no fault"
        told = [record for record in caplog.records if record.message == "frame not applied"]
        assert [(record.levelname, vars(record)["error"]) for record in told] == [
            ("ERROR", "FrameBroken('numbers')")
        ]
        assert await copies._apply_all([frame(one, 2, first=2)])
        assert (await held()).count(one) == 2


async def test_a_hole_is_not_shown_once_a_snapshot_has_gone_past_it(pool: db.Pool) -> None:
    origin = uuid4()
    stream = frame_pb2.Stream(origin=origin.bytes, service="things", channel="records")
    read = "SELECT origin, channel, frame FROM proofs WHERE origin = $1"

    async def verdict() -> int:
        return int(await pool.fetchval("SELECT verdict FROM proofs WHERE origin = $1", origin))

    async with grpc.aio.insecure_channel("127.0.0.1:1") as nobody:
        copies = Copies(pool, NODE, "things", (THING,), nobody, ())
        await copies._show_gaps([stream], await pool.fetch(read, origin))
        assert await verdict() == log_pb2.GAP
        asked = await pool.fetch(read, origin)
        await pool.execute("UPDATE proofs SET frame = 7, verdict = $1", log_pb2.COMPLETE)
        await copies._show_gaps([stream], asked)
        assert await verdict() == log_pb2.COMPLETE
        await copies._show_gaps([stream], await pool.fetch(read, origin))
        assert await verdict() == log_pb2.GAP
