"""Sheets: whatever is written comes back, in whatever parts it arrives."""

import csv
import io
from datetime import date
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kit.errors import Refusal
from services.membership.domain.rows import (
    Approval,
    Entry,
    Outcome,
    Standing,
    approval_of,
    entry_of,
    outcome_of,
)
from services.membership.domain.sheet import NotCsv, Sheet, header_in
from services.membership.domain.table import HeaderMissing, Row
from tests.builders import HEADER, an_id_number

TODAY = date(2026, 11, 22)
cells = st.text(
    st.characters(codec="gb18030", exclude_characters="\0\r", exclude_categories=["Cs", "Cc"])
    | st.sampled_from(' ,;\t"\n'),
    max_size=8,
)
tables = st.lists(st.tuples(cells, cells, cells), max_size=8)


def read(content: bytes, encoding: str, cuts: list[int]) -> list[Row]:
    """The rows of a file that arrives in parts, cut at these places."""
    sheet = Sheet(encoding)
    rows: list[Row] = []
    places = sorted({0, len(content), *(cut % (len(content) + 1) for cut in cuts)})
    for start, end in pairwise(places):
        rows += sheet.feed(content[start:end], last=end == len(content))
    return rows


@given(
    tables,
    st.sampled_from(["utf-8", "utf-8-sig", "gb18030"]),
    st.sampled_from(",;\t"),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.lists(st.integers(0, 10_000), max_size=6),
)
@example([("\n", "\n", "")], "utf-8", ",", "\r\n", [9, 10, 11])
def test_what_a_spreadsheet_writes_is_read_in_any_parts(
    table: list[tuple[str, str, str]], encoding: str, delimiter: str, end: str, cuts: list[int]
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(["备注", "身份证号", "姓名"])
    writer.writerows(table)
    content = text.getvalue().replace("\n", end).encode(encoding)
    rows = read(content, "gb18030" if encoding == "gb18030" else "utf-8-sig", cuts)
    expected = [
        {"id_number": number.strip(), "full_name": name.strip()}
        for remark, number, name in table
        if any(cell.strip() for cell in (remark, number, name))
    ]
    assert [row.cells for row in rows] == expected


def test_a_row_knows_the_line_at_which_it_begins() -> None:
    content = '姓名,身份证号\n"张\n三",1\n\n李四,2\n'.encode()
    assert [row.line for row in read(content, "utf-8-sig", [])] == [2, 5]


@pytest.mark.parametrize("cuts", [[], list(range(0, 400, 3))])
def test_a_quote_that_is_never_closed_spoils_its_own_line_and_no_other(cuts: list[int]) -> None:
    lines = ["姓名,身份证号", '"张三,1', *(f"李四,{n}" for n in range(60)), '"王五,3', "赵六,4"]
    rows = read("\n".join(lines).encode(), "utf-8-sig", cuts)
    assert [row.line for row in rows if row.cells is None] == [2, 63]
    assert len(rows) == 63


def test_the_header_is_found_below_titles_in_any_order_and_under_any_name() -> None:
    lines = ["某某工会花名册,,", "", "联系电话;公民身份号码（必填）;部门; 名 字 *"]
    delimiter, header = header_in(lines)
    assert (delimiter, header.line) == (";", 3)
    assert header.places == {"phone": 0, "id_number": 1, "full_name": 3}
    assert header.titles["full_name"] == "名 字 *"


def test_a_header_below_the_fifteenth_line_is_none() -> None:
    assert header_in(["x"] * 14 + [HEADER])[1].line == 15
    with pytest.raises(HeaderMissing) as refusal:
        header_in(["x"] * 15 + [HEADER])
    assert refusal.value.facts == {"missing": "姓名、身份证号"}


def test_a_line_without_end_is_no_csv() -> None:
    sheet = Sheet("utf-8-sig")
    with pytest.raises(NotCsv):
        for _ in range(9):
            sheet.feed(b"x" * 2**16)


@pytest.mark.parametrize(
    "day",
    ["2025-03-08", "2025/3/8", "2025.03.08", "20250308", "2025年3月8日", "２０２５-０３-０８"],
)
def test_a_day_is_the_same_however_it_is_written(day: str) -> None:
    assert approval_of(day, "1号", today=TODAY) == Approval(date=date(2025, 3, 8), number="1号")


@pytest.mark.parametrize(
    ("day", "number", "reason"),
    [
        ("2025-03-08", "", "APPROVAL_NUMBER_MISSING"),
        ("", "1号", "APPROVAL_DATE_MISSING"),
        ("2025-13-08", "1号", "DATE_MALFORMED"),
        ("8.3.2025", "1号", "DATE_MALFORMED"),
        ("4572", "1号", "DATE_MALFORMED"),
        ("2024.1", "1号", "DATE_MALFORMED"),
        ("24-1-5", "1号", "DATE_MALFORMED"),
        ("99999", "1号", "DATE_IN_FUTURE"),
        ("2026-11-23", "1号", "DATE_IN_FUTURE"),
        ("2025-03-08", "号" * 101, "APPROVAL_NUMBER_LENGTH"),
    ],
)
def test_half_an_approval_and_a_wrong_one_are_refused(day: str, number: str, reason: str) -> None:
    with pytest.raises(Refusal) as refusal:
        approval_of(day, number, today=TODAY)
    assert refusal.value.reason == reason


MEMBER_HERE, MEMBER_ELSEWHERE = Standing(True, True), Standing(True, False)
APPLIED_HERE, APPLIED_ELSEWHERE = Standing(False, True), Standing(False, False)


@pytest.mark.parametrize(
    ("approved", "standing", "earlier_line", "outcome"),
    [
        (True, None, None, Outcome.ADMITTED),
        (False, None, None, Outcome.APPLIED),
        (True, MEMBER_HERE, None, Outcome.UNCHANGED),
        (False, MEMBER_HERE, None, Outcome.UNCHANGED),
        (True, MEMBER_ELSEWHERE, None, "ALREADY_A_MEMBER"),
        (False, APPLIED_HERE, None, Outcome.UNCHANGED),
        (False, APPLIED_ELSEWHERE, None, "APPLICATION_PENDING"),
        (True, APPLIED_HERE, None, "APPLICATION_PENDING"),
        (True, None, 2, "DUPLICATE_ROW"),
        (True, MEMBER_HERE, 2, "DUPLICATE_ROW"),
    ],
)
def test_what_becomes_of_a_row_follows_from_the_row_and_what_is_known(
    approved: bool, standing: Standing | None, earlier_line: int | None, outcome: Outcome | str
) -> None:
    row = Row(7, {"full_name": "张三", "id_number": an_id_number()})
    entry = entry_of(row, today=TODAY)
    if approved:
        approval = Approval(date=TODAY, number="1号")
        entry = Entry(line=7, person=entry.person, approval=approval)
    try:
        found: Outcome | str = outcome_of(entry, standing=standing, earlier_line=earlier_line)
    except Refusal as refusal:
        found = refusal.reason
    assert found == outcome
