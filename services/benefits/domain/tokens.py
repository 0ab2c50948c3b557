"""The text of a card's QR code: a CWT (RFC 8392), signed by the card's node, in base45.

    UC1:  base45 (RFC 9285) of  COSE_Sign1 { iss node, sub card, iat, nbf, exp, code, index }

It names the card and the organisation, never the person.
"""

import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit import trust
from kit.ids import uuid_of
from kit.trust import NotSigned
from services.benefits.domain import base45

PREFIX = "UC1:"
MOST_CHARACTERS = 1_000
"""Of a text; ours have about 330."""
SKEW = timedelta(minutes=5)
"""How far the clock of who looks at a card may be behind the node's."""
CODE, STATUS_INDEX = -70011, -70012
"""Claims of ours, in the range for private use: the division code, the bit in the status list."""


class Foreign(Exception):
    """A text is no card of ours, but something else."""


class CutShort(Exception):
    """A text is the beginning of a card."""


class Altered(Exception):
    """A text looks like a card, and is not what its node signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What the text of a card says."""

    node: UUID
    """Who signed it."""
    card: UUID
    code: str
    """The division code of the holder's organisation."""
    status_index: int
    sign_time: datetime
    expire_time: datetime
    begin_time: datetime
    """From when it is good."""


def text_of(token: Token, key: Ed25519PrivateKey) -> str:
    """What a QR code shows."""
    signed = trust.sign(key, {
        trust.ISS: f"nodes/{token.node}", trust.SUB: f"cards/{token.card}",
        trust.IAT: int(token.sign_time.timestamp()), trust.NBF: int(token.begin_time.timestamp()),
        trust.EXP: int(token.expire_time.timestamp()),
        CODE: token.code, STATUS_INDEX: token.status_index,
    })  # fmt: skip
    return PREFIX + base45.encode(signed)


def signed_in(text: str) -> bytes:
    """The signed bytes in a text, whoever signed them.

    Raises:
        Foreign, CutShort, Altered: if it cannot be a card.
    """
    text = text.strip("\t\r\n")
    if not text.startswith(PREFIX):
        raise CutShort() if text and PREFIX.startswith(text) else Foreign()
    encoded = text.removeprefix(PREFIX)
    if len(text) > MOST_CHARACTERS:
        raise Foreign()
    try:
        signed = _decoded(encoded)
        stream = io.BytesIO(signed)
        cbor2.load(stream)
        if stream.read():
            raise Altered()
    except cbor2.CBORDecodeEOF:
        raise CutShort() from None
    except Exception:  # what else hostile CBOR raises is the library's affair
        raise Altered() from None
    return signed


def _decoded(encoded: str) -> bytes:
    """The bytes of as many characters as make some: the end may be cut anywhere."""
    whole = encoded[: len(encoded) // 3 * 3]
    try:
        return base45.decode(whole if len(encoded) % 3 == 1 else encoded)
    except ValueError:
        return base45.decode(whole)


def issuer_of(signed: bytes) -> UUID:
    """The node that is said to have signed.  Raises Altered."""
    try:
        return uuid_of(str(trust.unverified(signed)[trust.ISS]).removeprefix("nodes/"))
    except (KeyError, ValueError):
        raise Altered() from None


def opened(signed: bytes, public_key: bytes) -> Token:
    """What a node signed.

    Raises:
        Altered: if it is not the node's, or no card.
    """
    try:
        claims = trust.verified(signed, public_key)
        node, card = (str(claims[claim]) for claim in (trust.ISS, trust.SUB))
        if not card.startswith("cards/"):
            raise Altered()
        times = [datetime.fromtimestamp(claims[claim], UTC)
                 for claim in (trust.IAT, trust.NBF, trust.EXP)]  # fmt: skip
        return Token(
            node=uuid_of(node.removeprefix("nodes/")), card=uuid_of(card.removeprefix("cards/")),
            code=str(claims[CODE]), status_index=int(claims[STATUS_INDEX]),
            sign_time=times[0], begin_time=times[1], expire_time=times[2],
        )  # fmt: skip
    except (NotSigned, KeyError, ValueError, TypeError, OverflowError, OSError):
        raise Altered() from None
