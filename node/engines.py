"""Engines on their own, for as long as a block runs: what tests and tools need.

async with engines.postgres(folder) as dsn: …
async with engines.nats(folder) as server: await nats.connect(server.url, …)
"""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from kit.ids import uuid7
from node import databases, keys, ports
from node.nats_server import NatsServer
from node.postgres import Postgres

FOR_A_WHILE = {"fsync": "off", "full_page_writes": "off", "max_connections": "300"}


@asynccontextmanager
async def postgres(folder: Path, *, port: int = 0) -> AsyncIterator[str]:
    """A PostgreSQL server with its data in `folder`; gives the DSN of its superuser.

    It survives a kill, but no power cut: what it holds is for a while.
    """
    password = keys.password(folder / "secrets", "postgres")
    server = Postgres(folder / "postgres", port or ports.free(), password, settings=FOR_A_WHILE)
    program = await server.start()
    try:
        yield server.dsn
    finally:
        # What was written is thrown away: no checkpoint.
        await replace(program, goodbye=signal.SIGQUIT).stop()


@asynccontextmanager
async def database(dsn: str, name: str) -> AsyncIterator[str]:
    """A database with a role of its own on the server of `dsn`, dropped in the end; its DSN."""
    yield await databases.create(dsn, name, password="test")
    await databases.drop(dsn, name)


@asynccontextmanager
async def nats(folder: Path, *, port: int = 0) -> AsyncIterator[NatsServer]:
    """A NATS server with its files in `folder`; its `url` and `keys` let clients in."""
    server = NatsServer(
        folder / "nats",
        port or ports.free(),
        keys.nats_keys(folder / "secrets"),
        domain=keys.keep(folder / "node-id", lambda: str(uuid7())),
    )
    program = await server.start()
    try:
        yield server
    finally:
        await program.stop()
