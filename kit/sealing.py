"""Sealing of personal data at rest, and blind indexes to search it by.

A sealed value is: suite byte, 12 bytes of nonce, ciphertext and tag.  Suite 1 is AES-256-GCM; other
suites (SM4) get other bytes, so old values stay readable.  An index is HMAC-SHA256.
"""

import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SUITE = b"\x01"


class Sealer:
    """Seals with the node's data key; what is sealed for one place cannot be opened at another."""

    def __init__(self, key: bytes) -> None:
        """`key` has 32 bytes; the keys in use are derived from it, one a purpose."""
        self._cipher = AESGCM(hmac.digest(key, b"seal/v1", hashlib.sha256))
        index_key = hmac.digest(key, b"index/v1", hashlib.sha256)
        self._index = hmac.new(index_key, digestmod=hashlib.sha256)

    def seal(self, plain: bytes, place: str) -> bytes:
        """`plain`, readable only with the node's key and for the same `place`.

        Args:
            place: table, column and row id, such as `people.id_number/0190…`.
        """
        nonce = os.urandom(12)
        return SUITE + nonce + self._cipher.encrypt(nonce, plain, SUITE + place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """What was sealed.

        Raises:
            ValueError: if it was altered, moved, or sealed with another key or suite.
        """
        if sealed[:1] != SUITE:
            raise ValueError("unknown suite")
        try:
            return self._cipher.decrypt(sealed[1:13], sealed[13:], SUITE + place.encode())
        except InvalidTag:
            raise ValueError("the seal is broken") from None

    def index(self, name: str, value: str) -> bytes:
        """32 bytes that are equal for equal values of the same name, and tell nothing else."""
        state = self._index.copy()
        state.update(f"{name}\0{value}".encode())
        return state.digest()
