"""What holds for every suite, and for whatever holds the key-encryption keys."""

import secrets
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import assume, given
from hypothesis import strategies as st

from kit import suites
from kit.config import SecretMalformed
from kit.sealing import FileKeys, KeyAway, KeyProvider, Sealer
from kit.suites import SUITES, SealBroken, Suite

EACH = pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: f"suite {suite.number}")
KEYS = st.binary(min_size=32, max_size=32)
PLACES = st.text(max_size=50)


class Another:
    """A suite that is not known here, in all else like the first."""

    number = 250

    def __getattr__(self, name: str) -> object:
        return getattr(SUITES[1], name)


def pair(suite: Suite) -> tuple[suites.Signer, bytes]:
    """A key that signs by a suite, and its public half."""
    key = {1: Ed25519PrivateKey}[suite.number].generate()
    return key, key.public_key().public_bytes_raw()


@EACH
@given(key=KEYS, id=st.uuids(), plain=st.binary(max_size=500), place=PLACES)
def test_what_is_sealed_opens_and_its_first_bytes_say_by_what(
    suite: Suite, key: bytes, id: UUID, plain: bytes, place: str
) -> None:
    sealer = Sealer(id, key, suite)
    sealed = sealer.seal(plain, place)
    assert sealer.open(sealed, place) == plain
    assert sealed[0] == suite.number
    assert sealed[1:17] == id.bytes
    assert len(plain) < 6 or plain not in sealed
    assert sealer.seal(plain, place) != sealed


def test_a_salt_follows_from_key_and_place_and_from_nothing_else() -> None:
    key, id = secrets.token_bytes(32), uuid4()
    salt = Sealer(id, key).salt("members/personal")
    assert len(salt) == 16 and Sealer(uuid4(), key).salt("members/personal") == salt
    assert Sealer(id, key).salt("members/other") != salt
    assert Sealer(id, secrets.token_bytes(32)).salt("members/personal") != salt


@EACH
@given(
    plain=st.binary(max_size=100), place=PLACES, at=st.integers(min_value=0),
    change=st.integers(1, 255),
)  # fmt: skip
def test_a_byte_that_is_altered_anywhere_is_refused(
    suite: Suite, plain: bytes, place: str, at: int, change: int
) -> None:
    sealer = Sealer(uuid4(), secrets.token_bytes(32), suite)
    sealed = bytearray(sealer.seal(plain, place))
    sealed[at % len(sealed)] ^= change
    with pytest.raises(SealBroken):
        sealer.open(bytes(sealed), place)


@EACH
@given(plain=st.binary(max_size=100), place=PLACES, end=st.integers(min_value=0))
def test_what_is_cut_is_refused(suite: Suite, plain: bytes, place: str, end: int) -> None:
    sealer = Sealer(uuid4(), secrets.token_bytes(32), suite)
    sealed = sealer.seal(plain, place)
    with pytest.raises(SealBroken):
        sealer.open(sealed[: end % len(sealed)], place)


@EACH
@given(plain=st.binary(max_size=100), place=PLACES, other=PLACES)
def test_what_is_moved_to_another_place_is_refused(
    suite: Suite, plain: bytes, place: str, other: str
) -> None:
    assume(place != other)
    sealer = Sealer(uuid4(), secrets.token_bytes(32), suite)
    with pytest.raises(SealBroken):
        sealer.open(sealer.seal(plain, place), other)


@EACH
@given(plain=st.binary(max_size=100), id=st.uuids(), other=st.uuids())
def test_another_key_opens_nothing_and_neither_does_one_of_the_same_name(
    suite: Suite, plain: bytes, id: UUID, other: UUID
) -> None:
    key = secrets.token_bytes(32)
    sealed = Sealer(id, key, suite).seal(plain, "here")
    with pytest.raises(SealBroken):
        Sealer(id, secrets.token_bytes(32), suite).open(sealed, "here")
    assume(id != other)
    with pytest.raises(SealBroken):
        Sealer(other, key, suite).open(sealed, "here")


@EACH
@given(plain=st.binary(max_size=100), wrong=st.integers(0, 255))
def test_the_byte_of_another_suite_is_refused(suite: Suite, plain: bytes, wrong: int) -> None:
    assume(wrong != suite.number)
    sealer = Sealer(uuid4(), secrets.token_bytes(32), suite)
    with pytest.raises(SealBroken):
        sealer.open(bytes([wrong]) + sealer.seal(plain, "here")[1:], "here")


def test_a_suite_that_is_not_known_is_refused_though_all_else_is_right() -> None:
    sealer = Sealer(uuid4(), bytes(32), Another())  # type: ignore[arg-type]
    with pytest.raises(SealBroken, match="unknown suite"):
        sealer.open(sealer.seal(b"x", "here"), "here")


@EACH
@given(key=KEYS, text=st.binary(max_size=100), other=st.binary(max_size=100))
def test_a_tag_is_the_same_for_the_same_text_alone(
    suite: Suite, key: bytes, text: bytes, other: bytes
) -> None:
    made = suites.tag(key, text, suite)
    assert made == suites.tag(key, text, suite)
    assert (made[0], len(made)) == (suite.number, 33)
    assert (suites.tag(key, other, suite) == made) == (other == text)
    assert suites.tag(secrets.token_bytes(32), text, suite) != made


@EACH
@given(text=st.binary(max_size=100), at=st.integers(min_value=0), change=st.integers(1, 255))
def test_a_signature_counts_for_its_text_and_key_alone(
    suite: Suite, text: bytes, at: int, change: int
) -> None:
    signer, public = pair(suite)
    signature = suites.sign(signer, text, suite)
    assert signature[0] == suite.number
    assert suites.verify(public, signature, text)
    altered = bytearray(signature)
    altered[at % len(altered)] ^= change
    assert not suites.verify(public, bytes(altered), text)
    assert not suites.verify(public, signature, text + b"x")
    assert not suites.verify(pair(suite)[1], signature, text)
    assert not suites.verify(public, b"", text)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "data.key"
    found.write_text(secrets.token_hex(32) + "\n")
    return found


@pytest.fixture(params=["file"])
def provider(file: Path) -> KeyProvider:
    """Each kind of provider, with one key."""
    return FileKeys(file)


def test_a_provider_opens_what_it_wrapped_at_its_place_alone(provider: KeyProvider) -> None:
    key = secrets.token_bytes(32)
    wrapped = provider.wrap(key, b"here")
    assert provider.unwrap(provider.current, wrapped, b"here") == key
    assert key not in wrapped
    with pytest.raises(SealBroken):
        provider.unwrap(provider.current, wrapped, b"there")
    with pytest.raises(SealBroken):
        provider.unwrap(provider.current, wrapped[:-1], b"here")
    with pytest.raises(KeyAway):
        provider.unwrap(bytes(8), wrapped, b"here")


def test_the_first_key_of_a_file_wraps_and_all_open(file: Path) -> None:
    provider = FileKeys(file)
    old, key = provider.current, secrets.token_bytes(32)
    wrapped = provider.wrap(key, b"here")
    file.write_text(f"{secrets.token_hex(32)}\n{file.read_text()}")
    later = FileKeys(file)
    assert later.current != old
    assert later.unwrap(old, wrapped, b"here") == key
    assert provider.unwrap(later.current, later.wrap(key, b"here"), b"here") == key, "read again"
    file.write_text(file.read_text().splitlines()[0])
    with pytest.raises(KeyAway):
        FileKeys(file).unwrap(old, wrapped, b"here")


@pytest.mark.parametrize("text", ["", "geheim", "00" * 31, "00" * 32 + "\n" + "00" * 33])
def test_a_file_that_holds_something_else_is_named_and_not_quoted(text: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(SecretMalformed) as error:
        FileKeys(file)
    assert "data.key does not hold 32 bytes in hex a line" in str(error.value)
    assert "geheim" not in str(error.value)
