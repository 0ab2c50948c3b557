"""The text of a card's QR code: a CWT (RFC 8392), signed by the card's node, in base45.

    UC1:  base45 (RFC 9285) of  COSE_Sign1 { iss node, sub card, iat, nbf, exp, code, index }

It names the card and the organisation, never the person.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from base45 import b45encode
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit import trust

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
    begin_time: datetime | None = None
    """From when it is good; None stands for the sign time, less SKEW."""


def text_of(token: Token, key: Ed25519PrivateKey) -> str:
    """What a QR code shows."""
    begin_time = token.begin_time or token.sign_time - SKEW
    signed = trust.sign(key, {
        trust.ISS: f"nodes/{token.node}", trust.SUB: f"cards/{token.card}",
        trust.IAT: int(token.sign_time.timestamp()), trust.NBF: int(begin_time.timestamp()),
        trust.EXP: int(token.expire_time.timestamp()),
        CODE: token.code, STATUS_INDEX: token.status_index,
    })  # fmt: skip
    return f"{PREFIX}{b45encode(signed).decode()}"
