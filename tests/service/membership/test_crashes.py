"""What a crash and a curious reader find: every row once, and nothing personal."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

import grpc
import pytest

from services.membership.config import Settings
from services.membership.usecases import imports
from smartunion.membership.v1 import membership_pb2 as pb
from tests.builders import HEADER, a_roster, a_workbook
from tests.eventually import eventually
from tests.offices import DEPUTY
from tests.service.conftest import serving
from tests.service.desk import OFFICER, Desk

ROWS = 3_000


@asynccontextmanager
async def process(settings: Settings) -> AsyncIterator[asyncio.subprocess.Process]:
    """The service as a process of its own, killed in the end."""
    values = {
        f"SMARTUNION_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in settings.model_dump(mode="json").items()
    }
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.membership",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **values},
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield running
    finally:
        if running.returncode is None:
            running.send_signal(signal.SIGKILL)
        await running.wait()


async def test_a_workbook_killed_in_its_check_and_in_its_import_does_each_row_once(
    unserved: Desk,
) -> None:
    desk = unserved
    rows = [HEADER, *desk.member_rows(range(ROWS)), *desk.applicant_rows([0, ROWS])]
    content = a_workbook(row.split(",") for row in rows)
    async with process(desk.settings):
        roster = await eventually(lambda: desk.announce(content))
        await desk.upload(roster, content)
        await begun(desk, roster)
    checked = await desk.count("roster_rows")
    assert checked % imports.BATCH == 0 and checked < ROWS
    assert await desk.count("people") == await desk.count("members") == 0
    async with process(desk.settings):
        preview = await eventually(lambda: desk.ended(roster))
        assert (preview.state, preview.done_rows) == (pb.Roster.PREVIEWED, ROWS + 2)
        assert await desk.count("roster_rows") == ROWS + 2
        assert await desk.count("people") == await desk.count("members") == 0
        commit = pb.CommitRosterRequest(name=roster.name, request_id=str(uuid4()))
        answer = await desk.ask(commit, officer=DEPUTY)
        await begun(desk, roster)
    made = await desk.count("members")
    assert made % imports.BATCH == 0 and made < ROWS
    for table in ("people", "admissions", "roster_rows"):
        assert await desk.count(table) == made
    async with serving(desk.settings):
        # The officer who got no answer asks again.
        assert await desk.ask(commit, officer=DEPUTY) == answer
        ended = await desk.ended(roster)
    assert (ended.state, ended.done_rows) == (pb.Roster.DONE, ROWS + 2)
    assert (ended.admitted_rows, ended.applied_rows, ended.refused_rows) == (ROWS, 1, 1)
    assert await desk.count("members") == await desk.count("admissions") == ROWS
    assert await desk.count("people") == ROWS + 1
    assert await desk.count("roster_rows") == ROWS + 2


async def begun(desk: Desk, roster: pb.Roster) -> None:
    """When the first batch of a roster is done."""
    async for seen in desk.watch(roster):
        if seen.done_rows:
            return


@pytest.mark.parametrize(
    ("table", "event", "condition"),
    [
        ("roster_rows", "INSERT", "NEW.line = 1501"),
        ("rosters", "UPDATE", "OLD.done_rows = 1000 AND NEW.done_rows = 2000"),
    ],
)
async def test_rows_counted_as_done_are_committed_with_their_results(
    unserved: Desk, table: str, event: str, condition: str
) -> None:
    """A batch that fails anywhere leaves neither a member nor a count nor a result behind."""
    desk = unserved
    async with serving(desk.settings):
        roster = await desk.check(a_roster(desk.member_rows(range(2_000))))
        await desk.pool.execute(
            f"""
            CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'serialization_failure'; END $$;
            CREATE TRIGGER fail BEFORE {event} ON {table} FOR EACH ROW
                WHEN ({condition}) EXECUTE FUNCTION fail()
            """
        )
        await desk.ask(pb.CommitRosterRequest(name=roster.name), officer=DEPUTY)

        async def stuck() -> None:
            assert (await desk.ask(pb.GetRosterRequest(name=roster.name))).done_rows == 1_000

        await eventually(stuck)
        await asyncio.sleep(1.5)  # Longer than a new try takes to begin.
        await stuck()
        assert await desk.count("members") == await desk.count("roster_rows") == 1_000
        await desk.pool.execute(f"DROP TRIGGER fail ON {table}")
        assert (await desk.ended(roster)).admitted_rows == 2_000
    assert await desk.count("members") == 2_000


async def test_an_import_that_keeps_failing_is_refused_in_the_end(
    unserved: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = unserved
    monkeypatch.setattr(imports, "PAUSE", 0.01)
    monkeypatch.setattr(imports, "POLL", 0.05)
    async with serving(desk.settings):
        checked = await desk.check(a_roster(desk.member_rows(range(2_000))))
        await desk.pool.execute(
            """
            CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'check_violation'; END $$;
            CREATE TRIGGER fail BEFORE INSERT ON roster_rows FOR EACH ROW
                WHEN (NEW.line = 1501) EXECUTE FUNCTION fail()
            """
        )
        roster = await desk.commit(checked)
        assert (roster.state, roster.refuse_reason) == (pb.Roster.REFUSED, "IMPORT_FAILED")
        assert (roster.done_rows, roster.total_rows) == (1_000, 2_000)
        assert await desk.count("members") == 1_000
        assert await desk.count("roster_chunks") == 0
        other = await desk.bring(a_roster(desk.member_rows(range(2_000, 2_010))))
        assert other.admitted_rows == 10


async def test_an_upload_given_up_is_deleted_with_its_parts(
    unserved: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = unserved
    monkeypatch.setattr(imports, "SWEEP", 0.0)
    monkeypatch.setattr(imports, "POLL", 0.05)
    content = a_roster(desk.member_rows(range(3)))
    async with serving(desk.settings):
        done = await desk.bring(content)
        young = await desk.announce(content)
        await desk.upload(young, content[:10])
        await asyncio.sleep(0.3)
        assert await desk.count("roster_chunks") == 1
        monkeypatch.setattr(imports, "ABANDONED", timedelta(0))

        async def gone() -> None:
            assert await desk.count("rosters") == 1

        await eventually(gone)
        assert await desk.count("roster_chunks") == 0
        told = await desk.refusal(pb.GetRosterRequest(name=young.name))
        assert told.reason == "ROSTER_NOT_FOUND"
        assert (await desk.ask(pb.GetRosterRequest(name=done.name))).state == pb.Roster.DONE


async def test_no_person_appears_outside_the_tables_of_people(
    alone: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    rejected = await alone.apply(1)
    await alone.ask(pb.RejectApplicationRequest(name=rejected.name, reason="材料不全"))
    await alone.approve(await alone.apply(2))
    with pytest.raises(grpc.aio.AioRpcError):
        await alone.apply(2)
    await alone.bring(a_roster([*alone.member_rows([3, 3]), "张三,5.10104E+17,13800000000,,"]))
    numbers = [alone.id_number(n) for n in (1, 2, 3)]

    async def published() -> None:
        assert await alone.count("outbox") == 0

    await eventually(published)
    for table in (
        "entries", "calls", "roster_rows", "members", "applications", "people", "submissions",
    ):  # fmt: skip
        rows = await alone.pool.fetch(f"SELECT row::text AS text FROM {table} row")
        text = "".join(row["text"] for row in rows)
        assert rows, table
        for secret in (*numbers, "13800000000", f"138{alone.first + 3:08}"):
            assert secret not in text
            assert secret.encode().hex() not in text
        if table == "entries":
            rows = await alone.pool.fetch(
                "SELECT row::text AS text FROM entries row WHERE channel <> 'local'"
            )
            assert OFFICER.encode().hex() not in "".join(row["text"] for row in rows)
        for said in ("张三", "材料不全"):
            assert said not in text
            assert said.encode().hex() not in text
    assert not any(secret in caplog.text for secret in (*numbers, "张三", "13800000000"))
