"""Six kills in a row during one import, on real processes: the short form of tests/faults."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.runs import Run, World, world
from tests.faults.schedules import CITY, PROVINCE, Fault, Kind, Plan, Wave, Work

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
    work={CITY: Work(rosters=(100,) * 10, singles=40)},
    waves=tuple(
        Wave(
            at=0.05 + 0.15 * place,
            delay=0.0,
            faults=(Fault(kind=Kind.KILL, node=node, part=part, table=table),),
        )
        for place, (node, part, table) in enumerate(VICTIMS)
    ),
)


@pytest.fixture(scope="module")
async def network() -> AsyncIterator[World]:
    async with world() as made:
        yield made


@pytest.mark.timeout(240)
async def test_nothing_acknowledged_is_lost_when_six_processes_are_killed_during_an_import(
    network: World, tmp_path: Path
) -> None:
    with open(tmp_path / "history.jsonl", "w", buffering=1, encoding="utf-8") as file:
        run = Run(network, PLAN, file)
        await run.carry_out()
    if run.problems:
        pytest.fail(str(run), pytrace=False)
