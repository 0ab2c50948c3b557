"""The audit trail of one service: nothing committed is missing in it, and nothing can be undone
that is not found."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg
import pytest
import typer

from kit import audit, db
from kit.audit import Act, acting
from kit.authority import Scope, ScopeUndecided
from kit.carrier import Carrier
from kit.chain import Fault, Head, link
from kit.ids import utc_now
from kit.log import Publisher
from kit.server import KIT_MIGRATIONS
from kit.waiting import ended
from node import databases, ports
from node.audit import check, verify
from node.databases import as_owner
from node.problems import HeadsMalformed, NodeDown
from smartunion.membership.v1 import membership_pb2
from tests.eventually import eventually
from tests.federation.things import MIGRATIONS, THING

CHANGE = "INSERT INTO roll VALUES (gen_random_uuid(), 1, $1, true)"
"""A change of anything."""
CALLER = f"members/{UUID(int=7)}"


@dataclass
class Trail:
    """A database with an audit trail, and who calls."""

    url: str
    pool: db.Pool

    async def act(self, *, fail: bool = False, request_id: str = "") -> None:
        """What a member does by one call."""
        token = acting.set(Act(CALLER, "a.B.Change", None))
        acting.get().request = membership_pb2.RejectApplicationRequest(
            name=f"applications/{uuid4()}", reason="applications/张三", request_id=request_id
        )
        try:
            async with db.Database(self.pool, lambda conn: conn).transaction() as conn:
                await conn.execute(CHANGE, uuid4())
                if fail:
                    raise RuntimeError("refused")
        finally:
            acting.reset(token)

    async def number(self) -> Head:
        """All that waits, and the head then."""
        async with self.pool.acquire() as conn:
            while await audit.number(conn):
                pass
            return await audit.head_of(conn)

    async def rows(self) -> list[Any]:
        return await self.pool.fetch("SELECT * FROM audit ORDER BY number")

    async def finding(self, *held: Head) -> str:
        """What `smartunion audit verify` says."""
        async with self.pool.acquire() as conn:
            try:
                await check(conn, held)
            except Fault as fault:
                return str(fault)
        return ""

    @asynccontextmanager
    async def forced(self) -> AsyncIterator[Any]:
        """What the owner of the table can do all the same; undone in the end."""
        conn = await asyncpg.connect(as_owner(self.url))
        await conn.execute("CREATE TEMPORARY TABLE as_it_was AS SELECT * FROM audit")
        head = await audit.head_of(conn)
        await conn.execute("ALTER TABLE audit DISABLE TRIGGER USER")
        yield conn
        await conn.execute("TRUNCATE audit")
        await conn.execute("INSERT INTO audit SELECT * FROM as_it_was")
        await conn.execute("ALTER TABLE audit ENABLE TRIGGER USER")
        await set_head(conn, head)
        await conn.close()


async def set_head(conn: Any, head: Head) -> None:
    await conn.execute("UPDATE audit_head SET number = $1, hash = $2", head.number, head.hash)


@pytest.fixture(scope="module")
async def trail(postgres: str) -> AsyncIterator[Trail]:
    url = await databases.create(postgres, f"audit_{uuid4().hex}", password="test")
    async with db.connect(url, KIT_MIGRATIONS, MIGRATIONS) as pool:
        trail = Trail(url, pool)
        for _ in range(9):
            await trail.act()
        await trail.number()
        yield trail


async def test_a_change_leaves_a_row_that_names_no_person(trail: Trail) -> None:
    before = len(await trail.rows())
    await trail.act(request_id=str(uuid4()))
    head = await trail.number()
    row = (await trail.rows())[-1]
    assert head.number == len(await trail.rows()) == before + 1
    assert (row["caller"], row["method"], row["office"]) == (CALLER, "a.B.Change", "")
    assert row["request_id"] is not None
    [name] = row["names"]
    assert name.startswith("applications/") and "张三" not in str([*row.values()])
    assert await trail.finding() == ""


async def test_what_is_refused_leaves_none(trail: Trail) -> None:
    before = await trail.number()
    with pytest.raises(RuntimeError):
        await trail.act(fail=True)
    assert await trail.number() == before


async def test_what_only_reads_leaves_none(trail: Trail) -> None:
    before = await trail.number()
    token = acting.set(Act(CALLER, "a.B.Get", None))
    async with db.Database(trail.pool, lambda conn: conn).transaction() as conn:
        await conn.fetch("SELECT * FROM roll")
    acting.reset(token)
    assert await trail.number() == before


async def test_an_officer_changes_nothing_for_which_no_scope_was_asked(trail: Trail) -> None:
    before, id_ = await trail.number(), uuid4()
    undecided = Scope(caller="officers/a", permission="x", offices=list, clock=utc_now)
    token = acting.set(Act("officers/a", "a.B.Change", undecided))
    with pytest.raises(ScopeUndecided):
        async with db.Database(trail.pool, lambda conn: conn).transaction() as conn:
            await conn.execute("INSERT INTO roll VALUES ($1, 1, $1, true)", id_)
    acting.reset(token)
    assert await trail.number() == before
    assert not await trail.pool.fetchval("SELECT count(*) FROM roll WHERE id = $1", id_)


async def test_rows_wait_for_no_other_mutation(trail: Trail) -> None:
    before = await trail.number()
    async with trail.pool.acquire() as conn, conn.transaction():
        await conn.execute("INSERT INTO audit_waiting (caller, method, office, path, names)"
                           " VALUES ('a', 'b', '', '', '{}')")  # fmt: skip
        await trail.act()
        assert (await trail.number()).number == before.number + 1
    assert (await trail.number()).number == before.number + 2
    assert await trail.finding() == ""


async def test_who_serves_may_not_rewrite_the_trail_and_its_owner_does_not_by_mistake(
    trail: Trail,
) -> None:
    owner = await asyncpg.connect(as_owner(trail.url))
    for statement in ("UPDATE audit SET caller = ''", "DELETE FROM audit", "TRUNCATE audit",
                      "DELETE FROM audit_heads", "UPDATE audit_heads SET number = 0"):  # fmt: skip
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
            await trail.pool.execute(statement)
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only ever added"):
            await owner.execute(statement)
    await owner.close()


async def test_who_owns_the_tables_does_not_serve(postgres: str, trail: Trail) -> None:
    path = urlsplit(trail.url).path
    rights = urlunsplit(urlsplit(postgres)._replace(path=path))  # of whoever made the database
    for url in (postgres, rights):
        with pytest.raises(db.WallMissing, match="must not own the database"):
            async with db.connect(url, KIT_MIGRATIONS):
                pass


EDIT = "UPDATE audit SET {column} = {value} WHERE number = 4"


@pytest.mark.parametrize(
    ("column", "value"),
    [("caller", "'officers/nobody'"), ("time", "time + interval '1 microsecond'"),
     ("office", "'offices/x'"), ("path", "'0'"), ("names", "'{}'"), ("method", "''"),
     ("request_id", "gen_random_uuid()"), ("hash", "sha256('x')")],
)  # fmt: skip
async def test_an_edited_row_is_named(trail: Trail, column: str, value: str) -> None:
    async with trail.forced() as conn:
        await conn.execute(EDIT.format(column=column, value=value))
        assert await trail.finding() == "row 4 was changed"


async def test_a_deleted_row_is_named(trail: Trail) -> None:
    async with trail.forced() as conn:
        await conn.execute("DELETE FROM audit WHERE number = 4")
        assert await trail.finding() == "row 4 was removed"


async def test_two_rows_that_were_swapped_are_named(trail: Trail) -> None:
    async with trail.forced() as conn:
        await conn.execute("UPDATE audit SET number = -number WHERE number IN (4, 6)")
        await conn.execute("UPDATE audit SET number = 10 + number WHERE number < 0")
        assert await trail.finding() == "rows 4 and 6 have changed places"


async def test_a_trail_cut_at_its_end_is_found(trail: Trail) -> None:
    head = await trail.number()
    async with trail.forced() as conn:
        await conn.execute("DELETE FROM audit WHERE number > $1", head.number - 2)
        lost = f"rows {head.number - 1} to {head.number} are missing at the end"
        assert await trail.finding() == lost
        last = (await trail.rows())[-1]
        await set_head(conn, Head(last["number"], last["hash"]))
        assert await trail.finding() == ""  # to be found by nobody who has only this database
        assert (await trail.finding(head)).startswith(lost)


async def test_a_trail_that_was_made_anew_is_found_by_what_others_keep(trail: Trail) -> None:
    early = (await trail.rows())[2]
    held = Head(early["number"], early["hash"]), await trail.number()
    async with trail.forced() as conn:
        await conn.execute("UPDATE audit SET caller = 'officers/nobody' WHERE number = 5")
        await made_anew(conn)
        assert await trail.finding() == ""
        told = await trail.finding(*held)
        assert told.startswith(f"a row from 4 to {held[1].number} was changed and the chain was")


async def made_anew(conn: Any) -> None:
    """All hashes again, as whoever has the database alone can make them."""
    head = Head(0, bytes(32))
    for found in await conn.fetch("SELECT * FROM audit ORDER BY number"):
        row = audit.row_of(found)
        head = Head(row.number, link(head.hash, replace(row, hash=b"")))
        await conn.execute("UPDATE audit SET hash = $2 WHERE number = $1", head.number, head.hash)
    await set_head(conn, head)


async def test_what_was_committed_before_a_crash_is_numbered_after_it(trail: Trail) -> None:
    before = await trail.number()
    for _ in range(3):
        await trail.act()
    async with trail.pool.acquire() as conn:  # one dies while it numbers
        transaction = conn.transaction()
        await transaction.start()
        await audit.number(conn)
        await transaction.rollback()
    publisher = Publisher(trail.url, uuid4(), "things", (THING,), Carrier())
    task = asyncio.create_task(publisher.run())

    async def numbered() -> None:
        assert len(await trail.rows()) == before.number + 3

    await eventually(numbered)
    await ended(task)
    assert await trail.finding(before) == ""


async def test_the_command_says_what_it_found_and_fails_if_a_row_is_wrong(
    trail: Trail, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "node.toml"
    config.write_text('name = "成都市总工会"\norganization = "5101"\nlevel = "city"\n')
    with pytest.raises(NodeDown):
        await asyncio.to_thread(verify, config)
    (tmp_path / "data").mkdir()
    left = {"postgres": {"things": f"postgresql://nobody@127.0.0.1:{ports.free()}/things"}}
    (tmp_path / "data" / "endpoints.json").write_text(json.dumps(left))
    with pytest.raises(NodeDown):  # it was killed, and left the file
        await asyncio.to_thread(verify, config)
    endpoints = json.dumps({"postgres": {"things": trail.url}})
    (tmp_path / "data" / "endpoints.json").write_text(endpoints)
    head = await trail.number()
    heads = tmp_path / "heads.json"
    heads.write_text(json.dumps({"things": [[head.number, head.hash.hex()]]}))
    await asyncio.to_thread(verify, config, heads)
    assert f"things: {head.number} rows, whole, as 1 heads say" in capsys.readouterr().out
    async with trail.forced() as conn:
        await conn.execute("DELETE FROM audit WHERE number = 2")
        with pytest.raises(typer.Exit):
            await asyncio.to_thread(verify, config, heads)
    assert "things: row 2 was removed" in capsys.readouterr().out
    heads.write_text("[]")
    with pytest.raises(HeadsMalformed):
        await asyncio.to_thread(verify, config, heads)
