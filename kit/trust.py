"""Trust: which node's key speaks for which part of the tree.

Each parent certifies the keys of its children, and the top its own; so whoever knows the top's key
can follow the chain down to any node, without a network.  A certificate is a CWT (RFC 8392): who
certifies, whom, with which keys, for which division, until when.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Any
from uuid import UUID

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from kit.ids import uuid_of

CERTIFICATE_VALID = timedelta(days=730)
"""Its parent renews it when half of that is left."""

SKEW = timedelta(days=1)
"""How far clocks of nodes may differ."""

ISS, SUB, EXP, NBF, IAT, CNF = 1, 2, 4, 5, 6, 8
"""Claims.  Source: RFC 8392 section 4, RFC 8747 section 3."""
CODE, LEVEL, SEAL_KEY = -70001, -70002, -70003
"""Claims of ours, in the range for private use."""


SIGN1, KID = 18, 4
PROTECTED = cbor2.dumps({1: -8})
"""The tag of a COSE_Sign1, the label of a key's name, and the header: EdDSA.  Source: RFC 9052
sections 2 and 3.1, RFC 9053 section 2.2."""

MALFORMED = (
    ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError,
    cbor2.CBORDecodeError,
)  # fmt: skip
"""What comes of a text that is no COSE_Sign1."""

NEVER = datetime.max.replace(tzinfo=UTC)


class NotSigned(Exception):
    """A text is not what the holder of a key signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeKey:
    """What is certified of a node."""

    node: UUID
    parent: UUID | None
    """Who certifies it; None for the top, which certifies itself."""
    organization_code: str
    level: str
    public_key: bytes
    """Ed25519, 32 bytes: its frames and cards are signed with it."""
    seal_key: bytes
    """X25519, 32 bytes: see `kit.envelopes`."""
    expire_time: datetime = NEVER
    certificate: bytes = b""
    """That says so; empty before it is made."""

    def covers(self, code: str) -> bool:
        """Whether a division code is the node's own, or lies inside."""
        return self.organization_code == "0" or code.startswith(self.organization_code)


def sign(key: Ed25519PrivateKey, claims: dict[int, Any]) -> bytes:
    """Claims as a COSE_Sign1 (RFC 9052) with EdDSA; the key is named by the start of its hash."""
    payload = cbor2.dumps(claims)  # as it is from now on: nobody writes it again
    header = {KID: _kid(_public(key))}
    parts = [PROTECTED, header, payload, key.sign(_to_be_signed(payload))]
    return cbor2.dumps(cbor2.CBORTag(SIGN1, parts))


def verified(signed: bytes, public_key: bytes) -> dict[int, Any]:
    """The claims that the holder of a key signed.

    Only what `sign` makes is read: of a text that can be written in two ways, one is not signed.

    Raises:
        NotSigned: if it is anything else.
    """
    try:
        tag = cbor2.loads(signed)
        payload, signature = tag.value[2:]
        _key(public_key).verify(signature, _to_be_signed(payload))
        parts = [PROTECTED, {KID: _kid(public_key)}, payload, signature]
        claims = cbor2.loads(payload)
    except (InvalidSignature, *MALFORMED):
        raise NotSigned() from None
    if signed != cbor2.dumps(cbor2.CBORTag(SIGN1, parts)) or not isinstance(claims, dict):
        raise NotSigned()
    return claims


def certify(signer: Ed25519PrivateKey, key: NodeKey, *, at: datetime) -> bytes:
    """The certificate of a node's key.

    Args:
        signer: the key of `key.parent`, or the node's own.
    """
    return sign(signer, {
        ISS: f"nodes/{key.parent or key.node}", SUB: f"nodes/{key.node}",
        IAT: int(at.timestamp()), NBF: int((at - SKEW).timestamp()),
        EXP: int((at + CERTIFICATE_VALID).timestamp()),
        CNF: {1: {1: 1, -1: 6, -2: key.public_key}},
        CODE: key.organization_code, LEVEL: key.level, SEAL_KEY: key.seal_key,
    })  # fmt: skip


def certified(certificate: bytes, public_key: bytes, *, at: datetime) -> NodeKey:
    """What the holder of a key certifies.

    Raises:
        NotSigned: if the certificate is another's, malformed, or not valid at that time.
    """
    key, begin_time = _certified(certificate, public_key)
    if not begin_time <= at < key.expire_time:
        raise NotSigned()
    return key


@lru_cache(maxsize=20_000)
def _certified(certificate: bytes, public_key: bytes) -> tuple[NodeKey, datetime]:
    claims = verified(certificate, public_key)
    try:
        issuer, node = (uuid_of(claims[claim].removeprefix("nodes/")) for claim in (ISS, SUB))
        key = NodeKey(
            node=node, parent=None if issuer == node else issuer,
            organization_code=claims[CODE], level=claims[LEVEL],
            public_key=bytes(claims[CNF][1][-2]), seal_key=bytes(claims[SEAL_KEY]),
            expire_time=datetime.fromtimestamp(claims[EXP], UTC), certificate=certificate,
        )  # fmt: skip
        begin_time = datetime.fromtimestamp(claims[NBF], UTC)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, OSError):
        raise NotSigned() from None
    texts = isinstance(key.organization_code, str) and isinstance(key.level, str)
    lengths = len(key.public_key) == len(key.seal_key) == 32
    if not (texts and lengths and key.organization_code.isdigit()):  # an empty code covers all
        raise NotSigned()
    return key, begin_time


def trusted(certificates: Iterable[bytes], root: bytes, *, at: datetime) -> dict[UUID, NodeKey]:
    """The keys that can be followed from the top's down, each inside its issuer's part of the tree.

    Args:
        certificates: in any order; those that lead nowhere are passed over.
        root: the public key of the top, 32 bytes.
        at: when they shall be valid.
    """
    by_issuer: dict[str, list[bytes]] = {}
    for certificate in set(certificates):
        by_issuer.setdefault(_names(certificate)[0], []).append(certificate)
    found: dict[UUID, NodeKey] = {}
    tops = [one for issuer, ones in by_issuer.items() for one in ones if _names(one)[1] == issuer]
    level = _certified_by(root, tops, at=at, allowed=lambda key: key.parent is None)
    while level:
        found |= {key.node: key for key in level}
        level = [
            key
            for above in level
            for key in _certified_by(
                above.public_key, by_issuer.get(f"nodes/{above.node}", []), at=at,
                allowed=partial(_is_child, above),
            )
            if key.node not in found
        ]  # fmt: skip
    return found


def top(chain: Sequence[bytes]) -> bytes:
    """The public key of the last of a chain of certificates, as it says itself; empty if it does
    not say."""
    try:
        return bytes(unverified(chain[-1])[CNF][1][-2])
    except (KeyError, TypeError, IndexError):
        return b""


def chained(chain: Sequence[bytes], *, at: datetime) -> Iterable[NodeKey]:
    """The keys of a chain that leads from its last, the top."""
    return trusted(chain, top(chain), at=at).values()


def continues(
    chain: Sequence[bytes], held: Sequence[bytes], node: UUID, public_key: bytes, *, at: datetime
) -> bool:
    """Whether a chain leads from the top to a node with this key, and leaves nobody out who was in
    the one before, nor changes a key: the tree grows at its top."""
    keys = {key.node: key.public_key for key in chained(chain, at=at)}
    before = {key.node: key.public_key for key in chained(held, at=at)}
    return keys.get(node) == public_key and before.items() <= keys.items()


def _certified_by(
    public_key: bytes, certificates: Iterable[bytes], *, at: datetime,
    allowed: Callable[[NodeKey], bool],
) -> list[NodeKey]:  # fmt: skip
    """What the holder of a key certifies, of each node what is valid longest."""
    best: dict[UUID, NodeKey] = {}
    for certificate in certificates:
        with suppress(NotSigned):
            key = certified(certificate, public_key, at=at)
            held = best.get(key.node)
            if allowed(key) and (held is None or held.expire_time < key.expire_time):
                best[key.node] = key
    return list(best.values())


def _is_child(parent: NodeKey, key: NodeKey) -> bool:
    inside = key.organization_code != parent.organization_code
    return key.parent == parent.node and inside and parent.covers(key.organization_code)


def unverified(signed: bytes) -> dict[int, Any]:
    """What a signed text claims, whoever signed it; nothing if it is none."""
    try:
        claims = cbor2.loads(cbor2.loads(signed).value[2])
    except MALFORMED:
        return {}
    return claims if isinstance(claims, dict) else {}


@lru_cache(maxsize=20_000)
def _names(certificate: bytes) -> tuple[str, str]:
    """Who certifies, and whom, by what a certificate says."""
    claims = unverified(certificate)
    issuer, subject = claims.get(ISS), claims.get(SUB)
    if isinstance(issuer, str) and isinstance(subject, str):
        return issuer, subject
    return "", ""


def _to_be_signed(payload: bytes) -> bytes:
    """The Sig_structure.  Source: RFC 9052 section 4.4."""
    return cbor2.dumps(["Signature1", PROTECTED, b"", payload])


@lru_cache(maxsize=8)
def _public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


@lru_cache(maxsize=5_000)
def _kid(public_key: bytes) -> bytes:
    return hashlib.sha256(public_key).digest()[:8]


@lru_cache(maxsize=5_000)
def _key(public_key: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public_key)
