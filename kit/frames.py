"""Frames: how entries of a stream travel between nodes.

make:   entries of one log  ──▶  Frame: skeleton (chained, signed) + sections (detachable)
open:   Frame  ──▶  Line per entry, each checked against the hashes in the skeleton
strip:  Frame  ──▶  the same with fewer sections: hash and signature stand
"""

import hashlib
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
)
from google.protobuf.message import DecodeError

from kit import suites
from kit.db import to_uuid
from kit.records import CERTIFICATE, NO_SECTIONS, group_hash, hash_of, is_held, named
from smartunion.event.v1 import log_pb2
from smartunion.sync.v1 import frame_pb2

FORMAT = b"\x01"
"""The format byte: zlib over a protobuf message."""

MOST_BYTES = 512 * 1024
"""A frame's size before compression, about: a larger batch of entries is split."""

MOST_UNPACKED = 32 * 2**20
"""Bytes that a part of a frame may have after decompression."""

NO_GROUP = bytes(16)
"""In place of a group hash: the record has no such section."""

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
    sections: Mapping[str, bytes] = NO_SECTIONS
    """The others by name, each as it is at hand and is what the skeleton says, else its hash."""


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
    others = {name for entry in entries for name in entry.sections}
    skeleton = frame_pb2.Skeleton(
        names=list(names),
        ids=b"".join(entry.id for entry in entries),
        kinds=[names[entry.kind] for entry in entries],
        owner_epochs=[entry.owner_epoch for entry in entries],
        versions=[entry.version for entry in entries],
        hashes=b"".join(entry.hash for entry in entries),
        groups=[
            frame_pb2.Group(name="public", hashes=b"".join(map(group_hash, publics))),
            *(_group(name, entries) for name in sorted(others)),
        ],
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
        sections=[_section("public", publics)],
    )
    for name in sorted(others):
        rows = [entry.sections.get(name, b"") for entry in entries]
        if any(map(is_held, rows)):
            frame.sections.append(_section(name, [row if is_held(row) else b"" for row in rows]))
    frame.hash = frame_hash(frame)
    frame.signature = suites.sign(key, frame.hash)
    return frame


def _group(name: str, entries: Sequence[log_pb2.Entry]) -> frame_pb2.Group:
    hashes = [
        hash_of(entry.sections[name]) if name in entry.sections else NO_GROUP for entry in entries
    ]
    return frame_pb2.Group(name=name, hashes=b"".join(hashes))


def _section(name: str, rows: Sequence[bytes]) -> frame_pb2.Section:
    return frame_pb2.Section(name=name, body=_pack(frame_pb2.SectionRows(rows=rows)))


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
        size += sum(map(len, entry.sections.values()))
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
            _others(frame, skeleton),
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
            event_type=line.event_type, event=line.event, sections=line.sections,
        )  # fmt: skip
        entry.event_time.FromMicroseconds(micros)
        made.append(entry)
    return made


def has_others(frame: frame_pb2.Frame) -> bool:
    """Whether a frame has sections besides `public`."""
    return len(frame.sections) > 1 or any(one.name != "public" for one in frame.sections)


def strip(frame: frame_pb2.Frame, shown: Collection[str]) -> int:
    """Take from a frame what is not shown of its sections besides `public`, and every row that is
    not what the skeleton says; how many rows that were.

    Args:
        shown: the sections that may stay, as `kit.records.named` names them.

    Raises:
        FrameBroken: if the columns do not fit together; then no section is left but `public`.
    """
    if not has_others(frame):
        return 0
    bodies = {section.name: section.body for section in reversed(frame.sections)}
    public = bodies.pop("public", None)
    del frame.sections[:]
    if public is not None:
        frame.sections.add(name="public", body=public)
    names = bodies.keys() & {section.partition("/")[2] for section in shown}
    if not names:
        return 0
    try:
        skeleton = frame_pb2.Skeleton.FromString(_unpack(frame.skeleton))
        kinds = [skeleton.names[kind] for kind in skeleton.kinds]
        groups = [group for group in skeleton.groups if group.name in names]
        return sum(_keep(frame, kinds, group, bodies[group.name], shown) for group in groups)
    except (ValueError, IndexError, DecodeError):
        raise FrameBroken("sections") from None


def _keep(
    frame: frame_pb2.Frame, kinds: Sequence[str], group: frame_pb2.Group, body: bytes,
    shown: Collection[str],
) -> int:  # fmt: skip
    """Put back the rows of a section that are shown and right; how many are wrong."""
    rows = frame_pb2.SectionRows.FromString(_unpack(body)).rows
    hashes = batched_bytes(group.hashes)
    right = [
        is_held(row) and group_hash(row) == hash_ for row, hash_ in zip(rows, hashes, strict=True)
    ]
    kept = [
        row if fits and named(kind, group.name) in shown else b""
        for kind, row, fits in zip(kinds, rows, right, strict=True)
    ]
    if any(kept):
        whole = body if kept == rows else _section(group.name, kept).body
        frame.sections.add(name=group.name, body=whole)
    return sum(1 for row, fits in zip(rows, right, strict=True) if row and not fits)


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


def _others(frame: frame_pb2.Frame, skeleton: frame_pb2.Skeleton) -> Sequence[Mapping[str, bytes]]:
    """The sections besides `public` of each entry, or their hashes."""
    found: list[Mapping[str, bytes]] = [NO_SECTIONS] * len(skeleton.kinds)
    for group in skeleton.groups:
        if group.name == "public":
            continue
        hashes = batched_bytes(group.hashes)
        if len(hashes) != len(found):
            raise FrameBroken("columns")
        rows = _rows(frame, skeleton, group.name)
        for at, (row, hash_) in enumerate(zip(rows, hashes, strict=True)):
            if hash_ != NO_GROUP:
                section = row if row is not None and is_held(row) else hash_
                found[at] = {**found[at], group.name: section}
    return found
