"""A card is good, or it is said why not: without a network, whatever the text is."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from base45 import b45decode, b45encode
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cwt import COSEKey, decode
from hypothesis import given
from hypothesis import strategies as st

from kit import trust
from kit.ids import uuid7
from kit.trust import NodeKey
from services.benefits.domain import base45, lists, tokens
from services.benefits.domain.lists import StatusList
from services.benefits.domain.tokens import PREFIX, Token
from services.benefits.domain.verification import TEXTS, Finding, verify

NOW = datetime(2026, 11, 25, 8, tzinfo=UTC)
NATION, CITY, SIBLING = (Ed25519PrivateKey.generate() for _ in range(3))
KEYS = {"0": NATION, "5101": CITY, "5102": SIBLING}
NODES = {code: uuid7() for code in KEYS}
ROOT = NATION.public_key().public_bytes_raw()


def a_key(code: str, parent: str | None) -> NodeKey:
    return NodeKey(
        node=NODES[code], parent=NODES[parent] if parent else None, organization_code=code,
        level="city", public_key=KEYS[code].public_key().public_bytes_raw(), seal_key=bytes(32),
    )  # fmt: skip


TRUSTED = trust.trusted(
    [
        trust.certify(NATION, a_key("0", None), at=NOW),
        trust.certify(NATION, a_key("5101", "0"), at=NOW),
        trust.certify(NATION, a_key("5102", "0"), at=NOW),
    ],
    ROOT, at=NOW,
)  # fmt: skip
TOKEN = Token(
    node=NODES["5101"], card=uuid7(), code="510104", status_index=77, sign_time=NOW,
    begin_time=NOW - tokens.SKEW, expire_time=NOW + timedelta(days=30),
)  # fmt: skip
LIST = StatusList(
    node=NODES["5101"], number=1, sign_time=NOW, expire_time=NOW + lists.VALID,
    bits=lists.bits_of([76, 78, 500_000]),
)  # fmt: skip


def found(
    text: str, *, at: datetime = NOW, status_lists: tuple[bytes, ...] | None = None
) -> Finding:
    known = (lists.signed(LIST, CITY),) if status_lists is None else status_lists
    return verify(text, TRUSTED, lambda node: known, at=at).finding


def a_text(*, key: Ed25519PrivateKey = CITY, **otherwise: object) -> str:
    return tokens.text_of(replace(TOKEN, **otherwise), key)  # type: ignore[arg-type]


def a_list(*, key: Ed25519PrivateKey = CITY, **otherwise: object) -> bytes:
    return lists.signed(replace(LIST, **otherwise), key)  # type: ignore[arg-type]


def test_a_card_is_good_from_when_it_is_shown_until_it_expires() -> None:
    text = a_text()
    assert found(text) is found(f"{text}\r\n") is Finding.VALID
    assert found(text, at=NOW - tokens.SKEW) is Finding.VALID
    assert found(text, at=NOW - timedelta(days=3)) is Finding.NOT_YET_VALID
    assert found(text, at=TOKEN.expire_time - timedelta(seconds=1), status_lists=(
        a_list(sign_time=TOKEN.expire_time - timedelta(days=1), expire_time=TOKEN.expire_time),
    )) is Finding.VALID  # fmt: skip
    assert found(text, at=TOKEN.expire_time) is Finding.EXPIRED


def test_who_verifies_learns_what_the_card_says() -> None:
    verdict = verify(a_text(), TRUSTED, lambda node: (), at=NOW)
    assert (verdict.finding, verdict.token) == (Finding.LIST_MISSING, TOKEN)


def test_a_node_speaks_for_its_own_part_of_the_tree_alone() -> None:
    assert found(a_text(code="5101")) is found(a_text(code="510104017")) is Finding.VALID
    assert found(a_text(code="5102")) is found(a_text(code="0")) is Finding.OUTSIDE_SCOPE
    assert found(a_text(key=SIBLING)) is Finding.ALTERED
    assert found(a_text(node=uuid7())) is Finding.UNKNOWN_ISSUER


def test_a_revoked_card_is_refused_by_every_later_list() -> None:
    revoked = a_list(bits=lists.bits_of([77]), number=2)
    assert found(a_text(), status_lists=(a_list(), revoked)) is Finding.REVOKED
    assert found(a_text(), status_lists=(revoked, a_list())) is Finding.REVOKED
    late = NOW + timedelta(days=20)
    assert found(a_text(), at=late, status_lists=(revoked,)) is Finding.REVOKED


def test_a_list_counts_for_a_week_and_only_if_its_node_signed_it() -> None:
    assert found(a_text(), at=NOW + timedelta(days=7)) is Finding.LIST_STALE
    long = a_list(expire_time=NOW + timedelta(days=300))
    assert found(a_text(), at=NOW + timedelta(days=8), status_lists=(long,)) is Finding.LIST_STALE
    forged = a_list(key=SIBLING, number=9)
    assert found(a_text(), status_lists=(forged,)) is Finding.LIST_MISSING
    others = lists.signed(replace(LIST, node=NODES["5102"], number=9), CITY)
    assert found(a_text(), status_lists=(others, b"x", a_list())) is Finding.VALID
    card = b45decode(a_text().removeprefix(PREFIX))
    assert found(a_text(), status_lists=(card,)) is Finding.LIST_MISSING


def test_a_status_list_is_no_card() -> None:
    assert found(PREFIX + b45encode(a_list()).decode()) is Finding.ALTERED


@pytest.mark.parametrize(
    "text", ["", "HC1:NCFOXN", "https://example.org/card/1", "uc1:ABC", "6217000010001234567"]
)
def test_the_code_of_another_system_is_told_apart(text: str) -> None:
    assert found(text) is Finding.FOREIGN


@given(st.integers(1, len(a_text()) - 1))
def test_a_text_that_is_cut_short_says_so(length: int) -> None:
    assert found(a_text()[:length]) is Finding.CUT_SHORT


@given(st.integers(4, len(a_text()) - 3), st.sampled_from("0Z:% $é汉"))
def test_no_changed_character_passes(place: int, other: str) -> None:
    text = a_text()
    changed = text[:place] + other + text[place + 1 :]
    assert (found(changed) is Finding.VALID) == (changed == text)


@given(st.integers(0, 2**20), st.text("0123456789", min_size=2, max_size=9))
def test_what_is_signed_is_what_is_read(index: int, code: str) -> None:
    token = replace(TOKEN, status_index=index, code=code, card=UUID(int=index))
    signed = tokens.signed_in(tokens.text_of(token, CITY))
    assert tokens.issuer_of(signed) == token.node
    assert tokens.opened(signed, CITY.public_key().public_bytes_raw()) == token


@given(st.binary(max_size=200))
def test_base45_is_what_others_make_of_it(content: bytes) -> None:
    text = base45.encode(content)
    assert text.encode() == b45encode(content)
    assert base45.decode(text) == content


@given(st.text(base45.CHARACTERS + "aé", max_size=20))
def test_base45_reads_what_others_read(text: str) -> None:
    try:
        expected = bytes(b45decode(text))
    except ValueError:
        with pytest.raises(ValueError):
            base45.decode(text)
    else:
        assert base45.decode(text) == expected


@given(st.binary(max_size=300))
def test_no_bytes_are_more_than_a_finding(content: bytes) -> None:
    for text in (PREFIX + b45encode(content).decode(), content.decode(errors="replace")):
        assert found(text) is not Finding.VALID


@pytest.mark.parametrize("content", [b"\x81" * 600, b"\xd2" * 600, b"\xd8\x1d\x00", b"\xbf" * 99])
def test_hostile_cbor_is_only_altered(content: bytes) -> None:
    text = PREFIX + b45encode(content).decode()
    assert found(text) in (Finding.ALTERED, Finding.CUT_SHORT, Finding.FOREIGN)


@given(st.sets(st.integers(0, 5_000)))
def test_a_list_holds_the_bits_that_are_set_and_no_others(indexes: set[int]) -> None:
    text = a_list(bits=lists.bits_of(indexes))
    status_list = lists.opened(text, CITY.public_key().public_bytes_raw())
    assert {index for index in range(5_100) if status_list.is_revoked(index)} == indexes


def test_a_card_is_a_cwt_as_others_read_it() -> None:
    public = CITY.public_key().public_bytes_raw()
    kid = hashlib.sha256(public).digest()[:8]
    key = COSEKey.new({1: 1, 2: kid, 3: -8, -1: 6, -2: public})
    text = a_text(expire_time=datetime.now(UTC) + timedelta(days=1))
    claims = decode(b45decode(text.removeprefix(PREFIX)), key)
    assert isinstance(claims, dict)
    assert claims[1] == f"nodes/{TOKEN.node}" and claims[tokens.STATUS_INDEX] == 77


def test_a_list_of_a_million_cards_is_a_few_kilobytes() -> None:
    text = a_list(bits=lists.bits_of(range(0, 2**20, 1_000)))
    assert len(text) < 4_000


def test_every_finding_is_said_in_both_languages() -> None:
    assert set(TEXTS) == set(Finding)
    assert all(english and chinese for english, chinese in TEXTS.values())
