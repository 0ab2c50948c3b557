"""The nodes that are measured: those of `make up`, each a process with its own engines, and what
the bench reads of them past their API."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg

from kit.organizations import organization_id
from node.databases import as_owner
from node.network import Network, Node
from node.officers import member_at
from smartunion.event.v1 import log_pb2

LATE = 120.0
"""Seconds after which what is awaited is given up."""

Conn: TypeAlias = "asyncpg.Connection[Any]"


def origin_of(node: Node) -> UUID:
    """The id of a node."""
    return UUID(node.facts["node"])


def organization_of(node: Node) -> UUID:
    """The id of the organisation that a node serves."""
    return organization_id(node.seat.code)


@asynccontextmanager
async def database(node: Node, service: str = "membership") -> AsyncIterator[Conn]:
    """A connection to the database of one of its services."""
    conn: Conn = await asyncpg.connect(as_owner(node.facts["postgres"][service]))
    try:
        yield conn
    finally:
        await conn.close()


@asynccontextmanager
async def running(folder: Path, *codes: str, **options: Any) -> AsyncIterator[Network]:
    """A network of so many nodes, the top first, each below the one before."""
    async with Network(folder, **options) as network:
        for code in codes:
            await network.start(code)
        await network.whole()
        yield network


async def until(check: Callable[[], Awaitable[bool]], *, every: float) -> float:
    """The instant at which `check` held."""
    deadline = time.perf_counter() + LATE
    while not await check():
        if time.perf_counter() > deadline:
            raise TimeoutError
        await asyncio.sleep(every)
    return time.perf_counter()


async def has(conn: Conn, table: str, record: UUID, version: int) -> bool:
    """Whether a table holds this version of a record, or a later one."""
    held = await conn.fetchval(f"SELECT version FROM {table} WHERE id = $1", record)
    return held is not None and held >= version


async def readable(
    node: Node, conn: Conn, record: UUID, version: int, *, every: float = 0.02
) -> float:
    """The instant at which GetMember at a node answers with this version of a member.

    The table is asked first, as calls that come too early would take time from the node.
    """
    await until(partial(has, conn, "members", record, version), every=every)
    member = await member_at(node, f"members/{record}")
    assert member is not None and member.version >= version
    return time.perf_counter()


async def proved(network: Network) -> None:
    """Wait until the top shows that it holds everything of every node, and that this was proved."""
    await network.top.shows(
        "COMPLETE of all nodes",
        lambda found: all(
            node.verdict == log_pb2.COMPLETE and node.lag_entries == 0 for node in found.nodes
        ),
        within=LATE,
    )
