"""Six kills in a row during one import, on real processes: the short form of tests/faults."""

import io
from collections.abc import AsyncIterator

import pytest

from tests.faults.runs import Run, World, world
from tests.faults.schedules import CITY, PROVINCE, SIBLING, Fault, Kind, Plan, Wave, Work

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
    work={CITY: Work(rosters=(100,) * 10, singles=40), SIBLING: Work(rosters=(10,), singles=4)},
    waves=tuple(
        Wave(
            at=0.05 + 0.14 * place,  # the last before the last roster may begin: 0.75 + AHEAD
            delay=0.0,
            faults=(Fault(kind=Kind.KILL, node=node, part=part, table=table),),
        )
        for place, (node, part, table) in enumerate(VICTIMS)
    ),
)


@pytest.fixture(scope="module")
async def network() -> AsyncIterator[World]:
    async with world(separate=(CITY, PROVINCE)) as made:
        yield made


@pytest.mark.timeout(480)
async def test_nothing_acknowledged_is_lost_when_six_processes_are_killed_during_an_import(
    network: World,
) -> None:
    run = Run(network, PLAN, io.StringIO())
    await run.carry_out()
    if run.problems:
        pytest.fail(str(run), pytrace=False)
    assert network.ledger.admitted == {CITY: 1_031, SIBLING: 14}
