"""A service learns what another of its node has committed: each record, whatever happens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc
import pytest

from kit.db import Connection, connect
from kit.follower import Follower
from kit.server import KIT_MIGRATIONS
from smartunion.event.v1 import log_pb2
from tests.eventually import eventually
from tests.roles import on
from tests.service.desk import Desk


class Reader:
    """Keeps which members it was told of, and stumbles over some."""

    def __init__(self, desk: Desk, pool: Any, peer: grpc.aio.Channel) -> None:
        self.pool, self.bad = pool, set[UUID]()
        self.follower = Follower(
            pool, desk.settings.node, "reader", peer="membership", channel="records", stub=peer,
            metadata=desk.as_officer("services/reader"),
            effect=self._effect,
        )  # fmt: skip

    async def _effect(self, conn: Connection, entries: Sequence[log_pb2.Entry]) -> None:
        for entry in entries:
            if UUID(bytes=entry.id) in self.bad:
                raise RuntimeError("stumbled")
            if entry.kind == "members":
                await conn.execute(
                    "INSERT INTO roll VALUES ($1, $2, $1, true) ON CONFLICT DO NOTHING",
                    UUID(bytes=entry.id), entry.version,
                )  # fmt: skip

    async def read(self) -> set[str]:
        """The members it knows once it has read all there is."""
        await self.follower._redrive()
        while await self.follower._step():
            pass
        return {f"members/{row['id']}" for row in await self.pool.fetch("SELECT id FROM roll")}

    async def parked(self) -> int:
        return int(await self.pool.fetchval("SELECT count(*) FROM parked"))


@pytest.fixture
async def reader(alone: Desk, postgres: str, tmp_path: Path) -> Any:
    conn = await asyncpg.connect(postgres)
    name = f"reader_{uuid4().hex}"
    await conn.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    await conn.close()
    async with (
        connect(on(postgres, name), KIT_MIGRATIONS) as pool,
        grpc.aio.insecure_channel(alone.settings.listen) as peer,
    ):
        yield Reader(alone, pool, peer)


async def admitted(desk: Desk, numbers: range) -> set[str]:
    """People who are members, and whose entries have numbers."""
    found = [(await desk.approve(await desk.apply(number))).member for number in numbers]

    async def numbered() -> None:
        assert not await desk.pool.fetchval("SELECT EXISTS (SELECT FROM outbox)")

    await eventually(numbered)
    return set(found)


async def test_a_follower_knows_every_member_though_the_log_was_trimmed_meanwhile(
    alone: Desk, reader: Reader
) -> None:
    first = await admitted(alone, range(3))
    assert await reader.read() == first
    second = await admitted(alone, range(3, 6))
    await alone.pool.execute("DELETE FROM entries")  # freed, as if it had stayed away for long
    assert await reader.read() == first | second
    third = await admitted(alone, range(6, 7))
    assert await reader.read() == first | second | third


async def test_what_a_follower_stumbles_over_is_kept_aside_and_blocks_nobody(
    alone: Desk, reader: Reader
) -> None:
    members = await admitted(alone, range(4))
    bad = set(sorted(members)[:2])
    reader.bad = {UUID(member.removeprefix("members/")) for member in bad}
    assert await reader.read() == members - bad
    assert await reader.parked() == 2
    reader.bad = set()  # a later version of the software
    assert await reader.read() == members
    assert await reader.parked() == 0
