"""Keys of other nodes: while sync is away, what was known last counts as long as it is valid."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit.keys import KeysAway, KeyUnknown, NodeKeys
from kit.trust import CERTIFICATE_VALID, NodeKey, certify
from node import ports

NOW = datetime(2026, 11, 25, tzinfo=UTC)
YEAR = timedelta(days=365)
TOP = Ed25519PrivateKey.generate()


def a_key(node: UUID, code: str, parent: UUID | None, at: datetime) -> bytes:
    """A certificate by the top."""
    key = NodeKey(
        node=node, parent=parent, organization_code=code, level="city",
        public_key=TOP.public_key().public_bytes_raw(), seal_key=bytes(32),
    )  # fmt: skip
    return certify(TOP, key, at=at)


async def test_what_was_known_last_counts_until_it_is_over_while_sync_is_away() -> None:
    nation, province = uuid4(), uuid4()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ports.free()}") as channel:
        keys = NodeKeys(channel, ())
        with pytest.raises(KeysAway):
            keys.of(nation, at=NOW)
        keys.root = TOP.public_key().public_bytes_raw()
        keys.certificates = [
            a_key(nation, "0", None, NOW + YEAR), a_key(province, "51", nation, NOW)
        ]  # fmt: skip
        with pytest.raises(grpc.aio.AioRpcError):
            await keys.ask()
    late = NOW + CERTIFICATE_VALID
    assert keys.of(province, at=late - timedelta(seconds=1)).parent == nation
    assert keys.of(nation, at=late + timedelta(minutes=2)).node == nation
    with pytest.raises(KeyUnknown):
        keys.of(province, at=late + timedelta(minutes=2))
    with pytest.raises(KeysAway):
        keys.of(nation, at=late + 2 * YEAR)


async def test_a_clock_that_jumps_back_trusts_nobody_who_was_not_certified_yet() -> None:
    nation = uuid4()
    async with grpc.aio.insecure_channel("127.0.0.1:9") as channel:
        keys = NodeKeys(channel, ())
    keys.root = TOP.public_key().public_bytes_raw()
    keys.certificates = [a_key(nation, "0", None, NOW)]
    assert set(keys.trusted(at=NOW)) == {nation}
    assert keys.trusted(at=NOW - YEAR) == {}
