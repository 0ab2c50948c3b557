"""PostgreSQL: plain .sql migrations, and transactions that yield a service's store."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
from asyncpg.pgproto import pgproto
from asyncpg.pool import PoolConnectionProxy

from kit import audit

Connection: TypeAlias = "asyncpg.Connection[Any] | PoolConnectionProxy[Any]"
Pool: TypeAlias = "asyncpg.Pool[Any]"
S = TypeVar("S")

to_uuid: Callable[[bytes], UUID] = pgproto.UUID
"""The UUID of 16 bytes, as asyncpg makes them: seven times as fast as the library's own.

Raises:
    ValueError: if they are not 16.
"""

PASSING = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # A server that dies says so; asked before its end is read.
    asyncpg.PostgresConnectionError,
    asyncpg.TransactionRollbackError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
)
"""Failures that say nothing about what was asked: the same may succeed a moment later."""


class Session(asyncpg.Connection):
    """A connection of a pool, in whose session nothing is left when it is given back.

    Nothing here sets a variable, listens or holds a cursor past its transaction, and a session's
    advisory lock is undone where it was taken.  So the statement is spared by which asyncpg wipes
    a session after each use.
    """

    def get_reset_query(self) -> str:
        return ""


class Database(Generic[S]):
    """Opens transactions; each yields a fresh store on one connection."""

    def __init__(self, pool: Pool, store: Callable[[Connection], S]) -> None:
        self._pool = pool
        self._store = store

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[S]:
        """All or nothing: commits at the end of the block, undoes it on any exception.

        In a call of a person, what was changed leaves its row in the audit trail.
        """
        act = audit.acting.get(None)
        async with self._pool.acquire() as conn:
            async with conn.transaction():
                yield self._store(conn)
                recorded = await audit.record(conn, act) if act else None
            if act:
                act.recorded = recorded


@asynccontextmanager
async def connect(url: str, *folders: Path) -> AsyncIterator[Pool]:
    """A pool on a database that has been brought up to date with the migrations of `folders`."""
    conn = await asyncpg.connect(url)
    try:
        for folder in folders:
            await migrate(conn, folder)
    finally:
        await conn.close()
    async with asyncpg.create_pool(url, min_size=1, max_size=10, connection_class=Session) as pool:
        yield pool


async def migrate(conn: Connection, folder: Path) -> None:
    """Apply the .sql files of `folder`, in order of name and once each.

    One transaction under one advisory lock: replicas that start together apply each file once,
    and a file that fails leaves nothing behind.
    """
    async with conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock(hashtext('migrate'))")
        await conn.execute("CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY)")
        applied = {row["name"] for row in await conn.fetch("SELECT name FROM migrations")}
        for file in sorted(folder.glob("*.sql")):
            name = f"{folder.parent.name}/{file.name}"
            if name not in applied:
                if statements := file.read_text():  # asyncpg stumbles over none
                    await conn.execute(statements)
                await conn.execute("INSERT INTO migrations (name) VALUES ($1)", name)
