"""One service alone: membership on a database of its own, without NATS and without neighbours."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kit.db import connect
from kit.ids import uuid7
from kit.server import KIT_MIGRATIONS
from node import ports
from services.membership import __main__ as service
from services.membership.config import Settings
from smartunion.membership.v1.membership_pb2_grpc import MembershipServiceStub
from tests.eventually import eventually
from tests.service.desk import Desk

NUMBERS = count(1)


def on(dsn: str, database: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


@pytest.fixture(scope="session")
async def template(postgres: str) -> str:
    """The name of a database with all tables and the organisations around Sichuan."""
    conn = await asyncpg.connect(postgres)
    await conn.execute("CREATE DATABASE membership_template TEMPLATE template0")
    await conn.close()
    url = on(postgres, "membership_template")
    async with connect(url, KIT_MIGRATIONS, service.MIGRATIONS) as pool:
        await service.seeded("51", pool)
    return "membership_template"


@pytest.fixture
async def database(postgres: str, template: str) -> AsyncIterator[str]:
    """The DSN of a fresh copy of the template."""
    conn = await asyncpg.connect(postgres)
    name = f"membership_{next(NUMBERS)}"
    await conn.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    yield on(postgres, name)
    await conn.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await conn.close()


@pytest.fixture
def settings(database: str, tmp_path: Path) -> Settings:
    for name in ("data.key", "token.key", "node.key"):
        (tmp_path / name).write_text(secrets.token_hex(32))
    return Settings(
        database_url=database, listen=f"127.0.0.1:{ports.free()}", profile="development",
        node=uuid7(), node_name="四川", organization="51", level="province", secrets=tmp_path,
        peers={"sync": f"127.0.0.1:{ports.free()}"},
    )  # fmt: skip


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[None]:
    """The service in a task of this process."""
    stop = asyncio.Event()
    task = asyncio.create_task(service.serve(settings, stop))
    try:
        async with grpc.aio.insecure_channel(settings.listen) as channel:
            health = health_pb2_grpc.HealthStub(channel)

            async def healthy() -> None:
                if not task.done():
                    await health.Check(health_pb2.HealthCheckRequest())

            await eventually(healthy)
        yield
    finally:
        stop.set()
        await task


@pytest.fixture
async def desk(settings: Settings, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Desk]:
    """How to call the service; nobody serves yet."""
    async with (
        grpc.aio.insecure_channel(settings.listen) as channel,
        asyncpg.create_pool(settings.database_url, min_size=1, max_size=2) as pool,
    ):
        yield Desk(settings, MembershipServiceStub(channel), pool, caplog)


@pytest.fixture
async def membership(desk: Desk) -> AsyncIterator[Desk]:
    """The service, running."""
    async with serving(desk.settings):
        yield desk
