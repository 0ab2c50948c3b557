"""One database for each service, with two roles of its own that reach no other: `name` serves, and
owns nothing; `name_owner` owns the database and its tables, and logs in nowhere (kit/db.py)."""

import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from kit.db import EVERYTHING
from node import config as configs
from node.problems import DatabaseTooOld, DatabaseUnreachable, NodeDown

T = TypeVar("T")

OWNER = "_owner"
"""Behind the name of who serves: the role that owns the tables."""
OLDEST = 16
"""The first version of PostgreSQL whose grants say whether a role may be taken on."""


async def create(dsn: str, name: str, *, password: str) -> str:
    """Make the database and the role `name`, and its owner, as far as they are missing; the DSN of
    who serves there.

    `dsn` is of a role that may create both.  `password` needs no quoting in SQL or in a URL.

    Raises:
        DatabaseUnreachable: if the server cannot be reached or refuses.
        DatabaseTooOld: if it is older than `OLDEST`.
    """
    connection = await connect(dsn)
    try:
        await _create(connection, name, password)
    except asyncpg.PostgresError as error:
        raise DatabaseUnreachable(problem=_line(error)) from error
    finally:
        await connection.close()
    return _dsn_of(dsn, name, password)


def as_owner(dsn: str) -> str:
    """The DSN of a database that `create` has made, for sessions that work as its owner, from whom
    nothing is kept: for tools and tests."""
    parts = urlsplit(dsn)
    query = "&".join(filter(None, (parts.query, f"role={parts.username}{OWNER}")))
    return urlunsplit(parts._replace(query=query))


async def connect(dsn: str) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection to a server that is new enough.  Raises as `create`."""
    try:
        connection = await asyncpg.connect(dsn, timeout=10)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, TimeoutError) as e:
        raise DatabaseUnreachable(problem=_line(e)) from e
    version = connection.get_server_version().major
    if version < OLDEST:
        await connection.close()
        raise DatabaseTooOld(version=version, oldest=OLDEST)
    return connection


def of_node(config: Path) -> Mapping[str, str]:
    """The DSN of each service of a node that is up.  Raises NodeDown."""
    try:
        text = (configs.load(config).data / "endpoints.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NodeDown(config=config) from None
    found: Mapping[str, str] = json.loads(text)["postgres"]
    return found


async def each(config: Path, ask: Callable[[str, Any], Awaitable[T]]) -> dict[str, T]:
    """What each service's database answers.  Raises NodeDown."""
    found = {}
    for service, dsn in of_node(config).items():
        try:
            conn = await asyncpg.connect(dsn, server_settings=EVERYTHING)
        except OSError:  # the file was left by a node that was killed
            raise NodeDown(config=config) from None
        try:
            found[service] = await ask(service, conn)
        finally:
            await conn.close()
    return found


async def drop(dsn: str, name: str) -> None:
    """Remove the database `name` and its roles, whoever is connected."""
    connection = await asyncpg.connect(dsn)
    await drop_database(connection, name)
    await connection.execute(f'DROP ROLE IF EXISTS "{name}", "{name}{OWNER}"')
    await connection.close()


async def drop_database(connection: "asyncpg.Connection[Any]", name: str) -> None:
    """Remove the database `name`, if it is there, whoever is connected."""
    statement = f'DROP DATABASE IF EXISTS "{name}"'
    try:
        await connection.execute(f"{statement} WITH (FORCE)")
    except asyncpg.InsufficientPrivilegeError:
        # Autovacuum works in it: who is no superuser may end that by the plain statement alone,
        # and sessions, which have a user, by themselves.
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = $1 AND usename IS NOT NULL",
            name,
        )
        await connection.execute(statement)


async def _create(connection: "asyncpg.Connection[asyncpg.Record]", name: str, word: str) -> None:
    """No transaction, as CREATE DATABASE allows none; the lock keeps two nodes' starts apart."""
    await connection.execute("SELECT pg_advisory_lock(hashtext('smartunion databases'))")
    owner = name + OWNER
    for role, kind in ((owner, "NOLOGIN"), (name, "LOGIN")):
        if await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role):
            continue
        await connection.execute(f'CREATE ROLE "{role}" {kind}')
        if not await connection.fetchval(
            "SELECT rolsuper FROM pg_roles WHERE rolname = CURRENT_USER"
        ):
            # Only a member may give a database to a role, and end its sessions.
            await connection.execute(f'GRANT "{role}" TO CURRENT_USER WITH SET TRUE')
    await connection.execute(f'GRANT "{owner}" TO "{name}" WITH INHERIT FALSE, SET TRUE')
    await connection.execute(f"ALTER ROLE \"{name}\" PASSWORD '{word}'")
    if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
        await connection.execute(
            f'CREATE DATABASE "{name}" OWNER "{owner}" TEMPLATE template0 ENCODING \'UTF8\''
            " LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    await connection.execute(f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC')
    await connection.execute(f'GRANT CONNECT, TEMPORARY ON DATABASE "{name}" TO "{name}"')


def _dsn_of(dsn: str, name: str, password: str) -> str:
    """The same server, another role and database."""
    parts = urlsplit(dsn)
    server = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{name}:{password}@{server}", path=f"/{name}"))


def _line(error: BaseException) -> str:
    """The error in one line, without its details, which may hold what was asked."""
    text = str(error).partition("\n")[0]
    return text or type(error).__name__
