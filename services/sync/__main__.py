"""python -m services.sync: everything is made here, once, and handed down."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit import accounts, server, wire
from kit.config import CannotServe, explained
from kit.db import PASSING
from kit.envelopes import seal_key_of
from kit.records import TRAVELLING
from kit.server import Assembly, Parts
from kit.telemetry import setup_logging
from kit.tree import seeded
from services.sync.config import Settings
from services.sync.differences import Differences, Healer
from services.sync.domain.homes import own as own_home
from services.sync.domain.nodes import Node
from services.sync.link.below import Below, Numbering
from services.sync.link.children import Children
from services.sync.link.framer import Framer
from services.sync.link.uplink import Uplink
from services.sync.link.watcher import Watcher
from services.sync.restores import Restores
from services.sync.servicer.directives import DirectiveServicer
from services.sync.servicer.network import to_node
from services.sync.servicer.sync import SyncServicer
from services.sync.subscriber import KINDS
from services.sync.usecases import Means
from services.sync.usecases.directives import Directives
from services.sync.usecases.down import Down
from services.sync.usecases.enrollments import Enrollments
from services.sync.usecases.frames import Frames
from services.sync.usecases.homes import Homes
from services.sync.usecases.keys import Keys
from services.sync.usecases.pushes import Pushes
from services.sync.usecases.streams import Streams
from services.sync.usecases.subscribers import Subscribers
from services.sync.usecases.views import Views
from services.sync.usecases.watching import Watching
from smartunion.sync.v1 import directive_pb2_grpc, sync_pb2_grpc

MIGRATIONS = Path(__file__).parent / "migrations"


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set."""
    await server.run(
        settings, stop, name="sync", kinds=KINDS, migrations=MIGRATIONS,
        assemble=partial(assemble, settings, stop),
    )  # fmt: skip


async def assemble(settings: Settings, stop: asyncio.Event, parts: Parts) -> Assembly:
    """The parts of sync."""
    key = Ed25519PrivateKey.from_private_bytes(settings.secret("node.key"))
    public_key = key.public_key().public_bytes_raw()
    own = Node(
        id=settings.node, parent=None, organization_code=settings.organization,
        display_name=settings.node_name, level=settings.level, public_key=public_key,
    )  # fmt: skip
    means = Means(
        pool=parts.pool, keyring=parts.keyring, own=own, signer=key, services=tuple(parts.peers),
        committed=parts.publisher.wake.set,
    )  # fmt: skip
    streams, frames, pushes = Streams(means), Frames(means), Pushes(means)
    keys = Keys(means, seal_key_of(settings.secret("node.key")))
    enrollments = Enrollments(
        means, keys,
        admit=lambda node, user_key: children.admit(node, user_key),
        cut=lambda node: children.cut(node),
        nats_url=settings.nats_public_url,
    )  # fmt: skip
    down = Down(means, keys, pushes)
    children = _children(settings, means, enrollments, down, parts)
    watcher = Watcher(means, parts.peers, parts.metadata)
    restores = Restores(means, streams, parts.peers, parts.metadata)
    differences = Differences(parts.peers, parts.metadata)
    healer = Healer(means, differences, parts.metadata)
    uplink = Uplink(
        means, streams, frames, keys, down, restores, differences, healer, wire=parts.wire,
        parent=settings.parent, parent_peers=settings.parent_peers or settings.parent,
        nats_url=settings.parent_nats, nats_ca=settings.parent_nats_ca,
        invitation=settings.invitation, node=to_node(own),
    )  # fmt: skip
    framers = [
        Framer(means, streams, frames, restores, peer, parts.metadata, service, channel)
        for service, peer in parts.peers.items()
        for channel in TRAVELLING
    ]  # fmt: skip

    homes = Homes(
        means, own_home(own, settings.public_address, settings.issuer), above=settings.parent
    )
    watching = Watching(means)
    directives, views = Directives(means), Views(means)
    watcher.held = views.report
    await views.take_up()
    numbering = Numbering(settings.database_url, means, watching)
    below = Below(watching, numbering, children, parts.carrier)

    def stored(services: set[str]) -> None:
        uplink.wake.set()
        numbering.wake.set()
        for service in services:
            parts.carrier.announce("frames", service, time.time_ns(), None, [])

    means.stored.append(stored)
    means.wanted = healer.ask
    return Assembly(
        home=await seeded(settings.organization, parts.pool, below=False),
        services=[
            (sync_pb2_grpc.add_SyncServiceServicer_to_server,
             SyncServicer(means, enrollments, streams, frames, keys, down, restores,
                          watcher.proofs, watcher.figures, differences, watching,
                          Subscribers(means, below), homes, views,
                          {name: parts.carrier.tail("frames", name) for name in parts.peers},
                          parts.allowances,
                          nats_url=settings.nats_public_url, stop=stop)),
            (directive_pb2_grpc.add_DirectiveServiceServicer_to_server,
             DirectiveServicer(directives)),
        ],
        background=[
            *(framer.run for framer in framers), uplink.run, watcher.run, children.run,
            healer.run, numbering.run, below.run,
            partial(once, homes.announce), partial(forever, keys.hand_down, 2.0),
            partial(forever, directives.receive, 0.5),
            partial(forever, views.refresh, 1.0),
            partial(
                free_forever, frames, timedelta(days=settings.keep_days),
                timedelta(days=settings.detach_days), parent=bool(settings.parent),
            ),
        ],
        children=wire.Children(key, enrollments.child, enrollments.child_key),
    )  # fmt: skip


def _children(
    settings: Settings, means: Means, enrollments: Enrollments, down: Down, parts: Parts
) -> Children:
    folder = settings.secrets / "nats"
    if not settings.nats_url or not (folder / "operator.seed").exists():
        return Children(means, enrollments, down, parts.carrier, parts.allowances, url="", ca="",
                        system_creds="", operator="", account="")  # fmt: skip
    account = accounts.key_from_seed((folder / "account.seed").read_text().strip())
    return Children(
        means, enrollments, down, parts.carrier, parts.allowances, url=settings.nats_url,
        ca=settings.nats_ca, account=account.public,
        system_creds=str(folder / "system.creds"),
        operator=(folder / "operator.seed").read_text().strip(),
    )  # fmt: skip


async def free_forever(frames: Frames, keep: timedelta, detach: timedelta, *, parent: bool) -> None:
    """Forget the frames that nobody needs: every minute, or sooner if less is kept."""
    while True:
        with suppress(*PASSING):
            await frames.free(keep, detach, parent=parent)
        await asyncio.sleep(min(60.0, max(1.0, keep.total_seconds())))


async def once(work: Callable[[], Awaitable[None]]) -> None:
    """Do it, again after what passes by itself, and then rest."""
    while True:
        with suppress(*PASSING):
            await work()
            await asyncio.Event().wait()
        await asyncio.sleep(1.0)


async def forever(work: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Do it again and again, with a pause between."""
    while True:
        with suppress(*PASSING):
            await work()
        await asyncio.sleep(seconds)


async def main() -> None:
    """Serve until SIGTERM, with the settings of the environment."""
    setup_logging("sync")
    with explained(CannotServe):
        await serve(Settings(), server.stop_on_signals())


if __name__ == "__main__":
    uvloop.run(main())
