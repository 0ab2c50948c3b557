"""A service for tests of what every service has: three kinds of record, one on each channel."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from kit import server
from kit.config import Settings
from kit.ids import uuid7
from kit.log import Change, Outbox
from kit.records import Kind
from kit.server import Assembly, Parts
from kit.tree import seeded
from node.databases import as_owner
from smartunion.membership.v1 import events_pb2, records_pb2


def parse(public: bytes) -> tuple[Any, ...]:
    section = records_pb2.PublicState.FromString(public)
    return UUID(bytes=section.organization), section.state


FIELDS = {"organization": "uuid", "state": "int"}
THING = Kind(name="things", table="things", fields=FIELDS, parse=parse)
CRY = Kind(name="cries", table="cries", fields=FIELDS, parse=parse, channel="urgent")
ORDER = Kind(name="orders", table="orders", fields=FIELDS, parse=parse, channel="down")
MIGRATIONS = Path(__file__).parent / "things"


class Things:
    """What the service of one node can do, without gRPC in between: write records."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.pool = parts.pool
        self.node = parts.settings.node

    async def add(self, n: int = 1, kind: Kind = THING) -> list[UUID]:
        """Write new records, in one transaction."""
        return await self.save([uuid7() for _ in range(n)], version=1, kind=kind)

    async def save(self, ids: list[UUID], *, version: int, kind: Kind = THING) -> list[UUID]:
        """Write the next state of records; returns when it is committed."""
        async with self.pool.acquire() as conn, conn.transaction():
            await self._save(conn, ids, version, kind)
        self.parts.publisher.wake.set()
        return ids

    async def _save(self, conn: Any, ids: list[UUID], version: int, kind: Kind) -> None:
        rows = await conn.fetch(
            f"SELECT id, hash FROM {kind.table} WHERE id = ANY ($1) FOR UPDATE", ids
        )
        before = {row["id"]: row["hash"] for row in rows}
        changes = [change(id_, version, before.get(id_), kind) for id_ in ids]
        await conn.executemany(
            f"""
            INSERT INTO {kind.table} VALUES ($1, $2, 1, $3, $4, $5, $6, $7)
            ON CONFLICT (id, origin) DO UPDATE
               SET version = excluded.version, hash = excluded.hash, public = excluded.public,
                   state = excluded.state
            """,
            [
                (self.node, c.id, c.version, c.hash, c.public, *parse(c.public)) for c in changes
            ],
        )  # fmt: skip
        await Outbox(conn).put(*changes)

    async def versions(self, origin: UUID, kind: Kind = THING) -> dict[UUID, int]:
        """What is readable here of another node's records."""
        rows = await self.pool.fetch(
            f"SELECT id, version FROM {kind.table} WHERE origin = $1", origin
        )
        return {row["id"]: row["version"] for row in rows}


def change(id_: UUID, version: int, before: bytes | None, kind: Kind = THING) -> Change:
    section = records_pb2.PublicState(salt=id_.bytes, organization=bytes(16), state=version % 100)
    return Change(
        kind=kind, id=id_, version=version, before=before,
        public=section.SerializeToString(deterministic=True),
        event=events_pb2.MemberAdmitted(member=f"things/{id_}"), event_time=datetime.now(UTC),
    )  # fmt: skip


async def serve(
    settings: Settings,
    stop: asyncio.Event,
    made: Callable[["Things"], None],
    kinds: tuple[Kind, ...] = (THING, CRY, ORDER),
) -> None:
    async def assemble(parts: Parts) -> Assembly:
        home = await seeded(settings.organization, parts.pool, below=False)
        made(Things(parts))
        return Assembly(home=home, services=[])

    await server.run(
        settings, stop, name="things", kinds=kinds, migrations=MIGRATIONS, assemble=assemble
    )


async def plain(url: str) -> "asyncpg.Connection[Any]":
    """A connection of a test's own, from which nothing is kept."""
    conn: asyncpg.Connection[Any] = await asyncpg.connect(as_owner(url))
    return conn
