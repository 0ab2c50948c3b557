"""The way up: members changed at one node and readable at another, all at once and one by one."""

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

from bench.changes import APPLIED, Part, Records, joined, upsert
from bench.figures import Figure, Target
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
from bench.replication import cascade
from node.network import Network, Node
from node.people import Crowd
from services.membership.events import MEMBERS
from smartunion.membership.v1 import membership_pb2 as pb

MEMBERS_CHANGED = 100_000
SAMPLES = 40
"""Changes of which each is awaited before the next, a run."""
LIKE = "CREATE SCHEMA IF NOT EXISTS bench; CREATE TABLE bench.members (LIKE members INCLUDING ALL)"


class Way:
    """From an origin to a node above: records to change, and connections to look."""

    def __init__(self, network: Network, origin: Node, write: Conn, read: Conn) -> None:
        self.network, self.origin, self.top = network, origin, network.top
        self._write, self.read = write, read
        self.records = Records(MEMBERS, origin_of(origin), organization_of(origin), MEMBERS_CHANGED)

    async def carry(self) -> float:
        """Records a second, from the first change to the last one readable; then it is proved."""
        self.parts = parts = self.records.next()
        began = time.perf_counter()
        writing = asyncio.create_task(self.records.write(self._write, parts))
        ended = await readable(self.top, self.read, self.records.ids[-1], self.records.version)
        await writing
        await proved(self.network)
        held = await self.read.fetchval(
            "SELECT count(*) FROM members WHERE origin = $1 AND version = $2",
            self.records.origin, self.records.version,
        )  # fmt: skip
        assert held == MEMBERS_CHANGED
        return MEMBERS_CHANGED / (ended - began)


@asynccontextmanager
async def way(folder: Path, *codes: str) -> AsyncIterator[Way]:
    """From the last of these nodes up to the first."""
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(running(folder, *codes))
        origin = network.nodes[codes[-1]]
        write = await stack.enter_async_context(database(origin))
        read = await stack.enter_async_context(database(network.top))
        found = Way(network, origin, write, read)
        await found.carry()  # from here on they are changed, not new
        yield found


async def one_hop(folder: Path, runs: int) -> list[Figure]:
    """Bulk, from a province to the nation, beside the bare versioned upsert."""
    values, probes = [], []
    async with way(folder, "0", "51") as up:
        await up.read.execute(LIKE)
        await upsert(up.read, "bench.members", up.records.origin, up.parts)
        for _ in range(runs):
            values.append(await up.carry())
            whole = joined(up.parts, APPLIED)
            began = time.perf_counter()
            await upsert(up.read, "bench.members", up.records.origin, whole)
            probes.append(MEMBERS_CHANGED / (time.perf_counter() - began))
    return [
        Figure(
            name="one hop, 100,000 members changed", unit="members/s", values=values,
            probe="versioned upsert, one connection", probes=probes, target=Target("≥", 0.80),
        )
    ]  # fmt: skip


async def two_hops(folder: Path, runs: int) -> list[Figure]:
    """Bulk and idle, from a city to the nation, beside logical replication."""
    values, probes = [], []
    idle, idle_probes = [], []
    async with way(folder, "0", "51", "5101") as up, cascade(folder / "replication") as conns:
        await replicate(conns, up.records.origin, up.parts, up.records.version)
        for _ in range(runs):
            values.append(await up.carry())
            probes.append(await replicate(conns, up.records.origin, up.parts, up.records.version))
            idle.append(await one_by_one(up))
            idle_probes.append(await replicate_one_by_one(conns, up.records))
    median = statistics.median
    return [
        Figure(
            name="two hops, 100,000 members changed", unit="members/s", values=values,
            probe="logical replication, cascaded", probes=probes, target=Target("≥", 0.70),
        ),
        Figure(
            name="two hops, idle, p50", unit="ms", values=[median(run) for run in idle],
            probe="logical replication, cascaded", probes=[median(run) for run in idle_probes],
            target=Target("≤", 0.25),
        ),
        Figure(
            name="two hops, idle, p99", unit="ms", values=[p99(run) for run in idle],
            probe="logical replication, cascaded", probes=[p99(run) for run in idle_probes],
            target=Target("≤", 2_000, of="value"),
        ),
    ]  # fmt: skip


def p99(values: Sequence[float]) -> float:
    """The value that 99 of 100 do not exceed."""
    return sorted(values)[int(0.99 * (len(values) - 1))]


async def replicate(
    conns: Sequence[Conn], origin: UUID, parts: Sequence[Part], version: int
) -> float:
    """Records a second over the two hops of logical replication."""
    first, last = conns[0], conns[-1]

    async def write() -> None:
        for part in parts:
            async with first.transaction():
                await upsert(first, "members", origin, [part])

    began = time.perf_counter()
    writing = asyncio.create_task(write())
    record = parts[-1].ids[-1]
    ended = await until(partial(has, last, "members", record, version), every=0.02)
    await writing
    return MEMBERS_CHANGED / (ended - began)


async def one_by_one(up: Way) -> list[float]:
    """Milliseconds from the call that makes an application to its row at the top, each."""
    crowd, found = Crowd(random.randrange(2**32)), []
    for person in crowd.people(SAMPLES, "5101"):
        await asyncio.sleep(random.uniform(0.05, 0.15))
        application = pb.Application(
            person=pb.Person(
                full_name=person.full_name, id_number=person.id_number, phone=person.phone
            )
        )
        request = pb.CreateApplicationRequest(
            parent=f"organizations/{up.origin.seat.code}", application=application,
            request_id=str(uuid4()),
        )  # fmt: skip
        began = time.perf_counter()
        made = await up.origin.membership.CreateApplication(request, **up.origin.call)
        record = UUID(made.name.removeprefix("applications/"))
        ended = await _arrived(up.read, "applications", record, 1)
        found.append(1_000 * (ended - began))
    return found


async def replicate_one_by_one(conns: Sequence[Conn], records: Records) -> list[float]:
    """Milliseconds from an upsert to its row at the top, each."""
    found = []
    parts = [records.next(1) for records in [_single(records) for _ in range(SAMPLES)]]
    for part in parts:
        await asyncio.sleep(random.uniform(0.05, 0.15))
        began = time.perf_counter()
        await upsert(conns[0], "members", records.origin, part)
        ended = await _arrived(conns[-1], "members", part[0].ids[0], 1)
        found.append(1_000 * (ended - began))
    return found


def _single(records: Records) -> Records:
    return Records(MEMBERS, records.origin, records.origin, 1)


async def _arrived(conn: Conn, table: str, record: UUID, version: int) -> float:
    return await until(partial(has, conn, table, record, version), every=0.001)
