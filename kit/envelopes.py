"""Envelopes: what one node seals for another, so that those on the way cannot read it.

The byte of a suite (kit/suites.py), then HPKE in base mode (RFC 9180): in suite 1 of X25519,
HKDF-SHA256 and AES-256-GCM.  The key pair that opens is derived from the node's key, so there is no
further secret to keep.
"""

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

SUITE = b"\x01"
_HPKE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def seal_key_of(node_key: bytes) -> bytes:
    """The public half of the pair that opens what is sealed for a node, 32 bytes.

    Args:
        node_key: the secret `node.key`, 32 bytes.
    """
    return _private(node_key).public_key().public_bytes_raw()


def seal_to(seal_key: bytes, plain: bytes, place: str) -> bytes:
    """`plain`, readable only with the key of one node and for the same `place`.

    Args:
        seal_key: of the node that shall read it, 32 bytes.
        place: what it belongs to, such as `voices/0190…`.
    """
    public = X25519PublicKey.from_public_bytes(seal_key)
    return SUITE + _HPKE.encrypt(plain, public, info=place.encode())


def open_with(node_key: bytes, sealed: bytes, place: str) -> bytes:
    """What was sealed for the node of this key.

    Raises:
        ValueError: if it was altered, moved, or sealed for another node or with another suite.
    """
    if sealed[:1] != SUITE:
        raise ValueError("unknown suite")
    try:
        return _HPKE.decrypt(sealed[1:], _private(node_key), info=place.encode())
    except InvalidTag:
        raise ValueError("the envelope is not for this node") from None


def _private(node_key: bytes) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(
        hmac.digest(node_key, b"envelope/v1", hashlib.sha256)
    )
