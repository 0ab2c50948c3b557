"""python -m services.notify: everything is made here, once, and handed down."""

import asyncio
from functools import partial
from pathlib import Path

import uvloop

from kit import server
from kit.config import CannotServe, explained
from kit.db import Database
from kit.follower import Follower
from kit.keys import NodeKeys
from kit.server import Assembly, Parts
from kit.telemetry import setup_logging
from kit.tree import seeded
from services.notify.config import Settings
from services.notify.servicer import MyInboxServicer, MyVoiceServicer, NotifyServicer
from services.notify.store import Reads, Store
from services.notify.store.figures import figures
from services.notify.store.voices import Keys
from services.notify.subscriber import KINDS, enrolling
from services.notify.usecases import Means
from services.notify.usecases.bell import Bell
from services.notify.usecases.counts import Counting
from services.notify.usecases.inbox import Inboxes
from services.notify.usecases.notices import Notices
from services.notify.usecases.voices import Forgetting, Voices
from smartunion.notify.v1 import notify_pb2_grpc as grpc_pb

MIGRATIONS = Path(__file__).parent / "migrations"


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set."""
    await server.run(
        settings, stop, name="notify", kinds=KINDS, migrations=MIGRATIONS,
        assemble=partial(assemble, settings, stop),
    )  # fmt: skip


async def assemble(settings: Settings, stop: asyncio.Event, parts: Parts) -> Assembly:
    """The parts of notify."""
    keys = Keys(parts.keyring, settings.secret("node.key"))
    reads = Reads(parts.pool, keys, settings.node)
    bell = Bell(reads, stop)

    def committed() -> None:
        parts.publisher.wake.set()
        bell.wake.set()

    means = Means(
        database=Database(parts.pool, lambda conn: Store(conn, keys, settings.node)),
        reads=reads,
        node=settings.node,
        home=await seeded(settings.organization, parts.pool),
        committed=committed,
    )
    members = Follower(
        parts.pool, settings.node, "notify", peer="membership", channel="records",
        stub=parts.peers["membership"], metadata=parts.metadata,
        effect=enrolling(keys, settings.node),
    )  # fmt: skip
    node_keys = NodeKeys(parts.peers["sync"], parts.metadata)
    voices = Voices(means, node_keys)
    return Assembly(
        home=means.home,
        services=[
            (grpc_pb.add_NotifyServiceServicer_to_server, NotifyServicer(Notices(means), voices)),
            (grpc_pb.add_MyVoiceServiceServicer_to_server, MyVoiceServicer(voices)),
            (grpc_pb.add_MyInboxServiceServicer_to_server, MyInboxServicer(Inboxes(means, bell))),
        ],
        background=[
            members.run,
            node_keys.run,
            bell.run,
            Counting(means).run,
            Forgetting(means).run,
        ],
        figures=partial(figures, parts.pool, settings.node),
    )


async def main() -> None:
    """Serve until SIGTERM, with the settings of the environment."""
    setup_logging("notify")
    with explained(CannotServe):
        await serve(Settings(), server.stop_on_signals())


if __name__ == "__main__":
    uvloop.run(main())
