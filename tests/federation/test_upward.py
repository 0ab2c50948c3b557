"""What is committed at a city is readable at the nation, and the nation can prove it."""

import asyncio
from uuid import UUID

from smartunion.event.v1 import log_pb2
from tests.eventually import eventually
from tests.federation.conftest import Line
from tests.federation.nodes import Node
from tests.federation.things import CRY, ORDER


async def proved(line: Line, expected: dict[UUID, int]) -> None:
    """The nation holds these versions, exactly what the city holds, and says COMPLETE of it."""

    async def check() -> None:
        line.check_alive()
        held = await line.city.things.versions(line.city.id)
        above = await line.nation.things.versions(line.city.id)
        lost = {id_ for id_, version in held.items() if above.get(id_) != version}
        assert held | expected == held, "the city lost what it acknowledged"
        assert not lost, f"{len(lost)} of {len(held)} not at the nation: {await line.shown()}"
        assert len(above) == len(held)
        proof = await line.nation.proof(line.city)
        assert log_pb2.Verdict.Name(proof.verdict) == "COMPLETE"
        assert sum(count.records for count in proof.counts) == len(held)

    await eventually(check)


async def test_what_a_city_commits_is_readable_and_proved_at_the_nation(line: Line) -> None:
    ids = await line.city.things.add(3_000)
    await line.city.things.save(ids[:100], version=2)
    await proved(line, dict.fromkeys(ids, 1) | dict.fromkeys(ids[:100], 2))

    async def covered() -> None:
        network = await line.nation.network()
        assert list(network) == ["0", "51", "5101"]
        assert network["5101"].connected and network["5101"].lag_entries == 0
        assert network["0"].covered_nodes == network["0"].subtree_nodes == 3

    await eventually(covered)


async def test_nats_carries_the_same_and_what_travels_down(carried: Line) -> None:
    ids = await carried.city.things.add(3_000)
    orders = dict.fromkeys(await carried.nation.things.add(300, ORDER), 1)
    await proved(carried, dict.fromkeys(ids, 1))

    async def arrived() -> None:
        assert await carried.city.things.versions(carried.nation.id, ORDER) == orders

    await eventually(arrived)


async def test_a_node_works_alone_and_catches_up(line: Line) -> None:
    first = await line.city.things.add(10)
    await proved(line, dict.fromkeys(first, 1))
    await line.province.stop()
    second = await line.city.things.add(50)

    async def alone() -> None:
        assert (await line.city.network())["5101"].verdict == log_pb2.COMPLETE
        assert not (await line.nation.network())["51"].connected

    await eventually(alone)
    await line.province.start()
    await proved(line, dict.fromkeys(first + second, 1))


async def test_whatever_service_dies_while_records_are_written_nothing_is_lost(
    carried: Line,
) -> None:
    line = carried
    acknowledged: dict[UUID, int] = {}
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            try:
                ids = await line.city.things.add(20)
                acknowledged.update(dict.fromkeys(ids, 1))
                await line.city.things.save(ids[:5], version=2)
                acknowledged.update(dict.fromkeys(ids[:5], 2))
            except Exception:
                continue  # the service was down: nothing was acknowledged
            finally:
                await asyncio.sleep(0.05)

    writers = [asyncio.create_task(write()) for _ in range(3)]
    victims: list[tuple[Node, str]] = [
        (line.city, "sync"), (line.province, "sync"), (line.province, "things"),
        (line.nation, "things"), (line.nation, "sync"), (line.city, "things"),
    ]  # fmt: skip
    for node, name in victims:
        await asyncio.sleep(0.3)
        await node.stop(name)
        await node.start(name)
    stop.set()
    await asyncio.gather(*writers)
    held = await line.city.things.versions(line.city.id)
    # A commit whose answer was lost may have gone further than what was acknowledged.
    assert all(held.get(id_, 0) >= version for id_, version in acknowledged.items())
    await proved(line, held)


async def test_an_urgent_entry_overtakes_what_is_queued(line: Line) -> None:
    before = len(await line.nation.things.versions(line.city.id))
    await line.province.stop()
    await line.city.things.add(10_000)
    [cry] = await line.city.things.add(1, CRY)
    await line.province.start()

    async def heard() -> int:
        assert await line.nation.things.versions(line.city.id, CRY) == {cry: 1}
        return len(await line.nation.things.versions(line.city.id))

    assert await eventually(heard) < before + 10_000
