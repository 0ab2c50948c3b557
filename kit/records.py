"""Records: how one is hashed, and what a service declares of each kind that it keeps.

A record's table has the columns origin, id, owner_epoch, version, hash, public, one for each
further section of its kind, and the fields of its section `public` as columns of their own, for
queries.  The hash covers the sections, and they are kept verbatim: so a copy can be checked, field
by field, by those who hold it, and also by a version of the software that does not know all its
fields.

Of a section that somebody may not see, they hold the group hash in its place: 16 bytes, and a
section is longer.  So the hash of the record is checked without it.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar
from uuid import UUID

from google.protobuf.message import DecodeError, Message

M = TypeVar("M", bound=Message)

CERTIFICATE = "certificate"
"""The kind of an entry that holds a Certificate."""

CHANNELS = ("urgent", "records", "down", "local")
"""In the order in which they are read.  What is announced on `down` travels to all nodes below its
origin, on `local` it stays at the node, and the rest travels to all above it."""

DOWN, LOCAL = "down", "local"
TRAVELLING = tuple(channel for channel in CHANNELS if channel != LOCAL)
"""Those of which frames are made and taken."""

MODULUS = 2**128

SECTIONS = ("personal",)
"""What a record may have besides `public`, as the columns of the kit's tables call it."""

NO_SECTIONS: Mapping[str, bytes] = {}


def group_hash(section: bytes) -> bytes:
    """16 bytes for one section of a record; a salt inside it keeps it from being guessed."""
    return hashlib.blake2b(section, digest_size=16, person=b"section").digest()


def is_held(section: bytes | None) -> bool:
    """Whether this is a section, and not the hash in its place, or none."""
    return section is not None and len(section) > 16


def hash_of(section: bytes) -> bytes:
    """The group hash of a section, which may stand in its place already."""
    return group_hash(section) if is_held(section) else section


def groups_of(public: bytes, sections: Mapping[str, bytes]) -> dict[str, bytes]:
    """The group hashes of a record by name, for `record_hash`."""
    groups = {"public": group_hash(public)}
    for name, section in sections.items():
        groups[name] = hash_of(section)
    return groups


def record_hash(
    kind: str, record: UUID, owner_epoch: int, version: int, groups: Mapping[str, bytes]
) -> bytes:
    """16 bytes for a record in one state.

    Args:
        groups: the group hash of each section, by name.
    """
    state = record.bytes + owner_epoch.to_bytes(4, "big") + version.to_bytes(8, "big")
    state += _word(kind)
    for name in sorted(groups):
        state += _word(name) + groups[name]
    return hashlib.blake2b(state, digest_size=16, person=b"record").digest()


@lru_cache
def _word(word: str) -> bytes:
    encoded = word.encode()
    return len(encoded).to_bytes(2, "big") + encoded


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of record, as a service declares it."""

    name: str
    """What entries and certificates call it, such as `members`."""
    table: str
    """The table of its records, own ones and copies."""
    fields: Mapping[str, str]
    """The columns that repeat the section `public`, with their PostgreSQL types."""
    parse: Callable[[bytes], tuple[Any, ...]]
    """The values of `fields` in a section `public`.  Raises ValueError if it is none."""
    channel: str = "records"
    sections: tuple[str, ...] = ()
    """Its sections besides `public`, some of SECTIONS: held above where a view says so."""
    may: Callable[[UUID, tuple[Any, ...]], bool] = lambda origin, values: True
    """Whether an origin may say this of a record, given the values of `fields`."""

    @property
    def held(self) -> str:
        """Where the service itself reads and writes whole records: of the table, who serves does
        not read the sections besides `public` (see the migrations `wall`)."""
        return f"{self.table}_held" if self.sections else self.table


def element(hash_: bytes) -> int:
    """A hash as a number, to be summed modulo 2^128: a sum, unlike XOR, counts repeats."""
    return int.from_bytes(hash_, "big")


def bucket(record: UUID) -> int:
    """Which of the 256 sums a record belongs to: the last byte of its id, which is random."""
    return record.bytes[15]


def named(kind: str, section: str) -> str:
    """How views and requests name a section of a kind, such as `members/personal`."""
    return f"{kind}/{section}"


def section_of(message: type[M], section: bytes) -> M:
    """A section, which has a salt of 16 bytes.  Raises ValueError if it is none."""
    try:
        public = message.FromString(section)
    except DecodeError:
        raise ValueError(f"no {message.__name__}") from None
    if len(public.salt) != 16:  # type: ignore[attr-defined]
        raise ValueError("salt")
    return public
