"""One service alone: membership on a database of its own, without NATS and without neighbours."""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kit.db import connect
from kit.ids import uuid7
from kit.server import KIT_MIGRATIONS
from kit.tree import seeded
from kit.wire import CHANNEL_OPTIONS
from node import ports
from node.databases import as_owner
from node.issuer import DevelopmentIssuer
from services.membership import __main__ as service
from services.membership.config import Settings
from smartunion.membership.v1.membership_pb2_grpc import MembershipServiceStub
from tests.eventually import eventually
from tests.roles import on
from tests.service.desk import OFFICER, Desk

NUMBERS: defaultdict[str, "count[int]"] = defaultdict(count)
"""For each database: the numbers of the desks that have not been opened at it yet."""


@pytest.fixture(scope="session")
async def template(postgres: str) -> str:
    """The name of a database with all tables and the organisations around Sichuan."""
    conn = await asyncpg.connect(postgres)
    name = f"membership_{uuid4().hex}"
    await conn.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    await conn.close()
    url = on(postgres, name)
    async with connect(url, KIT_MIGRATIONS, service.MIGRATIONS) as pool:
        await seeded("51", pool)
    return name


async def make_settings(postgres: str, template: str, folder: Path) -> Settings:
    """The settings of a service on a fresh database, which ends with the server."""
    conn = await asyncpg.connect(postgres)
    name = f"membership_{uuid4().hex}"
    await conn.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    await conn.close()
    for key in ("data.key", "token.key", "node.key", "person.key"):
        (folder / key).write_text(secrets.token_hex(32))
    node = uuid7()
    return Settings(
        **DevelopmentIssuer(folder, node).settings,
        database_url=on(postgres, name), listen=f"127.0.0.1:{ports.free()}",
        profile="development", node=node, node_name="四川", organization="51",
        level="province", secrets=folder, peers={"sync": f"127.0.0.1:{ports.free()}"},
        first_officer=OFFICER.removeprefix("officers/"),
    )  # fmt: skip


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[None]:
    """The service in a task of this process."""
    stop = asyncio.Event()
    task = asyncio.create_task(service.serve(settings, stop))
    try:
        async with grpc.aio.insecure_channel(settings.listen, options=CHANNEL_OPTIONS) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)

            async def healthy() -> None:
                if not task.done():
                    await health.Check(health_pb2.HealthCheckRequest())

            await eventually(healthy)
        yield
    finally:
        stop.set()
        await task


@asynccontextmanager
async def calling(settings: Settings) -> AsyncIterator[Desk]:
    """A desk with people and a county of its own; whether somebody serves is another matter."""
    number = next(NUMBERS[settings.database_url])
    async with (
        grpc.aio.insecure_channel(settings.listen, options=CHANNEL_OPTIONS) as channel,
        asyncpg.create_pool(as_owner(settings.database_url), min_size=1, max_size=2) as pool,
    ):
        street = await pool.fetchval(
            """
            SELECT max(code) FROM organizations WHERE level = 5
             GROUP BY left(code, 6) ORDER BY left(code, 6) OFFSET $1 LIMIT 1
            """,
            number,
        )
        assert street, "more desks than Sichuan has counties: share the service among fewer tests"
        stub = MembershipServiceStub(channel)
        yield Desk(settings, stub, pool, street, (number + 1) * 20_000, channel)


@pytest.fixture(scope="module")
async def shared(
    postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Settings]:
    """The service that most tests of a module share."""
    settings = await make_settings(postgres, template, tmp_path_factory.mktemp("membership"))
    async with serving(settings):
        yield settings


@pytest.fixture
async def membership(shared: Settings) -> AsyncIterator[Desk]:
    """The service, as one test sees it: its people and its county are no other test's."""
    async with calling(shared) as desk:
        yield desk


@pytest.fixture
async def unserved(postgres: str, template: str, tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk at a service of its own, which the test itself starts."""
    async with calling(await make_settings(postgres, template, tmp_path)) as desk:
        yield desk


@pytest.fixture
async def alone(unserved: Desk) -> AsyncIterator[Desk]:
    """The service on a database of its own."""
    async with serving(unserved.settings):
        yield unserved
