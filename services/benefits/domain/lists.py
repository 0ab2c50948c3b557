"""Status lists: one bit for each card of a node, set when the card is revoked, signed by the node.

After draft-ietf-oauth-status-list: a CWT whose claim `status_list` holds the bits, packed by zlib;
the smallest index has the lowest place of the first byte.  Of a million cards of which one in a
thousand is revoked that is some 2 kB, so who checks cards can carry the lists of the country.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit import trust
from kit.headers import Header
from kit.ids import uuid_of
from kit.trust import NotSigned

VALID = timedelta(days=7)
"""After that a list is no longer good: unverified default."""
REMAKE = timedelta(days=1)
"""Then a list is made again, though nothing has changed."""
MOST_BYTES = 2**26
"""Of the bits: half a billion cards."""
STATUS_LIST = 65533
"""The claim.  Source: draft-ietf-oauth-status-list, section 5.2."""
NUMBER = -70013
"""Claim of ours: grows from list to list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusListSigned:
    node: str
    occur_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusListShared:
    node: str
    occur_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRecord:
    """A node's status list, as a record: its own, or one that is handed down."""

    id: UUID
    """The node whose list it is."""
    header: Header
    number: int = 0
    signed: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusList:
    """What a node says of its cards at one moment."""

    node: UUID
    number: int
    """Of a node's lists the greatest counts."""
    sign_time: datetime
    expire_time: datetime
    bits: bytes = field(repr=False)

    def is_revoked(self, index: int) -> bool:
        """Whether the card with an index is revoked."""
        place, bit = divmod(index, 8)
        return 0 <= place < len(self.bits) and bool(self.bits[place] >> bit & 1)


def bits_of(indexes: Iterable[int]) -> bytes:
    """The bits in which these are set, to the last of them.

    >>> bits_of([0, 9]).hex()
    '0102'
    """
    found = sorted(indexes)
    bits = bytearray(found[-1] // 8 + 1 if found else 0)
    for index in found:
        bits[index // 8] |= 1 << index % 8
    return bytes(bits)


def signed(status_list: StatusList, key: Ed25519PrivateKey) -> bytes:
    """The list as it travels."""
    name = f"nodes/{status_list.node}"
    return trust.sign(key, {
        trust.ISS: name, trust.SUB: f"{name}/status-list",
        trust.IAT: int(status_list.sign_time.timestamp()),
        trust.EXP: int(status_list.expire_time.timestamp()),
        STATUS_LIST: {"bits": 1, "lst": zlib.compress(status_list.bits, 9)},
        NUMBER: status_list.number,
    })  # fmt: skip


@lru_cache(maxsize=64)
def opened(text: bytes, public_key: bytes) -> StatusList:
    """What a node signed.

    Raises:
        NotSigned: if it is not the node's, or no status list.
    """
    claims = trust.verified(text, public_key)
    try:
        packed = claims[STATUS_LIST]
        unpacking = zlib.decompressobj()
        bits = unpacking.decompress(packed["lst"], MOST_BYTES)
        if packed["bits"] != 1 or not unpacking.eof:
            raise NotSigned()
        return StatusList(
            node=uuid_of(str(claims[trust.ISS]).removeprefix("nodes/")),
            number=int(claims[NUMBER]),
            sign_time=datetime.fromtimestamp(claims[trust.IAT], UTC),
            expire_time=datetime.fromtimestamp(claims[trust.EXP], UTC),
            bits=bits,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, OverflowError, OSError, zlib.error):
        raise NotSigned() from None


def newest(texts: Iterable[bytes], public_key: bytes, *, node: UUID) -> StatusList | None:
    """Of some texts the newest that is a list of this node."""
    found: StatusList | None = None
    for text in texts:
        try:
            status_list = opened(text, public_key)
        except NotSigned:
            continue
        if status_list.node == node and (found is None or status_list.number > found.number):
            found = status_list
    return found
