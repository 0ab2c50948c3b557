"""One node: its engines, then its services, each started again when it dies.

They start in the order PostgreSQL, NATS, services, and end in the opposite one: the services finish
the calls in flight, then NATS ends, then PostgreSQL writes its checkpoint.  A part that ends by
itself is started again after a pause of 0.2 s, which doubles up to 5 s while it keeps failing.  If
this process is killed, the kernel tells the others (`node.launch`), and the next start cleans up.
"""

import asyncio
import fcntl
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import nats.errors

from kit import tls
from kit.errors import Refusal
from kit.identity import is_loopback
from kit.ids import uuid7
from node import databases, keys, nats_server, ports, services
from node.certificates import Authority
from node.config import NodeConfig
from node.issuer import DevelopmentIssuer
from node.nats_server import NatsServer
from node.postgres import Postgres
from node.problems import CarrierUnreachable, FolderInUse, FolderNotWritable

SHORTEST_PAUSE = 0.2
LONGEST_PAUSE = 5.0
"""Seconds between the end of a part and its next start."""
QUIET = 30.0
"""Seconds after which a part that runs is forgiven its earlier failures."""
OFFICER = "officers/admin"
DEPUTY = "officers/deputy"
"""Who may approve what the first officer files."""
"""Whose development token is in endpoints.json."""
LOOPBACK = "127.0.0.1"
LIFETIME = timedelta(days=30)
"""Of that token: it lies beside the key that makes others, and may be used while the node runs."""

log = logging.getLogger(__name__)


class Running(Protocol):
    """A part while it runs."""

    @property
    def pid(self) -> int:
        """The number of its process."""

    async def wait(self) -> str:
        """How it ended, once it has."""

    async def stop(self) -> None:
        """End it, well if it can."""


class Part(Protocol):
    """An engine or a service."""

    @property
    def name(self) -> str:
        """What it is called in logs and in endpoints.json."""

    async def start(self) -> Running:
        """Run it; it is healthy when this returns.  Raises a Refusal if it cannot be."""


@dataclass(frozen=True)
class Plan:
    """What is settled before anything starts."""

    config: NodeConfig
    node: str
    """The id of the node, a UUID."""
    ports: dict[str, int]
    separate: bool
    """Each service in a process of its own."""
    package: str
    """Where the services are found."""
    development: DevelopmentIssuer | None
    """None: tokens come from an issuer outside."""

    @property
    def secrets(self) -> Path:
        """The folder of the node's secrets."""
        return self.config.data / "secrets"

    @property
    def guarded(self) -> bool:
        """Whether its services show certificates."""
        return self.config.profile == "production"

    @property
    def inside(self) -> str:
        """Where the engines listen, and where health is told: on this machine alone."""
        return self.config.listen.host if is_loopback(self.config.listen.host) else LOOPBACK

    def address(self, name: str) -> str:
        """host:port of a service; with `_peers` behind its name, of its port for certificates."""
        return f"{self.config.listen.host}:{self.ports[name]}"

    def health(self, name: str) -> str:
        """host:port where a service tells its health."""
        return (
            f"{self.inside}:{self.ports[f'{name}_health']}" if self.guarded else self.address(name)
        )


class Board:
    """data/endpoints.json: where everything is, while everything is healthy."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._facts: dict[str, Any] | None = None
        self._pids = {"node": os.getpid()}

    def note(self, part: str, pid: int) -> None:
        """A part is healthy, in this process."""
        self._pids[part] = pid
        if self._facts:
            keys.write(self._file, self._text())

    def publish(self, facts: dict[str, Any]) -> None:
        """All parts are healthy."""
        self._facts = facts
        keys.write(self._file, self._text())

    def remove(self) -> None:
        """Nothing is to be found any more."""
        self._file.unlink(missing_ok=True)

    def _text(self) -> str:
        return json.dumps({**(self._facts or {}), "pids": self._pids}, ensure_ascii=False, indent=2)


class Keeper:
    """Keeps one part running."""

    def __init__(self, part: Part, board: Board) -> None:
        self._part, self._board = part, board
        self._running: Running | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """The first start, which fails if the part does."""
        await self._start()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End the part for good."""
        if self._watching:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self._running:
            await self._running.stop()
            log.info("stopped", extra={"part": self._part.name})

    async def _start(self) -> None:
        began = time.monotonic()
        self._running = await self._part.start()
        self._board.note(self._part.name, self._running.pid)
        seconds = round(time.monotonic() - began, 2)
        log.info("started", extra={"part": self._part.name, "seconds": seconds})

    async def _watch(self) -> None:
        pause = SHORTEST_PAUSE
        while True:
            began = time.monotonic()
            ending = await self._running.wait() if self._running else "it did not start"
            if time.monotonic() - began > QUIET:
                pause = SHORTEST_PAUSE
            facts = {"part": self._part.name, "ending": ending, "pause": pause}
            log.warning("ended, starting again", extra=facts)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            self._running = None
            try:
                await self._start()
            except Refusal as refusal:
                log.warning(str(refusal), extra={"part": self._part.name})
            except Exception:
                log.exception("start failed", extra={"part": self._part.name})


@asynccontextmanager
async def kept(parts: Sequence[Part], board: Board) -> AsyncIterator[None]:
    """Parts that run, all at once, until the block ends."""
    keepers = [Keeper(part, board) for part in parts]
    try:
        starts = await asyncio.gather(*(k.start() for k in keepers), return_exceptions=True)
        for problem in starts:
            if problem:
                raise problem
        yield
    finally:
        await asyncio.gather(*(keeper.stop() for keeper in keepers))


async def up(config: NodeConfig, *, separate: bool = False, package: str = "services") -> None:
    """Run a node until cancelled.

    Raises:
        Refusal: if it cannot start; the text says what to do.
    """
    with folder(config.data):
        taken = await ports.assign(
            wanted_ports(config),
            memory=config.data / "ports.json",
            host=config.listen.host,
            # What a killed node left behind is about to end.
            patience=15 if (config.data / "endpoints.json").exists() else 0,
        )
        node = keys.keep(config.data / "node-id", lambda: str(uuid7()))
        secrets = config.data / "secrets"
        keys.node_keys(secrets)
        development = None if config.identity.issuer else DevelopmentIssuer(secrets, node)
        plan = Plan(config, node, taken, separate, package, development)
        async with AsyncExitStack() as stack:
            authority = _certified(plan) if plan.guarded else None
            await _run(plan, stack)
            await (authority.renew_forever(services.NAMES) if authority else asyncio.Event().wait())


def wanted_ports(config: NodeConfig) -> dict[str, int]:
    """The port of each part; 0: a free one."""
    wanted: dict[str, int] = config.listen.model_dump(exclude={"host", "public"})
    if config.profile == "development":
        del wanted["sync_peers"]
        return wanted
    return {f"{name}_{of}": 0 for name in services.NAMES for of in ("peers", "health")} | wanted


def _certified(plan: Plan) -> Authority:
    """Issues what the services show each other, and the embedded NATS shows them."""
    authority = Authority(plan.secrets / "tls", UUID(plan.node), plan.config.listen.host)
    for name in services.NAMES:
        authority.issue(name)
    authority.issue_server("nats", plan.inside)
    return authority


async def _run(plan: Plan, stack: AsyncExitStack) -> None:
    board = Board(plan.config.data / "endpoints.json")
    board.remove()
    stack.callback(board.remove)
    dsns = await _databases(plan, board, stack)
    carrier = await _carrier(plan, board, stack)
    parts = [_service(plan, name, dsns[name], carrier) for name in services.NAMES]
    await stack.enter_async_context(kept(parts, board))
    for name in services.NAMES:  # Whoever finds the addresses may call at once.
        while not await services.is_healthy(plan.health(name), services.OFFICERS):
            await asyncio.sleep(0.05)
    board.publish(_endpoints(plan, dsns, carrier["nats_url"]))
    log.info("the node is up", extra={"endpoints": str(plan.config.data / "endpoints.json")})


async def _databases(plan: Plan, board: Board, stack: AsyncExitStack) -> dict[str, str]:
    """The DSN of each service."""
    dsn = plan.config.postgres.dsn
    if not dsn:
        word = keys.password(plan.secrets, "postgres")
        port = plan.ports["postgres"]
        server = Postgres(plan.config.data / "postgres", port, word, plan.inside)
        await stack.enter_async_context(kept([server], board))
        dsn = server.dsn
    return {
        name: await databases.create(dsn, name, password=keys.password(plan.secrets, name))
        for name in services.NAMES
    }


async def _carrier(plan: Plan, board: Board, stack: AsyncExitStack) -> dict[str, str]:
    """The settings by which services reach NATS."""
    outside = plan.config.nats
    if outside.url:
        try:
            await nats_server.check(outside.url, outside.creds)
        except (OSError, ValueError, TimeoutError, nats.errors.Error) as error:
            raise CarrierUnreachable(problem=error or "no answer") from error
        return {"nats_url": outside.url, "nats_creds": outside.creds}
    known = keys.nats_keys(plan.secrets)
    port = plan.ports["nats"]
    certificate = plan.secrets / "tls" / "nats" if plan.guarded else None
    server = NatsServer(plan.config.data / "nats", port, known, plan.node, plan.inside, certificate)
    await stack.enter_async_context(kept([server], board))
    return {"nats_url": server.url, "nats_creds": str(known.node_creds), "nats_ca": server.ca}


def _service(plan: Plan, name: str, dsn: str, carrier: dict[str, str]) -> services.Service:
    config = plan.config
    settings: dict[str, Any] = {
        "database_url": dsn,
        **carrier,
        "listen": plan.address(name),
        "profile": config.profile,
        "node": plan.node,
        "node_name": config.name,
        "organization": config.organization,
        "level": config.level,
        "secrets": str(plan.secrets),
        "limits": config.limits.model_dump(),
        "peers": {peer: plan.address(peer) for peer in services.NAMES},
        **(plan.development.settings if plan.development else config.identity.model_dump()),
    }
    if plan.guarded:
        settings |= {
            "listen_peers": plan.address(f"{name}_peers"),
            "listen_health": plan.health(name),
            "tls": str(plan.secrets / "tls" / name),
            "peers": {peer: plan.address(f"{peer}_peers") for peer in services.NAMES},
        }
    if name == "membership":
        settings["first_officer"] = config.first_officer
        if config.privacy_texts:
            settings["privacy_texts"] = config.privacy_texts
    if name == "sync":
        settings |= {
            "parent": config.parent.sync,
            "parent_peers": config.parent.peers,
            "parent_nats": config.parent.nats,
            "invitation": config.parent.invitation,
            # In production children push over gRPC: they know the node's key, not its CA.
            "nats_public_url": "" if plan.guarded else carrier["nats_url"],
            "public_address": config.listen.public,
        }
    return services.Service(name, plan.health(name), settings, plan.separate, plan.package)


def _endpoints(plan: Plan, dsns: dict[str, str], url: str) -> dict[str, Any]:
    config = plan.config
    issuer = plan.development
    return {
        "name": config.name,
        "level": config.level,
        "organization": config.organization,
        "node": plan.node,
        "grpc": {name: plan.address(name) for name in services.NAMES},
        "nats": url,
        "postgres": dsns,
        **_for_certificates(plan),
        "tokens": {
            one: issuer.token(one, lifetime=LIFETIME) for one in (OFFICER, DEPUTY) if issuer
        },
    }


def _for_certificates(plan: Plan) -> dict[str, Any]:
    """Where services and children call in production, and whom clients trust."""
    if not plan.guarded:
        return {}
    peers = {name: plan.address(f"{name}_peers") for name in services.NAMES}
    return {"peers": peers, "ca": str(plan.secrets / "tls" / tls.CA)}


@contextmanager
def folder(data: Path) -> Iterator[None]:
    """The data folder, made if missing, for this process alone.

    Raises:
        FolderNotWritable: if it cannot be made or written.
        FolderInUse: if a node runs on it already.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = open(data / "lock", "w")  # noqa: SIM115 - closed below.
    except OSError as error:
        raise FolderNotWritable(folder=data, problem=error.strerror) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUse(folder=data) from None
        yield
