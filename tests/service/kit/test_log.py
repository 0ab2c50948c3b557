"""The log of one service: nothing committed is missing in it, and everything is in order."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from kit import db, log
from kit.carrier import Carrier
from kit.ids import uuid7
from kit.log import LogRewound, LogTrimmed, Publisher, free, number_entries, read_log
from kit.proofs import audit, proof_of, sums_of
from kit.records import MODULUS, element
from kit.restores import take_back
from kit.server import KIT_MIGRATIONS
from kit.waiting import ended
from node import databases
from smartunion.event.v1 import log_pb2
from tests.eventually import eventually
from tests.federation.things import MIGRATIONS, THING, change, parse

NODE = uuid4()
INSERT = "INSERT INTO things VALUES ($1, $2, 1, $3, $4, $5, $6, $7)"
UPDATE = """
    UPDATE things SET version = $3, hash = $4, public = $5, organization = $6, state = $7
     WHERE origin = $1 AND id = $2
"""


@dataclass
class Written:
    """A database with a log, and a publisher that runs."""

    url: str
    pool: db.Pool
    publisher: Publisher

    async def write(self, id_: UUID, *, pause: float = 0.0, fail: bool = False) -> int | None:
        """The next state of a record, with a pause before the commit; its version."""
        try:
            async with self.pool.acquire() as conn, conn.transaction():
                if random.random() < 0.5:
                    await conn.execute("SELECT pg_current_xact_id()")  # an early transaction id
                row = await conn.fetchrow(
                    "SELECT version, hash FROM things WHERE id = $1 FOR UPDATE", id_
                )
                version = row["version"] + 1 if row else 1
                new = change(id_, version, row["hash"] if row else None)
                statement = UPDATE if row else INSERT
                await conn.execute(
                    statement, NODE, id_, version, new.hash, new.public, *parse(new.public),
                )  # fmt: skip
                await log.Outbox(conn).put(new)
                await asyncio.sleep(pause)
                if fail:
                    raise RuntimeError("rolled back")
        except (RuntimeError, asyncpg.UniqueViolationError):
            return None
        return int(version)

    async def some(self, count: int) -> None:
        """So many new records, with their numbers."""
        for _ in range(count):
            await self.write(uuid7())
        await self.numbered()

    async def all(self) -> list[log_pb2.Entry]:
        """Every entry but certificates, as a reader reads them."""
        found: list[log_pb2.Entry] = []
        answer = log_pb2.ReadLogResponse(head=1)
        while len(found) < answer.head:
            answer = await read_log(
                self.pool, "records", after=len(found), run=answer.run, limit=100
            )
            found += answer.entries
        assert [entry.number for entry in found] == list(range(1, len(found) + 1))
        return [entry for entry in found if entry.kind == "things"]

    async def numbered(self) -> list[log_pb2.Entry]:
        """As `all`, once nothing waits for a number."""

        async def check() -> None:
            assert await self.pool.fetchval("SELECT count(*) FROM outbox") == 0

        await eventually(check)
        return await self.all()


@pytest.fixture
async def written(postgres: str) -> AsyncIterator[Written]:
    url = await databases.create(postgres, f"log_{uuid4().hex}", password="test")
    async with db.connect(url, KIT_MIGRATIONS, MIGRATIONS) as pool:
        publisher = Publisher(url, NODE, "things", (THING,), Carrier())
        task = asyncio.create_task(publisher.run())
        yield Written(url, pool, publisher)
        await ended(task)


async def test_what_commits_out_of_order_is_numbered_all_the_same(written: Written) -> None:
    ids = [uuid7() for _ in range(20)]
    seen: dict[UUID, int] = {}

    async def writer(seed: int) -> None:
        rnd = random.Random(seed)
        for _ in range(25):
            id_ = rnd.choice(ids)
            slow = rnd.random() < 0.3
            version = await written.write(
                id_, pause=rnd.random() * 0.03 if slow else 0, fail=rnd.random() < 0.1
            )
            if version:
                seen[id_] = max(seen.get(id_, 0), version)

    await asyncio.gather(*(writer(seed) for seed in range(8)))
    of: dict[UUID, list[int]] = {}
    for entry in await written.numbered():
        of.setdefault(UUID(bytes=entry.id), []).append(entry.version)
    assert of == {id_: list(range(1, version + 1)) for id_, version in seen.items()}


async def test_a_second_publisher_waits_and_takes_over(written: Written) -> None:
    second = Publisher(written.url, NODE, "things", (THING,), Carrier())
    task = asyncio.create_task(second.run())
    await asyncio.gather(*(written.write(uuid7()) for _ in range(50)))
    assert len(await written.numbered()) == 50
    await written.pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_locks"
        " WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()"
        "   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    await asyncio.gather(*(written.write(uuid7()) for _ in range(50)))
    assert len(await written.numbered()) == 100
    await ended(task)


async def test_what_a_restore_has_taken_back_is_certified_without_delay(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or those above could not prove it until a minute has passed."""
    monkeypatch.setattr(log, "QUIET", 0.0)
    monkeypatch.setattr(log, "HEARTBEAT", 0.0)

    async def certified() -> int:
        head = await written.pool.fetchval("SELECT head FROM logs WHERE channel = 'records'")
        proof = await proof_of(written.pool, NODE, "records")
        assert proof.certified == proof.applied == head > 0
        return int(head)

    head = await eventually(certified)
    found = await take_back(
        written.pool, (THING,), NODE,
        log_pb2.TakeBackRequest(channel="records", head=head + 100), none(),
    )  # fmt: skip
    assert found.run
    assert await eventually(certified, within=10) == head + 101


async def none() -> AsyncIterator[Any]:
    """Nothing more."""
    nothing: list[Any] = []
    for one in nothing:
        yield one


async def test_the_last_cursor_of_a_reader_is_its_receipt_also_when_it_goes_back(
    written: Written,
) -> None:
    await written.some(5)

    async def read(after: int) -> int:
        await read_log(written.pool, "records", after=after, run=b"", limit=1, reader="sync")
        return int(await written.pool.fetchval("SELECT number FROM receipts WHERE reader = 'sync'"))

    assert [await read(after) for after in (0, 3, 3, 5, 2)] == [0, 3, 3, 5, 2]
    with pytest.raises(LogRewound):
        await read(1_000)  # no cursor of this log
    assert await read(2) == 2


async def test_nothing_is_freed_that_a_reader_has_not_passed(written: Written) -> None:
    await written.some(10)
    assert await free(written.pool, "records", keep_days=0) == 0  # the first reader may still come
    await receipt(written, "sync", 8)
    await receipt(written, "notify", 5)
    assert await free(written.pool, "records", keep_days=7) == 0  # a backup may need them
    assert await free(written.pool, "records", keep_days=0) == 5
    answer = await read_log(written.pool, "records", after=5, run=b"", limit=3)
    assert [entry.number for entry in answer.entries] == [6, 7, 8]
    with pytest.raises(LogTrimmed):
        await read_log(written.pool, "records", after=4, run=b"", limit=3)


async def receipt(written: Written, reader: str, number: int) -> None:
    await written.pool.execute("INSERT INTO receipts VALUES ($1, 'records', $2)", reader, number)


async def test_a_cursor_of_another_life_is_told_so(written: Written) -> None:
    await written.some(3)
    run = (await read_log(written.pool, "records", after=0, run=b"", limit=9)).run
    await read_log(written.pool, "records", after=2, run=run, limit=9)
    with pytest.raises(LogRewound):
        await read_log(written.pool, "records", after=2, run=uuid4().bytes, limit=9)
    with pytest.raises(LogRewound):
        await read_log(written.pool, "records", after=1_000, run=run, limit=9)


async def test_an_entry_that_is_gone_from_the_middle_is_an_error_and_not_skipped(
    written: Written,
) -> None:
    await written.some(5)
    await written.pool.execute("DELETE FROM entries WHERE number = 2")
    # What stands before the hole is read, and nothing after it, however much is asked for.
    before = await read_log(written.pool, "records", after=0, run=b"", limit=9)
    assert [entry.number for entry in before.entries] == [1]
    with pytest.raises(LogTrimmed):
        await read_log(written.pool, "records", after=1, run=b"", limit=3)


async def test_equal_hashes_count_twice_in_a_digest(written: Written) -> None:
    hash_ = b"\xff" * 16
    conn: Any
    async with written.pool.acquire() as conn:
        for last in (0x0101, 0x0201, 0x0301):
            await conn.execute(
                "INSERT INTO outbox (channel, kind, id, owner_epoch, version, hash, public,"
                " event_id, event_type, event_time, event)"
                " VALUES ('records', 'things', $1, 1, 1, $2, '', $1, 't', now(), '')",
                UUID(int=last), hash_,
            )  # fmt: skip
        await number_entries(conn, NODE, "records")

        async def check() -> None:
            sums = await sums_of(conn, NODE, "records")
            assert sums.by_bucket()[1] == 3 * element(hash_) % MODULUS
            assert sums.counts() == {"things": 3}

        await eventually(check)


async def test_the_audit_finds_what_no_log_knows(written: Written) -> None:
    id_ = uuid7()
    for _ in range(3):
        await written.write(id_)

    async def verdict() -> int:
        async with written.pool.acquire() as conn:
            await audit(conn, (THING,), NODE, "records", whole=True)
            return (await proof_of(conn, NODE, "records")).verdict

    assert await verdict() == log_pb2.COMPLETE
    await written.pool.execute("UPDATE things SET state = 50")
    assert await verdict() == log_pb2.DIFFERENT
