"""Notify on a database of its own, without NATS and without neighbours."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from uuid import uuid4

import asyncpg
import grpc
import pytest

from kit.db import connect
from kit.ids import uuid7
from kit.server import KIT_MIGRATIONS
from kit.tree import seeded
from kit.wire import CHANNEL_OPTIONS
from node import ports
from node.databases import as_owner
from node.issuer import DevelopmentIssuer
from services.notify import __main__ as service
from services.notify.config import Settings
from tests.eventually import eventually
from tests.offices import open_at
from tests.roles import on
from tests.service.notify.counter import OFFICER, Counter

NUMBERS = count(1)


@pytest.fixture(scope="session")
async def notify_template(postgres: str) -> str:
    """The name of a database with all tables and the organisations around Sichuan."""
    conn = await asyncpg.connect(postgres)
    name = f"notify_{uuid4().hex}"
    await conn.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    await conn.close()
    async with connect(on(postgres, name), KIT_MIGRATIONS, service.MIGRATIONS) as pool:
        await seeded("51", pool)
    return name


async def make_settings(postgres: str, template: str, folder: Path) -> Settings:
    """The settings of a service on a fresh database, which ends with the server."""
    conn = await asyncpg.connect(postgres)
    name = f"notify_{uuid4().hex}"
    await conn.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    await conn.close()
    for key in ("data.key", "token.key", "node.key", "person.key"):
        (folder / key).write_text(secrets.token_hex(32))
    peers = {name: f"127.0.0.1:{ports.free()}" for name in ("sync", "membership")}
    node, url = uuid7(), on(postgres, name)
    await open_at(url, node, OFFICER, "51")
    return Settings(
        **DevelopmentIssuer(folder, node).settings,
        database_url=url, listen=f"127.0.0.1:{ports.free()}",
        profile="development", node=node, node_name="四川", organization="51",
        level="province", secrets=folder, peers=peers,
    )  # fmt: skip


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[asyncio.Event]:
    """The service in a task of this process, and the event that stops it."""
    stop = asyncio.Event()
    task = asyncio.create_task(service.serve(settings, stop))
    try:
        async with calling(settings) as counter:

            async def answers() -> None:
                if not task.done():
                    await counter.refusal_of_stranger()

            await eventually(answers)
        yield stop
    finally:
        stop.set()
        await task


@asynccontextmanager
async def calling(settings: Settings) -> AsyncIterator[Counter]:
    """A counter with a county of its own; whether somebody serves is another matter."""
    async with (
        grpc.aio.insecure_channel(settings.listen, options=CHANNEL_OPTIONS) as channel,
        asyncpg.create_pool(as_owner(settings.database_url), min_size=1, max_size=2) as pool,
    ):
        streets = await pool.fetch(
            """
            SELECT code FROM organizations
             WHERE left(code, 6) = (SELECT left(code, 6) FROM organizations WHERE level = 5
                                     GROUP BY left(code, 6) HAVING count(*) > 1
                                     ORDER BY left(code, 6) OFFSET $1 LIMIT 1)
               AND level = 5 ORDER BY code LIMIT 2
            """,
            next(NUMBERS),
        )
        yield Counter(settings, channel, pool, *(row["code"] for row in streets))


@pytest.fixture(scope="session")
async def shared_notify(
    postgres: str, notify_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Settings]:
    """The service that most tests share."""
    folder = tmp_path_factory.mktemp("notify")
    settings = await make_settings(postgres, notify_template, folder)
    async with serving(settings):
        yield settings


@pytest.fixture
async def notify(shared_notify: Settings) -> AsyncIterator[Counter]:
    """The service, as one test sees it: its county is no other test's."""
    async with calling(shared_notify) as counter:
        yield counter
