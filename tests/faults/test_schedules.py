"""make faults SEEDS=20 runs the seeds 0 to 19; with SEED=7 in the environment, that one alone.

Each run leaves build/faults/seed-N.json.  The runs share a network until one of them fails: then
its folder is kept, with the logs and databases of all nodes, and the next run begins with another.
"""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.faults.runs import RESULTS, Run, World, world
from tests.faults.schedules import AIMED, Kind, plan

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
    run = Run(await worlds.get(), plan(seed))
    await run.carry_out()
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"seed-{seed}.json").write_text(str(run))
    if run.problems:
        await worlds.end()
        pytest.fail(str(run), pytrace=False)


def test_eighteen_seeds_begin_with_every_fault_and_a_seed_always_gives_the_same() -> None:
    first = [plan(seed).faults[0] for seed in range(18)]
    assert {fault.kind for fault in first} == set(Kind)
    killed = {(fault.node, fault.part, fault.table) for fault in first if fault.kind is Kind.KILL}
    assert len(killed) == 8 + len(AIMED)
    assert [plan(seed) for seed in range(20)] == [plan(seed) for seed in range(20)]
    for seed in range(20):
        assert all(0 < fault.at < 0.99 for fault in plan(seed).faults)
        assert sum(plan(seed).rosters) == (10_000 if seed % 5 == 4 else 1_500)
