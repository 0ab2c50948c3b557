"""Five kills in a row during one import, on real processes: the short form of tests/faults."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.runs import Run, World, world
from tests.faults.schedules import CITY, PROVINCE, Fault, Kind, Plan

VICTIMS = (
    (CITY, "postgres"), (CITY, "membership"), (PROVINCE, "sync"), (PROVINCE, "postgres"),
    (CITY, "nats"),
)  # fmt: skip
PLAN = Plan(
    seed=0,
    rosters=(100,) * 10,
    singles=40,
    faults=tuple(
        Fault(Kind.KILL, at=0.1 + 0.15 * place, node=node, part=part)
        for place, (node, part) in enumerate(VICTIMS)
    ),
    deadline=90,
)


@pytest.fixture(scope="module")
async def network() -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(prefix="smartunion-kills-") as folder:
        async with world(Path(folder)) as made:
            yield made


async def test_nothing_acknowledged_is_lost_when_five_processes_are_killed_during_an_import(
    network: World,
) -> None:
    run = Run(network, PLAN)
    await run.carry_out()
    assert not run.problems, run.as_facts()
    assert len(network.ledger.members) == PLAN.people
