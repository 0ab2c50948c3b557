"""Previews: officers see every change before anything is changed, and a file of the results."""

import asyncio
import io
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4
from zipfile import ZipFile

import grpc
import pytest
from openpyxl import load_workbook

from kit.status import refused
from services.membership.usecases import imports
from smartunion.membership.v1 import membership_pb2 as pb
from tests.builders import HEADER, a_roster, a_workbook
from tests.eventually import eventually
from tests.offices import DEPUTY
from tests.service.conftest import serving
from tests.service.desk import OFFICER, Desk

ADMITTED, APPLIED = pb.RosterRow.ADMITTED, pb.RosterRow.APPLIED
UNCHANGED, REFUSED = pb.RosterRow.UNCHANGED, pb.RosterRow.REFUSED
PREVIEWED = pb.Roster.PREVIEWED
RECORDS = ("members", "applications", "people", "submissions", "admissions", "outbox", "entries")


def as_text(rows: list[str]) -> bytes:
    return a_roster(rows)


def as_workbook(rows: list[str]) -> bytes:
    return a_workbook(row.split(",") for row in [HEADER, *rows])


async def records(desk: Desk) -> dict[str, list[str]]:
    """Every row of every table that an import may change, but for what the log does by itself."""
    return {
        table: [
            row["text"]
            for row in await desk.pool.fetch(
                f"SELECT row::text AS text FROM {table} row ORDER BY 1"
            )
        ]
        for table in RECORDS
        if table not in ("outbox", "entries")
    }


async def announced(desk: Desk) -> int:
    """How many changes of records were ever announced."""
    return int(
        await desk.pool.fetchval(
            """
            SELECT (SELECT count(*) FROM outbox)
                 + (SELECT count(*) FROM entries WHERE kind <> 'certificate')
            """
        )
    )


def as_told(rows: list[pb.RosterRow]) -> list[tuple[int, int, str, str]]:
    return [(row.line, row.outcome, row.reason, row.message) for row in rows]


@pytest.fixture
async def mixed(alone: Desk) -> AsyncIterator[list[str]]:
    """Rows of all sorts, in two batches; the same person comes in both."""
    await alone.bring(a_roster(alone.member_rows([5_000])))
    await alone.bring(a_roster(alone.member_rows([5_001])), parent=alone.county)
    yield [
        *alone.member_rows([0]),
        *alone.applicant_rows([1]),
        *alone.member_rows([5_000, 5_001]),
        "张三,1,,,",
        *alone.member_rows(range(10, 1_110)),
        *alone.member_rows([0]),
        "合计,,,,",
    ]


@pytest.mark.parametrize("written", [as_text, as_workbook])
async def test_a_preview_shows_every_change_and_changes_nothing(
    alone: Desk, mixed: list[str], written: Any
) -> None:
    before, told_before = await records(alone), await announced(alone)
    preview = await alone.check(written(mixed))
    assert (preview.state, preview.done_rows, preview.total_rows) == (PREVIEWED, 1_107, 1_107)
    assert await records(alone) == before
    assert await announced(alone) == told_before
    shown = await alone.rows(preview)
    assert [row.outcome for row in shown[:6]] == [
        ADMITTED, APPLIED, UNCHANGED, REFUSED, REFUSED, ADMITTED,
    ]  # fmt: skip
    assert [row.reason for row in shown[3:5]] == ["ALREADY_A_MEMBER", "ID_NUMBER_LENGTH"]
    assert [bool(row.record) for row in shown[:4]] == [False, False, True, False]
    twice = await alone.rows(preview, outcome=REFUSED)
    assert (twice[-1].reason, "line 2" in twice[-1].message) == ("DUPLICATE_ROW", True)

    done = await alone.commit(preview)
    assert done.state == pb.Roster.DONE
    # What was shown is what became: by the same rules, told in the same words.
    assert as_told(await alone.rows(done)) == as_told(shown)
    assert as_told(await alone.rows(done, outcome=REFUSED)) == as_told(twice)
    for field in ("admitted_rows", "applied_rows", "unchanged_rows", "refused_rows"):
        assert getattr(done, field) == getattr(preview, field)
    assert (done.admitted_rows, done.applied_rows, done.skipped_rows) == (1_101, 1, 1)
    assert await alone.count("members") == 1_103
    assert await alone.count("roster_chunks") == 0


async def test_a_commit_checks_again_because_the_world_may_have_moved(membership: Desk) -> None:
    content = a_roster(membership.member_rows([0, 1]) + membership.applicant_rows([2]))
    preview = await membership.check(content)
    assert (preview.admitted_rows, preview.applied_rows, preview.refused_rows) == (2, 1, 0)
    await membership.apply(0)
    await membership.apply(2)
    done = await membership.commit(preview)
    assert [(row.outcome, row.reason) for row in await membership.rows(done)] == [
        (REFUSED, "APPLICATION_PENDING"), (ADMITTED, ""), (UNCHANGED, ""),
    ]  # fmt: skip


async def test_a_commit_is_made_once(membership: Desk) -> None:
    preview = await membership.check(a_roster(membership.member_rows([0])))
    request = pb.CommitRosterRequest(name=preview.name, request_id=str(uuid4()))
    first = await membership.ask(request, officer=DEPUTY)
    assert (first.state, first.done_rows) == (pb.Roster.IMPORTING, 0)
    assert (await membership.ended(preview)).state == pb.Roster.DONE
    assert (first.creator, first.committer) == (OFFICER, DEPUTY)
    assert await membership.ask(request, officer=DEPUTY) == first
    again = pb.CommitRosterRequest(name=preview.name)
    told = await membership.refusal(again, officer=DEPUTY)
    assert (told.reason, told.code) == (
        "ROSTER_NOT_PREVIEWED", grpc.StatusCode.FAILED_PRECONDITION,
    )  # fmt: skip


async def test_only_what_was_checked_is_committed(membership: Desk) -> None:
    waiting = await membership.announce(b"x")
    done = await membership.bring(a_roster(membership.member_rows([0])))
    for roster in (waiting, done):
        told = await membership.refusal(pb.CommitRosterRequest(name=roster.name))
        assert told.reason == "ROSTER_NOT_PREVIEWED"


async def test_a_preview_that_is_discarded_leaves_nothing_of_the_people(alone: Desk) -> None:
    preview = await alone.check(a_roster(alone.member_rows([0])))
    request = pb.DiscardRosterRequest(name=preview.name, request_id=str(uuid4()))
    discarded = await alone.ask(request)
    assert discarded.state == pb.Roster.DISCARDED
    assert await alone.ask(request) == discarded
    for table in ("roster_chunks", "roster_rows", "people"):
        assert await alone.count(table) == 0
    told = await alone.refusal(pb.CommitRosterRequest(name=preview.name))
    assert told.reason == "ROSTER_NOT_PREVIEWED"
    waiting = await alone.announce(b"xyz")
    await alone.upload(waiting, b"x")
    assert (await alone.ask(pb.DiscardRosterRequest(name=waiting.name))).state == discarded.state
    late = await alone.upload(waiting, b"yz", offset=1)
    assert (late.state, late.received_bytes) == (discarded.state, 1)
    assert await alone.count("roster_chunks") == 0


async def test_what_is_imported_is_not_discarded(membership: Desk) -> None:
    done = await membership.bring(a_roster(membership.member_rows([0])))
    told = await membership.refusal(pb.DiscardRosterRequest(name=done.name))
    assert told.reason == "ROSTER_IMPORTED"


async def test_a_preview_that_nobody_commits_is_deleted_with_its_content(
    unserved: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "SWEEP", 0.0)
    monkeypatch.setattr(imports, "POLL", 0.05)
    async with serving(unserved.settings):
        preview = await unserved.check(a_roster(unserved.member_rows([0])))
        await asyncio.sleep(0.3)
        assert await unserved.count("roster_chunks") == 1
        monkeypatch.setattr(imports, "ABANDONED", timedelta(0))

        async def gone() -> None:
            assert await unserved.count("rosters") == 0

        await eventually(gone)
        for table in ("roster_chunks", "roster_rows"):
            assert await unserved.count(table) == 0
        told = await unserved.refusal(pb.CommitRosterRequest(name=preview.name))
        assert told.reason == "ROSTER_NOT_FOUND"


async def test_the_result_file_says_beside_each_row_what_became_of_it(membership: Desk) -> None:
    number = membership.id_number(0)
    rows = [
        [*HEADER.split(","), "工会代码"],
        ["张三", number, "13800000000", "2025-03-08", "川工发1号"],
        ["李四", int(number[:17] + "0")],
        [number, "王五"],
        ['=HYPERLINK("http://x")', None, "+1"],
        ["合计", None, 3],
    ]
    preview = await membership.check(a_workbook(rows))
    book = load_workbook(io.BytesIO(await membership.result(preview)))
    sheet = book.worksheets[0]
    assert "尚未导入" in str(sheet["A1"].value)
    assert "将成为会员" in str(sheet["B3"].value)

    content = await membership.result(await membership.commit(preview))
    book = load_workbook(io.BytesIO(content))
    sheet = book.worksheets[0]
    shown = [[cell.value for cell in row] for row in sheet.iter_rows(min_row=3)]
    assert [row[0] for row in shown] == [2, 3, 4, 5, 6]
    assert [str(row[1]).split()[0] for row in shown] == [
        "已成为会员",
        "拒绝",
        "拒绝",
        "拒绝",
        "略过",
    ]
    assert shown[0][2:4] == ["张三", f"{number[:6]}********{number[14:]}"]
    assert str(shown[0][8]).startswith("members/")
    assert shown[1][4] == "身份证号"
    assert "文本格式" in str(shown[1][5]) and "as text" in str(shown[1][6])
    assert shown[1][7] == "ID_NUMBER_ROUNDED"
    fills = [row[0].fill.fgColor.rgb for row in sheet.iter_rows(min_row=3)]
    assert [fill == "FFFFC7CE" for fill in fills] == [False, True, True, True, False]

    with ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        text = "".join(archive.read(name).decode() for name in archive.namelist())
    assert number not in text and "13800000000" not in text and "<f>" not in text


async def test_no_cell_of_a_result_file_is_a_formula(membership: Desk) -> None:
    rows = [HEADER, *(f"{sign}cmd|calc,,,," for sign in "=+-@")]
    roster = await membership.announce(content := a_roster(rows[1:]), file_name="=1+1.csv")
    await membership.upload(roster, content)
    book = load_workbook(io.BytesIO(await membership.result(await membership.ended(roster))))
    cells = [cell for row in book.worksheets[0].iter_rows() for cell in row]
    assert [
        cell.value for cell in cells if str(cell.value or "")[:1] in "=+-@" and cell.value
    ] == []
    assert sum(str(cell.value).startswith("'") for cell in cells) == 5


async def test_a_large_result_file_comes_in_parts(membership: Desk) -> None:
    roster = await membership.bring(a_roster(membership.member_rows(range(3_000))))
    request = pb.DownloadRosterResultRequest(name=roster.name)
    stream = membership.stub.DownloadRosterResult(request, metadata=membership.as_officer())
    parts = [part.content async for part in stream]
    assert len(parts) >= 3 and all(0 < len(part) < 2**20 for part in parts)
    sheet = load_workbook(io.BytesIO(b"".join(parts)), read_only=True).worksheets[0]
    assert sum(1 for _ in sheet.iter_rows()) == 3_002


async def test_the_result_of_a_file_refused_as_a_whole_says_why(membership: Desk) -> None:
    roster = await membership.bring(b"%PDF")
    sheet = load_workbook(io.BytesIO(await membership.result(roster))).worksheets[0]
    assert "不是表格" in str(sheet["A1"].value)


async def test_there_is_no_result_file_while_rows_move(membership: Desk) -> None:
    waiting = await membership.announce(b"x")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await membership.result(waiting)
    assert refused(error.value).reason == "ROSTER_UNFINISHED"


async def test_results_forget_whom_they_were_about(
    unserved: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "SWEEP", 0.0)
    monkeypatch.setattr(imports, "POLL", 0.05)
    async with serving(unserved.settings):
        roster = await unserved.bring(a_roster([*unserved.member_rows([0]), "李四,1,,,"]))
        await asyncio.sleep(0.2)
        assert await unserved.count("roster_rows WHERE shown IS NOT NULL") == 2
        monkeypatch.setattr(imports, "SHOWN", timedelta(0))

        async def forgotten() -> None:
            assert await unserved.count("roster_rows WHERE shown IS NOT NULL") == 0

        await eventually(forgotten)
        sheet = load_workbook(io.BytesIO(await unserved.result(roster))).worksheets[0]
        assert [sheet["A4"].value, sheet["C4"].value] == [3, None]
        assert "18 位" in str(sheet["F4"].value)
