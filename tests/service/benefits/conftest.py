"""One service alone: benefits on a database of its own, without NATS and without neighbours."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
from kit.wire import CHANNEL_OPTIONS
from node import ports
from node.databases import as_owner
from node.issuer import DevelopmentIssuer
from services.benefits import __main__ as service
from services.benefits.config import Settings
from tests.eventually import eventually
from tests.offices import open_at
from tests.roles import on
from tests.service.benefits.counter import OFFICER, Counter


@pytest.fixture(scope="session")
async def benefits_template(postgres: str, template: str) -> str:
    """The name of a database with all tables, and with the organisations that another holds."""
    name = await fresh(postgres, template)
    async with connect(on(postgres, name), KIT_MIGRATIONS, service.MIGRATIONS):
        return name


async def fresh(postgres: str, template: str) -> str:
    """The name of a new database."""
    conn = await asyncpg.connect(postgres)
    name = f"benefits_{uuid4().hex}"
    await conn.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    await conn.close()
    return name


async def make_settings(postgres: str, template: str, folder: Path) -> Settings:
    """The settings of a service on a fresh database, which ends with the server."""
    for key in ("data.key", "token.key", "node.key", "person.key"):
        (folder / key).write_text(secrets.token_hex(32))
    nobody = f"127.0.0.1:{ports.free()}"
    node, url = uuid7(), on(postgres, await fresh(postgres, template))
    await open_at(url, node, OFFICER, "51")
    return Settings(
        **DevelopmentIssuer(folder, node).settings,
        database_url=url, listen=f"127.0.0.1:{ports.free()}", profile="development", node=node,
        node_name="四川", organization="51", level="province", secrets=folder,
        peers={"sync": nobody, "membership": nobody},
    )  # fmt: skip


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[None]:
    """The service in a task of this process."""
    stop = asyncio.Event()
    task = asyncio.create_task(service.serve(settings, stop))
    try:
        await healthy(settings, task)
        yield
    finally:
        stop.set()
        await task


async def healthy(settings: Settings, task: "asyncio.Future[Any] | None" = None) -> None:
    """When the service answers, or has ended."""
    async with grpc.aio.insecure_channel(settings.listen, options=CHANNEL_OPTIONS) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)

        async def check() -> None:
            if task is None or not task.done():
                await health.Check(health_pb2.HealthCheckRequest())

        await eventually(check)


@asynccontextmanager
async def calling(settings: Settings) -> AsyncIterator[Counter]:
    """A counter at a service, whether somebody serves or not."""
    async with (
        grpc.aio.insecure_channel(settings.listen, options=CHANNEL_OPTIONS) as channel,
        asyncpg.create_pool(as_owner(settings.database_url), min_size=1, max_size=2) as pool,
    ):
        yield await Counter.open(settings, channel, pool)


@pytest.fixture(scope="session")
async def shared_benefits(
    postgres: str, benefits_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Settings]:
    """The service that most tests share."""
    folder = tmp_path_factory.mktemp("benefits")
    settings = await make_settings(postgres, benefits_template, folder)
    async with serving(settings):
        yield settings


@pytest.fixture
async def counter(shared_benefits: Settings) -> AsyncIterator[Counter]:
    """The service, as one test sees it: its members are no other test's."""
    async with calling(shared_benefits) as counter:
        yield counter
