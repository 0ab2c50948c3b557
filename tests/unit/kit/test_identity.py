"""Whatever text comes as a token, the answer is an identity or a refusal."""

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey

from kit.errors import Unauthenticated
from kit.identity import (
    MAX_AGE,
    MOST_CHARACTERS,
    PRINCIPAL,
    Identity,
    InsufficientUserAuthentication,
    Keys,
    Verifier,
)
from tests.issuer import encoded, public, signed

KEY = ECKey.generate_key("P-256")
NOW = int(time.time())
RIGHT = {"iss": "me", "aud": "here", "sub": "officers/li-na", "iat": NOW, "exp": NOW + 600}
GOOD = signed({"kid": KEY.thumbprint()}, RIGHT, KEY)

PERSON = re.compile(r"persons/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
ANYTHING = st.recursive(
    ATOMS | st.sampled_from(list(RIGHT.values())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "x5c", "jku", "zip"]), ANYTHING
)
CLAIMS = st.dictionaries(
    st.sampled_from([*RIGHT, "nbf", "auth_time", "acr", "nonce"]), ANYTHING
).map(lambda some: RIGHT | some)


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str | None]]:
    """Whom a token names; None if it is refused."""
    file = tmp_path_factory.mktemp("issuer") / "jwks"
    file.write_text(json.dumps({"keys": [public(KEY)]}))
    keys = Keys("me", file.as_uri())
    verifier = Verifier("me", "here", keys, person_key=bytes(32), clock=lambda: NOW)
    with asyncio.Runner() as runner:

        def found(token: str) -> str | None:
            try:
                return runner.run(verifier.identify(token)).name
            except Unauthenticated:
                return None

        assert found(GOOD) == RIGHT["sub"]
        yield found


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=60) | st.lists(st.text(max_size=20), max_size=5).map(".".join))
def test_no_text_is_a_token(text: str, name: Callable[[str], str | None]) -> None:
    assert name(text) is None


@settings(max_examples=150, deadline=None)
@given(header=HEADERS | ANYTHING, claims=ANYTHING, signature=st.binary(max_size=80))
def test_what_nobody_signed_is_refused(
    header: Any, claims: Any, signature: bytes, name: Callable[[str], str | None]
) -> None:
    parts: list[str | bytes] = [json.dumps(header), json.dumps(claims), signature]
    assert name(".".join(map(encoded, parts))) is None


@settings(max_examples=150, deadline=None)
@given(header=HEADERS, claims=CLAIMS | ANYTHING)
def test_what_is_signed_names_a_principal_or_is_refused(
    header: dict[str, Any], claims: Any, name: Callable[[str], str | None]
) -> None:
    found = name(signed({"kid": KEY.thumbprint(), **header}, claims, KEY))
    if found is not None:
        subject = claims["sub"]
        assert (found == subject) == bool(PRINCIPAL.fullmatch(subject))
        assert found == subject or PERSON.fullmatch(found)


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, len(GOOD) - 1), other=st.characters(codec="ascii"))
def test_a_token_with_another_letter_is_refused(
    at: int, other: str, name: Callable[[str], str | None]
) -> None:
    token = GOOD[:at] + other + GOOD[at + 1 :]
    assert name(token) == (RIGHT["sub"] if token == GOOD else None)


def test_a_long_token_is_refused_unread(name: Callable[[str], str | None]) -> None:
    longest = signed({"kid": KEY.thumbprint()}, RIGHT | {"of no use": "x" * 3_000}, KEY)
    assert len(longest) < MOST_CHARACTERS and name(longest) == RIGHT["sub"]
    longer = signed({"kid": KEY.thumbprint()}, RIGHT | {"of no use": "x" * 6_000}, KEY)
    assert len(longer) > MOST_CHARACTERS and name(longer) is None


@pytest.mark.parametrize(
    ("age", "acr", "strong", "enough"),
    [(0, "", (), True), (MAX_AGE, "", (), True), (MAX_AGE + 1, "", (), False),
     (0, "phr", ("phr", "phrh"), True), (0, "pwd", ("phr", "phrh"), False),
     (0, "", ("phr",), False), (MAX_AGE + 1, "phr", ("phr",), False)],
)  # fmt: skip
def test_a_login_is_good_enough_while_it_is_fresh_and_of_a_kind_that_the_node_trusts(
    age: int, acr: str, strong: tuple[str, ...], enough: bool
) -> None:
    who = Identity("officers/a", issuer="me", auth_time=NOW - age, acr=acr)
    if enough:
        who.check_step_up(strong, at=NOW)
        return
    with pytest.raises(InsufficientUserAuthentication) as told:
        who.check_step_up(strong, at=NOW)
    assert told.value.facts == {
        "issuer": "me", "max_age": str(MAX_AGE), "acr_values": " ".join(strong)
    }  # fmt: skip


def test_a_token_that_says_nothing_of_a_login_is_of_none() -> None:
    with pytest.raises(InsufficientUserAuthentication):
        Identity("officers/a").check_step_up((), at=NOW)
