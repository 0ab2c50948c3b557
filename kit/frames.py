"""Frames: how entries of a stream travel between nodes.

make:   entries of one log  ──▶  Frame: skeleton (chained, signed) + sections (detachable)
open:   Frame  ──▶  Line per entry, each checked against the hashes in the skeleton
"""

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
)
from google.protobuf.message import DecodeError

from kit import suites
from kit.db import to_uuid
from kit.records import CERTIFICATE, group_hash
from smartunion.event.v1 import log_pb2
from smartunion.sync.v1 import frame_pb2

FORMAT = b"\x01"
"""The format byte: zlib over a protobuf message."""

MOST_BYTES = 512 * 1024
"""A frame's size before compression, about: a larger batch of entries is split."""

MOST_UNPACKED = 32 * 2**20
"""Bytes that a part of a frame may have after decompression."""

START = bytes(32)
"""The hash before the first frame of a stream."""


class FrameBroken(Exception):
    """A frame is not what its hash, its signature or its format says."""


class Line(NamedTuple):
    """One entry, as a frame brings it."""

    number: int
    kind: str
    id: UUID
    owner_epoch: int
    version: int
    hash: bytes
    public: bytes | None
    """The section `public`, if it is at hand and is what the skeleton says."""
    event_type: str = ""
    event: bytes = b""
    event_id: bytes = b""
    event_time: int = 0
    """Microseconds since 1970 UTC."""


def frame_hash(frame: frame_pb2.Frame) -> bytes:
    """SHA-256 over the hash before, the stream, the numbers and the skeleton."""
    head = frame_pb2.Frame(
        stream=frame.stream, number=frame.number, first=frame.first, last=frame.last
    )
    state = hashlib.sha256(frame.previous_hash)
    state.update(hashlib.sha256(head.SerializeToString(deterministic=True)).digest())
    state.update(hashlib.sha256(frame.skeleton).digest())
    return state.digest()


def make(
    stream: frame_pb2.Stream,
    number: int,
    previous_hash: bytes,
    entries: Sequence[log_pb2.Entry],
    key: Ed25519PrivateKey,
) -> frame_pb2.Frame:
    """The frame of so many entries, which follow the frame before without a gap."""
    names: dict[str, int] = {}
    for entry in entries:
        names.setdefault(entry.kind, len(names))
        names.setdefault(entry.event_type, len(names))
    publics = [entry.public for entry in entries]
    skeleton = frame_pb2.Skeleton(
        names=list(names),
        ids=b"".join(entry.id for entry in entries),
        kinds=[names[entry.kind] for entry in entries],
        owner_epochs=[entry.owner_epoch for entry in entries],
        versions=[entry.version for entry in entries],
        hashes=b"".join(entry.hash for entry in entries),
        groups=[frame_pb2.Group(name="public", hashes=b"".join(map(group_hash, publics)))],
        event_ids=b"".join(entry.event_id for entry in entries),
        event_types=[names[entry.event_type] for entry in entries],
        event_times=[
            entry.event_time.seconds * 1_000_000 + entry.event_time.nanos // 1_000
            for entry in entries
        ],
        events=[entry.event for entry in entries],
    )
    frame = frame_pb2.Frame(
        stream=stream,
        number=number,
        first=entries[0].number,
        last=entries[-1].number,
        previous_hash=previous_hash,
        skeleton=_pack(skeleton),
        sections=[
            frame_pb2.Section(name="public", body=_pack(frame_pb2.SectionRows(rows=publics)))
        ],
    )
    frame.hash = frame_hash(frame)
    frame.signature = suites.sign(key, frame.hash)
    return frame


def _pack(message: frame_pb2.Skeleton | frame_pb2.SectionRows) -> bytes:
    return FORMAT + zlib.compress(message.SerializeToString(), level=1)


def _unpack(packed: bytes) -> bytes:
    if packed[:1] != FORMAT:
        raise FrameBroken("unknown format")
    try:
        unpacking = zlib.decompressobj()
        whole = unpacking.decompress(packed[1:], MOST_UNPACKED)
    except zlib.error:
        raise FrameBroken("not decompressible") from None
    if not unpacking.eof:
        raise FrameBroken("too large, or cut off")
    return whole


def check(frame: frame_pb2.Frame, public_key: bytes | None) -> None:
    """That the frame is what its hash says and, if the key is known, that its origin signed it.

    Raises:
        FrameBroken: if not.
    """
    if frame_hash(frame) != frame.hash:
        raise FrameBroken("hash")
    if public_key is None:
        return
    if not suites.verify(public_key, frame.signature, frame.hash):
        raise FrameBroken("signature")


def split(entries: Sequence[log_pb2.Entry]) -> Iterator[list[log_pb2.Entry]]:
    """The entries of one frame after the other: none too large, each certificate the last of its
    frame, so that the chain's head at a frame is the head that the certificate vouches for."""
    part: list[log_pb2.Entry] = []
    size = 0
    for entry in entries:
        part.append(entry)
        size += len(entry.public) + len(entry.event) + 100
        if size >= MOST_BYTES or entry.kind == CERTIFICATE:
            yield part
            part, size = [], 0
    if part:
        yield part


def lines(frame: frame_pb2.Frame) -> list[Line]:
    """The entries of a frame; a row of a section that is not what the skeleton says is absent.

    Raises:
        FrameBroken: if the columns do not fit together.
    """
    try:
        skeleton = frame_pb2.Skeleton.FromString(_unpack(frame.skeleton))
        names = list(skeleton.names)
        if frame.last - frame.first + 1 != len(skeleton.kinds):
            raise FrameBroken("numbers")
        columns = zip(
            range(frame.first, frame.last + 1),
            [names[kind] for kind in skeleton.kinds],
            map(to_uuid, batched_bytes(skeleton.ids)),
            skeleton.owner_epochs,
            skeleton.versions,
            batched_bytes(skeleton.hashes),
            _rows(frame, skeleton, "public"),
            [names[event_type] for event_type in skeleton.event_types],
            skeleton.events,
            batched_bytes(skeleton.event_ids),
            skeleton.event_times,
            strict=True,
        )
        return list(map(Line._make, columns))
    except (ValueError, IndexError, DecodeError):
        raise FrameBroken("columns") from None


def entries(frame: frame_pb2.Frame) -> list[log_pb2.Entry]:
    """The entries of a frame as its origin's log had them; a section that is absent is empty.

    Raises:
        FrameBroken: if the columns do not fit together.
    """
    found = lines(frame)
    skeleton = frame_pb2.Skeleton.FromString(_unpack(frame.skeleton))
    event_ids = batched_bytes(skeleton.event_ids)
    if not len(found) == len(event_ids) == len(skeleton.event_times):
        raise FrameBroken("columns")
    made = []
    for line, event_id, micros in zip(found, event_ids, skeleton.event_times, strict=True):
        entry = log_pb2.Entry(
            number=line.number, kind=line.kind, id=line.id.bytes, owner_epoch=line.owner_epoch,
            version=line.version, hash=line.hash, public=line.public or b"", event_id=event_id,
            event_type=line.event_type, event=line.event,
        )  # fmt: skip
        entry.event_time.FromMicroseconds(micros)
        made.append(entry)
    return made


def batched_bytes(joined: bytes) -> list[bytes]:
    """16 bytes after the other."""
    return [joined[at : at + 16] for at in range(0, len(joined), 16)]


def _rows(
    frame: frame_pb2.Frame, skeleton: frame_pb2.Skeleton, name: str
) -> Sequence[bytes | None]:
    absent: list[bytes | None] = [None] * len(skeleton.kinds)
    body = next((section.body for section in frame.sections if section.name == name), None)
    group = next((group for group in skeleton.groups if group.name == name), None)
    if body is None or group is None:
        return absent
    rows = frame_pb2.SectionRows.FromString(_unpack(body)).rows
    hashes = batched_bytes(group.hashes)
    if len(rows) != len(absent) or len(hashes) != len(absent):
        return absent
    return [
        row if group_hash(row) == hash_ else None for row, hash_ in zip(rows, hashes, strict=True)
    ]
