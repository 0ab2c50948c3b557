"""python -m services.membership: everything is made here, once, and handed down."""

import asyncio
from functools import partial
from pathlib import Path

import uvloop

from kit import server
from kit.config import CannotServe, explained
from kit.db import Database
from kit.ids import utc_now
from kit.server import Assembly, Parts
from kit.telemetry import setup_logging
from kit.tree import seeded
from services.membership.config import Settings
from services.membership.domain.identity import beijing_date
from services.membership.servicer import IdentityServicer, MembershipServicer, MyDataServicer
from services.membership.store import Reads, Store
from services.membership.store.consents import Consents
from services.membership.subscriber import KINDS
from services.membership.usecases import Means
from services.membership.usecases.bindings import Bindings
from services.membership.usecases.imports import Importer
from services.membership.usecases.members import Applications, Members
from services.membership.usecases.officers import Officers
from services.membership.usecases.organizations import Organizations
from services.membership.usecases.privacy import MyData, Reveals, keep_texts, terms_in, texts_in
from services.membership.usecases.rosters import Progress, Rosters
from smartunion.membership.v1 import identity_pb2_grpc, membership_pb2_grpc, privacy_pb2_grpc

MIGRATIONS = Path(__file__).parent / "migrations"


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set."""
    await server.run(
        settings, stop, name="membership", kinds=KINDS, migrations=MIGRATIONS,
        assemble=partial(assemble, settings, stop),
    )  # fmt: skip


async def assemble(settings: Settings, stop: asyncio.Event, parts: Parts) -> Assembly:
    """The parts of membership."""
    texts, terms = texts_in(settings.privacy_texts), terms_in(settings.privacy_texts)
    today = beijing_date(utc_now())
    await keep_texts(texts, Consents(parts.pool), today=today)
    means = Means(
        database=Database(parts.pool, lambda conn: Store(conn, parts.keyring, settings.node)),
        reads=Reads(parts.pool, parts.keyring, settings.node),
        node=settings.node,
        home=await seeded(settings.organization, parts.pool),
        texts=texts,
        committed=parts.publisher.wake.set,
    )
    officers = Officers(means, parts.offices)
    await officers.appoint_first(settings.first_officers)
    progress = Progress(stop)
    applications, members = Applications(means), Members(means)
    servicer = MembershipServicer(
        Organizations(means), applications, members, Reveals(means), officers,
        Rosters(means, progress),
    )  # fmt: skip
    my_data = MyDataServicer(MyData(means, parts.pool))
    return Assembly(
        home=means.home,
        services=[
            (membership_pb2_grpc.add_MembershipServiceServicer_to_server, servicer),
            (
                identity_pb2_grpc.add_IdentityServiceServicer_to_server,
                IdentityServicer(applications, Bindings(means)),
            ),
            (privacy_pb2_grpc.add_MyDataServiceServicer_to_server, my_data),
        ],
        reveal=members.reveal,
        background=[Importer(means, progress, parts.pool, parts.keyring, terms).run],
    )


async def main() -> None:
    """Serve until SIGTERM, with the settings of the environment."""
    setup_logging("membership")
    with explained(CannotServe):
        await serve(Settings(), server.stop_on_signals())


if __name__ == "__main__":
    uvloop.run(main())
