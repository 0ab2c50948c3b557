"""A frame brings what was put into it, or says that it does not."""

from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from kit import frames
from kit.frames import FrameBroken, check, lines, make, split
from kit.records import CERTIFICATE, MODULUS, element, group_hash, record_hash
from smartunion.event.v1 import log_pb2
from smartunion.sync.v1 import frame_pb2

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = KEY.public_key().public_bytes_raw()
STREAM = frame_pb2.Stream(origin=uuid4().bytes, service="things", channel="records")


@st.composite
def entries(draw: st.DrawFn) -> list[log_pb2.Entry]:
    first, found = draw(st.integers(1, 2**40)), []
    for at in range(draw(st.integers(1, 20))):
        entry = log_pb2.Entry(
            number=first + at, kind=draw(st.sampled_from(["things", "cries", CERTIFICATE])),
            id=draw(st.binary(min_size=16, max_size=16)), owner_epoch=draw(st.integers(0, 9)),
            version=draw(st.integers(0, 2**60)), hash=draw(st.binary(min_size=16, max_size=16)),
            public=draw(st.binary(max_size=60)), event_id=uuid4().bytes,
            event_type=draw(st.sampled_from(["a.B", "a.C"])), event=draw(st.binary(max_size=30)),
        )  # fmt: skip
        found.append(entry)
    return found


@given(entries())
def test_what_is_put_in_comes_out(put: list[log_pb2.Entry]) -> None:
    frame = make(STREAM, 1, frames.START, put, KEY)
    check(frame, PUBLIC)
    assert [
        (line.number, line.kind, line.id.bytes, line.owner_epoch, line.version, line.hash,
         line.public, line.event_type, line.event)
        for line in lines(frame)
    ] == [
        (e.number, e.kind, e.id, e.owner_epoch, e.version, e.hash, e.public, e.event_type, e.event)
        for e in put
    ]  # fmt: skip


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
