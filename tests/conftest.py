"""What all tests stand on: one real PostgreSQL for the session; each test has its own databases.

POSTGRES_DSN and NATS_URL name servers that others run, instead of those that the tests start.
"""

import asyncio
import os
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import nats.errors
import pytest
import uvloop

from kit.errors import Refusal
from kit.telemetry import TextFormatter
from node import databases, engines, nats_server
from tests.roles import on

POSTGRES_DSN = os.environ.get("POSTGRES_DSN", "")
NATS_URL = os.environ.get("NATS_URL", "")
CLIENTS = 200
"""Connections that two processes of tests, with three nodes each, may come to hold."""


def pytest_sessionstart(session: pytest.Session) -> None:
    """What is logged in a test that fails is printed as a node prints it, with its facts."""
    logged: Any = session.config.pluginmanager.get_plugin("logging-plugin")
    logged.report_handler.setFormatter(TextFormatter("test"))


def pytest_configure() -> None:
    """A server of others that is of no use ends the run at once, with one line."""
    try:
        asyncio.run(_check_servers())
    except Refusal as refusal:
        raise pytest.UsageError(f"POSTGRES_DSN: {refusal}") from None
    except (OSError, nats.errors.Error) as error:
        raise pytest.UsageError(f"NATS_URL: no NATS server lets us in there ({error})") from None


async def _check_servers() -> None:
    if POSTGRES_DSN:
        host = await databases.connect(POSTGRES_DSN)
        clients = int(await host.fetchval("SHOW max_connections"))
        await host.close()
        if clients < CLIENTS:
            raise pytest.UsageError(
                f"POSTGRES_DSN: its max_connections is {clients}; set it to {CLIENTS} or more"
            )
    if NATS_URL:
        await nats_server.check(NATS_URL, "")


def pytest_asyncio_loop_factories() -> dict[str, Any]:
    """The loop that services run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[str]:
    """The DSN of a role that may create roles and databases, which end with the session."""
    async with AsyncExitStack() as stack:
        if POSTGRES_DSN:
            yield await stack.enter_async_context(guest(POSTGRES_DSN))
        else:  # a server that ends with all that it has
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="smartunion-"))
            yield await invited(await stack.enter_async_context(engines.postgres(Path(folder))))


async def invited(dsn: str) -> str:
    """A role on a server that reaches nothing of others, and beside it the one that serves what it
    owns (`tests.roles.on`)."""
    name, password = f"smartunion_test_{secrets.token_hex(8)}", secrets.token_hex(16)
    owner = name + databases.OWNER
    host = await databases.connect(dsn)
    await host.execute(
        f"""
        CREATE ROLE {owner} LOGIN CREATEDB CREATEROLE PASSWORD '{password}';
        CREATE ROLE {name} LOGIN PASSWORD '{password}';
        GRANT {owner} TO {name} WITH INHERIT FALSE, SET TRUE
        """
    )
    await host.close()
    parts = urlsplit(dsn)
    server = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{owner}:{password}@{server}"))


@asynccontextmanager
async def guest(dsn: str) -> AsyncIterator[str]:
    """The same on the server of others, where nothing is left behind."""
    own = await invited(dsn)
    owner = str(urlsplit(own).username)
    try:
        yield own
        await leave(own)
    finally:
        host = await databases.connect(dsn)
        await host.execute(f"DROP ROLE {owner}, {owner.removesuffix(databases.OWNER)}")
        await host.close()


async def leave(dsn: str) -> None:
    """Drop every database and role that the role of `dsn` has made."""
    server = await databases.connect(on(dsn, urlsplit(dsn).path[1:]))
    await server.execute(  # by nobody else; and they must be gone, not only about to
        "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
        " WHERE usename = session_user AND pid <> pg_backend_pid()"
    )
    await server.close()
    guest = await databases.connect(dsn)
    for row in await guest.fetch(
        "SELECT datname FROM pg_database WHERE pg_has_role(datdba, 'USAGE')"
    ):
        await databases.drop_database(guest, row["datname"])
    for row in await guest.fetch(
        """
        SELECT DISTINCT rolname FROM pg_auth_members JOIN pg_roles ON pg_roles.oid = roleid
         WHERE member = current_user::regrole
        """
    ):
        await guest.execute(f'DROP ROLE "{row["rolname"]}"')
    await guest.close()
