"""make faults SEEDS=20 runs the seeds 0 to 19; make faults SEED=7 that one alone.

Each run leaves its history in build/faults/seed-N.jsonl.  The runs share a network until one of
them fails: then its folder is kept, with the logs and databases of all nodes, and the next run
begins with another.
"""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from node.proxy import Way
from tests.faults.runs import RESULTS, Run, World, world
from tests.faults.schedules import CARRIERS, LINES, NODES, PARTS, SORTS, TABLES, Kind, plan

SEEDS = (
    [int(os.environ["SEED"])] if os.environ.get("SEED") else range(int(os.environ.get("SEEDS", 3)))
)


class Worlds:
    """A network for one run after the other, and another after a failure."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._world: World | None = None

    async def get(self) -> World:
        """The one that is up."""
        if self._world is None:
            self._world = await self._stack.enter_async_context(world())
        return self._world

    async def end(self) -> None:
        """End it; the next run begins with another."""
        self._world = None
        await self._stack.aclose()


@pytest.fixture(scope="module")
async def worlds() -> AsyncIterator[Worlds]:
    made = Worlds()
    yield made
    await made.end()


@pytest.mark.parametrize("seed", SEEDS)
async def test_nothing_acknowledged_is_lost(worlds: Worlds, seed: int) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    with open(RESULTS / f"seed-{seed}.jsonl", "w", buffering=1, encoding="utf-8") as file:
        run = Run(await worlds.get(), plan(seed), file)
        await run.carry_out()
    if run.problems:
        await worlds.end()
        pytest.fail(str(run), pytrace=False)


def test_a_seed_always_gives_the_same_with_every_sort_of_fault_under_load() -> None:
    assert [plan(seed) for seed in range(20)] == [plan(seed) for seed in range(20)]
    for seed in range(20):
        waves = plan(seed).waves
        assert len(waves) == len(SORTS) * (3 if seed % 5 == 4 else 2)
        assert {fault.kind for wave in waves for fault in wave.faults} == set(Kind)
        assert [wave.at for wave in waves] == sorted(wave.at for wave in waves)
        assert all(0 < wave.at < 0.9 for wave in waves)
        assert any(len(wave.faults) > 1 for wave in waves), "two at once"
        assert any(fault.again for wave in waves for fault in wave.faults)
        assert {sum(work.rosters) for work in plan(seed).work.values()} <= {800, 2_400}


def test_twenty_seeds_strike_every_part_of_every_node_and_every_line_both_ways() -> None:
    faults = [fault for seed in range(20) for wave in plan(seed).waves for fault in wave.faults]
    struck = {(fault.kind, fault.node, fault.part) for fault in faults}
    for node in NODES:
        for part in PARTS:
            assert {(Kind.KILL, node, part), (Kind.FREEZE, node, part)} & struck
    assert {fault.node for fault in faults if fault.kind is Kind.CUT} == set(LINES)
    silent = {(fault.carriers, fault.ways) for fault in faults if fault.kind is Kind.HALF_OPEN}
    assert {ways for _, ways in silent} == {tuple(Way), (Way.UP,), (Way.DOWN,)}
    assert {carriers for carriers, _ in silent} == {CARRIERS, ("grpc",), ("nats",)}
    assert {fault.node for fault in faults if fault.kind is Kind.WIPE} == {"", *NODES}
    written = {(fault.node, fault.part, fault.table) for fault in faults if fault.table}
    assert len(written) >= len(TABLES) / 2
