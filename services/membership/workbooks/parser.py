"""python -m services.membership.workbooks.parser: a workbook in, its rows out.

A process of its own, because nobody knows what a workbook unpacks to: a file of 6 kB may ask for
512 GB.  It may take so much memory and time and no more, touches no disk, and when it dies, only
one roster is refused.  It knows neither keys nor the database.

Standard input is the file.  Standard output is a head, then rows, as JSON behind its length.
"""

import io
import json
import os
import posixpath
import re
import resource
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import islice
from typing import Any
from xml.etree import ElementTree
from zipfile import ZipFile

from python_calamine import (
    CalamineSheet,
    CalamineWorkbook,
    PasswordError,
    SheetTypeEnum,
    SheetVisibleEnum,
)

from kit.errors import Refusal
from services.membership.domain.formats import WorkbookDamaged, WorkbookEncrypted, check_workbook
from services.membership.domain.table import (
    HEADER_LINES,
    NEEDED,
    Header,
    NoRows,
    Row,
    header_missing,
    header_of,
    row_of,
)

MOST_MEMORY = 2**29
"""Bytes of address space: what a sheet of some 400,000 rows takes."""
MOST_SECONDS = 60
"""Of computing."""
ROWS = 50
"""Rows a message."""
SHARED = ("approval_date", "approval_number", "organization_code")
"""Columns in which one merged cell may speak for many people."""
EXACT = 10**15
"""From here on a number may have lost its last digits: IEEE 754 doubles keep 15."""
LATER = 1462
"""Days between 1899-12-30 and 1904-01-01, from which some workbooks count."""
SLICE = 2**20

_ERROR = re.compile(rb'<(?:\w+:)?c\s(?=[^>]*\bt="e")[^>]*?\br="([A-Z]{1,3})(\d{1,7})"[^>]*>')
_SERIAL = re.compile(r"\d{5}")


def main() -> None:
    """Read, and answer: also a refusal is an answer."""
    for kind, most in (
        (resource.RLIMIT_AS, MOST_MEMORY),
        (resource.RLIMIT_CPU, MOST_SECONDS),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    content = sys.stdin.buffer.read()
    try:
        chosen = _chosen(Book(content))
        total = sum(1 for _ in chosen.rows())
    except Refusal as refusal:
        send({"refusal": type(refusal).__name__, "facts": refusal.facts})
        return
    send(
        {
            "sheet": chosen.name, "unread": chosen.unread, "total": total,
            "header": [chosen.header.line, chosen.header.places, chosen.header.titles],
        }
    )  # fmt: skip
    rows = chosen.rows()
    while some := [[row.line, row.cells, row.aside] for row in islice(rows, ROWS)]:
        send(some)


def send(message: Any) -> None:
    content = json.dumps(message).encode()
    sys.stdout.buffer.write(len(content).to_bytes(4, "big") + content)


class Book:
    """A workbook in memory.

    Raises:
        NoTable, OtherSpreadsheet: if the archive is something else.
        WorkbookEncrypted, WorkbookDamaged: if it cannot be read.
    """

    def __init__(self, content: bytes) -> None:
        with damage_told():
            self._archive = ZipFile(io.BytesIO(content))
        check_workbook(self._archive.namelist())
        with damage_told():
            self._book = CalamineWorkbook.from_filelike(io.BytesIO(content))
            outline = ElementTree.fromstring(self._archive.read("xl/workbook.xml"))
            relations = ElementTree.fromstring(self._archive.read("xl/_rels/workbook.xml.rels"))
        self._targets = {one.get("Id"): one.get("Target", "") for one in relations}
        self._ids = {
            one.get("name"): _relation(one.attrib) for one in outline.findall(".//{*}sheet")
        }
        properties = outline.find("{*}workbookPr")
        first = properties.get("date1904") if properties is not None else None
        self.counts_from_1904 = first in ("1", "true")

    def sheets(self) -> Iterator[tuple[str, bool, CalamineSheet]]:
        """Name, whether it is visible, and the sheet."""
        for known in self._book.sheets_metadata:
            if known.typ == SheetTypeEnum.WorkSheet:
                with damage_told():
                    sheet = self._book.get_sheet_by_name(known.name)
                yield known.name, known.visible == SheetVisibleEnum.Visible, sheet

    def errors(self, sheet: str) -> set[tuple[int, int]]:
        """The row and column, from 0, of cells that hold an error: to calamine they are empty."""
        target = posixpath.join("xl", self._targets.get(self._ids.get(sheet), "")).lstrip("/")
        found, rest = set[tuple[int, int]](), b""
        with damage_told(), self._archive.open(target) as content:
            while part := content.read(SLICE):
                part = rest + part
                for column, row in _ERROR.findall(part) if b't="e"' in part else ():
                    found.add((int(row) - 1, _index(column)))
                rest = part[part.rfind(b"<") :][:SLICE]
        return found


@contextmanager
def damage_told() -> Iterator[None]:
    """Whatever goes wrong within, but for a want of memory: the workbook is damaged."""
    try:
        yield
    except MemoryError:
        raise
    except PasswordError:
        raise WorkbookEncrypted() from None
    except BaseException:  # Panics of calamine are no Exceptions.
        raise WorkbookDamaged() from None


@dataclass(frozen=True, slots=True)
class Table:
    """A sheet that has a header."""

    name: str
    header: Header
    sheet: CalamineSheet
    errors: set[tuple[int, int]]
    counts_from_1904: bool
    unread: list[str] = field(default_factory=list)

    def rows(self) -> Iterator[Row]:
        """The rows below the header that are not blank."""
        spans = self._spans()
        lines = _texts(self.sheet, self.errors)
        for line, cells in islice(enumerate(lines, 1), self.header.line, None):
            row = row_of(self.header, line, cells)
            if row is not None:
                yield self._completed(row, spans)

    def _spans(self) -> dict[str, list[tuple[int, int, str]]]:
        """For each shared column, the merged cells in it: first line, last line, text."""
        spans: dict[str, list[tuple[int, int, str]]] = {}
        merged = [span for span in self.sheet.merged_cell_ranges or () if span[0][0] != span[1][0]]
        if not merged:
            return spans
        columns = {self.header.places[name]: name for name in SHARED if name in self.header.places}
        starts = {start: end[0] + 1 for start, end in merged if start[1] in columns}
        for at, cells in enumerate(_texts(self.sheet, self.errors)):
            for place, name in columns.items():
                if (at, place) in starts:
                    span = (at + 1, starts[at, place], cells[place])
                    spans.setdefault(name, []).append(span)
        return spans

    def _completed(self, row: Row, spans: Mapping[str, list[tuple[int, int, str]]]) -> Row:
        """The row with what merged cells say of it, and its date counted from 1899."""
        cells = dict(row.cells or {})
        if any(cells.get(name) for name in NEEDED):
            for name, known in spans.items():
                while known and known[0][1] < row.line:
                    known.pop(0)
                if known and known[0][0] <= row.line:
                    cells[name] = cells[name] or known[0][2]
        day = cells.get("approval_date", "")
        if self.counts_from_1904 and _SERIAL.fullmatch(day):
            cells["approval_date"] = str(int(day) + LATER)
        return replace(row, cells=cells)


def _chosen(book: Book) -> Table:
    """The first visible sheet with a header and something below it.

    Raises:
        HeaderMissing, NoRows: if there is none.
    """
    missing, filled, chosen, empty = set(NEEDED), list[str](), None, False
    for name, visible, sheet in book.sheets():
        if not sheet.height:
            continue
        filled.append(name)
        if not visible or chosen:
            continue
        header = _header(sheet)
        missing = min(missing, header.missing, key=len)
        if header.missing:
            continue
        table = Table(name, header, sheet, book.errors(name), book.counts_from_1904)
        chosen = table if next(table.rows(), None) else None
        empty = empty or not chosen
    if chosen is None:
        raise NoRows() if empty else header_missing(missing)
    return replace(chosen, unread=[name for name in filled if name != chosen.name])


def _header(sheet: CalamineSheet) -> Header:
    """The header of a sheet, or the nearest to one among its first lines."""
    lines = list(islice(_texts(sheet, set()), HEADER_LINES + 1))
    best = Header(0, {}, {})
    for line, cells in enumerate(lines[:HEADER_LINES], 1):
        header = header_of(cells, line)
        if not header.missing:
            return _whole(header, lines, sheet)
        best = min(best, header, key=lambda one: len(one.missing))
    return best


def _whole(header: Header, lines: list[list[str]], sheet: CalamineSheet) -> Header:
    """The header with the second line that merged cells give it."""
    corner = (header.line - 1, header.places["full_name"])
    for start, end in sheet.merged_cell_ranges or ():
        if start == corner and end[0] == corner[0] + 1 and header.line < len(lines):
            return header.and_below(header_of(lines[header.line], header.line + 1))
    return header


def _texts(sheet: CalamineSheet, errors: set[tuple[int, int]]) -> Iterator[list[str]]:
    """All lines of a sheet from the first on, each cell as text."""
    wrong: dict[int, list[int]] = {}
    for row, column in errors:
        wrong.setdefault(row, []).append(column)
    for at, cells in enumerate(sheet.iter_rows()):
        texts = [cell if isinstance(cell, str) else _text(cell) for cell in cells]
        for column in wrong.get(at, ()):
            if column < len(texts):
                texts[column] = "#N/A"
        yield texts


def _text(cell: Any) -> str:
    """A cell as a person would write it; a number that has lost digits as a spreadsheet shows it.

    >>> _text(13800000000.0), _text(510104199001011234.0), _text(datetime(2024, 1, 5, 8, 30))
    ('13800000000', '5.10104199001011E+17', '2024-01-05')
    """
    if isinstance(cell, bool) or not isinstance(cell, (int, float, date)):
        return str(cell)
    if isinstance(cell, date):
        return (cell.date() if isinstance(cell, datetime) else cell).isoformat()
    if abs(cell) >= EXACT:
        return f"{cell:.14E}"
    return str(int(cell)) if cell == int(cell) else repr(cell)


def _relation(attributes: Mapping[str, str]) -> str:
    return next((value for name, value in attributes.items() if name.endswith("}id")), "")


def _index(letters: bytes) -> int:
    """The column from 0.

    >>> _index(b"A"), _index(b"AA")
    (0, 26)
    """
    index = 0
    for letter in letters:
        index = index * 26 + letter - 64
    return index - 1


if __name__ == "__main__":
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # Nobody wants the rest.
        os._exit(0)
    except MemoryError:
        os.abort()
