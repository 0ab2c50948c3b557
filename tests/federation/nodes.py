"""Nodes for tests: real services on real PostgreSQL, gRPC and NATS, in the process of the test."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit import config
from kit.config import CannotServe
from kit.ids import uuid7
from kit.sealing import FileKeys, Keyring
from kit.wire import CHANNEL_OPTIONS
from node import databases, ports
from node.databases import as_owner
from node.issuer import DevelopmentIssuer
from services.benefits import __main__ as benefits
from services.benefits.config import Settings as BenefitsSettings
from services.membership import __main__ as membership
from services.membership.config import Settings as MembershipSettings
from services.notify import __main__ as notify
from services.notify.config import Settings as NotifySettings
from services.sync import __main__ as sync
from services.sync.config import Settings as SyncSettings
from smartunion.event.v1 import log_pb2, log_pb2_grpc
from smartunion.sync.v1 import sync_pb2, sync_pb2_grpc
from tests.callers import calling_as
from tests.eventually import eventually
from tests.federation.things import CRY, ORDER, THING, Things, plain
from tests.federation.things import serve as serve_things
from tests.offices import open_at

__all__ = ["Node", "confirm", "join", "make", "plain", "start_tree"]

OFFICER = "officers/li-na"
NOBODY = "127.0.0.1:9"
REAL: dict[str, tuple[Any, type[config.Settings]]] = {
    "benefits": (benefits, BenefitsSettings),
    "membership": (membership, MembershipSettings),
    "notify": (notify, NotifySettings),
}
"""The services that may stand beside sync, instead of `things`."""


@dataclass
class Node:
    """One node: its settings, and what runs of it."""

    id: UUID
    code: str
    level: str
    folder: Path
    databases: dict[str, str]
    addresses: dict[str, str]
    nats: str = ""
    creds: str = ""
    parent: str = ""
    parent_peers: str = ""
    parent_nats: str = ""
    invitation: str = ""
    through: str = ""
    """Where it reaches its parent, if not at the parent's own address."""
    public_address: str = ""
    """Where it tells clients to come."""
    running: dict[str, tuple[asyncio.Event, "asyncio.Task[None]"]] = field(default_factory=dict)
    things: Things = None  # type: ignore[assignment]
    kinds: tuple[Any, ...] = (THING, CRY, ORDER)
    services: tuple[str, ...] = ("things",)
    """Beside sync: `things`, or some of REAL."""

    def settings(self, service: str) -> dict[str, Any]:
        return {
            "database_url": self.databases[service], "listen": self.addresses[service],
            "nats_url": self.nats, "nats_creds": self.creds, "profile": "development",
            "node": self.id, "node_name": self.code, "organization": self.code,
            "level": self.level, "secrets": self.folder / "secrets", "peers": self.addresses,
            **DevelopmentIssuer(self.folder / "secrets", self.id).settings,
        }  # fmt: skip

    async def start(self, *names: str) -> None:
        for name in names or (*self.services, "sync"):
            stop = asyncio.Event()
            task = asyncio.create_task(kept(self._serve(name, stop)))
            self.running[name] = (stop, task)
            while name == "things" and self.things is None:
                if task.done():
                    task.result()
                await asyncio.sleep(0.01)

    def _serve(self, name: str, stop: asyncio.Event) -> Callable[[], Awaitable[None]]:
        if name == "sync":
            settings = SyncSettings(
                **self.settings("sync"), parent=self.parent, parent_peers=self.parent_peers,
                parent_nats=self.parent_nats, invitation=self.invitation,
                nats_public_url=self.nats, public_address=self.public_address,
            )  # fmt: skip
            return partial(sync.serve, settings, stop)

        if name in REAL:
            return partial(REAL[name][0].serve, self.settings_of(name), stop)

        def made(things: Things) -> None:
            self.things = things

        self.things = None  # type: ignore[assignment]
        shared = config.Settings(**self.settings(name))
        return partial(serve_things, shared, stop, made, self.kinds)

    def settings_of(self, name: str) -> Any:
        """Those of one of REAL, with a membership that is never there if the node has none."""
        peers = {"membership": NOBODY, **self.addresses}
        return REAL[name][1](**(self.settings(name) | {"peers": peers}))

    async def stop(self, *names: str) -> None:
        """End services at once, as a crash would: nothing is drained."""
        for name in names or list(self.running):
            _, task = self.running.pop(name)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def token(self, name: str = OFFICER) -> tuple[tuple[str, str], ...]:
        return calling_as(name, self.folder / "secrets", self.id)

    def signer(self) -> Ed25519PrivateKey:
        """The key that everyone knows it by."""
        seed = (self.folder / "secrets" / "node.key").read_text()
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))

    async def opened(self, sealed: bytes, place: str) -> str:
        """What its sync sealed for itself."""
        conn = await asyncpg.connect(as_owner(self.databases["sync"]))
        keyring = await Keyring.open(conn, FileKeys(self.folder / "secrets" / "data.key"))
        await conn.close()
        return keyring.node.open(sealed, place).decode()

    async def network(self) -> dict[str, sync_pb2.NetworkNode]:
        """GetNetwork, by division code."""
        async with self.sync_stub() as stub:
            request = sync_pb2.GetNetworkRequest()
            answer = await stub.GetNetwork(
                request, metadata=self.token(), timeout=60, wait_for_ready=True
            )
        return {node.node.organization_code: node for node in answer.nodes}

    async def proof(self, origin: "Node", channel: str = "records") -> log_pb2.Proof:
        """What `things` of this node can prove of the things of another."""
        for stream in (await self.network())[origin.code].streams:
            if stream.service == "things" and stream.proof.channel == channel:
                return stream.proof
        return log_pb2.Proof()

    async def recount(self, origin: "Node") -> log_pb2.Proof:
        async with grpc.aio.insecure_channel(
            self.addresses["things"], options=CHANNEL_OPTIONS
        ) as channel:
            request = log_pb2.RecountRequest(origin=origin.id.bytes, channel="records")
            return await log_pb2_grpc.LogServiceStub(channel).Recount(
                request, metadata=self.token("services/sync")
            )

    @asynccontextmanager
    async def sync_stub(self) -> "AsyncIterator[sync_pb2_grpc.SyncServiceAsyncStub]":
        async with grpc.aio.insecure_channel(
            self.addresses["sync"], options=CHANNEL_OPTIONS
        ) as channel:
            yield sync_pb2_grpc.SyncServiceStub(channel)


async def kept(serve: Callable[[], Awaitable[None]]) -> None:
    """Serve, as a supervisor would: the service before may hold the port a moment longer."""
    while True:
        try:
            return await serve()
        except CannotServe:
            await asyncio.sleep(0.1)


async def make(
    postgres: str, folder: Path, code: str, level: str, *, services: tuple[str, ...] = ("things",)
) -> Node:
    """A node with databases of its own on the server of `postgres`."""
    node_id = uuid7()
    (folder / "secrets").mkdir(parents=True)
    for name in ("node.key", "data.key", "token.key", "person.key"):
        (folder / "secrets" / name).write_text(secrets.token_hex(32))
    names = (*services, "sync")
    made = {
        name: await databases.create(postgres, f"{name}_{node_id.hex}", password="test")
        for name in names
    }
    for name in names:
        await open_at(made[name], node_id, OFFICER, code)
    addresses = {name: f"127.0.0.1:{ports.free()}" for name in names}
    return Node(node_id, code, level, folder, made, addresses, services=services)


async def join(child: Node, parent: Node) -> None:
    """Have a running parent invite, and set the child up to join when it starts."""
    async with parent.sync_stub() as stub:
        invitation = await stub.CreateInvitation(
            sync_pb2.CreateInvitationRequest(organization_code=child.code),
            metadata=parent.token(), timeout=60, wait_for_ready=True,
        )  # fmt: skip
    child.parent = child.through or parent.addresses["sync"]
    child.invitation = invitation.token


async def start_tree(*nodes: tuple[Node, Node | None]) -> None:
    """Start nodes from the top down, each with the one above it: sync first, and the services once
    all keys are known, for which they ask as they start, and then again only after a while."""
    for node, above in nodes:
        if above is not None:
            await join(node, above)
        await node.start("sync")
        if above is not None:
            await confirm(node, above)
    for node, _ in nodes:
        await eventually(partial(_knows, node, len(nodes)))
        await node.start(*node.services)


async def _knows(node: Node, keys: int) -> None:
    async with node.sync_stub() as stub:
        request = sync_pb2.ListKeysRequest()
        answer = await stub.ListKeys(request, metadata=node.token("services/x"), timeout=60)
    assert len(answer.keys) == keys


async def confirm(child: Node, parent: Node) -> None:
    """Have the operators of a running parent and child compare the fingerprint."""
    async with child.sync_stub() as stub:
        own = await stub.GetNode(
            sync_pb2.GetNodeRequest(), metadata=child.token(), timeout=60, wait_for_ready=True
        )
    async with parent.sync_stub() as stub:
        while True:
            waiting = await stub.ListEnrollments(
                sync_pb2.ListEnrollmentsRequest(), metadata=parent.token(), timeout=60
            )
            if any(item.node.name == own.name for item in waiting.enrollments):
                break
            await asyncio.sleep(0.05)
        await stub.ConfirmEnrollment(
            sync_pb2.ConfirmEnrollmentRequest(name=own.name, fingerprint=own.fingerprint),
            metadata=parent.token(), timeout=60,
        )  # fmt: skip
