"""A reader waits in its call: it is told at once, and nobody is kept who asks for too long."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from kit.carrier import Carrier, Tail
from kit.log_service import LONGEST_WAIT, seconds_of
from smartunion.event.v1 import log_pb2, log_pb2_grpc
from tests.service.conftest import serving
from tests.service.desk import Desk


async def read(desk: Desk, *, after: int, wait: Any) -> log_pb2.ReadLogResponse:
    async with grpc.aio.insecure_channel(desk.settings.listen) as channel:
        return await log_pb2_grpc.LogServiceStub(channel).ReadLog(
            log_pb2.ReadLogRequest(reader="reader", channel="records", after=after, wait=wait),
            metadata=desk.as_officer("services/reader"), timeout=30, wait_for_ready=True,
        )  # fmt: skip


async def end_of(desk: Desk) -> int:
    """The number of the last entry, behind the certificate that follows when nobody writes."""
    head = -1
    while head != (found := (await read(desk, after=0, wait=None)).head):
        head = found
        await asyncio.sleep(2.5)
    return head


async def test_a_reader_that_waits_is_told_as_soon_as_something_is_committed(alone: Desk) -> None:
    await alone.apply(1)
    head = await end_of(alone)
    waiting = asyncio.create_task(read(alone, after=head, wait=timedelta(seconds=10)))
    done, _ = await asyncio.wait({waiting}, timeout=0.5)
    assert not done
    began = time.monotonic()
    await alone.apply(2)
    assert [entry.kind for entry in (await waiting).entries] == ["applications"]
    assert time.monotonic() - began < 5  # not when its ten seconds are over


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


async def test_a_head_that_comes_while_one_reads_is_not_slept_through() -> None:
    carrier = Carrier()
    tail = carrier.tail("things", "records")
    seen = tail.head
    carrier.announce("things", "records", 7, None, [])  # after the look, before the wait
    assert await asyncio.wait_for(tail.passed(seen, 60), 5)
    assert not await tail.passed(tail.head, 0.01)


async def test_a_log_that_was_restored_lets_those_go_on_who_wait_for_more() -> None:
    tail = Tail(head=9)
    waiting = asyncio.create_task(tail.passed(9, 60))
    await asyncio.sleep(0)
    tail.move(4)
    assert await asyncio.wait_for(waiting, 5)
