"""Who a token names: access tokens of one OIDC issuer, signed with ES256 (RFC 7519, RFC 9068).

A subject that is a name here (`officers/…`) names that principal.  Any other is what the issuer
calls somebody, perhaps a phone number: it is replaced by a keyed hash, `persons/{uuid}`, before
anything else sees it.

What is read is small before it is parsed, the algorithm is ours and not the token's, and whatever
else stands in a token ends in an identity or in a refusal.  The keys are fetched where a call needs
them: not before, not twice at once, and not for every stranger who makes up the id of a key.
"""

import asyncio
import hashlib
import ipaddress
import json
import logging
import math
import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    Request,
)
from uuid import UUID

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from kit.authority import SUBJECT
from kit.errors import Unauthenticated, Unavailable
from kit.suites import OURS

MOST_CHARACTERS = 6 * 1024
"""Of a token: gRPC turns metadata away by chance above 8 KiB, and other headers need some."""

PRINCIPAL = re.compile(
    rf"(officers|merchants)/{SUBJECT}"
    r"|members/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)
"""The subjects that are names here."""

TYPES = ("at+jwt", "jwt")
"""What a token may say of its type (`typ`), without `application/`: RFC 9068, section 2.1, and what
issuers write that are older.  ID tokens are `JWT` too."""

OF_ID_TOKENS = ("nonce", "at_hash", "c_hash")
"""Claims that stand in ID tokens alone: OpenID Connect Core 1.0, sections 2 and 3.3.2.11."""

MOST_SUBJECT = 255
"""Characters of a subject: OpenID Connect Core 1.0, section 2."""

LEEWAY = 30.0
"""Seconds by which the issuer's clock may be ahead of ours."""

REMEMBERED = 60.0
"""Seconds for which a token that was verified is not verified again."""

MOST_REMEMBERED = 10_000
"""Tokens, about 2 MB."""

FRESH = 300.0
"""Seconds after which keys are fetched again, while calls go on with those that are there."""

PAUSE = 30.0
"""Seconds from the beginning of one fetch to that of the next."""

LASTING = 86_400.0
"""Seconds for which keys count while the issuer does not answer."""

PATIENCE = 5.0
"""Seconds that the issuer gets to answer."""

MOST_BYTES = 2**18
"""Of what the issuer answers."""

MAX_AGE = 600
"""Seconds for which a login is fresh."""

DISCOVERY = "/.well-known/openid-configuration"

log = logging.getLogger(__name__)


class TokenMalformed(Unauthenticated):
    message = (
        "this is no access token: a JWT (typ at+jwt or JWT) of at most {most} characters, signed "
        "with ES256, that names its key (kid), iss, aud, sub and exp, and no ID token"
    )
    chinese = (
        "这不是访问令牌：应为不超过 {most} 个字符、用 ES256 签名并含 kid、iss、aud、sub、exp 的 JWT"
        "（typ 为 at+jwt 或 JWT），且不是 ID 令牌"
    )


class TokenUntrusted(Unauthenticated):
    message = "this token is not signed by {issuer}, whose tokens count here; get one there"
    chinese = "该令牌不是由 {issuer} 签发的，而本节点只接受其令牌；请到那里获取"


class TokenForOthers(Unauthenticated):
    message = "this token is for others; this node takes tokens with the audience {audience}"
    chinese = "该令牌不是给本节点的；本节点只接受 aud 为 {audience} 的令牌"


class TokenExpired(Unauthenticated):
    message = "this token has expired; get a new one from {issuer}"
    chinese = "该令牌已过期；请从 {issuer} 获取新的令牌"


class TokenNotYetValid(Unauthenticated):
    message = "this token is not valid yet; wait, or set the clock of {issuer} right"
    chinese = "该令牌尚未生效；请稍候，或校准 {issuer} 的时钟"


class SubjectMalformed(Unauthenticated):
    message = "the subject (sub) of a token has 1 to 255 printable ASCII characters"
    chinese = "令牌的 sub 应为 1 至 255 个可打印的 ASCII 字符"


class InsufficientUserAuthentication(Unauthenticated):
    message = (
        "this needs a login at {issuer} that is at most {max_age} s old; acr (any if empty): "
        "{acr_values}; log in again there and repeat the call with the new token"
    )
    chinese = (
        "此操作需要 {max_age} 秒内在 {issuer} 重新登录（acr，留空不限：{acr_values}）；"
        "请重新登录后用新令牌重试"
    )


class IssuerAway(Unavailable):
    message = "{issuer} does not give its keys, so no token can be checked; repeat the call later"
    chinese = "暂时无法取得 {issuer} 的密钥，因此不能核验令牌；请稍后重试"


REGISTRY = jws.JWSRegistry(algorithms=["ES256"], strict_check_header=False)
"""Headers that nobody here knows are passed over, as RFC 7515 asks; `crit` is obeyed."""


@contextmanager
def malformed() -> Iterator[None]:
    """What the parsers raise at a text that is no token becomes a refusal."""
    try:
        yield
    except (JoseError, ValueError, TypeError, KeyError, RecursionError):
        raise TokenMalformed(most=MOST_CHARACTERS) from None


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a token names."""

    name: str
    """The principal: `officers/…`, `members/{uuid}`, `merchants/…` or `persons/{uuid}`."""
    issuer: str = ""
    """Who names them; empty if it is this node."""
    expires: float = math.inf
    """When the token ends: seconds since 1970."""
    auth_time: float = 0.0
    """When they logged in, in the same way; 0 if the issuer does not say."""
    acr: str = ""
    """How well, in the issuer's words (`acr`); empty if it does not say."""
    person: str = ""
    """Whom the token named, if that person is bound to `name`; else empty."""

    def check_step_up(self, strong: Collection[str], *, at: float) -> None:
        """Raises InsufficientUserAuthentication unless they logged in a moment ago, and well.

        Source: RFC 9470, section 3; the facts have the names of its parameters.

        Args:
            strong: the `acr` of logins that are good enough; empty: all are.
        """
        if at - self.auth_time > MAX_AGE or (strong and self.acr not in strong):
            raise InsufficientUserAuthentication(
                issuer=self.issuer, max_age=MAX_AGE, acr_values=" ".join(strong)
            )


class Keys:
    """The public keys of an issuer, by their ids."""

    def __init__(
        self, issuer: str, jwks: str = "", *, clock: Callable[[], float] = time.time
    ) -> None:
        """
        Args:
            jwks: where they are; empty: where the issuer's OIDC discovery says.
        """
        self._issuer, self._jwks, self._clock = issuer, jwks, clock
        self._keys: dict[str, ECKey] = {}
        self._came = self._tried = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def get(self, key_id: str) -> ECKey:
        """The key with an id.

        Raises:
            TokenUntrusted: if the issuer has none.
            IssuerAway: if it is not known which keys it has.
        """
        if key_id in self._keys and (age := self._age()) < LASTING:
            if age >= FRESH:
                self._fetch_soon()
            return self._keys[key_id]
        if fetching := self._fetch_soon():
            await asyncio.shield(fetching)  # A caller that gives up does not take it from others.
        if self._age() >= LASTING:
            raise IssuerAway(issuer=self._issuer)
        if key_id not in self._keys:
            raise TokenUntrusted(issuer=self._issuer)
        return self._keys[key_id]

    def _age(self) -> float:
        """Of the keys in seconds.  A clock that was set back makes them old, not young."""
        age = self._clock() - self._came
        return age if age >= 0 else float("inf")

    def _fetch_soon(self) -> "asyncio.Task[None] | None":
        """The fetch in flight, or a new one; None while the last one is too recent."""
        if self._fetching is None or self._fetching.done():
            now = self._clock()
            if 0 <= now - self._tried < PAUSE:
                return None
            self._tried = now
            self._fetching = asyncio.create_task(self._fetch(now))
        return self._fetching

    async def _fetch(self, now: float) -> None:
        """What cannot be read leaves the keys that are there."""
        try:
            async with asyncio.timeout(2 * PATIENCE):
                address = self._jwks or await self._discovered()
                self._keys, self._came = keys_in(await asyncio.to_thread(read, address)), now
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"[:200]
            log.warning("no keys of the issuer", extra={"issuer": self._issuer, "error": problem})

    async def _discovered(self) -> str:
        """Source: OpenID Connect Discovery 1.0, section 4."""
        said = json.loads(await asyncio.to_thread(read, self._issuer.rstrip("/") + DISCOVERY))
        if said["issuer"] != self._issuer:
            raise ValueError("its discovery names another issuer")
        address = str(said["jwks_uri"])
        if not is_web_address(address, loopback=self._issuer.startswith("http:")):
            raise ValueError("its jwks_uri is no https:// address")
        return address


class Verifier:
    """Knows whom a token names, if the issuer made it for this node."""

    def __init__(
        self, issuer: str, audience: str, keys: Keys, *, person_key: bytes,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """`person_key`: makes names of subjects, the same at all services of the node."""
        self._issuer, self._audience, self._keys = issuer, audience, keys
        self._person_key, self._clock = person_key, clock
        self._remembered: dict[bytes, tuple[Identity, float]] = {}
        """By the SHA-256 of a token: whom it names, and until when that is taken from here."""

    async def identify(self, token: str) -> Identity:
        """Whom a token names.

        Raises:
            TokenMalformed, TokenUntrusted, TokenForOthers, TokenExpired, TokenNotYetValid,
            SubjectMalformed: if it names nobody.
            IssuerAway: if that cannot be said now.
        """
        if len(token) > MOST_CHARACTERS or not token.isascii():
            raise TokenMalformed(most=MOST_CHARACTERS)
        digest, now = hashlib.sha256(token.encode()).digest(), self._clock()
        found = self._remembered.get(digest)
        if found is None or now >= found[1]:
            claims = await self._claims(token)
            found = self._identity(claims, now), min(claims["exp"], now + REMEMBERED)
            self._remember(digest, found)
        return found[0]

    async def _claims(self, token: str) -> dict[str, Any]:
        """What the issuer signed."""
        with malformed():
            signed = jws.extract_compact(token.encode(), registry=REGISTRY)
            key_id = signed.headers()["kid"]
            if signed.headers()["alg"] != "ES256" or not isinstance(key_id, str):
                raise TypeError
            if str(signed.headers()["typ"]).lower().removeprefix("application/") not in TYPES:
                raise TypeError
        key = await self._keys.get(key_id)
        with malformed():
            genuine = jws.validate_compact(signed, key, registry=REGISTRY)
            claims = json.loads(signed.payload)
            if not isinstance(claims, dict) or any(name in claims for name in OF_ID_TOKENS):
                raise TypeError
        if not genuine:
            raise TokenUntrusted(issuer=self._issuer)
        return claims

    def _identity(self, claims: dict[str, Any], now: float) -> Identity:
        """Whom they name, if they are meant for this node, and now."""
        subject, audience = claims.get("sub"), claims.get("aud")
        begins = [claims[name] for name in ("nbf", "iat", "auth_time") if name in claims]
        acr = claims.get("acr", "")
        texts = isinstance(subject, str) and isinstance(acr, str)
        if not all(map(_is_time, [claims.get("exp"), *begins])) or not texts:
            raise TokenMalformed(most=MOST_CHARACTERS)
        if claims.get("iss") != self._issuer:
            raise TokenUntrusted(issuer=self._issuer)
        if self._audience not in (audience if isinstance(audience, list) else [audience]):
            raise TokenForOthers(audience=self._audience)
        if now >= claims["exp"]:
            raise TokenExpired(issuer=self._issuer)
        if any(now + LEEWAY < begin for begin in begins):
            raise TokenNotYetValid(issuer=self._issuer)
        return Identity(
            name=self._named(str(subject)), issuer=self._issuer, expires=claims["exp"],
            auth_time=claims.get("auth_time", 0.0), acr=acr,
        )  # fmt: skip

    def _named(self, subject: str) -> str:
        """The principal of a subject.  Nothing but a keyed hash is known further in of one that the
        issuer made up."""
        if PRINCIPAL.fullmatch(subject):
            return subject
        if not (0 < len(subject) <= MOST_SUBJECT and subject.isascii() and subject.isprintable()):
            raise SubjectMalformed()
        digest = OURS.mac(self._person_key, f"{self._issuer}\n{subject}".encode())
        return f"persons/{UUID(bytes=digest[:16])}"

    def _remember(self, digest: bytes, found: tuple[Identity, float]) -> None:
        """The oldest goes when there are too many."""
        self._remembered.pop(digest, None)
        if len(self._remembered) >= MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[digest] = found


def _is_time(claim: object) -> bool:
    """Whether it is a number of seconds: no boolean, not infinite, and no year without end.

    >>> [_is_time(claim) for claim in (1.5, True, float("nan"), 10**400, "1", None)]
    [True, False, False, False, False, False]
    """
    return type(claim) in (int, float) and 0 <= claim < 2**53  # type: ignore[operator]


def keys_in(text: bytes) -> dict[str, ECKey]:
    """The keys for ES256 in a JWKS (RFC 7517), by their ids; others are passed over.

    Raises:
        ValueError, KeyError, TypeError, RecursionError: if it is none, or has no such key.
    """
    found = {}
    for one in json.loads(text)["keys"]:
        if (
            (one["kty"], one.get("crv")) == ("EC", "P-256")
            and one.get("use", "sig") == "sig"
            and one.get("alg", "ES256") == "ES256"
            and isinstance(one.get("kid"), str)
        ):
            key = ECKey.import_key({name: one[name] for name in ("kty", "crv", "x", "y")})
            key.public_key  # noqa: B018 - raises if the point is none of the curve.
            found[one["kid"]] = key
    if not found:
        raise ValueError("there is no key for ES256 in it")
    return found


def is_web_address(url: str, *, loopback: bool) -> bool:
    """Whether keys may come from there: by https://, or by http:// from this machine.

    >>> is_web_address("https://login.example.org/keys", loopback=False)
    True
    >>> [is_web_address("http://127.0.0.1:80/", loopback=yes) for yes in (True, False)]
    [True, False]
    >>> [is_web_address(f"{url}/keys", loopback=True) for url in ("file:", "https:", "http://a")]
    [False, False, False]
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme == "https":
            return bool(host)
        return loopback and parts.scheme == "http" and is_loopback(host)
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`.

    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0"), is_loopback("localhost")
    (True, False, True)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read(address: str) -> bytes:
    """What stands at an https://, http:// or file: address.

    Raises:
        OSError, http.client.HTTPException: if it does not come whole, soon, or is too large.
    """
    if address.startswith("file:"):
        with open(Path(unquote(urlsplit(address).path)), "rb") as file:
            return file.read(MOST_BYTES)
    ends = time.monotonic() + PATIENCE
    request, found = Request(address, headers={"Accept": "application/json"}), b""
    with _opener().open(request, timeout=PATIENCE) as answer:
        while part := answer.read1(MOST_BYTES):
            found += part
            if len(found) > MOST_BYTES or time.monotonic() > ends:
                raise OSError("its answer is too large or too slow")
    return found


def _opener() -> OpenerDirector:
    """Asks the address itself: it follows no redirection, knows no proxy and reads no file."""
    opener = OpenerDirector()
    for handler in (HTTPHandler, HTTPSHandler, HTTPErrorProcessor, HTTPDefaultErrorHandler):
        opener.add_handler(handler())
    return opener
