"""People and rosters that tests need, made up."""

import hashlib
import io
from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

from openpyxl import Workbook
from stdnum.cn import ric

HEADER = "姓名,身份证号,手机号,批准日期,批准文号"


def an_id_number(number: int = 0) -> str:
    """A valid ID number; another one for each number up to 9 million."""
    day = date(1960, 1, 1) + timedelta(days=number // 999)
    digits = f"510104{day:%Y%m%d}{number % 999 + 1:03}"
    return digits + str(ric.calc_check_digit(f"{digits}0"))


def a_member_row(number: int, *, code: str | None = None) -> str:
    """A row below HEADER that shows an approval; `code`: of the organisation."""
    row = f"张三{number},{an_id_number(number)},138{number:08},2025-03-08,川工发〔2025〕{number}号"
    return row if code is None else f"{row},{code}"


def an_applicant_row(number: int) -> str:
    """A row below HEADER without an approval."""
    return f"李四{number},{an_id_number(number)},,,"


def a_roster(rows: Iterable[str], *, header: str = HEADER) -> bytes:
    """A file as a spreadsheet saves it."""
    return "\r\n".join([header, *rows, ""]).encode()


def a_workbook(rows: Iterable[Any]) -> bytes:
    """A workbook with one sheet of these cells, from its first line on."""
    book = Workbook(write_only=True)
    sheet = book.create_sheet("花名册")
    for row in rows:
        sheet.append(row)
    return saved(book)


def saved(book: Workbook) -> bytes:
    """What a spreadsheet program writes."""
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
