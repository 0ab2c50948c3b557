"""python -m services.benefits: everything is made here, once, and handed down."""

import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit import server
from kit.config import CannotServe, explained
from kit.db import Database
from kit.follower import Follower
from kit.keys import NodeKeys
from kit.server import Assembly, Parts
from kit.telemetry import setup_logging
from kit.tree import seeded
from services.benefits.config import Settings
from services.benefits.servicer import BenefitsServicer, MyCardServicer, MyCouponServicer
from services.benefits.store import Reads, Store
from services.benefits.subscriber import KINDS, enrolling
from services.benefits.usecases import Means
from services.benefits.usecases.cards import Cards
from services.benefits.usecases.claims import Claims
from services.benefits.usecases.coupons import Coupons
from services.benefits.usecases.lists import Lists
from services.benefits.usecases.programmes import Programmes
from services.benefits.usecases.verification import Verification
from smartunion.benefits.v1 import benefits_pb2_grpc

MIGRATIONS = Path(__file__).parent / "migrations"


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set."""
    await server.run(
        settings, stop, name="benefits", kinds=KINDS, migrations=MIGRATIONS,
        assemble=partial(assemble, settings),
    )  # fmt: skip


async def assemble(settings: Settings, parts: Parts) -> Assembly:
    """The parts of benefits."""
    means = Means(
        database=Database(parts.pool, lambda conn: Store(conn, parts.keyring, settings.node)),
        reads=Reads(parts.pool, parts.keyring, settings.node),
        node=settings.node,
        home=await seeded(settings.organization, parts.pool),
        key=Ed25519PrivateKey.from_private_bytes(settings.secret("node.key")),
        card_valid=timedelta(days=settings.card_days),
        committed=parts.publisher.wake.set,
    )
    cards = Cards(means)
    keys = NodeKeys(parts.peers["sync"], parts.metadata)
    verification = Verification(means, keys, list_age=timedelta(days=settings.list_days))
    lists = Lists(means)
    programmes = Programmes(means, keys)
    coupons = Coupons(means, parts.keyring)
    members = Follower(
        parts.pool, settings.node, "benefits", peer="membership", channel="records",
        stub=parts.peers["membership"], metadata=parts.metadata,
        effect=enrolling(means, parts.keyring),
    )  # fmt: skip
    return Assembly(
        home=means.home,
        services=[
            (
                benefits_pb2_grpc.add_BenefitsServiceServicer_to_server,
                BenefitsServicer(cards, verification, programmes, coupons),
            ),
            (benefits_pb2_grpc.add_MyCardServiceServicer_to_server, MyCardServicer(cards)),
            (
                benefits_pb2_grpc.add_MyCouponServiceServicer_to_server,
                MyCouponServicer(programmes, Claims(means), coupons),
            ),
        ],
        background=[members.run, keys.run, lists.run],
    )


async def main() -> None:
    """Serve until SIGTERM, with the settings of the environment."""
    setup_logging("benefits")
    with explained(CannotServe):
        await serve(Settings(), server.stop_on_signals())


if __name__ == "__main__":
    uvloop.run(main())
