"""python -m services.membership: everything is made here, once, and handed down."""

import asyncio
from functools import partial
from pathlib import Path

import uvloop

from kit import server
from kit.config import explained
from kit.db import Database, Pool
from kit.server import Assembly, CannotServe, Parts
from kit.telemetry import setup_logging
from services.membership.config import Settings
from services.membership.domain.organizations import Organization, around, organization_id, tree
from services.membership.servicer import MembershipServicer
from services.membership.store import Reads, Store
from services.membership.store.divisions import divisions, version
from services.membership.store.organizations import Organizations as OrganizationTable
from services.membership.store.organizations import is_seeded, seed
from services.membership.subscriber import KINDS
from services.membership.usecases import Means
from services.membership.usecases.imports import Importer
from services.membership.usecases.members import Applications, Members
from services.membership.usecases.organizations import Organizations
from services.membership.usecases.rosters import Progress, Rosters
from smartunion.membership.v1 import membership_pb2_grpc

MIGRATIONS = Path(__file__).parent / "migrations"


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set."""
    await server.run(
        settings, stop, name="membership", kinds=KINDS, migrations=MIGRATIONS,
        assemble=partial(assemble, settings, stop),
    )  # fmt: skip


async def assemble(settings: Settings, stop: asyncio.Event, parts: Parts) -> Assembly:
    """The parts of membership."""
    means = Means(
        database=Database(parts.pool, lambda conn: Store(conn, parts.sealer, settings.node)),
        reads=Reads(parts.pool, parts.sealer, settings.node),
        node=settings.node,
        home=await seeded(settings.organization, parts.pool),
        committed=parts.publisher.wake.set,
    )
    progress = Progress(stop)
    servicer = MembershipServicer(
        Organizations(means), Applications(means), Members(means), Rosters(means, progress)
    )
    return Assembly(
        services=[(membership_pb2_grpc.add_MembershipServiceServicer_to_server, servicer)],
        background=[Importer(means, progress, parts.pool, parts.sealer).run()],
    )


async def seeded(code: str, pool: Pool) -> Organization:
    """The organisation that the node serves, with the tree around it in the database.

    Raises:
        CannotServe: if there is no such division.
    """
    async with pool.acquire() as conn:
        if not await is_seeded(conn, version(code)):
            try:
                organizations = around(tree(divisions()), code)
            except KeyError:
                raise CannotServe(
                    f"organization = {code!r} is no division code; set 0 for the nation, or 2, 4, "
                    "6 or 9 digits, such as 5101"
                ) from None
            await seed(conn, version(code), organizations)
        return await OrganizationTable(conn).get(organization_id(code))


async def main() -> None:
    """Serve until SIGTERM, with the settings of the environment."""
    setup_logging("membership")
    with explained(CannotServe):
        await serve(Settings(), server.stop_on_signals())


if __name__ == "__main__":
    uvloop.run(main())
