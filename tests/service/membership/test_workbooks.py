"""Workbooks: the spreadsheet as officers send it, and what no spreadsheet may do to the service."""

import asyncio
import io
from datetime import date, datetime
from typing import Any
from zipfile import ZipFile

import pytest
from openpyxl import Workbook
from openpyxl.worksheet.worksheet import Worksheet

from smartunion.membership.v1 import membership_pb2 as pb
from tests.builders import HEADER, a_roster, a_workbook, saved
from tests.service.desk import Desk

ADMITTED, APPLIED = pb.RosterRow.ADMITTED, pb.RosterRow.APPLIED
REFUSED, SKIPPED = pb.RosterRow.REFUSED, pb.RosterRow.SKIPPED
TITLES = HEADER.split(",")
OLD = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def sheet_of(book: Workbook) -> Worksheet:
    sheet = book.active
    assert isinstance(sheet, Worksheet)
    return sheet


def an_archive(*names: str) -> bytes:
    content = io.BytesIO()
    with ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return content.getvalue()


async def told(desk: Desk, content: bytes) -> list[tuple[int, Any, str, str]]:
    """Of each row: line, outcome, reason, column."""
    roster = await desk.bring(content)
    assert roster.state == pb.Roster.DONE, roster.refuse_message
    return [(row.line, row.outcome, row.reason, row.column) for row in await desk.rows(roster)]


async def test_a_spreadsheet_is_read_as_officers_send_it(membership: Desk) -> None:
    """Merged titles, a decorated header in line 4, gaps, dates of every sort, totals, notes."""
    numbers = [membership.id_number(n) for n in range(8)]
    small = next(n for n in range(100, 300) if membership.id_number(n).endswith("X"))
    book = Workbook()
    sheet = sheet_of(book)
    sheet.title = "花名册"
    sheet.merge_cells("A1:G2")
    sheet["A1"] = "某某公司工会会员花名册"
    sheet.merge_cells("A3:G3")
    sheet["A3"] = "填报单位：某某公司工会　　填报日期：2025年3月8日"
    sheet.append(
        ["序号", "*姓 名", "身份证\n号码（必填）", "联系电话", "入会时间", "批准文号", "车间"]
    )
    for day in ("2025-3-8", "2025/03/08", "2025.3.8", "2025年3月8日", "20250308"):
        n = sheet.max_row - 4
        sheet.append([n + 1, "张三", numbers[n], 13800000000.0, day, "川工发1号", "一车间"])
    sheet.append([])
    sheet.append([6, None, None, None, None, None, None])
    sheet.append([7, "李四", numbers[5], "138 0000 0000", 45724, "川工发1号", "一车间"])
    sheet.append([8, "李四", numbers[6], None, datetime(2025, 3, 8), "川工发1号", "一车间"])
    sheet.append([None, "小计", 7, None, None, None, None])
    sheet.append([9, "王五", membership.id_number(small).lower(), None, None, None, "二车间"])
    sheet.append(["合计", None, None, "8人"])
    sheet.append([])
    sheet.append([None, "填表人：赵六"])
    sheet.append(["注：本表一式两份"])
    notes = book.create_sheet("填表说明")
    notes["A1"] = "请勿合并单元格"
    roster = await membership.bring(saved(book))

    assert (roster.state, roster.sheet) == (pb.Roster.DONE, "花名册")
    assert list(roster.unread_sheets) == ["填表说明"]
    assert (roster.admitted_rows, roster.applied_rows) == (7, 1)
    assert (roster.refused_rows, roster.skipped_rows, roster.total_rows) == (0, 5, 13)
    rows = await membership.rows(roster)
    skipped = {row.line: row.reason for row in rows if row.outcome == SKIPPED}
    assert skipped == {
        11: "NOTHING_READ", 14: "TOTAL_LINE", 16: "TOTAL_LINE", 18: "NOTE_LINE",
        19: "NOTHING_READ",
    }  # fmt: skip
    for row in rows:
        if row.outcome == ADMITTED:
            member = await membership.ask(pb.GetMemberRequest(name=row.record))
            assert (member.approval_date, member.approval_number) == ("2025-03-08", "川工发1号")
            assert member.person.phone in ("138****0000", "")


async def test_an_id_number_that_became_a_number_is_refused_and_never_guessed(
    membership: Desk,
) -> None:
    # One that a double holds exactly, so that nothing but the cell's type tells that it was lost.
    exact = next(
        n for n in range(20_000)
        if (number := membership.id_number(n)).isdigit() and int(float(number)) == int(number)
    )  # fmt: skip
    rows = [
        TITLES,
        ["张三", int(membership.id_number(exact))],
        ["张三", 510104199001011234],
        ["张三", 510104800101001],
        ["张三", "5.10104E+17"],
    ]
    assert await told(membership, a_workbook(rows)) == [
        (2, REFUSED, "ID_NUMBER_ROUNDED", "身份证号"),
        (3, REFUSED, "ID_NUMBER_ROUNDED", "身份证号"),
        (4, REFUSED, "ID_NUMBER_FIRST_GENERATION", "身份证号"),
        (5, REFUSED, "ID_NUMBER_ROUNDED", "身份证号"),
    ]
    found = await membership.ask(pb.SearchMembersRequest(id_number=membership.id_number(exact)))
    assert not found.members


async def test_an_error_of_a_formula_is_no_empty_cell(membership: Desk) -> None:
    right = [membership.id_number(n) for n in range(3)]
    rows = [
        TITLES,
        ["#N/A", right[0]],
        ["张三", right[1], "#REF!"],
        ["张三", right[2], None, "#VALUE!", "#VALUE!"],
    ]
    results = await told(membership, a_workbook(rows))
    assert [(reason, column) for _, _, reason, column in results] == [
        ("CELL_ERROR", "姓名"), ("CELL_ERROR", "手机号"), ("CELL_ERROR", "批准日期"),
    ]  # fmt: skip


async def test_a_merged_cell_speaks_for_all_its_rows_and_a_header_may_have_two(
    membership: Desk,
) -> None:
    book = Workbook()
    sheet = sheet_of(book)
    sheet.append(["姓名", "身份证号", "联系方式", None, "批准日期", "批准文号"])
    sheet.append([None, None, "座机", "手机", None, None])
    for column in "ABEF":
        sheet.merge_cells(f"{column}1:{column}2")
    sheet.merge_cells("C1:D1")
    for n in range(4):
        sheet.append(["张三", membership.id_number(n), "028-1", "13800000000"])
    sheet["E3"], sheet["F3"] = date(2025, 3, 8), "川工发1号"
    sheet.merge_cells("E3:E5")
    sheet.merge_cells("F3:F5")
    roster = await membership.bring(saved(book))
    rows = await membership.rows(roster)
    assert [row.outcome for row in rows] == [ADMITTED, ADMITTED, ADMITTED, APPLIED]


@pytest.mark.parametrize("hide", [False, True])
async def test_the_first_visible_sheet_with_people_is_read_and_the_others_are_named(
    membership: Desk, hide: bool
) -> None:
    book = Workbook()
    sheet_of(book).title = "封面"
    sheet_of(book)["A1"] = "花名册"
    for name in ("空表", "一分会", "二分会"):
        sheet = book.create_sheet(name)
        sheet.append(TITLES)
    for n, name in enumerate(("一分会", "二分会")):
        book[name].append(["张三", membership.id_number(n)])
    book.create_sheet("真空")
    if hide:
        book["一分会"].sheet_state = "hidden"
    roster = await membership.bring(saved(book))
    assert roster.applied_rows == 1
    read, other = ("二分会", "一分会") if hide else ("一分会", "二分会")
    assert roster.sheet == read
    assert set(roster.unread_sheets) == {"封面", "空表", other}


async def test_days_are_counted_from_where_the_workbook_counts(membership: Desk) -> None:
    book = Workbook()
    book.epoch = datetime(1904, 1, 1)
    sheet = sheet_of(book)
    sheet.append(TITLES)
    sheet.append(["张三", membership.id_number(0), None, 45724 - 1462, "川工发1号"])
    sheet.append(["张三", membership.id_number(1), None, datetime(2025, 3, 8), "川工发1号"])
    roster = await membership.bring(saved(book))
    for row in await membership.rows(roster):
        member = await membership.ask(pb.GetMemberRequest(name=row.record))
        assert member.approval_date == "2025-03-08"


async def test_totals_and_notes_are_passed_over_in_text_too(membership: Desk) -> None:
    rows = [
        *membership.applicant_rows([0]),
        HEADER,
        "合计：1人,,,,",
        "总计,1,,,",
        "填表人：张三,,,,",
        f"小计,{membership.id_number(1)},,,",
        "张三,,,,",
    ]
    results = await told(membership, a_roster(rows))
    assert [(outcome, reason) for _, outcome, reason, _ in results] == [
        (APPLIED, ""), (SKIPPED, "HEADER_AGAIN"), (SKIPPED, "TOTAL_LINE"),
        (SKIPPED, "TOTAL_LINE"), (SKIPPED, "NOTE_LINE"), (APPLIED, ""),
        (REFUSED, "ID_NUMBER_LENGTH"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "reason", "what"),
    [
        (OLD + b"\0" * 600, "OTHER_SPREADSHEET", ".xls/.et"),
        (OLD + b"\0" * 600 + "EncryptedPackage".encode("utf-16-le"), "WORKBOOK_ENCRYPTED", "密码"),
        (an_archive("Index/Document.iwa"), "OTHER_SPREADSHEET", ".numbers"),
        (an_archive("mimetype", "content.xml"), "OTHER_SPREADSHEET", ".ods"),
        (an_archive("xl/workbook.bin"), "OTHER_SPREADSHEET", ".xlsb"),
        (an_archive("word/document.xml"), "NO_TABLE", ".docx"),
        (an_archive("a.txt"), "NO_TABLE", ".zip"),
        (an_archive("xl/workbook.xml"), "WORKBOOK_DAMAGED", "损坏"),
        (a_workbook([TITLES, ["张三", "1"]])[:-40], "WORKBOOK_DAMAGED", "损坏"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "NO_TABLE", ".png"),
        (b"\xff\xd8\xff\xe0", "NO_TABLE", ".jpg"),
        (b"%PDF-1.7", "NO_TABLE", ".pdf"),
        ("\ufeff\n<html><table><tr><td>姓名".encode(), "OTHER_SPREADSHEET", ".html/.xml"),
        (b'<?xml version="1.0"?><Workbook/>', "OTHER_SPREADSHEET", ".html/.xml"),
        (a_workbook([["工号", "部门"], [1, 2]]), "HEADER_MISSING", "姓名、身份证号"),
        (a_workbook([["姓名", "部门"], [1, 2]]), "HEADER_MISSING", "身份证号"),
        (a_workbook([TITLES, [], [" "]]), "NO_ROWS", ""),
        (a_workbook([]), "HEADER_MISSING", ""),
    ],
)  # fmt: skip
async def test_what_cannot_be_read_is_refused_with_what_to_do(
    membership: Desk, content: bytes, reason: str, what: str
) -> None:
    roster = await membership.bring(content)
    assert (roster.state, roster.refuse_reason) == (pb.Roster.REFUSED, reason)
    _, chinese = roster.refuse_message.split("\n")
    assert what in chinese
    if reason not in ("HEADER_MISSING", "NO_ROWS"):
        assert ".xlsx" in chinese


async def test_the_content_says_what_a_file_is_and_not_its_name(membership: Desk) -> None:
    content = a_workbook([TITLES, ["张三", membership.id_number(0)]])
    roster = await membership.announce(content, file_name="花名册.csv")
    await membership.upload(roster, content, part=7)
    assert (await membership.commit(roster)).applied_rows == 1


@pytest.mark.parametrize("last", ["XFD1048576", "XFD4000"])  # 512 GB, and 2 GB, in 5 kB
async def test_a_workbook_that_unpacks_to_too_much_is_refused_and_harms_nobody(
    membership: Desk, last: str
) -> None:
    book = Workbook()
    sheet = sheet_of(book)
    sheet.append(TITLES)
    sheet.append(["张三", membership.id_number(0)])
    sheet[last] = 1
    content = saved(book)
    assert len(content) < 10_000
    watching = asyncio.create_task(membership.bring(content))
    await membership.ask(pb.GetOrganizationRequest(name=membership.street))
    roster = await watching
    assert (roster.state, roster.refuse_reason) == (pb.Roster.REFUSED, "WORKBOOK_TOO_LARGE")
    assert "拆分" in roster.refuse_message


async def test_a_large_workbook_is_imported_in_batches(membership: Desk) -> None:
    rows = (row.split(",") for row in membership.member_rows(range(2_500)))
    roster = await membership.announce(content := a_workbook([TITLES, *rows]))
    stream = membership.watch(roster)
    await anext(stream)
    await membership.upload(roster, content)
    seen = [one async for one in stream]
    assert {one.done_rows for one in seen} == {0, 1_000, 2_000, 2_500}
    assert seen[-1].admitted_rows == 2_500
