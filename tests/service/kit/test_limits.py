"""What one caller may ask of a service, over real gRPC."""

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kit.ids import uuid7
from kit.limits import Limits
from kit.status import Refused, refused
from kit.wire import CHANNEL_OPTIONS
from services.membership.config import Settings
from smartunion.event.v1 import log_pb2, log_pb2_grpc
from smartunion.membership.v1 import membership_pb2 as pb
from tests.eventually import eventually
from tests.service.conftest import calling, make_settings, serving
from tests.service.desk import HOME, OFFICER, Desk

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
LIST = pb.ListOfficersRequest(parent=HOME, page_size=1)
GET = pb.GetMemberRequest(name=f"members/{uuid7()}")


@pytest.fixture(scope="module")
async def settings(
    postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    """On a database that the services of this file share, one after the other."""
    return await make_settings(postgres, template, tmp_path_factory.mktemp("limits"))


@asynccontextmanager
async def limited(settings: Settings, **narrowed: int) -> AsyncIterator[Desk]:
    """A service with narrower limits."""
    settings = settings.model_copy(update={"limits": Limits(**narrowed)})
    async with serving(settings), calling(settings) as desk:
        yield desk


async def told(call: Awaitable[Any]) -> Refused | None:
    """What a call is refused with; None if it is served."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return refused(error)
    return None


async def test_a_flood_is_refused_until_the_time_said_and_others_are_served(
    settings: Settings,
) -> None:
    async with limited(settings, reads=2) as desk:
        await desk.appoint("officers/other", HOME)

        async def flooded() -> Refused:
            answers = await asyncio.gather(*(told(desk.ask(LIST)) for _ in range(20)))
            return next(answer for answer in answers if answer)

        refusal = await eventually(flooded)
        assert (refusal.code, refusal.reason) == (EXHAUSTED, "TOO_MANY_CALLS")
        assert refusal.metadata["limit"] == "reads" and "秒后重试" in refusal.chinese
        assert refusal.retry_delay is not None and 0 < refusal.retry_delay <= 0.5
        assert await told(desk.ask(LIST, officer="officers/other")) is None
        await asyncio.sleep(refusal.retry_delay)
        assert await told(desk.ask(LIST)) is None


async def test_so_many_people_at_once_and_what_the_node_itself_asks_is_still_served(
    settings: Settings,
) -> None:
    async with limited(settings, calls_at_once=2, all_at_once=3) as desk, desk.pool.acquire() as db:
        await desk.appoint("officers/third", HOME)
        held = db.transaction()
        await held.start()
        await db.execute("LOCK TABLE members IN ACCESS EXCLUSIVE MODE")
        calls = [asyncio.create_task(told(desk.ask(GET, officer=who)))
                 for who in (OFFICER, OFFICER, "officers/third")]  # fmt: skip

        async def waiting() -> None:
            locks = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = $1::regclass"
            assert await db.fetchval(locks, "members") == len(calls)

        await eventually(waiting)
        said = await told(desk.ask(LIST, officer="officers/third"))
        assert said and (said.code, said.reason) == (EXHAUSTED, "TOO_MANY_AT_ONCE")
        assert said.metadata["limit"] == "all_at_once" and said.retry_delay == 1
        said = await told(desk.ask(LIST))
        assert said and said.metadata["limit"] == "calls_at_once"
        call = desk.stub.ListOfficers(LIST, metadata=desk.as_officer())
        assert await call.code() is EXHAUSTED
        assert dict(await call.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"
        async with channel_of(desk) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            await health.Check(health_pb2.HealthCheckRequest())
            log: Any = log_pb2_grpc.LogServiceStub(channel)
            as_sync = desk.as_officer("services/sync")
            await log.ListProofs(log_pb2.ListProofsRequest(), metadata=as_sync)
        await held.rollback()
        assert [said and said.reason for said in await asyncio.gather(*calls)] == [
            "MEMBER_NOT_FOUND"
        ] * 3
        assert await told(desk.ask(LIST)) is None


async def test_a_watcher_beyond_the_most_is_refused_until_another_ends(
    settings: Settings,
) -> None:
    async with (
        limited(settings, streams_at_once=2) as desk,
        channel_of(desk) as channel,
        AsyncExitStack() as watching,
    ):
        health: Any = health_pb2_grpc.HealthStub(channel)

        async def watcher() -> Any:
            call = health.Watch(health_pb2.HealthCheckRequest())
            await anext(aiter(call))
            return call

        first = await watcher()
        watching.callback((await watcher()).cancel)
        said = await told(watcher())
        assert said and (said.code, said.reason) == (EXHAUSTED, "TOO_MANY_AT_ONCE")
        first.cancel()
        watching.callback((await eventually(watcher)).cancel)


async def test_what_grpc_itself_finds_too_large_is_refused_and_nothing_else(
    membership: Desk,
) -> None:
    async with channel_of(membership) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)

        async def ended(size: int) -> grpc.StatusCode:
            metadata = (("x-filler", "x" * size),)
            code = await health.Check(health_pb2.HealthCheckRequest(), metadata=metadata).code()
            return grpc.StatusCode(code)

        assert await ended(300 * 2**10) is EXHAUSTED
        codes = Counter([await ended(14 * 2**10) for _ in range(30)])
        assert codes == {grpc.StatusCode.OK: 30}
    said = await told(membership.ask(pb.GetMemberRequest(name="x" * 5 * 2**20)))
    assert said and (said.code, said.reason) == (EXHAUSTED, "")
    assert await told(membership.ask(LIST)) is None


async def test_a_connection_that_does_nothing_but_ping_is_ended(membership: Desk) -> None:
    """Source: RFC 9113; ENHANCE_YOUR_CALM is 11."""
    host, _, port = membership.settings.listen.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS))
    writer.write(10 * frame(PING, bytes(8)))
    while (found := await received(reader))[0] != GOAWAY:
        pass
    assert struct.unpack(">II", found[1][:8])[1] == 11
    writer.close()
    assert await told(membership.ask(LIST)) is None


SETTINGS, PING, GOAWAY = 4, 6, 7


def frame(kind: int, content: bytes = b"") -> bytes:
    """Of HTTP/2, for the whole connection."""
    return struct.pack(">I", len(content))[1:] + bytes([kind, 0]) + bytes(4) + content


async def received(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The kind of the next frame, and what is in it."""
    head = await reader.readexactly(9)
    return head[3], await reader.readexactly(int.from_bytes(head[:3]))


def channel_of(desk: Desk) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(desk.settings.listen, options=CHANNEL_OPTIONS)
