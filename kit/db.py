"""PostgreSQL: plain .sql migrations, and transactions that yield a service's store.

The second wall: who serves owns nothing in the database, and policies of its tables show what is
personal only as far as a session reaches.  How far that is, follows from who calls (`reach`).
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
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


HERE = "(SELECT * FROM pg_database WHERE datname = current_database()) AS here"
OWNER = "pg_get_userbyid(datdba)"


PASSING_ROLES = """
    'pg_read_all_data', 'pg_write_all_data', 'pg_read_server_files', 'pg_write_server_files',
    'pg_execute_server_program'
"""
"""Roles of PostgreSQL's own that pass by what is granted."""


class WallMissing(Exception):
    """Who owns what it serves passes every wall in the database; the text says what to do."""

    def __init__(self, *, role: str, owner: str) -> None:
        super().__init__(
            f"the role {role} must not own the database or its tables, or have the rights of "
            f"{owner}, who does; it must be able to become {owner}; neither may be a superuser, "
            "pass by row-level security, or be a member of pg_read_all_data or the like: see `The "
            "roles in PostgreSQL` in deploy/README.md"
        )


def everything() -> Sequence[str]:
    """The reach of the service itself."""
    return ("",)


reach: ContextVar[Callable[[], Sequence[str]]] = ContextVar("reach", default=tuple)
"""Whose personal data is seen: the name of who calls, or what the paths of their organisations
begin with, or everything.  Asked whenever a connection is taken from a pool; by default, nothing.
The gate sets it for each call, and the server for what runs in the background."""

EVERYTHING = {"smartunion.reach": '{""}'}
"""Settings of a session that is the service's own, outside of a pool."""


@contextmanager
def reaching(names: Callable[[], Sequence[str]]) -> Iterator[None]:
    """Another reach for the connections that are taken in the block."""
    token = reach.set(names)
    try:
        yield
    finally:
        reach.reset(token)


class Session(asyncpg.Connection):
    """A connection of a pool, in whose session nothing is left when it is given back, but how far
    it reaches; that is set when it is taken, if it has to be another.

    Nothing else here sets a variable, listens or holds a cursor past its transaction, and a
    session's advisory lock is undone where it was taken.  So the statement is spared by which
    asyncpg wipes a session after each use.
    """

    _reach: Sequence[str] = ()

    def get_reset_query(self) -> str:
        return ""

    async def keep_to(self, names: Sequence[str]) -> None:
        """Reach so far and no further.  Whom this fails or is cut off for, the pool closes."""
        if names != self._reach:
            statement = "SELECT set_config('smartunion.reach', $1::text[]::text, false)"
            await self.execute(statement, names)
            self._reach = names


async def _as_who_calls(conn: Any) -> None:
    await conn.keep_to(tuple(reach.get()()))


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
    """A pool on a database that has been brought up to date with the migrations of `folders`.

    Raises:
        WallMissing: if the role of `url` may do what only the owner of the tables may.
    """
    # A pooler that mixes sessions refuses the setting, and so keeps the service from starting.
    conn = await asyncpg.connect(url, server_settings=EVERYTHING)
    try:
        await _check_role(conn)
        for folder in folders:
            await migrate(conn, folder)
    finally:
        await conn.close()
    async with asyncpg.create_pool(
        url, min_size=1, max_size=10, connection_class=Session, setup=_as_who_calls
    ) as pool:
        yield pool


async def migrate(conn: Connection, folder: Path) -> None:
    """Apply the .sql files of `folder`, in order of name and once each.

    One transaction under one advisory lock: replicas that start together apply each file once,
    and a file that fails leaves nothing behind.
    """
    async with conn.transaction():
        await as_owner(conn)
        await conn.execute("SELECT pg_advisory_xact_lock(hashtext('migrate'))")
        await conn.execute("CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY)")
        applied = {row["name"] for row in await conn.fetch("SELECT name FROM migrations")}
        for file in sorted(folder.glob("*.sql")):
            name = f"{folder.parent.name}/{file.name}"
            if name not in applied:
                if statements := file.read_text():  # asyncpg stumbles over none
                    await conn.execute(statements)
                await conn.execute("INSERT INTO migrations (name) VALUES ($1)", name)


async def as_owner(conn: Connection) -> None:
    """Until the transaction ends, the session works as the owner of the database and its tables.

    Nobody logs in as the owner; who serves may become it, and has none of its rights until then.
    """
    await conn.execute(f"SELECT set_config('role', {OWNER}, true) FROM {HERE}")


async def _check_role(conn: Connection) -> None:
    """Raises WallMissing unless who serves works with no more than what migrations grant it."""
    found: Any = await conn.fetchrow(
        f"""
        SELECT session_user, {OWNER}, pg_has_role(datdba, 'USAGE')
               OR EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace
                                                 AND pg_has_role(relowner, 'USAGE'))
               OR EXISTS (SELECT FROM pg_roles own, pg_roles passing
                           WHERE (own.oid = datdba OR own.rolname = session_user)
                             AND pg_has_role(own.oid, passing.oid, 'USAGE, SET')
                             AND (passing.rolsuper OR passing.rolbypassrls
                                  OR passing.rolreplication
                                  OR passing.rolname IN ({PASSING_ROLES}))),
               pg_has_role(datdba, 'SET')
          FROM {HERE}
        """
    )
    role, owner, free, able = found
    if free or not able:
        raise WallMissing(role=role, owner=owner)
