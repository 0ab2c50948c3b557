"""Keys are trusted along the tree and inside it, and what is sealed is for one node alone."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from kit.envelopes import open_with, seal_key_of, seal_to
from kit.trust import CERTIFICATE_VALID, NodeKey, certify, continues, trusted

NOW = datetime(2026, 11, 25, tzinfo=UTC)


class Holder:
    """A node and its key."""

    def __init__(self, code: str, parent: "Holder | None" = None) -> None:
        self.id, self.code, self.parent = uuid4(), code, parent
        self.key = Ed25519PrivateKey.generate()
        self.public = self.key.public_key().public_bytes_raw()

    def certificate(self, by: "Holder | None" = None, **changes: str) -> bytes:
        """As its parent makes it, or as someone else does."""
        signer = by or self.parent or self
        key = NodeKey(
            node=self.id, parent=signer.id if signer is not self else None,
            organization_code=changes.get("code", self.code), level="city", public_key=self.public,
            seal_key=bytes(32),
        )  # fmt: skip
        return certify(signer.key, key, at=NOW)


NATION = Holder("0")
SICHUAN, HUBEI = Holder("51", NATION), Holder("42", NATION)
CHENGDU = Holder("5101", SICHUAN)
CHAIN = [holder.certificate() for holder in (CHENGDU, NATION, SICHUAN)]


def codes(certificates: list[bytes], *, at: datetime = NOW) -> dict[UUID, str]:
    found = trusted(certificates, NATION.public, at=at)
    return {node: key.organization_code for node, key in found.items()}


def test_a_city_is_trusted_through_its_province_by_whoever_knows_the_nation() -> None:
    assert codes(CHAIN) == {NATION.id: "0", SICHUAN.id: "51", CHENGDU.id: "5101"}


def test_nobody_is_trusted_without_the_link_between() -> None:
    assert CHENGDU.id not in codes([NATION.certificate(), CHENGDU.certificate()])


def test_a_province_cannot_speak_for_another_provinces_city() -> None:
    wuhan = Holder("4201", SICHUAN)
    assert wuhan.id not in codes([*CHAIN, wuhan.certificate()])


def test_a_node_cannot_take_its_own_parents_place() -> None:
    assert codes([*CHAIN, CHENGDU.certificate(by=CHENGDU, code="0")]) == codes(CHAIN)
    twin = Holder("51", SICHUAN)
    assert twin.id not in codes([*CHAIN, twin.certificate()])


def test_a_code_that_would_cover_everything_is_none() -> None:
    everywhere = Holder("", NATION)
    assert everywhere.id not in codes([*CHAIN, everywhere.certificate()])


def test_a_text_of_huge_numbers_is_no_certificate() -> None:
    huge = cbor2.dumps(cbor2.CBORTag(18, [b"", {}, cbor2.dumps({1: 10**5000, 2: 1}), b""]))
    assert codes([*CHAIN, huge]) == codes(CHAIN)


def follows(*chain: bytes, held: tuple[bytes, ...] = (), at: datetime = NOW) -> bool:
    """Whether Chengdu takes a chain after the one it held."""
    before = held or (CHENGDU.certificate(), SICHUAN.certificate(), NATION.certificate())
    return continues(chain, before, CHENGDU.id, CHENGDU.public, at=at)


def test_a_chain_is_followed_to_the_same_nodes_and_to_a_new_top() -> None:
    whole = (CHENGDU.certificate(), SICHUAN.certificate(), NATION.certificate())
    alone = (CHENGDU.certificate(by=CHENGDU),)
    top = Holder("51")
    assert follows(*whole)
    assert follows(*whole, held=alone)
    assert follows(*whole, held=(CHENGDU.certificate(), SICHUAN.certificate(by=SICHUAN)))
    assert not follows(*whole, held=(Holder("5101", top).certificate(), top.certificate()))


def test_a_chain_that_replaces_or_leaves_out_whom_it_was_trusted_with_is_not_followed() -> None:
    other = Holder("0")
    other.id = NATION.id
    assert not follows(CHENGDU.certificate(), SICHUAN.certificate(by=other), other.certificate())
    assert not follows(CHENGDU.certificate(), SICHUAN.certificate(by=SICHUAN))
    assert not follows(CHENGDU.certificate(by=NATION), NATION.certificate())
    assert not follows(CHENGDU.certificate(), SICHUAN.certificate())
    assert not follows(SICHUAN.certificate(), NATION.certificate())
    twin = Holder("5101", SICHUAN)
    twin.id = CHENGDU.id
    assert not follows(twin.certificate(), SICHUAN.certificate(), NATION.certificate())
    assert not follows(b"", b"no certificate")
    assert not follows()


def test_a_certificate_ends() -> None:
    assert codes(CHAIN, at=NOW + CERTIFICATE_VALID) == {}
    assert codes(CHAIN, at=NOW - timedelta(days=2)) == {}


def test_another_top_is_no_top() -> None:
    assert trusted(CHAIN, HUBEI.public, at=NOW) == {}


@given(st.binary(max_size=200) | st.tuples(st.integers(0, 200), st.integers(0, 255)))
def test_what_is_altered_is_trusted_by_nobody(change: bytes | tuple[int, int]) -> None:
    if isinstance(change, bytes):
        altered = change
    else:
        at, byte = change
        whole = bytearray(CHAIN[0])
        at %= len(whole)
        if whole[at] == byte:
            return
        whole[at] = byte
        altered = bytes(whole)
    assert CHENGDU.id not in codes([*CHAIN[1:], altered])


@given(st.binary(max_size=2_000), st.binary(min_size=32, max_size=32))
def test_what_is_sealed_for_a_node_opens_there_and_nowhere_else(plain: bytes, key: bytes) -> None:
    sealed = seal_to(seal_key_of(key), plain, "voices/1")
    assert open_with(key, sealed, "voices/1") == plain
    for other, text, place in [
        (bytes(32) if key != bytes(32) else bytes([1] * 32), sealed, "voices/1"),
        (key, sealed, "voices/2"),
        (key, sealed[:-1], "voices/1"),
        (key, b"", "voices/1"),
    ]:
        with pytest.raises(ValueError):
            open_with(other, text, place)
