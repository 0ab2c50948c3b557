"""Membership, as it is, with the kind ALARM."""

import asyncio

from bench.standin import ALARM
from kit import server
from kit.db import as_owner
from kit.server import Assembly, Parts
from services.membership import __main__ as membership
from services.membership.config import Settings
from services.membership.subscriber import KINDS


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set."""

    async def assemble(parts: Parts) -> Assembly:
        async with parts.pool.acquire() as conn, conn.transaction():
            await as_owner(conn)
            await conn.execute(
                f"CREATE TABLE IF NOT EXISTS {ALARM.table} (LIKE members INCLUDING ALL)"
            )
        return await membership.assemble(settings, stop, parts)

    await server.run(
        settings, stop, name="membership", kinds=(*KINDS, ALARM),
        migrations=membership.MIGRATIONS, assemble=assemble,
    )  # fmt: skip
