"""Whose token counts at a node, against an issuer in a process of its own."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from joserfc import jwt
from joserfc.jwk import ECKey

from kit import identity, tokens
from kit.errors import Refusal, Unauthenticated
from kit.identity import IssuerAway, Keys, TokenExpired, TokenUntrusted, Verifier
from kit.status import refused
from smartunion.membership.v1 import membership_pb2 as pb
from tests.eventually import eventually
from tests.issuer import Issuer, encoded, issuing, public, signed
from tests.service.conftest import calling, make_settings, serving
from tests.service.desk import HOME, Desk

HERE = "nodes/here"
DAY = 86_400
STRANGER = ECKey.generate_key("P-256")
"""A key that is none of the issuer's."""
STRANGERS = json.dumps({"keys": [public(STRANGER)]})
ON_ANOTHER_CURVE = json.dumps({"keys": [public(ECKey.generate_key("P-384"))]})
LI_NA = "officers/li-na"


@dataclass
class Clock:
    now: float

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
async def issuer() -> AsyncIterator[Issuer]:
    """One that nobody cuts off."""
    async with issuing() as found:
        yield found


@pytest.fixture
async def own() -> AsyncIterator[Issuer]:
    """One that the test may cut off."""
    async with issuing() as found:
        yield found


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time())


def verifier(issuer: Issuer, clock: Clock, *, jwks: str = "") -> Verifier:
    keys = Keys(issuer.url, jwks, clock=clock)
    return Verifier(issuer.url, HERE, keys, person_key=bytes(32), clock=clock)


async def named(verifier: Verifier, token: str) -> str:
    return (await verifier.identify(token)).name


def claims(issuer: Issuer, at: float, **otherwise: Any) -> dict[str, Any]:
    return {
        "iss": issuer.url, "aud": HERE, "sub": LI_NA, "iat": int(at), "exp": int(at) + 600,
        **otherwise,
    }  # fmt: skip


async def token(issuer: Issuer, clock: Clock, **otherwise: Any) -> str:
    """A right one, but for `otherwise`."""
    return await issuer.token(**claims(issuer, clock(), **otherwise))


@pytest.fixture(scope="module")
async def guarded(
    issuer: Issuer, postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Desk]:
    """A service of a node that has this issuer."""
    made = await make_settings(postgres, template, tmp_path_factory.mktemp("guarded"))
    settings = made.model_copy(update={"issuer": issuer.url, "audience": HERE, "jwks": ""})
    async with serving(settings), calling(settings) as desk:
        yield desk


async def answer(desk: Desk, token: str) -> Any:
    request = pb.ListOrganizationsRequest(parent=HOME, page_size=1)
    return await desk.stub.ListOrganizations(
        request, metadata=(("authorization", f"Bearer {token}"),)
    )


async def test_who_has_a_token_of_the_issuer_is_served(guarded: Desk, issuer: Issuer) -> None:
    good = await issuer.token(**claims(issuer, time.time()))
    assert (await answer(guarded, good)).organizations
    for subject, reason in (
        (f"members/{uuid4()}", "NO_OFFICE"), ("merchants/xinhua-bookshop", "ACCESS_DENIED"),
    ):  # fmt: skip
        other = await issuer.token(**claims(issuer, time.time(), sub=subject))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await answer(guarded, other)
        assert refused(error.value).reason == reason  # known, and not let in
        assert refused(error.value).metadata["caller"] == subject


async def key_id(issuer: Issuer) -> str:
    """Of the key by which it signs."""
    keys = json.loads(await asyncio.to_thread(identity.read, f"{issuer.url}/keys"))["keys"]
    return str(keys[0]["kid"])


async def hs256(issuer: Issuer, at: float) -> str:
    """Signed with the public key as if it were a secret, as the header says."""
    keys = json.loads(await asyncio.to_thread(identity.read, f"{issuer.url}/keys"))["keys"]
    secret = ECKey.import_key(keys[0]).as_pem(private=False)
    parts = {"alg": "HS256", "kid": keys[0]["kid"]}, claims(issuer, at)
    text = ".".join(encoded(json.dumps(part)) for part in parts)
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), hashlib.sha256))}"


async def unsigned(issuer: Issuer, at: float) -> str:
    parts = {"alg": "none", "kid": await key_id(issuer)}, claims(issuer, at)
    return ".".join([*(encoded(json.dumps(part)) for part in parts), ""])


async def by_another_key(issuer: Issuer, at: float) -> str:
    """With the id of a key that the issuer has."""
    header = {"kid": await key_id(issuer)}
    return signed(header, claims(issuer, at), ECKey.generate_key("P-256"))


async def by_an_unknown_key(issuer: Issuer, at: float) -> str:
    return signed({"kid": "made up"}, claims(issuer, at), ECKey.generate_key("P-256"))


async def on_another_curve(issuer: Issuer, at: float) -> str:
    header = {"alg": "ES384", "kid": await key_id(issuer)}
    key = ECKey.generate_key("P-384")
    return jwt.encode(header, claims(issuer, at), key, algorithms=["ES384"])


async def altered(issuer: Issuer, at: float) -> str:
    """Another subject than was signed."""
    header, _, signature = (await issuer.token(**claims(issuer, at))).split(".")
    return f"{header}.{encoded(json.dumps(claims(issuer, at, sub='officers/boss')))}.{signature}"


async def with_a_signature_in_der(issuer: Issuer, at: float) -> str:
    """Right, but not in the form of RFC 7518."""
    text, _, signature = (await issuer.token(**claims(issuer, at))).rpartition(".")
    both = base64.urlsafe_b64decode(signature + "==")
    halves = (int.from_bytes(half, "big") for half in (both[:32], both[32:]))
    return f"{text}.{encoded(encode_dss_signature(*halves))}"


async def bound_to_something_unknown(issuer: Issuer, at: float) -> str:
    """`crit` names what must be understood (RFC 7515, section 4.1.11)."""
    return await issuer.token({"crit": ["who"], "who": 1}, **claims(issuer, at))


async def without_the_id_of_a_key(issuer: Issuer, at: float) -> str:
    return await issuer.token({"kid": None}, **claims(issuer, at))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": 0}, "TOKEN_EXPIRED"),
        ({"nbf": 2**40}, "TOKEN_NOT_YET_VALID"),
        ({"iat": 2**40}, "TOKEN_NOT_YET_VALID"),
        ({"exp": None}, "TOKEN_MALFORMED"),
        ({"exp": "tomorrow"}, "TOKEN_MALFORMED"),
        ({"exp": True}, "TOKEN_MALFORMED"),
        ({"exp": 10**400}, "TOKEN_MALFORMED"),
        ({"exp": float("nan")}, "TOKEN_MALFORMED"),
        ({"nbf": None, "iat": [1]}, "TOKEN_MALFORMED"),
        ({"aud": "nodes/there"}, "TOKEN_FOR_OTHERS"),
        ({"aud": ["nodes/there", f"{HERE}/"]}, "TOKEN_FOR_OTHERS"),
        ({"aud": {HERE: 1}}, "TOKEN_FOR_OTHERS"),
        ({"aud": None}, "TOKEN_FOR_OTHERS"),
        ({"iss": "https://evil.example"}, "TOKEN_UNTRUSTED"),
        ({"iss": None}, "TOKEN_UNTRUSTED"),
        ({"sub": None}, "TOKEN_MALFORMED"),
        ({"sub": 7}, "TOKEN_MALFORMED"),
        ({"sub": ""}, "SUBJECT_MALFORMED"),
        ({"sub": "officers/li-na\n"}, "SUBJECT_MALFORMED"),
        ({"sub": "7" * 256}, "SUBJECT_MALFORMED"),
        ({"acr": 7}, "TOKEN_MALFORMED"),
        ({"auth_time": "now"}, "TOKEN_MALFORMED"),
        ({"auth_time": 2**40}, "TOKEN_NOT_YET_VALID"),
        ({"nonce": "n-0S6_WzA2Mj"}, "TOKEN_MALFORMED"),
        ({"at_hash": "77QmUPtjPfzWtF2AnpK9RQ"}, "TOKEN_MALFORMED"),
    ],
)
async def test_a_token_that_is_not_for_here_and_now_is_refused(
    changes: dict[str, Any], reason: str, guarded: Desk, issuer: Issuer
) -> None:
    await told(guarded, await issuer.token(**claims(issuer, time.time(), **changes)), reason)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (hs256, "TOKEN_MALFORMED"),
        (unsigned, "TOKEN_MALFORMED"),
        (on_another_curve, "TOKEN_MALFORMED"),
        (bound_to_something_unknown, "TOKEN_MALFORMED"),
        (by_another_key, "TOKEN_UNTRUSTED"),
        (by_an_unknown_key, "TOKEN_UNTRUSTED"),
        (altered, "TOKEN_UNTRUSTED"),
        (with_a_signature_in_der, "TOKEN_UNTRUSTED"),
        (without_the_id_of_a_key, "TOKEN_MALFORMED"),
    ],
)
async def test_a_token_that_the_issuer_did_not_sign_is_refused(
    make: Any, reason: str, guarded: Desk, issuer: Issuer
) -> None:
    await told(guarded, await make(issuer, time.time()), reason)


@pytest.mark.parametrize(
    "text",
    ["", "x", "a.b.c", "..", "e30.e30.", f"{encoded('[]')}.x.y", "x" * 7000, "a.b." + "c" * 7000,
     f"{encoded('[' * 3000)}.x.y", "dev.officers/li-na.AAAA"],
)  # fmt: skip
async def test_a_text_that_is_no_token_is_refused(text: str, guarded: Desk) -> None:
    await told(guarded, text, "TOKEN_MALFORMED" if text.count(".") == 2 else "TOKEN_INVALID")


async def told(desk: Desk, token: str, reason: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await answer(desk, token)
    found = refused(error.value)
    assert (found.code, found.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)
    assert found.chinese and "Traceback" not in found.text


async def test_a_service_is_named_by_its_node_alone_and_names_nobody_else(
    guarded: Desk, issuer: Issuer
) -> None:
    key = guarded.settings.secret("token.key")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await answer(guarded, tokens.sign(key, "sync"))
    assert refused(error.value).metadata["caller"] == "services/sync"
    forged = tokens.sign(key, f"../{LI_NA}").removeprefix("services/../")
    await told(guarded, forged, "TOKEN_INVALID")


@pytest.mark.parametrize(
    ("type_", "served"),
    [("at+jwt", True), ("application/at+jwt", True), ("AT+JWT", True), ("JWT", True),
     ("logout+jwt", False), ("dpop+jwt", False), ("at+jwt ", False), ("", False), (None, False),
     (7, False)],
)  # fmt: skip
async def test_a_token_of_another_type_is_no_access_token(
    type_: Any, served: bool, guarded: Desk, issuer: Issuer
) -> None:
    made = await issuer.token({"typ": type_}, **claims(issuer, time.time()))
    if served:
        assert (await answer(guarded, made)).organizations
    else:
        await told(guarded, made, "TOKEN_MALFORMED")


@pytest.mark.parametrize(
    "subject",
    ["248289761001", "13800000000", "officers/13800000000", "officers/11010519491231002X",
     "members/li-na", "services/sync", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"],
)  # fmt: skip
async def test_what_the_issuer_calls_somebody_is_known_to_nobody_here(
    subject: str, guarded: Desk, issuer: Issuer, clock: Clock
) -> None:
    made = await issuer.token(**claims(issuer, time.time(), sub=subject))
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await answer(guarded, made)
    found = refused(error.value)
    assert found.reason == "ACCESS_DENIED"  # known, and not let in
    assert found.metadata["caller"].startswith("persons/")
    assert subject not in str(error.value.debug_error_string())
    assert await named(verifier(issuer, clock), made) != found.metadata["caller"]  # another key


async def test_an_issuer_that_cannot_be_reached_keeps_no_caller_out_for_good(
    own: Issuer, clock: Clock
) -> None:
    here, good = verifier(own, clock), await token(own, clock)
    await own.stop()
    with pytest.raises(IssuerAway):
        await named(here, good)
    await own.start()
    clock.now += identity.PAUSE
    with pytest.raises(TokenUntrusted):  # It made other keys when it started.
        await named(here, good)
    clock.now += identity.PAUSE
    assert await named(here, await token(own, clock)) == LI_NA


async def test_keys_are_asked_for_once_whoever_calls_at_once(issuer: Issuer, clock: Clock) -> None:
    here, good, before = verifier(issuer, clock), await token(issuer, clock), await issuer.asked()
    impatient = asyncio.create_task(named(here, good))
    await asyncio.sleep(0)
    impatient.cancel()  # It began the fetch.
    assert await asyncio.gather(*(named(here, good) for _ in range(50))) == [LI_NA] * 50
    assert await issuer.asked() == before + 1


async def test_a_new_key_is_found_and_strangers_do_not_make_us_ask_again_and_again(
    issuer: Issuer, clock: Clock
) -> None:
    here = verifier(issuer, clock)
    await named(here, await token(issuer, clock))
    before = await issuer.asked()
    await issuer.rotate()
    good = await token(issuer, clock)
    clock.now += identity.PAUSE
    assert await named(here, good) == LI_NA
    for _ in range(20):
        with pytest.raises(TokenUntrusted):
            await named(here, await by_an_unknown_key(issuer, clock()))
    assert await issuer.asked() == before + 1
    clock.now += identity.PAUSE
    with pytest.raises(TokenUntrusted):
        await named(here, await by_an_unknown_key(issuer, clock()))
    assert await issuer.asked() == before + 2


async def test_a_key_that_the_issuer_withdrew_counts_no_longer(
    issuer: Issuer, clock: Clock
) -> None:
    here = verifier(issuer, clock)
    old = await token(issuer, clock, exp=int(clock()) + 10_000)
    assert await named(here, old) == LI_NA
    await issuer.rotate(keep=False)
    clock.now += identity.FRESH
    assert await named(here, old) == LI_NA  # The keys are fetched meanwhile.

    async def withdrawn() -> None:
        clock.now += identity.REMEMBERED
        try:
            raise AssertionError(await named(here, old))
        except TokenUntrusted:
            pass

    await eventually(withdrawn)


async def test_the_keys_outlive_the_issuer_for_a_day_and_no_longer(
    own: Issuer, clock: Clock
) -> None:
    here = verifier(own, clock)
    good = await token(own, clock, exp=int(clock()) + 3 * DAY)
    assert await named(here, good) == LI_NA
    await own.stop()
    clock.now += DAY - 1
    assert await named(here, good) == LI_NA
    clock.now += 1 + identity.REMEMBERED
    with pytest.raises(IssuerAway):
        await named(here, good)


@pytest.mark.parametrize(
    "said",
    [500, 302, "", "garbage", "[]", "{}", '{"keys": []}', '{"keys": [7]}', "[" * 100_000,
     STRANGERS + " " * identity.MOST_BYTES, ON_ANOTHER_CURVE],
    ids=lambda _: "said",
)  # fmt: skip
async def test_keys_that_cannot_be_read_leave_those_that_are_there(
    said: Any, issuer: Issuer, clock: Clock
) -> None:
    here, good = verifier(issuer, clock), await token(issuer, clock)
    await named(here, good)
    before = await issuer.asked()
    await issuer.answers("/keys", said)
    await issuer.answers("/moved", STRANGERS)
    try:
        clock.now += identity.REMEMBERED
        with pytest.raises(TokenUntrusted):
            known = {"kid": STRANGER.thumbprint()}
            await named(here, signed(known, claims(issuer, clock()), STRANGER))
        assert await issuer.asked() == before + 1
        assert await named(here, good) == LI_NA
    finally:
        await issuer.answers("/keys", None)


@pytest.mark.parametrize(
    "said",
    [{"issuer": "https://evil.example", "jwks_uri": "{issuer}/keys"},
     {"issuer": "{issuer}", "jwks_uri": "{file}"},
     {"issuer": "{issuer}", "jwks_uri": "http://192.0.2.1/keys"},
     {"issuer": "{issuer}"}, [], 404],
)  # fmt: skip
async def test_a_discovery_of_somebody_else_is_not_followed(
    said: Any, issuer: Issuer, clock: Clock, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_bytes(await asyncio.to_thread(identity.read, f"{issuer.url}/keys"))
    text = json.dumps(said).replace("{issuer}", issuer.url).replace("{file}", file.as_uri())
    await issuer.answers(identity.DISCOVERY, said if said == 404 else text)
    try:
        with pytest.raises(IssuerAway):
            await named(verifier(issuer, clock), await token(issuer, clock))
        straight = verifier(issuer, clock, jwks=f"{issuer.url}/keys")
        assert await named(straight, await token(issuer, clock)) == LI_NA
    finally:
        await issuer.answers(identity.DISCOVERY, None)


async def test_what_is_remembered_of_a_token_ends_with_it(issuer: Issuer, clock: Clock) -> None:
    here, short = verifier(issuer, clock), await token(issuer, clock, exp=int(clock()) + 20)
    assert await named(here, short) == LI_NA
    clock.now += 20
    with pytest.raises(TokenExpired):
        await named(here, short)


async def test_no_more_tokens_are_remembered_than_there_is_room_for(
    issuer: Issuer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "MOST_REMEMBERED", 3)
    here = verifier(issuer, clock)
    for number in range(10):
        name = f"officers/{number}"
        assert await named(here, await token(issuer, clock, sub=name)) == name
    assert [one.name for one, _ in here._remembered.values()] == [
        f"officers/{n}" for n in (7, 8, 9)
    ]


async def test_a_token_begins_a_little_early_where_clocks_differ(
    issuer: Issuer, clock: Clock
) -> None:
    here = verifier(issuer, clock)
    soon = int(clock() + identity.LEEWAY) - 1
    assert await named(here, await token(issuer, clock, iat=soon, nbf=soon)) == LI_NA


def test_keys_may_lie_in_a_file(tmp_path: Path) -> None:
    key = ECKey.generate_key("P-256")
    file = tmp_path / "我的 keys"
    file.write_text(json.dumps({"keys": [public(key)]}))
    assert list(identity.keys_in(identity.read(file.as_uri()))) == [key.thumbprint()]


def test_every_refusal_of_a_token_says_so_in_two_languages() -> None:
    for kind in (identity.TokenMalformed, TokenUntrusted, TokenExpired, identity.SubjectMalformed):
        refusal: Refusal = kind(issuer="https://a", most=1)
        assert isinstance(refusal, Unauthenticated) and refusal.chinese_text != str(refusal)
