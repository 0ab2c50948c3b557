"""A reader waits in its call: it is told at once, and nobody is kept who asks for too long."""

import asyncio
import time
from datetime import timedelta
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from kit.carrier import Carrier
from kit.log_service import LONGEST_WAIT, seconds_of
from kit.records import CERTIFICATE
from kit.waiting import happened
from smartunion.event.v1 import log_pb2, log_pb2_grpc
from tests.eventually import eventually
from tests.eventually import waiting as blocked
from tests.service.conftest import serving
from tests.service.desk import Desk


async def read(desk: Desk, *, after: int, wait: Any) -> log_pb2.ReadLogResponse:
    async with grpc.aio.insecure_channel(desk.settings.listen) as channel:
        return await log_pb2_grpc.LogServiceStub(channel).ReadLog(
            log_pb2.ReadLogRequest(reader="reader", channel="records", after=after, wait=wait),
            metadata=desk.as_officer("services/reader"), timeout=30, wait_for_ready=True,
        )  # fmt: skip


async def end_of(desk: Desk) -> int:
    """The number of the last entry: the certificate that follows when nobody writes any more."""

    async def certified() -> int:
        assert not await desk.pool.fetchval("SELECT EXISTS (SELECT FROM outbox)")
        entries = (await read(desk, after=0, wait=None)).entries
        assert entries and entries[-1].kind == CERTIFICATE
        return entries[-1].number

    return await eventually(certified)


async def test_a_reader_that_waits_is_told_as_soon_as_something_is_committed(alone: Desk) -> None:
    await alone.apply(1)
    head = await end_of(alone)
    waiting = asyncio.create_task(read(alone, after=head, wait=timedelta(seconds=10)))
    done, _ = await asyncio.wait({waiting}, timeout=0.5)
    assert not done
    await alone.apply(2)
    # When its ten seconds are over, it would be told of nothing.
    assert [entry.kind for entry in (await waiting).entries] == ["applications"]


async def test_a_reader_that_does_not_wait_is_answered_at_once(alone: Desk) -> None:
    head = await end_of(alone)
    for wait in (None, timedelta(seconds=-5), timedelta(0)):
        answer = await asyncio.wait_for(read(alone, after=head, wait=wait), 5)
        assert not answer.entries and answer.head >= head


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [
        (Duration(), 0.0),
        (Duration(nanos=500_000_000), 0.5),
        (Duration(seconds=-1), 0.0),
        (Duration(seconds=2**62), LONGEST_WAIT),
        (Duration(seconds=-(2**62), nanos=-(2**31)), 0.0),
    ],
)
async def test_no_time_to_wait_is_too_long_to_be_read(wait: Duration, seconds: float) -> None:
    assert seconds_of(wait) == seconds


async def test_a_service_that_ends_keeps_nobody_waiting(unserved: Desk) -> None:
    async with serving(unserved.settings):
        head = await end_of(unserved)
        call = read(unserved, after=head, wait=timedelta(seconds=10))
        waiting = asyncio.create_task(call)
        done, _ = await asyncio.wait({waiting}, timeout=0.5)
        assert not done
        began = time.monotonic()
    assert not (await waiting).entries
    assert time.monotonic() - began < 5


async def test_what_is_committed_between_the_look_and_the_wait_is_not_slept_through(
    alone: Desk,
) -> None:
    await alone.apply(1)
    head = await end_of(alone)
    async with alone.pool.acquire() as conn, conn.transaction():
        await conn.execute("LOCK TABLE receipts IN EXCLUSIVE MODE")  # asked for after the look
        reading = asyncio.create_task(read(alone, after=head, wait=timedelta(seconds=10)))
        await eventually(partial(blocked, conn, 1))
        await alone.apply(2)
        await eventually(partial(numbered, alone, head + 2))  # and nothing else for a minute
    entries = (await reading).entries
    assert [entry.kind for entry in entries] == ["applications", CERTIFICATE]


async def numbered(desk: Desk, number: int) -> None:
    found = "SELECT head FROM logs WHERE channel = 'records'"
    assert await desk.pool.fetchval(found) >= number


@pytest.mark.parametrize("head", [4, 12])
async def test_a_head_that_goes_back_tells_those_who_wait_too(head: int) -> None:
    """A database was restored, or somebody at NATS has told a wrong one before."""
    carrier = Carrier()
    tail = carrier.tail("things", "records")
    carrier.announce("things", "records", 9, None, [])
    moved = tail.moved
    assert not await happened(moved, 0.01)
    carrier.announce("things", "records", head, None, [])  # after the look, before the wait
    assert await happened(moved, 5)
