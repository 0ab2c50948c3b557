"""How services and nodes reach each other: plain in development, over TLS in production."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from uuid import UUID

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit import tls, tokens
from kit.config import CannotServe, Settings, is_guarded
from kit.gate import Neighbours
from kit.identity import is_loopback
from kit.suites import KEY_BYTES
from kit.tls import Identity, Source

CHANNEL_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 16 * 2**20),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
"""Of every channel that a node opens: a line that swallows bytes is noticed in 15 s, and what
`http_proxy` says is for web pages, not for neighbours."""

DRAIN = 30.0
"""Seconds that calls in flight have to finish over a connection with an old certificate."""

Metadata: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Children:
    """How a service knows the nodes below, which sync alone does."""

    signer: Ed25519PrivateKey
    """The node's key, by which they know it."""
    by_token: Callable[[str], Awaitable[str | None]]
    """The name of the child that a link token belongs to: in development."""
    key_of: Callable[[UUID], Awaitable[bytes | None]]
    """The public key of a child that is admitted; of no other."""


class Wire(Protocol):
    """One of the two."""

    metadata: Metadata
    """Sent with calls to the other services of the node."""

    def channel(self, service: str, address: str) -> grpc.aio.Channel:
        """To a service of the node."""

    def neighbours(self, children: Children | None) -> Neighbours:
        """Know who is no person."""

    def listen(self, server: grpc.aio.Server, children: Children | None) -> None:
        """Open the ports.  Raises RuntimeError if one is taken."""

    def contact(self, address: str, parent_key: bytes) -> grpc.aio.Channel:
        """To the parent, who does not know this node yet."""

    def link(
        self, address: str, signer: Ed25519PrivateKey, parent_key: bytes, certificate: bytes
    ) -> grpc.aio.Channel:
        """To the parent, who has admitted this node.

        Args:
            signer: the key of this node.
            certificate: of that key, by the parent.
        """

    def may_dial(self, url: str) -> bool:
        """Whether a NATS is reached there as safely as the rest."""


def wire(settings: Settings, name: str) -> Wire:
    """That of the profile.

    Raises:
        CannotServe: if certificates are missing or wrong.
    """
    return Plain(settings, name) if settings.profile == "development" else Secured(settings, name)


class Plain:
    """Whoever reaches the port can read along; a token says who calls."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._key, self._address = settings.secret("token.key"), settings.listen
        self.metadata: Metadata = (("authorization", f"Bearer {tokens.sign(self._key, name)}"),)

    def channel(self, service: str, address: str) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)

    def neighbours(self, children: Children | None) -> Neighbours:
        return tokens.Tokens(self._key, children.by_token if children else None)

    def listen(self, server: grpc.aio.Server, children: Children | None) -> None:
        server.add_insecure_port(self._address)

    def contact(self, address: str, parent_key: bytes) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)

    def link(
        self, address: str, signer: Ed25519PrivateKey, parent_key: bytes, certificate: bytes
    ) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)

    def may_dial(self, url: str) -> bool:
        return True


class Secured:
    """One port for people, who show tokens, and one for services and nodes, who must show a
    certificate: gRPC in Python knows no server that asks for one and does without."""

    metadata: Metadata = ()

    def __init__(self, settings: Settings, name: str) -> None:
        if not settings.listen_peers:
            raise CannotServe("set SMARTUNION_LISTEN_PEERS: host:port where the peers call")
        self._settings = settings
        try:
            self._files = tls.Files(settings.tls or settings.secrets / "tls", settings.node, name)
        except tls.CertificateUnfit as error:
            raise CannotServe(f"profile `production` needs certificates: {error}") from None

    def channel(self, service: str, address: str) -> grpc.aio.Channel:
        return SecureChannel(address, tls.host(self._settings.node, service), self._files)

    def neighbours(self, children: Children | None) -> Neighbours:
        key_of = children.key_of if children else None
        return tls.Certificates(self._files, self._settings.node, key_of)

    def listen(self, server: grpc.aio.Server, children: Children | None) -> None:
        shown: tuple[Source, ...] = (self._files,)
        if children:
            own = children.signer.public_key().public_bytes_raw()
            roots = tls.anchor(own)
            shown += (tls.NodeIdentity(children.signer, self._settings.node, roots=roots),)
        server.add_secure_port(self._settings.listen, server_credentials(*shown))
        peers = server_credentials(*shown, ask=True)
        server.add_secure_port(self._settings.listen_peers, peers)

    def contact(self, address: str, parent_key: bytes) -> grpc.aio.Channel:
        shown = Identity(tls.anchor(parent_key))
        return SecureChannel(address, tls.node_host(parent_key), lambda: shown)

    def link(
        self, address: str, signer: Ed25519PrivateKey, parent_key: bytes, certificate: bytes
    ) -> grpc.aio.Channel:
        if len(parent_key) != KEY_BYTES:
            raise CannotServe("set SMARTUNION_INVITATION: a new one, which holds the parent's key")
        roots = tls.anchor(parent_key)
        own = tls.NodeIdentity(signer, self._settings.node, roots=roots, above=certificate)
        return SecureChannel(address, tls.node_host(parent_key), own)

    def may_dial(self, url: str) -> bool:
        return is_guarded(url)


def channel_to(address: str, ca: Path | None = None) -> grpc.aio.Channel:
    """To a service, as people call it: over TLS, unless it is on this machine and no CA is named.

    Args:
        ca: the file of the CA of the service's node; None: those that vouch for public sites.
    """
    if ca is None and is_loopback(address.rpartition(":")[0].strip("[]")):
        return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    credentials = grpc.ssl_channel_credentials(ca.read_bytes() if ca else None)
    return grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)


def server_credentials(*sources: Source, ask: bool = False) -> grpc.ServerCredentials:
    """What a server shows; of several, what the caller names, else the first.  What has changed is
    shown to the next who connects.

    Args:
        ask: whether callers must show something as well.
    """
    last = tuple(source() for source in sources)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal last
        now = tuple(source() for source in sources)
        if all(one is other for one, other in zip(now, last, strict=True)):
            return None
        last = now
        return _configuration(now)

    known: Any = fetch  # Its types forget that None stands for no change.
    return grpc.dynamic_ssl_server_credentials(_configuration(last), known, ask)


def _configuration(shown: tuple[Identity, ...]) -> grpc.ServerCertificateConfiguration:
    pairs = [(one.key or b"", one.chain or b"") for one in shown]
    return grpc.ssl_server_certificate_configuration(pairs, b"".join(one.roots for one in shown))


class SecureChannel(grpc.aio.Channel):
    """A channel whose next call goes over a new connection once there is another certificate."""

    def __init__(self, address: str, host: str, source: Source) -> None:
        """`host`: the name that the other end's certificate must bear, whatever its address."""
        self._address, self._source = address, source
        self._options = (*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", host))
        self._shown: Identity | None = None
        self._channel: grpc.aio.Channel | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    def _now(self) -> grpc.aio.Channel:
        shown = self._source()
        if self._channel is not None and shown is self._shown:
            return self._channel
        if self._channel is not None:
            leaving = asyncio.create_task(self._channel.close(DRAIN))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
        self._shown = shown
        credentials = grpc.ssl_channel_credentials(shown.roots, shown.key, shown.chain)
        self._channel = grpc.aio.secure_channel(self._address, credentials, self._options)
        return self._channel

    def unary_unary(self, *how: Any, **options: Any) -> Any:
        return lambda *a, **given: self._now().unary_unary(*how, **options)(*a, **given)

    def unary_stream(self, *how: Any, **options: Any) -> Any:
        return lambda *a, **given: self._now().unary_stream(*how, **options)(*a, **given)

    def stream_unary(self, *how: Any, **options: Any) -> Any:
        return lambda *a, **given: self._now().stream_unary(*how, **options)(*a, **given)

    def stream_stream(self, *how: Any, **options: Any) -> Any:
        return lambda *a, **given: self._now().stream_stream(*how, **options)(*a, **given)

    async def close(self, grace: float | None = None) -> None:
        for leaving in self._leaving:
            leaving.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._now().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._now().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._now().channel_ready()

    async def __aenter__(self) -> "SecureChannel":
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.close()
