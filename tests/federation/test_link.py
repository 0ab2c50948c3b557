"""The line between a child and its parent may be away, cut, or swallow what it is given."""

from contextlib import AsyncExitStack
from pathlib import Path

from node import engines, ports
from node.proxy import Proxy
from smartunion.event.v1 import log_pb2
from tests.eventually import eventually
from tests.federation import nodes
from tests.federation.conftest import Line, make_line, start_line
from tests.federation.test_upward import proved


async def test_a_parent_that_is_away_at_the_start_is_no_error(
    postgres: str, tmp_path: Path
) -> None:
    city = await nodes.make(postgres, tmp_path / "city", "5101", "city")
    city.parent, city.invitation = f"127.0.0.1:{ports.free()}", "not needed yet"
    await city.start()
    await city.things.add(10)

    async def alone() -> None:
        own = (await city.network())["5101"]
        assert own.verdict == log_pb2.COMPLETE and own.lag_entries == 0
        assert sum(count.records for count in own.streams[-1].proof.counts) == 10

    await eventually(alone)
    assert all(not task.done() for _, task in city.running.values())
    await city.stop()


async def test_a_line_that_swallows_bytes_loses_nothing(postgres: str, tmp_path: Path) -> None:
    line = await make_line(postgres, tmp_path)
    async with AsyncExitStack() as stack:
        for node in line.all:
            server = await stack.enter_async_context(engines.nats(node.folder))
            node.nats, node.creds = server.url, str(server.keys.node_creds)
        address = line.province.addresses["sync"]
        grpc_line = await stack.enter_async_context(Proxy(address))
        nats_line = await stack.enter_async_context(
            Proxy(line.province.nats.removeprefix("nats://"))
        )
        line.city.parent_nats = f"nats://{nats_line.address}"
        line.city.through = grpc_line.address
        await start_line(line)
        await play(line, grpc_line, nats_line)
        for node in line.all:
            await node.stop()


async def play(line: Line, *lines: Proxy) -> None:
    """Cut the line, heal it, let it swallow bytes, heal it; write all the while."""
    ids = await line.city.things.add(10)
    await proved(line, dict.fromkeys(ids, 1))
    for how in (Proxy.cut, Proxy.half_open):
        for proxy in lines:
            await how(proxy)
        ids += await line.city.things.add(50)

        async def unheard() -> None:
            assert not (await line.province.network())["5101"].connected

        await eventually(unheard)
        for proxy in lines:
            await proxy.heal()
        await proved(line, dict.fromkeys(ids, 1))
