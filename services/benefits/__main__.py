"""python -m services.benefits: everything is made here, once, and handed down."""

import asyncio
from functools import partial
from pathlib import Path

import uvloop

from kit import server
from kit.config import explained
from kit.follower import Follower
from kit.server import Assembly, CannotServe, Parts
from kit.telemetry import setup_logging
from kit.tree import seeded
from services.benefits.config import Settings
from services.benefits.subscriber import KINDS, enrol

MIGRATIONS = Path(__file__).parent / "migrations"


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set."""
    await server.run(
        settings, stop, name="benefits", kinds=KINDS, migrations=MIGRATIONS,
        assemble=partial(assemble, settings),
    )  # fmt: skip


async def assemble(settings: Settings, parts: Parts) -> Assembly:
    """The parts of benefits."""
    await seeded(settings.organization, parts.pool)
    members = Follower(
        parts.pool, settings.node, "benefits", peer="membership", channel="records",
        stub=parts.peers["membership"], metadata=parts.metadata, carrier=parts.carrier,
        effect=enrol,
    )  # fmt: skip
    return Assembly(services=[], background=[members.run()])


async def main() -> None:
    """Serve until SIGTERM, with the settings of the environment."""
    setup_logging("benefits")
    with explained(CannotServe):
        await serve(Settings(), server.stop_on_signals())


if __name__ == "__main__":
    uvloop.run(main())
