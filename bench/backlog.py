"""Catching up: what waited behind a cut line goes up, and an urgent entry passes it."""

import asyncio
import time
from functools import partial
from pathlib import Path

from bench.changes import APPLIED, Records, joined, upsert
from bench.figures import Figure, Target
from bench.hops import LIKE
from bench.network import (
    Conn,
    database,
    has,
    organization_of,
    origin_of,
    proved,
    readable,
    running,
    until,
)
from bench.standin import ALARM
from services.membership.events import MEMBERS

WAITING = 360_000
FIRST = 1.0
"""Seconds after the line heals in which the catching up is under way."""


async def catch_up(folder: Path, runs: int) -> list[Figure]:
    """Seconds from the line's healing to the last record readable; and those of an urgent one."""
    values, urgent, probes = [], [], []
    program = ("-m", "bench.standin")
    async with (
        running(folder, "0", "51", proxied=["51"], program=program) as network,
        database(network.nodes["51"]) as write,
        database(network.top) as read,
    ):
        child = network.nodes["51"]
        origin, organization = origin_of(child), organization_of(child)
        records = Records(MEMBERS, origin, organization, WAITING)
        await read.execute(LIKE)
        for _ in range(runs):
            parts = records.next()
            for line in network.lines["51"]:
                await line.cut()
            await records.write(write, parts)
            async with database(child, "sync") as sync:
                await until(partial(_framed, sync), every=0.2)
            for line in network.lines["51"]:
                await line.heal()
            began = time.perf_counter()
            await asyncio.sleep(FIRST)
            alarm = Records(ALARM, origin, organization, 1)
            cried = time.perf_counter()
            await alarm.write(write, alarm.next())
            heard = await until(partial(has, read, ALARM.table, alarm.ids[0], 1), every=0.01)
            urgent.append(heard - cried)
            values.append(
                await readable(network.top, read, records.ids[-1], records.version) - began
            )
            await proved(network)
            whole = joined(parts, APPLIED)
            began = time.perf_counter()
            await upsert(read, "bench.members", origin, whole)
            probes.append(time.perf_counter() - began)
    return [
        Figure(
            name="catch-up, 360,000 entries waiting", unit="s", values=values,
            probe="versioned upsert, one connection", probes=probes,
            target=Target("≤", 30, of="value"),
        ),
        Figure(
            name="an urgent entry meanwhile", unit="s", values=urgent,
            target=Target("≤", 2, of="value"),
        ),
    ]  # fmt: skip


async def _framed(conn: Conn) -> bool:
    """Whether all that was numbered at a node is in its frames."""
    return bool(
        await conn.fetchval(
            "SELECT number = head AND head >= $1 FROM streams"
            " WHERE via IS NULL AND service = 'membership' AND channel = 'records'",
            WAITING,
        )
    )
