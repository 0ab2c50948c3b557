"""A service that is asked to end finishes what it was asked before."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kit.wire import CHANNEL_OPTIONS
from smartunion.event.v1 import log_pb2
from tests.eventually import eventually
from tests.federation import nodes

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_service_that_drains_says_so_answers_calls_in_flight_and_ends(
    postgres: str, tmp_path: Path
) -> None:
    city = await nodes.make(postgres, tmp_path / "city", "5101", "city")
    await city.start()
    await city.things.add(1)
    stop, task = city.running["things"]
    async with grpc.aio.insecure_channel(
        city.addresses["things"], options=CHANNEL_OPTIONS
    ) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its types know Check alone
        watch = stub.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        await watch.read()
        conn = await nodes.plain(city.databases["things"])
        async with conn.transaction():
            await conn.execute("LOCK TABLE things")  # the call below cannot be answered yet
            call = asyncio.create_task(city.recount(city))

            async def waits() -> None:
                assert await conn.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")

            await eventually(waits)
            stop.set()
            assert (await watch.read()).status == NOT_SERVING
            watch.cancel()
            assert not call.done() and not task.done()
        assert (await call).verdict == log_pb2.COMPLETE
        await asyncio.wait_for(task, 10)  # without an error
        await conn.close()
    await city.stop()
