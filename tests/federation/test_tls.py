"""In production, nobody is believed who cannot show a certificate of whoever may vouch for them."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit import interceptor, tls, tokens
from kit.gate import Gate
from kit.ids import utc_now, uuid7
from kit.status import refused
from kit.tls import Identity
from kit.wire import CHANNEL_OPTIONS, SecureChannel, Secured, server_credentials
from node import ports
from node.certificates import Authority
from services.sync.config import Settings as SyncSettings
from services.sync.domain.enrollments import key_invited_by
from services.sync.domain.nodes import fingerprint as fingerprint_of
from smartunion.event.v1 import log_pb2, log_pb2_grpc
from smartunion.sync.v1 import sync_pb2, sync_pb2_grpc
from tests.eventually import eventually
from tests.federation import nodes
from tests.federation.nodes import OFFICER, Node
from tests.federation.test_down import link_token
from tests.federation.test_enrollment import request as enrolling
from tests.issuer import issuing

HOUR = timedelta(hours=1)


@dataclass
class Guarded(Node):
    """A node in production."""

    ports: dict[str, str] = field(default_factory=dict)
    """Where its services take calls with certificates."""
    issuer: str = ""
    officer: str = ""
    """The token of its officer."""

    @property
    def certificates(self) -> Path:
        return self.folder / "tls"

    @property
    def public_key(self) -> bytes:
        return self.signer().public_key().public_bytes_raw()

    def settings(self, service: str) -> dict[str, Any]:
        return {
            **super().settings(service), "profile": "production", "peers": self.ports,
            "listen_peers": self.ports[service], "tls": self.certificates / service,
            "issuer": self.issuer, "jwks": "", "audience": f"nodes/{self.id}",
        }  # fmt: skip

    def token(self, name: str = OFFICER) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.officer}"),)

    @asynccontextmanager
    async def sync_stub(self) -> "AsyncIterator[sync_pb2_grpc.SyncServiceAsyncStub]":
        shown = Identity((self.certificates / "ca.crt").read_bytes())
        async with SecureChannel(
            self.addresses["sync"], tls.host(self.id, "sync"), lambda: shown
        ) as channel:
            yield sync_pb2_grpc.SyncServiceStub(channel)


@dataclass
class Pair:
    """A province and a city below it."""

    province: Guarded
    city: Guarded


@pytest.fixture(scope="module")
async def pair(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """Both in production, with an issuer of tokens at https://."""
    folder = tmp_path_factory.mktemp("guarded")
    outside = Authority(folder, uuid7(), "127.0.0.1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(folder / "ca.crt"))
        async with issuing(outside.issue("issuer")) as issuer:
            made = []
            for code, level in (("51", "province"), ("5101", "city")):
                node = await nodes.make(postgres, folder / level, code, level)
                now = int(time.time())
                officer = await issuer.token(
                    iss=issuer.url, aud=f"nodes/{node.id}", sub=OFFICER,
                    iat=now, exp=now + 3600,
                )  # fmt: skip
                (node.folder / "secrets" / "token.key").unlink()
                guarded = Guarded(
                    node.id, code, level, node.folder, node.databases, node.addresses,
                    issuer=issuer.url, officer=officer,
                    ports={name: f"127.0.0.1:{ports.free()}" for name in node.addresses},
                )  # fmt: skip
                authority = Authority(guarded.certificates, node.id, "127.0.0.1")
                for name in guarded.addresses:
                    authority.issue(name)
                made.append(guarded)
            pair = Pair(*made)
            try:
                await pair.province.start()
                await nodes.join(pair.city, pair.province)
                pair.city.parent_peers = pair.province.ports["sync"]
                await pair.city.start()
                await nodes.confirm(pair.city, pair.province)
                yield pair
            finally:
                for node in made:
                    await node.stop()


def same(shown: Identity) -> Identity:
    return shown


async def outcome(call: Awaitable[Any]) -> str:
    """The reason of the refusal with which a call ends, or its code; empty if it is served."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return refused(error).reason or error.code().name
    return ""


async def read_log(node: Guarded, shown: Identity, *, reader: str = "sync") -> str:
    """What comes of reading the log of `things` with a certificate."""
    host = tls.host(node.id, "things")
    async with SecureChannel(node.ports["things"], host, lambda: shown) as channel:
        asked = log_pb2.ReadLogRequest(reader=reader, channel="records")
        return await outcome(log_pb2_grpc.LogServiceStub(channel).ReadLog(asked, timeout=5))


def held(folder: Path, roots: bytes = b"") -> Identity:
    """What is shown by whoever holds the files in a folder."""
    chain, key, ca = ((folder / name).read_bytes() for name in ("tls.crt", "tls.key", "ca.crt"))
    return Identity(roots or ca, key, chain)


async def test_a_child_joins_and_its_records_are_proved_above(pair: Pair) -> None:
    ids = await pair.city.things.add(20)

    async def proved() -> None:
        assert await pair.province.things.versions(pair.city.id) == dict.fromkeys(ids, 1)
        proof = await pair.province.proof(pair.city)
        assert log_pb2.Verdict.Name(proof.verdict) == "COMPLETE"

    await eventually(proved)


async def test_nobody_is_served_in_plain(pair: Pair) -> None:
    for address in (*pair.province.addresses.values(), *pair.province.ports.values()):
        async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
            call = sync_pb2_grpc.SyncServiceStub(channel).Enroll(sync_pb2.EnrollRequest())
            assert await outcome(call) == "UNAVAILABLE"
    bare = Identity((pair.province.certificates / "ca.crt").read_bytes())
    assert await read_log(pair.province, bare) == "UNAVAILABLE"


async def test_a_token_names_no_service_and_no_child(pair: Pair) -> None:
    link = await link_token(pair.city)
    async with pair.province.sync_stub() as stub:
        for token in (tokens.sign(bytes(32), "things"), link):
            metadata = (("authorization", f"Bearer {token}"),)
            for call in (
                stub.ListKeys(sync_pb2.ListKeysRequest(), metadata=metadata),
                stub.PushFrames(sync_pb2.PushFramesRequest(), metadata=metadata),
            ):
                assert await outcome(call) == "TOKEN_INVALID"


async def test_a_certificate_is_good_for_one_service_of_one_node(
    pair: Pair, tmp_path: Path
) -> None:
    node, own = pair.province, pair.province.certificates
    ca = (own / "ca.crt").read_bytes()
    assert await read_log(node, held(own / "sync")) == ""
    assert await read_log(node, held(own / "things")) == "ACCESS_DENIED"  # it is not `sync`
    assert await read_log(node, held(own / "things"), reader="things") == ""
    assert await read_log(node, held(pair.city.certificates / "sync", ca)) == "UNAVAILABLE"
    stranger = Authority(tmp_path, node.id, "127.0.0.1")
    assert await read_log(node, held(stranger.issue("sync"), ca)) == "UNAVAILABLE"
    authority = copy_of(node, tmp_path / "late", node.id)
    late = authority.issue("sync", begin=utc_now() - 2 * HOUR, end=utc_now() - HOUR)
    assert await read_log(node, held(late)) == "UNAVAILABLE"
    foreign = copy_of(node, tmp_path / "foreign", uuid7()).issue("sync")
    assert await read_log(node, held(foreign)) == "CERTIFICATE_FOREIGN"


def copy_of(node: Guarded, folder: Path, named: UUID) -> Authority:
    """The CA of a node, as it issues for another."""
    folder.mkdir()
    for name in ("ca.key", "ca.crt"):
        (folder / name).write_bytes((node.certificates / name).read_bytes())
    return Authority(folder, named, "127.0.0.1")


def shown_by(
    signer: Ed25519PrivateKey, above: bytes, roots: bytes, *names: x509.GeneralName
) -> Identity:
    """What the holder of a node's key can make of itself, whatever it says."""
    key, now = ec.generate_private_key(ec.SECP256R1()), utc_now()
    leaf = tls.certificate(
        "a node", key.public_key(), tls.label(signer.public_key().public_bytes_raw()), signer,
        begin=now - HOUR, end=now + HOUR, names=names,
    )  # fmt: skip
    return Identity(roots, tls.key_pem(key), tls.to_pem(leaf) + above)


async def test_a_child_speaks_for_itself_alone(pair: Pair) -> None:
    node, city = pair.province, pair.city
    above = tls.for_child(node.signer(), city.public_key)
    roots = tls.anchor(node.public_key)

    async def push(signer: Ed25519PrivateKey, above: bytes, uri: str) -> str:
        shown = shown_by(signer, above, roots, x509.UniformResourceIdentifier(uri))
        host = tls.node_host(node.public_key)
        async with SecureChannel(node.ports["sync"], host, lambda: shown) as channel:
            stub = sync_pb2_grpc.SyncServiceStub(channel)
            return await outcome(stub.PushFrames(sync_pb2.PushFramesRequest(), timeout=5))

    assert await push(city.signer(), above, tls.uri(city.id)) == ""
    assert await push(city.signer(), above, tls.uri(uuid7())) == "CERTIFICATE_FOREIGN"
    assert await push(city.signer(), above, tls.uri(node.id)) == "CERTIFICATE_FOREIGN"
    as_service = tls.uri(node.id, "things")
    assert await push(city.signer(), above, as_service) == "CERTIFICATE_FOREIGN"
    thief = Ed25519PrivateKey.generate()
    assert await push(thief, b"", tls.uri(city.id)) == "UNAVAILABLE"
    assert await push(thief, above, tls.uri(city.id)) == "UNAVAILABLE"
    sibling = tls.for_child(node.signer(), thief.public_key().public_bytes_raw())
    assert await push(thief, sibling, tls.uri(city.id)) == "CERTIFICATE_FOREIGN"


async def test_who_cannot_show_the_key_in_the_invitation_learns_nothing_of_it(pair: Pair) -> None:
    """A man in the middle, with a certificate of its own, and with one that says what the parent's
    says; and a sibling, whose key the parent has certified."""
    heard: list[bytes] = []

    async def hear(request: bytes, context: Any) -> bytes:
        heard.append(request)
        return b""

    enroll = grpc.method_handlers_generic_handler(
        "smartunion.sync.v1.SyncService", {"Enroll": grpc.unary_unary_rpc_method_handler(hear)}
    )
    parent = key_invited_by(pair.city.invitation)
    assert parent == pair.province.public_key
    line = Secured(SyncSettings(**pair.city.settings("sync")), "sync")
    middle = Ed25519PrivateKey.generate()
    own = middle.public_key().public_bytes_raw()
    above = tls.for_child(pair.province.signer(), own)
    name = x509.DNSName(tls.node_host(parent))
    for shown, said in (
        (shown_by(middle, b"", b"", x509.DNSName(tls.node_host(own))), "UNAVAILABLE"),
        (shown_by(middle, b"", b"", name), "UNAVAILABLE"),
        (shown_by(middle, above, b"", name), "UNAVAILABLE"),
        (shown_by(pair.province.signer(), b"", b"", name), ""),
    ):
        shown = Identity(tls.anchor(own), shown.key, shown.chain)
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((enroll,))
        port = server.add_secure_port("127.0.0.1:0", server_credentials(partial(same, shown)))
        await server.start()
        async with line.contact(f"127.0.0.1:{port}", parent) as channel:
            stub = sync_pb2_grpc.SyncServiceStub(channel)
            call = stub.Enroll(sync_pb2.EnrollRequest(token=pair.city.invitation), timeout=5)
            assert await outcome(call) == said
        await server.stop(None)
        assert bool(heard) is (said == "")


async def test_a_renewed_certificate_is_taken_up_while_the_service_runs(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOK_EVERY", 0.0)
    node = pair.province
    folder = node.certificates / "things"

    async def serial() -> int:
        host, _, port = node.addresses["things"].partition(":")
        shown = await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))
        return x509.load_pem_x509_certificate(shown.encode()).serial_number

    before = await serial()
    (folder / "tls.crt").write_text("half a certi")
    new = copy_of(node, folder / "new", node.id).issue("things")
    assert await serial() == before
    for name in ("tls.key", "tls.crt"):
        (folder / name).write_bytes((new / name).read_bytes())
    issued = x509.load_pem_x509_certificate((new / "tls.crt").read_bytes()).serial_number
    assert await serial() == issued


async def test_who_calls_shows_a_renewed_certificate_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOK_EVERY", 0.0)
    node = uuid7()
    authority = Authority(tmp_path, node, "127.0.0.1")
    seen: list[bytes] = []

    async def look(request: bytes, context: Any) -> bytes:
        seen.extend(context.auth_context()["x509_pem_cert"])
        return b""

    server = grpc.aio.server()
    handler: Any = grpc.unary_unary_rpc_method_handler(look)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a", {"b": handler}),))
    files = tls.Files(authority.issue("sync"), node, "sync")
    port = server.add_secure_port("127.0.0.1:0", server_credentials(files, ask=True))
    await server.start()
    mine = authority.issue("things")
    async with SecureChannel(
        f"127.0.0.1:{port}", tls.host(node, "sync"), tls.Files(mine, node, "things")
    ) as channel:
        call = channel.unary_unary("/a/b")
        first = (mine / "tls.crt").read_bytes()
        await call(b"")
        (mine / "tls.crt").write_bytes(first[:100])  # half written
        await call(b"")
        authority.issue("things")
        await call(b"")
        assert seen == [first, first, (mine / "tls.crt").read_bytes()]
    await server.stop(None)


async def test_a_child_that_is_revoked_is_cut_at_once_and_comes_back_by_a_new_invitation(
    pair: Pair,
) -> None:
    node, city = pair.province, pair.city
    key = Ed25519PrivateKey.generate()
    asked = await admitted(node, key)
    sibling = UUID(asked.node.name.removeprefix("nodes/"))
    async with linked(node, city.signer(), city.id) as link, linked(node, key, sibling) as other:
        assert await pushed(link) == await pushed(other) == ""
        async with node.sync_stub() as stub:
            revoked = sync_pb2.RevokeEnrollmentRequest(name=f"nodes/{city.id}")
            for _ in range(2):  # a double click
                await stub.RevokeEnrollment(revoked, metadata=node.token())
            assert await pushed(link) == "CERTIFICATE_FOREIGN"
            assert await pushed(other) == ""
            nobody = sync_pb2.RevokeEnrollmentRequest(name=f"nodes/{uuid7()}")
            refusal = await outcome(stub.RevokeEnrollment(nobody, metadata=node.token()))
            assert refusal == "CHILD_UNKNOWN"
            revoked.name = asked.node.name
            await stub.RevokeEnrollment(revoked, metadata=node.token())
            assert await outcome(stub.Enroll(asked)) == "INVITATION_INVALID"
            listing = sync_pb2.ListEnrollmentsRequest()
            assert not (await stub.ListEnrollments(listing, metadata=node.token())).enrollments
        ids = await city.things.add(1)
        await city.stop("sync")
        await nodes.join(city, node)
        await city.start("sync")
        await nodes.confirm(city, node)

        async def back() -> None:
            assert await pushed(link) == ""
            assert ids[0] in await node.things.versions(city.id)

        await eventually(back)


async def admitted(node: Guarded, key: Ed25519PrivateKey) -> sync_pb2.EnrollRequest:
    """What a child has shown that is nothing but its key."""
    async with node.sync_stub() as stub:
        invitation = await stub.CreateInvitation(
            sync_pb2.CreateInvitationRequest(organization_code="5107"), metadata=node.token()
        )
        asked = enrolling(invitation.token, key=key)
        await stub.Enroll(asked)
        fingerprint = fingerprint_of(asked.public_key)
        confirmed = sync_pb2.ConfirmEnrollmentRequest(name=asked.node.name, fingerprint=fingerprint)
        await stub.ConfirmEnrollment(confirmed, metadata=node.token())
    return asked


async def test_a_snapshot_under_way_ends_when_its_child_is_revoked(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirm, under_way = Gate.confirm, asyncio.Event()

    async def confirmed(gate: Gate, method: str, who: Any) -> None:
        await confirm(gate, method, who)
        if method.endswith("/PushSnapshot"):
            under_way.set()

    monkeypatch.setattr(interceptor, "CONFIRM_EVERY", 0.1)
    monkeypatch.setattr(Gate, "confirm", confirmed)
    node, key = pair.province, Ed25519PrivateKey.generate()
    asked = await admitted(node, key)
    async with linked(node, key, UUID(asked.node.name.removeprefix("nodes/"))) as link:
        snapshot = link.PushSnapshot(timeout=60)
        await asyncio.wait_for(under_way.wait(), 60)
        assert not snapshot.done()
        async with node.sync_stub() as stub:
            revoked = sync_pb2.RevokeEnrollmentRequest(name=asked.node.name)
            await stub.RevokeEnrollment(revoked, metadata=node.token())
        assert await outcome(snapshot) == "ACCESS_DENIED"


@asynccontextmanager
async def linked(
    node: Guarded, key: Ed25519PrivateKey, child: UUID
) -> "AsyncIterator[sync_pb2_grpc.SyncServiceAsyncStub]":
    """Where a child calls, over one connection."""
    above = tls.for_child(node.signer(), key.public_key().public_bytes_raw())
    roots = tls.anchor(node.public_key)
    shown = tls.NodeIdentity(key, child, roots=roots, above=above)
    async with SecureChannel(node.ports["sync"], tls.node_host(node.public_key), shown) as channel:
        yield sync_pb2_grpc.SyncServiceStub(channel)


async def pushed(stub: "sync_pb2_grpc.SyncServiceAsyncStub") -> str:
    """What comes of a push as a child makes it."""
    return await outcome(stub.PushFrames(sync_pb2.PushFramesRequest(), timeout=5))
