"""Two holders of a stream find, by few sums, exactly the records in which they differ.

Both stand in one table here, as two origins of the same records.
"""

import os
import random
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from kit import db, ranges
from kit.ids import uuid7
from kit.ranges import DEEPEST, FEW, MOST_RANGES, Meaning, Search
from kit.records import bucket
from kit.server import KIT_MIGRATIONS
from node import databases
from smartunion.event.v1 import log_pb2
from tests.federation.things import CRY, MIGRATIONS, THING

HERE, ABOVE = UUID(int=1), UUID(int=2)
KINDS = (THING, CRY)
Held = dict[UUID, tuple[int, bytes]]
"""Version and hash of each record."""


@pytest.fixture
async def pool(postgres: str) -> AsyncIterator[db.Pool]:
    url = await databases.create(postgres, f"ranges_{uuid4().hex}", password="test")
    async with db.connect(url, KIT_MIGRATIONS, MIGRATIONS) as pool:
        yield pool


def some(n: int) -> Held:
    return {uuid7(): (3, os.urandom(16)) for _ in range(n)}


async def keep(pool: db.Pool, origin: UUID, held: Held) -> None:
    """Write the records of a holder, and what they sum to."""
    await pool.copy_records_to_table(
        "things", records=[(origin, id_, 1, *state, b"", id_, 1) for id_, state in held.items()]
    )
    await pool.execute(
        """
        INSERT INTO sums SELECT origin, 'records', 'things', bucket(id), count(*),
                                modulo(sum(element(hash))) FROM things GROUP BY origin, bucket(id)
        ON CONFLICT (origin, channel, kind, bucket) DO UPDATE SET digest = excluded.digest
        """
    )


async def compare(pool: db.Pool, *, most: int = 1_000, start: str = "") -> Search:
    search = Search(most, start)
    async with pool.acquire() as conn:
        while True:
            here, above = [
                await ranges.sum_ranges(conn, KINDS, origin, "records", search.asked)
                for origin in (HERE, ABOVE)
            ]
            search.narrow(here, above)
            if not search.asked:
                return search


def spoil(held: Held, rnd: random.Random, n: int) -> tuple[Held, dict[UUID, Meaning]]:
    """Another holder with so many records lost, altered, behind, ahead, or its own alone."""
    above, expected = dict(held), dict[UUID, Meaning]()
    for id_ in rnd.sample(sorted(held), min(n, len(held))):
        meaning = rnd.choice([meaning for meaning in Meaning if meaning < Meaning.EXTRA_ABOVE])
        version = 3 + (meaning is Meaning.NEWER_ABOVE) - (meaning is Meaning.OLDER_ABOVE)
        above[id_] = version, os.urandom(16)
        expected[id_] = meaning
        if meaning is Meaning.MISSING_ABOVE:
            del above[id_]
    extra = some(n // 4)
    return above | extra, expected | dict.fromkeys(extra, Meaning.EXTRA_ABOVE)


@pytest.mark.parametrize(("records", "differences"), [(0, 8), (30, 30), (3_000, 60), (20_000, 100)])
async def test_exactly_the_records_that_differ_are_found_and_what_it_means(
    pool: db.Pool, records: int, differences: int
) -> None:
    here = some(records)
    above, expected = spoil(here, random.Random(records), differences)
    await keep(pool, HERE, here)
    await keep(pool, ABOVE, above)
    found = (await compare(pool)).found
    assert {one.id: one.meaning for one in found} == expected
    assert len(found) == len(expected)
    for one in found:
        assert one.here == ((1, *here[one.id]) if one.id in here else None)
        assert one.above == ((1, *above[one.id]) if one.id in above else None)


async def test_holders_that_agree_ask_once(pool: db.Pool) -> None:
    here = some(2_000)
    await keep(pool, HERE, here)
    await keep(pool, ABOVE, here)
    search = Search(1_000)
    async with pool.acquire() as conn:
        here_, above = [
            await ranges.sum_ranges(conn, KINDS, origin, "records", []) for origin in (HERE, ABOVE)
        ]
    search.narrow(here_, above)
    assert not search.asked and not search.found


async def test_two_wrongs_of_the_same_bit_do_not_cancel(pool: db.Pool) -> None:
    """Under XOR they would: the sum of their range would be the same."""
    end = os.urandom(2)
    ids = [UUID(bytes=uuid7().bytes[:14] + end) for _ in range(100)]
    here = {id_: (1, b"\x00" + os.urandom(15)) for id_ in ids}
    pair = random.choice([(a, b) for a in ids for b in ids if a < b and alike(a, b)])
    above = here | {id_: (1, b"\x01" + here[id_][1][1:]) for id_ in pair}
    await keep(pool, HERE, here)
    await keep(pool, ABOVE, above)
    assert {one.id for one in (await compare(pool)).found} == set(pair)


def alike(a: UUID, b: UUID) -> bool:
    return ranges.tail(a)[:5] == ranges.tail(b)[:5]


async def test_pages_go_on_where_the_page_before_ended(pool: db.Pool) -> None:
    here = some(3_000)
    above, expected = spoil(here, random.Random(3), 80)
    await keep(pool, HERE, here)
    await keep(pool, ABOVE, above)
    listed: list[UUID] = []
    start, pages = "", 0
    while start or not pages:
        search = await compare(pool, most=7, start=start)
        assert len(search.found) <= 7
        listed += [one.id for one in search.found]
        start, pages = search.end, pages + 1
    assert pages > len(expected) // 7
    assert listed == sorted(expected, key=ranges.tail)


async def test_what_was_not_searched_is_known(pool: db.Pool) -> None:
    here = some(3_000)
    await keep(pool, HERE, here)
    search = await compare(pool, most=50)
    assert search.end and 50 - 32 <= len(search.found) <= 50
    listed = {one.id for one in search.found}
    for id_ in here:
        assert id_ in listed or not search.saw(bucket(id_))


async def test_ids_that_end_alike_end_the_search(pool: db.Pool) -> None:
    """Nobody makes such ids; a child that did would not have its parent search for ever."""
    alike = {UUID(int=at << 64 | 0xABCDEF012345): (1, os.urandom(16)) for at in range(FEW + 1)}
    await keep(pool, HERE, alike)
    search = await compare(pool)
    assert search.found == []


async def test_a_bucket_that_one_end_doubts_is_searched(pool: db.Pool) -> None:
    """Its table is not what its running sums say: a record was written past the outbox."""
    here = some(500)
    await keep(pool, HERE, here)
    await keep(pool, ABOVE, here)
    forgotten = uuid7()
    await pool.execute(
        "INSERT INTO things VALUES ($1, $2, 1, 1, $3, '', $2, 1)", HERE, forgotten, bytes(16)
    )
    assert (await compare(pool)).found == []
    await pool.execute(
        "INSERT INTO proofs (origin, channel, buckets) VALUES ($1, 'records', $2)",
        HERE, [bucket(forgotten)],
    )  # fmt: skip
    assert [one.id for one in (await compare(pool)).found] == [forgotten]


@pytest.mark.parametrize("prefix", ["", "a", "A7", "g0", "a" * (DEEPEST + 1), "a7\n", "٣٣"])
async def test_what_is_no_range_is_refused(pool: db.Pool, prefix: str) -> None:
    asked = [log_pb2.Range(kind="things", prefix=prefix)]
    async with pool.acquire() as conn:
        with pytest.raises(ranges.RangeMalformed):
            await ranges.sum_ranges(conn, KINDS, HERE, "records", asked)


async def test_an_answer_is_bounded(pool: db.Pool) -> None:
    here = some(20_000)
    await keep(pool, HERE, here)
    async with pool.acquire() as conn:
        asked = [log_pb2.Range(kind="things", prefix=f"{at:03x}") for at in range(MOST_RANGES)]
        answer = await ranges.sum_ranges(conn, KINDS, HERE, "records", asked)
        assert [sums.range for sums in answer.sums] == asked
        assert answer.ByteSize() < 3_000_000
        with pytest.raises(ranges.RangesTooMany):
            await ranges.sum_ranges(conn, KINDS, HERE, "records", [*asked, asked[0]])
        other = [log_pb2.Range(kind="cries", prefix="a7"), log_pb2.Range(kind="?", prefix="a7")]
        answer = await ranges.sum_ranges(conn, KINDS, HERE, "records", other)
        assert not answer.sums  # no such kind in this channel
