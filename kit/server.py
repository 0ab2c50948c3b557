"""A service from its settings to its last answered call: everything is made here, once.

SIGTERM drains: health says NOT_SERVING, calls in flight finish, background tasks are cancelled (a
transaction that is cut is rolled back), and the process exits 0.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from kit import local, log
from kit.access_service import SERVICE as ACCESS_SERVICE
from kit.access_service import AccessServicer
from kit.bindings import Bindings
from kit.carrier import Carrier
from kit.config import CannotServe, Settings
from kit.copies import Copies
from kit.db import PASSING, Connection, Pool, connect, everything, reach, reaching
from kit.follower import Follower
from kit.gate import Doorkeeper, Gate
from kit.identity import Keys, Verifier
from kit.interceptor import RefusalInterceptor
from kit.limits import Allowances
from kit.log import Publisher
from kit.log_service import Figures, LogServicer, Reveal, no_figures, nothing_sealed
from kit.offices import Offices
from kit.organizations import Organization
from kit.records import CHANNELS, LOCAL, Kind
from kit.sealing import FileKeys, Keyring
from kit.waiting import ended
from kit.wire import Children, Metadata, Wire, wire
from smartunion.event.v1 import log_pb2
from smartunion.event.v1.access_pb2_grpc import add_AccessServiceServicer_to_server
from smartunion.event.v1.log_pb2_grpc import add_LogServiceServicer_to_server

GRACE = 10.0
"""Seconds that calls in flight have to finish."""

OPTIONS = (
    ("grpc.max_receive_message_length", 4 * 2**20),
    ("grpc.max_send_message_length", 16 * 2**20),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 2),
    ("grpc.max_metadata_size", 16 * 2**10),
    ("grpc.absolute_max_metadata_size", 16 * 2**10),
    ("grpc.max_concurrent_streams", 1_000),
)
"""A connection that pings more often than every 5 s is ended at the third such ping.  Of metadata,
gRPC's own two limits turn away by chance between them; these are one."""

SPARE = 1_000
"""Calls at once that services, children and whoever is about to be refused have beyond the limits
of people."""

logger = logging.getLogger(__name__)


Background = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a service is put together from."""

    settings: Settings
    pool: Pool
    carrier: Carrier
    publisher: Publisher
    keyring: Keyring
    allowances: Allowances
    """What each caller has left."""
    offices: Offices
    """Who holds which office at this node."""
    peers: dict[str, grpc.aio.Channel]
    """A channel to each service of the node, by name."""
    metadata: Metadata
    """Sent with calls to the peers."""
    wire: Wire
    """How they and other nodes are reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """What a service adds to what every service has."""

    home: Organization
    """The organisation that the node serves."""
    services: Sequence[tuple[Callable[[Any, grpc.aio.Server], None], Any]]
    """add_…Servicer_to_server, and the servicer."""
    background: Sequence[Background] = field(default=())
    """Each is called and awaited until the service ends."""
    reveal: Reveal = nothing_sealed
    """What makes sections of own records of what is sealed."""
    figures: Figures = no_figures
    """What it counts of each node for people to look at."""
    children: Children | None = None
    """How it knows the nodes below, if they call it."""


async def run(
    settings: Settings,
    stop: asyncio.Event,
    *,
    name: str,
    kinds: Sequence[Kind],
    migrations: Path,
    assemble: Callable[[Parts], Awaitable[Assembly]],
) -> None:
    """Serve until `stop` is set or the task is cancelled.

    Raises:
        CannotServe: if the address is taken, or the profile asks for what is not there.
    """
    reach.set(everything)
    line = wire(settings, name)
    carrier = Carrier(settings.nats_url, settings.nats_creds, settings.nats_ca)
    publisher = Publisher(settings.database_url, settings.node, name, kinds, carrier)
    peers = {peer: line.channel(peer, address) for peer, address in settings.peers.items()}
    metadata = line.metadata
    async with connect(settings.database_url, KIT_MIGRATIONS, migrations) as pool:
        keyring = await Keyring.open(pool, FileKeys(settings.secrets / "data.key"))
        held = Offices(pool, settings.node, known=name == OWNER or OWNER not in peers)
        allowances = Allowances(settings.limits)
        parts = Parts(
            settings, pool, carrier, publisher, keyring, allowances, held, peers, metadata, line
        )
        assembly = await assemble(parts)
        await held.refresh()
        copies = Copies(pool, settings.node, name, kinds, peers["sync"], metadata)
        freeing = partial(free_forever, pool, settings.keep_days)
        background: list[Background] = [
            *assembly.background, publisher.run, copies.run, carrier.run, held.run, freeing,
            partial(carrier.drain, stop),
        ]  # fmt: skip
        followed = asyncio.Event()
        if name != OWNER and OWNER in peers:
            background.append(_follower(parts, name, followed).run)
        else:
            followed.set()
        log_servicer = LogServicer(
            pool,
            settings.node,
            kinds,
            copies,
            publisher.wake.set,
            assembly.figures,
            carrier,
            name,
            assembly.reveal,
        )
        access_servicer = AccessServicer(pool, held, assembly.home.path)
        served = [*assembly.services, (add_LogServiceServicer_to_server, log_servicer),
                  (add_AccessServiceServicer_to_server, access_servicer)]  # fmt: skip
        keys = Keys(settings.issuer, settings.jwks)
        verifier = Verifier(
            settings.issuer, settings.audience, keys, person_key=settings.secret("person.key")
        )
        interceptor = RefusalInterceptor(
            domain=f"{name}.smartunion.org",
            gate=Gate(
                line.neighbours(assembly.children),
                verifier,
                allowances,
                Bindings(pool, settings.node, known=followed),
                strong=settings.strong_acr,
                child_key=assembly.children.key_of if assembly.children else None,
            ),
            doorkeeper=Doorkeeper(held, assembly.home.path),
            allowances=allowances,
        )
        server = _server(interceptor, served, 2 * settings.limits.all_at_once + SPARE)
        names = [_service_name(type(servicer)) for _, servicer in served]
        try:
            listen = partial(line.listen, server, assembly.children)
            await _serve(server, listen, settings, stop, names, held, background)
        finally:
            for channel in peers.values():
                await channel.close()


KIT_MIGRATIONS = Path(__file__).parent / "migrations"
OWNER = "membership"
"""The service that owns offices and bindings; the others follow it."""


def _follower(parts: Parts, name: str, followed: asyncio.Event) -> Follower:
    """Brings what membership announces to its node; `followed` is set once all was read."""
    node, held = parts.settings.node, parts.offices

    async def put(conn: Connection, entries: Sequence[log_pb2.Entry]) -> None:
        await local.put(conn, node, entries)

    async def done() -> None:
        await held.refresh()
        held.known.set()
        followed.set()

    return Follower(
        parts.pool, node, name, peer=OWNER, channel=LOCAL, stub=parts.peers[OWNER],
        metadata=parts.metadata, effect=put, forget=local.forget, done=done,
    )  # fmt: skip


def _server(
    interceptor: RefusalInterceptor, served: Sequence[tuple[Any, Any]], most: int
) -> grpc.aio.Server:
    server = grpc.aio.server(
        interceptors=[interceptor], options=OPTIONS, maximum_concurrent_rpcs=most
    )
    # grpc.aio 1.85 waits for every registered method anew at each call, so that a call costs as
    # many steps as the server has methods.  Generic handlers, which are added too, are found by
    # name.
    server.add_registered_method_handlers = lambda *_: None  # type: ignore[method-assign]
    for add, servicer in served:
        add(servicer, server)
    return server


async def _serve(
    server: grpc.aio.Server,
    listen: Callable[[], None],
    settings: Settings,
    stop: asyncio.Event,
    names: Sequence[str],
    held: Offices,
    background: Sequence[Background],
) -> None:
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if settings.profile == "development":
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server)
    servers = [server]
    try:
        listen()
        if settings.listen_health:
            servers.append(grpc.aio.server())
            health_pb2_grpc.add_HealthServicer_to_server(health_servicer, servers[1])
            servers[1].add_insecure_port(settings.listen_health)
    except RuntimeError:
        ports = settings.listen, settings.listen_peers, settings.listen_health
        raise CannotServe(
            f"cannot listen on {' and '.join(filter(None, ports))}: the port is taken or the "
            "address is not this machine's; stop the other process or set another port"
        ) from None
    with reaching(tuple):  # Calls begin with nothing.
        for one in servers:
            await one.start()
    tasks = [asyncio.create_task(run()) for run in background]
    stopping = asyncio.create_task(stop.wait())
    await health_servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    tasks.append(asyncio.create_task(_say_known(held, health_servicer)))
    logger.info("serving", extra={"address": settings.listen})
    try:
        await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        failed = [task for task in tasks if task.done()]
    finally:
        await health_servicer.enter_graceful_shutdown()
        for one in servers:
            await one.stop(GRACE if stop.is_set() else None)
        await ended(stopping, *tasks)
    for task in failed:
        task.result()


async def _say_known(held: Offices, health_servicer: health.aio.HealthServicer) -> None:
    """Once it is known who holds which office, health says so under the name of AccessService;
    what is not for officers is served before."""
    await held.known.wait()
    await health_servicer.set(ACCESS_SERVICE, health_pb2.HealthCheckResponse.SERVING)
    await asyncio.Event().wait()


def _service_name(servicer: Any) -> str:
    """The full name of the service that a servicer serves, for reflection.

    >>> from kit.log_service import LogServicer
    >>> _service_name(LogServicer)
    'smartunion.event.v1.LogService'
    """
    base = servicer.__mro__[1]
    package = base.__module__.rpartition(".")[0]
    return f"{package}.{base.__name__.removesuffix('Servicer')}"


async def free_forever(pool: Pool, keep_days: float) -> None:
    """Forget what no reader and no backup needs: every minute, or sooner if less is kept."""
    while True:
        try:
            for channel in CHANNELS:
                await log.free(pool, channel, keep_days=keep_days)
            await pool.execute(
                "DELETE FROM calls WHERE answer_time < clock_timestamp() - interval '7 days'"
            )
        except PASSING as error:
            logger.info("nothing freed", extra={"error": type(error).__name__})
        await asyncio.sleep(min(60.0, max(1.0, keep_days * 86400)))


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
