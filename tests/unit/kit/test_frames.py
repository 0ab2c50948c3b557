"""A frame brings what was put into it, or says that it does not."""

from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from kit import frames
from kit.frames import FrameBroken, check, lines, make, split, strip
from kit.records import (
    CERTIFICATE,
    MODULUS,
    element,
    group_hash,
    groups_of,
    hash_of,
    is_held,
    record_hash,
)
from smartunion.event.v1 import log_pb2
from smartunion.sync.v1 import frame_pb2

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = KEY.public_key().public_bytes_raw()
STREAM = frame_pb2.Stream(origin=uuid4().bytes, service="things", channel="records")


SECTION = st.binary(min_size=16, max_size=60)
"""With its salt, a section is longer than 16 bytes; so long is the hash in place of one."""
SECTIONED: list[dict[str, int]] = [
    {}, {"personal": 30}, {"personal": 16}, {"sealed": 40}, {"personal": 50, "sealed": 16},
]  # fmt: skip
"""Which sections an entry has besides `public`, and how long each is."""


@st.composite
def entries(draw: st.DrawFn) -> list[log_pb2.Entry]:
    first, found = draw(st.integers(1, 2**40)), []
    for at in range(draw(st.integers(1, 9))):
        entry = log_pb2.Entry(
            number=first + at, kind=draw(st.sampled_from(["things", "cries", CERTIFICATE])),
            id=draw(st.binary(min_size=16, max_size=16)), owner_epoch=draw(st.integers(0, 9)),
            version=draw(st.integers(0, 2**60)), hash=draw(st.binary(min_size=16, max_size=16)),
            public=draw(st.binary(max_size=60)), event_id=uuid4().bytes,
            event_type=draw(st.sampled_from(["a.B", "a.C"])), event=draw(st.binary(max_size=30)),
            sections={
                name: f"{name} of {at}".encode().ljust(length, b".")
                for name, length in draw(st.sampled_from(SECTIONED)).items()
            },
        )  # fmt: skip
        found.append(entry)
    return found


@given(entries())
def test_what_is_put_in_comes_out(put: list[log_pb2.Entry]) -> None:
    frame = make(STREAM, 1, frames.START, put, KEY)
    check(frame, PUBLIC)
    assert [
        (line.number, line.kind, line.id.bytes, line.owner_epoch, line.version, line.hash,
         line.public, line.event_type, line.event, dict(line.sections))
        for line in lines(frame)
    ] == [
        (e.number, e.kind, e.id, e.owner_epoch, e.version, e.hash, e.public, e.event_type, e.event,
         dict(e.sections))
        for e in put
    ]  # fmt: skip


@given(entries(), st.sets(st.sampled_from(["things/personal", "cries/personal", "cries/sealed"])))
def test_what_is_taken_from_a_frame_leaves_its_hash_and_nothing_else_changes(
    put: list[log_pb2.Entry], shown: set[str]
) -> None:
    frame = make(STREAM, 1, frames.START, put, KEY)
    assert strip(frame, shown) == 0
    check(frame, PUBLIC)
    for line, whole in zip(lines(frame), put, strict=True):
        assert (line.hash, line.public) == (whole.hash, whole.public)
        assert line.sections == {
            name: section if f"{whole.kind}/{name}" in shown else hash_of(section)
            for name, section in whole.sections.items()
        }
    left = b"".join(map(frames._unpack, (one.body for one in frame.sections[1:])))
    for entry in put:
        for name, section in entry.sections.items():
            if is_held(section) and len(section) > 24 and f"{entry.kind}/{name}" not in shown:
                assert section not in left
    again = frame_pb2.Frame.FromString(frame.SerializeToString())
    assert strip(again, shown) == 0 and again == frame


@given(entries(), st.data())
def test_rows_of_a_section_that_were_altered_or_swapped_are_counted_and_dropped(
    put: list[log_pb2.Entry], data: st.DataObject
) -> None:
    frame = make(STREAM, 1, frames.START, put, KEY)
    at = data.draw(st.integers(0, len(put) - 1))
    rows = [b""] * len(put)
    rows[at] = data.draw(st.binary(min_size=1, max_size=60))
    frame.sections.append(frames._section("personal", rows))
    del frame.sections[1:-1]
    honest = put[at].sections.get("personal")
    seen = any("personal" in entry.sections for entry in put)
    wrong = 0 if not seen or (rows[at] == honest and is_held(honest)) else 1
    assert strip(frame, {"things/personal", "cries/personal"}) == wrong
    check(frame, PUBLIC)
    for line, entry in zip(lines(frame), put, strict=True):
        expected = {name: hash_of(section) for name, section in entry.sections.items()}
        if seen and not wrong and entry is put[at] and entry.kind != CERTIFICATE:
            expected["personal"] = rows[at]
        assert line.sections == expected


def test_a_section_under_a_name_that_the_skeleton_has_not_is_dropped() -> None:
    entry = log_pb2.Entry(number=1, kind="things", id=bytes(16), hash=bytes(16), event_id=bytes(16))
    frame = make(STREAM, 1, frames.START, [entry], KEY)
    frame.sections.append(frames._section("personal", [b"smuggled" * 9]))
    frame.sections.append(frames._section("public", [b"smuggled" * 9]))
    assert strip(frame, {"things/personal"}) == 0
    assert [one.name for one in frame.sections] == ["public"] and lines(frame)[0].public == b""


@given(entries(), st.data())
def test_whatever_is_altered_in_a_frame_is_noticed(
    put: list[log_pb2.Entry], data: st.DataObject
) -> None:
    frame = make(STREAM, 7, b"\1" * 32, put, KEY)
    field = data.draw(st.sampled_from(["number", "first", "last", "previous_hash", "skeleton"]))
    value = getattr(frame, field)
    setattr(frame, field, value + (b"x" if isinstance(value, bytes) else 1))
    with pytest.raises(FrameBroken):
        check(frame, PUBLIC)
    frame.hash = frames.frame_hash(frame)
    with pytest.raises(FrameBroken):  # whoever hashes it again has not the key
        check(frame, PUBLIC)


@given(entries())
def test_a_row_of_a_section_that_is_not_what_was_signed_is_absent(put: list[log_pb2.Entry]) -> None:
    frame = make(STREAM, 1, frames.START, put, KEY)
    other = make(STREAM, 1, frames.START, [*put[:-1], altered(put[-1])], KEY)
    frame.sections[0].body = other.sections[0].body
    check(frame, PUBLIC)  # sections lie outside the chain
    assert [line.public for line in lines(frame)] == [*(e.public for e in put[:-1]), None]
    del frame.sections[:]
    assert {line.public for line in lines(frame)} == {None}


def altered(entry: log_pb2.Entry) -> log_pb2.Entry:
    other = log_pb2.Entry()
    other.CopyFrom(entry)
    other.public += b"x"
    return other


@given(entries())
def test_a_certificate_is_the_last_of_its_frame(put: list[log_pb2.Entry]) -> None:
    parts = list(split(put))
    assert [entry for part in parts for entry in part] == put
    for part in parts:
        assert all(entry.kind != CERTIFICATE for entry in part[:-1])


@given(entries())
def test_a_frame_whose_numbers_have_a_hole_is_no_frame(put: list[log_pb2.Entry]) -> None:
    put[-1].number += 1
    if len(put) > 1:
        with pytest.raises(FrameBroken):
            lines(make(STREAM, 1, frames.START, put, KEY))


def test_garbage_is_no_frame() -> None:
    for skeleton in (b"", b"\x02abc", b"\x01abc"):
        with pytest.raises(FrameBroken):
            lines(frame_pb2.Frame(skeleton=skeleton))


@given(st.uuids(), st.binary(), st.dictionaries(st.sampled_from(["personal", "sealed"]), SECTION))
def test_a_record_has_one_hash_whichever_sections_are_at_hand(
    id_: UUID, public: bytes, sections: dict[str, bytes]
) -> None:
    bare = {name: hash_of(section) for name, section in sections.items()}
    whole = record_hash("things", id_, 1, 1, groups_of(public, sections))
    assert record_hash("things", id_, 1, 1, groups_of(public, bare)) == whole
    for name in sections:
        less = {other: section for other, section in sections.items() if other != name}
        assert record_hash("things", id_, 1, 1, groups_of(public, less)) != whole


@given(st.lists(st.binary(min_size=16, max_size=16), min_size=1))
def test_a_sum_of_hashes_counts_repeats(hashes: list[bytes]) -> None:
    """XOR would not: a pair of equal hashes vanishes in it."""
    once = sum(map(element, hashes)) % MODULUS
    twice = sum(map(element, hashes * 2)) % MODULUS
    assert twice == 2 * once % MODULUS


@given(st.uuids(), st.integers(1, 2**31), st.integers(1, 2**63 - 1), st.binary())
def test_every_part_of_a_record_is_in_its_hash(
    id_: UUID, epoch: int, version: int, public: bytes
) -> None:
    def hashed(**changes: object) -> bytes:
        parts = {"kind": "things", "record": id_, "owner_epoch": epoch, "version": version,
                 "groups": {"public": group_hash(public)}} | changes  # fmt: skip
        return record_hash(**parts)  # type: ignore[arg-type]

    changes: list[dict[str, object]] = [
        {"kind": "cries"}, {"record": UUID(int=id_.int ^ 1)}, {"owner_epoch": epoch - 1},
        {"version": version - 1}, {"groups": {"public": group_hash(public + b"x")}},
        {"groups": {}}, {"groups": {"personal": group_hash(public)}},
    ]  # fmt: skip
    assert len({hashed(), *(hashed(**change) for change in changes)}) == len(changes) + 1
