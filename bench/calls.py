"""Calls of a service, beside what the engine gives to the same work without us."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc

from bench import echo
from bench.figures import Figure, Target
from bench.network import organization_of, origin_of, running
from kit.audit import Act, acting
from kit.authority import Office, Role, Scope, scope
from kit.db import Database
from kit.ids import utc_now
from kit.rpc import Call
from kit.sealing import FileKeys, Keyring
from kit.tree import Organizations
from kit.wire import CHANNEL_OPTIONS
from node.databases import as_owner
from node.network import Node
from node.officers import imported, members
from node.people import HEADER, Crowd, Person
from services.membership.domain.consents import Texts
from services.membership.store import Reads, Store
from services.membership.usecases import Means
from services.membership.usecases.members import Applications
from smartunion.membership.v1 import membership_pb2 as pb

CALLERS = 16
"""Calls at once."""
SECONDS = 3.0
"""Of one run of GetMember, and of its probe."""
APPLICATIONS = 1_000
"""Approved in one run of each kind."""

Work = Callable[[Any], Awaitable[object]]


async def get_member(folder: Path, runs: int) -> list[Figure]:
    """GetMember of an own member, a second."""
    values, probes = [], []
    async with running(folder, "0") as network:
        top = network.top
        await enlist(top, Crowd(0).people(2_000, "5101"), approved=True)
        names = list(await members(top))
        keys = [UUID(name.removeprefix("members/")).bytes for name in names]

        async def get(name: str) -> object:
            return await top.membership.GetMember(pb.GetMemberRequest(name=name), **top.call)

        async with bare(top) as ask:
            for _ in range(runs):
                values.append(await rate_for(SECONDS, get, names))
                probes.append(await rate_for(SECONDS, ask, keys))
    return [
        Figure(
            name=f"GetMember, {CALLERS} callers", unit="calls/s", values=values,
            probe="bare grpc.aio and a select", probes=probes, target=Target("≥", 0.70),
        )
    ]  # fmt: skip


@asynccontextmanager
async def bare(node: Node) -> AsyncIterator[Callable[[bytes], Awaitable[object]]]:
    """A call of the bare server on the database of a node's membership."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", echo.__name__, node.facts["postgres"]["membership"],
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        address = f"127.0.0.1:{int(await process.stdout.readline())}"
        async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
            call: Any = channel.unary_unary(echo.METHOD)

            async def ask(key: bytes) -> object:
                return await call(key)

            yield ask
    finally:
        process.kill()
        await process.wait()


async def approve(folder: Path, runs: int) -> list[Figure]:
    """ApproveApplication a second: over gRPC, and as a use case, which is what the probe does."""
    over_grpc, use_case, probes = [], [], []
    async with running(folder, "0") as network, pool(network.top) as own:
        top = network.top
        applications = await _use_case(top, own)

        async def call(name: str) -> object:
            request = pb.ApproveApplicationRequest(name=name, request_id=str(uuid4()))
            return await top.membership.ApproveApplication(request, **top.second)

        async def approved(name: str) -> object:
            act = Act("officers/bench", "approve", scope.get())
            acting.set(act)
            approval = Call("officers/bench", "approve", uuid4(), bytes(32), act)
            record = UUID(name.removeprefix("applications/"))
            return await applications.approve(record, call=approval)

        crowd = Crowd(0)
        for _ in range(runs):
            await enlist(top, crowd.people(2 * APPLICATIONS, "5101"), approved=False)
            names = await _pending(top)
            over_grpc.append(await rate_of(call, names[:APPLICATIONS]))
            use_case.append(await rate_of(approved, names[APPLICATIONS:]))
            probes.append(await _inserted(own))
    probe = "the same rows in one bare transaction"
    return [
        Figure(
            name=f"approve, the use case, {CALLERS} at once", unit="a second", values=use_case,
            probe=probe, probes=probes, target=Target("≥", 0.70),
        ),
        Figure(
            name=f"approve over gRPC, {CALLERS} callers", unit="calls/s", values=over_grpc,
            probe=probe, probes=probes, target=Target("≥", 0.70),
        ),
    ]  # fmt: skip


@asynccontextmanager
async def pool(node: Node) -> AsyncIterator["asyncpg.Pool[Any]"]:
    """As many connections to the database of membership as the service itself may have."""
    dsn = node.facts["postgres"]["membership"]
    async with asyncpg.create_pool(as_owner(dsn), min_size=10, max_size=10) as own:
        yield own


async def _use_case(node: Node, own: "asyncpg.Pool[Any]") -> Applications:
    """The use case in this process, on the database of the node."""
    folder = node.log.with_name("data") / "secrets"
    keyring = await Keyring.open(own, FileKeys(folder / "data.key"))
    origin = origin_of(node)
    async with own.acquire() as conn:
        home = await Organizations(conn).get(organization_of(node))
    office = Office(
        id=origin, holder="officers/bench", role=Role.CHAIR, path=home.path, begin_time=utc_now(),
        end_time=None,
    )  # fmt: skip
    scope.set(
        Scope(
            caller=office.holder, permission="application.decide", offices=lambda: [office],
            clock=utc_now, home=home.path,
        )
    )  # fmt: skip
    return Applications(
        Means(
            database=Database(own, lambda conn: Store(conn, keyring, origin)),
            reads=Reads(own, keyring, origin), node=origin, home=home, texts=Texts(()),
        )
    )  # fmt: skip


async def _pending(node: Node) -> list[str]:
    """The names of the applications that wait at a node."""
    request = pb.ListApplicationsRequest(
        parent=f"organizations/{node.seat.code}", state=pb.Application.PENDING, page_size=1_000
    )
    names: list[str] = []
    while True:
        page = await node.membership.ListApplications(request, **node.call)
        names += [application.name for application in page.applications]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return names


async def enlist(node: Node, people: Sequence[Person], *, approved: bool) -> None:
    """Have people join by roster: approved before, or as applications that wait."""
    lines = [",".join(HEADER)]
    for person in people:
        approval = "川工〔2026〕1号,2026-03-01" if approved else ","
        lines.append(f"{person.full_name},{person.id_number},{person.phone},{approval}")
    async for found in imported(node, "\n".join(lines).encode()):
        last = found
    assert last.state == pb.Roster.DONE and last.refused_rows == 0


WRITES = {"calls": 1, "applications": 1, "submissions": 1, "people": 1, "members": 1,
          "admissions": 1, "entries": 2}  # fmt: skip
"""How many rows an approval writes; what it puts into the outbox has the columns of entries."""


async def _inserted(own: "asyncpg.Pool[Any]") -> float:
    """Transactions a second that insert the rows which an approval writes, and nothing else."""
    statements: list[str] = []
    columns: list[list[tuple[Any, ...]]] = []
    await own.execute("CREATE SCHEMA bench")
    for table, count in WRITES.items():
        await own.execute(f"CREATE TABLE bench.{table} (LIKE {table} INCLUDING ALL)")
        rows = await own.fetch(f"SELECT * FROM {table} LIMIT $1", count * APPLICATIONS)
        width = len(rows[0])
        values = ", ".join(
            "(" + ", ".join(f"${row * width + at + 1}" for at in range(width)) + ")"
            for row in range(count)
        )
        statements.append(f"INSERT INTO bench.{table} VALUES {values}")
        columns.append(
            [
                tuple(value for row in rows[at : at + count] for value in row)
                for at in range(0, len(rows), count)
            ]
        )

    async def insert(rows: Sequence[tuple[Any, ...]]) -> object:
        async with own.acquire() as conn, conn.transaction():
            for statement, row in zip(statements, rows, strict=True):
                await conn.execute(statement, *row)
        return None

    try:
        return await rate_of(insert, list(zip(*columns, strict=True)))
    finally:
        await own.execute("DROP SCHEMA bench CASCADE")


async def rate_of(work: Work, things: Sequence[Any]) -> float:
    """How many a second, each thing once, so many callers at once."""
    left = iter(things)

    async def caller() -> None:
        for thing in left:
            await work(thing)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return len(things) / (time.perf_counter() - began)


async def rate_for(seconds: float, work: Work, things: Sequence[Any]) -> float:
    """How many a second, the things again and again, for so long."""
    done, ends = 0, time.perf_counter() + seconds

    async def caller(first: int) -> None:
        nonlocal done
        at = first
        while time.perf_counter() < ends:
            await work(things[at % len(things)])
            at, done = at + CALLERS, done + 1

    await asyncio.gather(*(caller(first) for first in range(CALLERS)))
    return done / seconds
