"""Who speaks for which part of the tree stays known for years, and nobody takes another's place."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit.envelopes import seal_key_of
from kit.trust import CERTIFICATE_VALID, NodeKey, certify, chained
from smartunion.sync.v1 import sync_pb2
from tests.eventually import eventually
from tests.federation.conftest import Line
from tests.federation.nodes import Node, plain
from tests.federation.test_down import keys, link_token

STRANGER = Ed25519PrivateKey.generate()
STRANGER_KEY = STRANGER.public_key().public_bytes_raw()


def key_of(node: Node, parent: Node | None = None) -> NodeKey:
    """What is certified of a node."""
    signer = node.signer()
    return NodeKey(
        node=node.id, parent=parent.id if parent else None, organization_code=node.code,
        level=node.level, public_key=signer.public_key().public_bytes_raw(),
        seal_key=seal_key_of(signer.private_bytes_raw()),
    )  # fmt: skip


async def set_certificate(line: Line, certificate: bytes) -> None:
    """Have the province hold this certificate of the city."""
    conn = await plain(line.province.databases["sync"])
    await conn.execute("UPDATE nodes SET certificate = $1 WHERE id = $2", certificate, line.city.id)
    await conn.close()


async def chain_of(node: Node) -> list[bytes]:
    conn = await plain(node.databases["sync"])
    chain: list[bytes] = await conn.fetchval("SELECT chain FROM uplink")
    await conn.close()
    return chain


@pytest.fixture(autouse=True)
async def trusted(line: Line) -> None:
    """Everyone knows the keys of all."""

    async def check() -> None:
        own = (await chain_of(line.city))[:1]
        for node in line.all:
            found = (await keys(node))[1]
            assert len(found) == 3 and [found["5101"].certificate] == own

    await eventually(check)


@pytest.mark.parametrize("held", ["none", "half over"])
async def test_a_certificate_that_is_missing_or_half_over_is_made_again_and_known_to_all(
    line: Line, held: str
) -> None:
    [before, *above] = await chain_of(line.city)
    old = b""
    if held == "half over":
        at = datetime.now(UTC) - CERTIFICATE_VALID / 2 - timedelta(hours=1)
        old = certify(line.province.signer(), key_of(line.city, line.province), at=at)
    await set_certificate(line, old)

    async def renewed() -> None:
        [made, *rest] = await chain_of(line.city)
        assert made not in (before, old) and rest == above
        [own] = [key for key in chained([made, *rest], at=datetime.now(UTC)) if key.parent
                 and key.node == line.city.id]  # fmt: skip
        assert own.expire_time > datetime.now(UTC) + CERTIFICATE_VALID - timedelta(minutes=5)
        for node in line.all:
            assert (await keys(node))[1]["5101"].certificate == made

    await eventually(renewed)


async def test_a_child_is_certified_for_its_own_place_and_key_alone(line: Line) -> None:
    city = key_of(line.city)
    shown = [
        certify(STRANGER, replace(city, public_key=STRANGER_KEY), at=datetime.now(UTC)),
        certify(line.city.signer(), replace(city, organization_code="51"), at=datetime.now(UTC)),
        certify(line.city.signer(), replace(city, node=line.province.id), at=datetime.now(UTC)),
        certify(line.city.signer(), city, at=datetime.now(UTC) - CERTIFICATE_VALID),
        b"no certificate",
    ]  # fmt: skip
    before = await chain_of(line.city)
    token = await link_token(line.city)
    await line.city.stop("sync")
    await set_certificate(line, b"")
    async with line.province.sync_stub() as stub:
        for certificate in (*shown, certify(line.city.signer(), city, at=datetime.now(UTC))):
            answer = await stub.PushFrames(
                sync_pb2.PushFramesRequest(pull=sync_pb2.Pull(certificate=certificate)),
                metadata=(("authorization", f"Bearer {token}"),), timeout=5,
            )  # fmt: skip
            assert bool(answer.chain) is (certificate not in shown)
    assert list(answer.chain)[1:] == before[1:]
    await line.city.start("sync")


async def test_a_parent_cannot_put_another_node_in_the_place_of_its_child(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    before = await chain_of(line.city)
    other = replace(key_of(line.city, line.province), public_key=STRANGER_KEY)
    await set_certificate(line, certify(line.province.signer(), other, at=datetime.now(UTC)))

    async def refused() -> None:
        assert "chain from above refused" in caplog.text

    await eventually(refused)
    assert await chain_of(line.city) == before
    await set_certificate(line, before[0])
