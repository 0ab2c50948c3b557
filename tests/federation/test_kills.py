"""Six kills in a row during one import, on real processes: the short form of tests/faults."""

from collections.abc import AsyncIterator

import pytest

from tests.faults.runs import Run, World, world
from tests.faults.schedules import CITY, PROVINCE, Fault, Kind, Plan

VICTIMS = (
    (CITY, "postgres", ""),
    (CITY, "membership", "roster_rows"),  # killed between a roster's count and its results
    (PROVINCE, "sync", "frames"),
    (PROVINCE, "postgres", ""),
    (CITY, "sync", "frames"),  # killed between a log's cursor and its frame
    (CITY, "nats", ""),
)
PLAN = Plan(
    seed=0,
    rosters=(100,) * 10,
    singles=40,
    faults=tuple(
        Fault(Kind.KILL, at=0.05 + 0.15 * place, node=node, part=part, table=table)
        for place, (node, part, table) in enumerate(VICTIMS)
    ),
    deadline=150,
)


@pytest.fixture(scope="module")
async def network() -> AsyncIterator[World]:
    async with world() as made:
        yield made


@pytest.mark.timeout(240)
async def test_nothing_acknowledged_is_lost_when_six_processes_are_killed_during_an_import(
    network: World,
) -> None:
    run = Run(network, PLAN)
    await run.carry_out()
    if run.problems:
        pytest.fail(str(run), pytrace=False)
    assert len(network.ledger.members) == PLAN.people
