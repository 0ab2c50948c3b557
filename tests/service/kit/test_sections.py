"""A service holds the sections of other nodes that it is shown; all else is proved alike."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest

from kit import db, proofs, restores, sections, snapshots
from kit.copies import Copies, row_of
from kit.frames import Line
from kit.ids import uuid7
from kit.log import Change, Outbox, number_entries, read_log
from kit.records import hash_of, is_held
from kit.server import KIT_MIGRATIONS
from node import databases
from services.membership import __main__ as membership
from services.membership.events import MEMBERS
from smartunion.event.v1 import log_pb2
from smartunion.membership.v1 import events_pb2, records_pb2

NODE, BELOW = uuid4(), uuid4()
SHOWN = frozenset({"members/personal"})


def member(full_name: str, *, version: int = 1, id_: UUID | None = None) -> Change:
    public = records_pb2.PublicState(salt=bytes(16), organization=bytes(16), state=1)
    personal = records_pb2.PersonalMember(salt=b"s" * 16, full_name=full_name)
    return Change(
        kind=MEMBERS, id=id_ or uuid7(), version=version, before=None,
        public=public.SerializeToString(),
        sections={"personal": personal.SerializeToString(deterministic=True)},
        event=events_pb2.MemberAdmitted(), event_time=datetime.now(UTC),
    )  # fmt: skip


def line(change: Change, *, number: int = 1, bare: bool = False) -> Line:
    """As a frame brings it, with the section or with its hash."""
    personal = change.sections["personal"]
    return Line(
        number, "members", change.id, 1, change.version, change.hash, change.public,
        sections={"personal": hash_of(personal) if bare else personal},
    )  # fmt: skip


@pytest.fixture
async def pool(postgres: str) -> AsyncIterator[db.Pool]:
    url = await databases.create(postgres, f"sections_{uuid4().hex}", password="test")
    db.reach.set(db.everything)
    async with db.connect(url, KIT_MIGRATIONS, membership.MIGRATIONS) as pool:
        yield pool


@pytest.fixture
async def copies(pool: db.Pool) -> AsyncIterator[Copies]:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as nobody:
        yield Copies(pool, NODE, "membership", (MEMBERS,), nobody, ())


async def apply(copies: Copies, pool: db.Pool, lines: Sequence[Line]) -> None:
    async with pool.acquire() as conn, conn.transaction():
        await copies.apply(conn, BELOW, "records", lines)


async def held(pool: db.Pool) -> dict[UUID, bytes]:
    rows = await pool.fetch("SELECT id, personal FROM members_held")
    return {row["id"]: row["personal"] for row in rows}


async def sound(pool: db.Pool, changes: Sequence[Change]) -> None:
    """The sums are those of the records, and a recount finds nothing that differs."""
    async with pool.acquire() as conn:
        sums = await proofs.sums_of(conn, BELOW, "records")
        assert sum(sums.by_bucket()) % 2**128 == (
            sum(int.from_bytes(change.hash, "big") for change in changes) % 2**128
        )
        found = await proofs.recount(conn, (MEMBERS,), BELOW, "records", range(256))
        assert found.by_bucket() == sums.by_bucket() and not found.altered


async def test_a_service_takes_no_section_that_it_is_not_shown_and_gives_up_what_it_held(
    pool: db.Pool, copies: Copies
) -> None:
    first, second = member("赫连勃勃"), member("尉迟敬德")
    await apply(copies, pool, [line(first)])
    assert await held(pool) == {first.id: hash_of(first.sections["personal"])}

    await copies._hold_to("views/1", SHOWN | {"cards/personal"})
    await apply(copies, pool, [line(second), line(first)])
    assert await held(pool) == {c.id: c.sections["personal"] for c in (first, second)}
    await sound(pool, [first, second])
    parked = Line(7, "cards", uuid7(), 1, 1, bytes(16), b"", sections=second.sections)
    await apply(copies, pool, [parked])
    assert is_held(await pool.fetchval("SELECT personal FROM parked"))

    await copies._hold_to("views/2", frozenset())
    assert not any(map(is_held, (await held(pool)).values()))
    assert await pool.fetchval("SELECT personal FROM parked") == hash_of(
        second.sections["personal"]
    )
    await sound(pool, [first, second])
    assert copies.view == "views/2"


async def test_the_buckets_that_lack_a_section_are_known_until_it_has_come(
    pool: db.Pool, copies: Copies
) -> None:
    first, second = member("赫连勃勃"), member("尉迟敬德")
    await apply(copies, pool, [line(first), line(second)])
    await copies._hold_to("views/1", SHOWN)
    await copies._look()
    buckets = sorted({first.id.bytes[15], second.id.bytes[15]})
    assert copies.lacking == {(BELOW, "records"): buckets}
    await apply(copies, pool, [line(first)])
    await apply(copies, pool, [line(first, bare=True)])  # says nothing against what is held
    await copies._look()
    assert copies.lacking == {(BELOW, "records"): [second.id.bytes[15]]}
    await apply(copies, pool, [line(second)])
    await copies._look()
    assert copies.lacking == {}
    await apply(copies, pool, [line(member("赫连勃勃", version=2, id_=first.id), bare=True)])
    await copies._look()
    assert copies.lacking == {(BELOW, "records"): [first.id.bytes[15]]}


async def test_a_section_that_is_altered_in_a_table_is_found(pool: db.Pool, copies: Copies) -> None:
    await copies._hold_to("views/1", SHOWN)
    changed = member("赫连勃勃")
    await apply(copies, pool, [line(changed)])
    await pool.execute("UPDATE members_held SET personal = personal || 'x'")
    async with pool.acquire() as conn:
        found = await proofs.recount(conn, (MEMBERS,), BELOW, "records", range(256))
    assert found.altered == {"members": [changed.id]}
    await apply(copies, pool, [line(changed)])
    await sound(pool, [changed])


async def snapshot(pool: db.Pool, shown: frozenset[str]) -> list[log_pb2.Entry]:
    await pool.execute("UPDATE proofs SET frame = 1")
    parts = snapshots.read(pool, (MEMBERS,), NODE, BELOW, "records", shown)
    return [entry async for part in parts for entry in part.records]


async def test_a_snapshot_has_the_sections_that_were_asked_for(
    pool: db.Pool, copies: Copies
) -> None:
    await copies._hold_to("views/1", SHOWN)
    changed = member("赫连勃勃")
    await pool.execute("INSERT INTO proofs (origin, channel) VALUES ($1, 'records')", BELOW)
    await apply(copies, pool, [line(changed)])
    [whole] = await snapshot(pool, SHOWN)
    assert dict(whole.sections) == changed.sections
    [bare] = await snapshot(pool, frozenset())
    assert dict(bare.sections) == {"personal": hash_of(changed.sections["personal"])}
    for entry in (whole, bare):  # either is the record that was certified
        taken = Line(1, entry.kind, changed.id, 1, 1, entry.hash, entry.public,
                     sections=entry.sections)  # fmt: skip
        assert row_of(MEMBERS, BELOW, taken)


async def test_a_snapshot_on_its_way_while_less_comes_to_be_shown_is_not_taken(
    pool: db.Pool, copies: Copies
) -> None:
    await copies._hold_to("views/1", SHOWN)
    sent = [member("赫连勃勃"), member("尉迟敬德")]

    async def parts() -> AsyncIterator[log_pb2.SnapshotPart]:
        head = log_pb2.SnapshotHead(origin=BELOW.bytes, channel="records", frame=5, number=9)
        for at, one in enumerate(sent):
            record = log_pb2.Entry(
                kind="members", id=one.id.bytes, owner_epoch=1, version=1, hash=one.hash,
                public=one.public, sections=one.sections,
            )  # fmt: skip
            yield log_pb2.SnapshotPart(head=None if at else head, records=[record])
            if not at:  # what is not committed yet is not found when it is deleted
                await copies._hold_to("views/2", frozenset())

    with pytest.raises(snapshots.SnapshotStale):
        await snapshots.write(pool, copies, parts())
    assert await held(pool) == {}


async def test_the_log_gives_a_section_only_to_who_asks_for_it(pool: db.Pool) -> None:
    changed = member("赫连勃勃")
    async with pool.acquire() as conn, conn.transaction():
        await Outbox(conn).put(changed)
        await number_entries(conn, NODE, "records")
    for shown, expected in ((SHOWN, changed.sections["personal"]),
                            (frozenset[str](), hash_of(changed.sections["personal"]))):  # fmt: skip
        answer = await read_log(pool, "records", after=0, run=b"", limit=9, shown=shown)
        assert dict(answer.entries[0].sections) == {"personal": expected}
        assert answer.entries[0].hash == changed.hash


async def test_what_comes_back_as_a_hash_does_not_replace_the_section_that_is_here(
    pool: db.Pool,
) -> None:
    """A view that shows nothing above lets nothing come back, and takes nothing away."""
    old, other = member("赫连勃勃"), member("尉迟敬德")
    for one in (old, other):
        await _own(pool, one)
    renamed = member("长孙无忌", version=2, id_=other.id)
    entries = [
        log_pb2.Entry(
            number=at, kind="members", id=one.id.bytes, owner_epoch=1, version=2, hash=one.hash,
            public=one.public, sections=line(one, bare=True).sections, event_id=uuid7().bytes,
        )
        for at, one in enumerate((member("赫连勃勃", version=2, id_=old.id), renamed), start=1)
    ]  # fmt: skip
    first = log_pb2.TakeBackRequest(channel="records", head=2, entries=entries)
    await restores.take_back(pool, (MEMBERS,), NODE, first, _none())
    assert await held(pool) == {
        old.id: old.sections["personal"],
        other.id: hash_of(renamed.sections["personal"]),
    }
    rows = await pool.fetch("SELECT id, personal FROM entries ORDER BY number")
    assert [len(row["personal"]) for row in rows] == [16, 16]


async def test_what_comes_back_whole_is_a_hash_where_it_was_one(pool: db.Pool) -> None:
    """At its owner a section is made again of what is sealed: it is in no log, and in no record
    that is here."""
    kept = member("赫连勃勃")
    await _own(pool, kept)
    hash_ = hash_of(kept.sections["personal"])
    await pool.execute("UPDATE members SET personal = $1", hash_)
    came = member("赫连勃勃", version=2, id_=kept.id)
    entry = log_pb2.Entry(
        number=1, kind="members", id=came.id.bytes, owner_epoch=1, version=2, hash=came.hash,
        public=came.public, sections=came.sections, event_id=uuid7().bytes,
    )  # fmt: skip
    first = log_pb2.TakeBackRequest(channel="records", head=1, entries=[entry])
    await restores.take_back(pool, (MEMBERS,), NODE, first, _none())
    assert await held(pool) == {kept.id: hash_}
    assert await pool.fetchval("SELECT personal FROM entries") == hash_


async def _own(pool: db.Pool, change: Change) -> None:
    await pool.execute(
        """
        INSERT INTO members (origin, id, owner_epoch, version, hash, public, organization, state,
                             personal)
        VALUES ($1, $2, 1, $3, $4, $5, $6, 1, $7)
        """,
        NODE, change.id, change.version, change.hash, change.public, UUID(int=0),
        change.sections["personal"],
    )  # fmt: skip


async def _none() -> AsyncIterator[Any]:
    return
    yield


async def test_own_sections_are_never_forgotten(pool: db.Pool) -> None:
    own = member("赫连勃勃")
    await _own(pool, own)
    await sections.forget(pool, MEMBERS, "personal", NODE)
    assert await held(pool) == {own.id: own.sections["personal"]}
