"""Suites: the algorithms by which we seal, tag and sign.  The first byte of a value says which.

To add one (SM4-GCM, HMAC-SM3 and SM2 shall be suite 2), write its class and put it into SUITES;
the tests in tests/contract/test_suites.py then ask the same of it.  A deployment that must make
values by another suite sets OURS; values of all suites can be read.

Texts in formats of others say by what they were made in their own way: tokens (JWT), cards and
certificates of keys (COSE), NATS credentials.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Protocol

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12


class SealBroken(ValueError):
    """What was to be opened was altered, moved, or sealed with another key or suite."""


class Signer(Protocol):
    """Holds the private half of a key pair, and need not give it away."""

    def sign(self, data: bytes, /) -> bytes:
        """The signature, as the suite of the key makes it."""


class Cipher(Protocol):
    """One key of a suite, ready to seal and to open."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes, /) -> bytes:
        """Ciphertext and tag, bound to the nonce and to what must be said again to open it."""

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes, /) -> bytes:
        """What was encrypted.  Raises InvalidTag, ValueError."""


class Suite(Protocol):
    """One set of algorithms."""

    number: int
    """The byte that names it."""

    def cipher(self, key: bytes) -> Cipher:
        """Seals with a key of 32 bytes and a nonce of 12."""

    def mac(self, key: bytes, text: bytes) -> bytes:
        """A keyed hash, 32 bytes."""

    def verify(self, public_key: bytes, signature: bytes, text: bytes) -> bool:
        """Whether the holder of a key signed a text."""


class International:
    """AES-256-GCM, HMAC-SHA256, Ed25519."""

    number = 1

    def cipher(self, key: bytes) -> Cipher:
        return AESGCM(key)

    def mac(self, key: bytes, text: bytes) -> bytes:
        return hmac.digest(key, text, hashlib.sha256)

    def verify(self, public_key: bytes, signature: bytes, text: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


SUITES: Mapping[int, Suite] = {suite.number: suite for suite in (International(),)}
"""All that can be read, by the byte that names them."""
OURS = SUITES[1]
"""By which values are made."""


def suite_of(value: bytes) -> Suite:
    """The suite by which a value was made.  Raises SealBroken if it is not known."""
    try:
        return SUITES[value[0]]
    except (IndexError, KeyError):
        raise SealBroken("unknown suite") from None


def decrypt(cipher: Cipher, nonce: bytes, sealed: bytes, bound: bytes) -> bytes:
    """What was encrypted.  Raises SealBroken."""
    try:
        return cipher.decrypt(nonce, sealed, bound)
    except (InvalidTag, ValueError):
        raise SealBroken("the seal is broken") from None


def tag(key: bytes, text: bytes, suite: Suite = OURS) -> bytes:
    """A keyed hash: the suite's byte, and 32 bytes."""
    return bytes([suite.number]) + suite.mac(key, text)


def sign(signer: Signer, text: bytes, suite: Suite = OURS) -> bytes:
    """A signature with the suite's byte in front."""
    return bytes([suite.number]) + signer.sign(text)


def verify(public_key: bytes, signature: bytes, text: bytes) -> bool:
    """Whether the holder of a key made a signature with `sign`."""
    try:
        return suite_of(signature).verify(public_key, signature[1:], text)
    except SealBroken:
        return False
