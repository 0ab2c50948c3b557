"""Sheets: the rows of a CSV file that arrives in parts and is never held as a whole.

A file may be UTF-8 or GB18030, its fields parted by comma, semicolon or tab; its header stands in
one of the first ten lines, its columns in any order.  A field in quotes may hold line breaks; a
quote that is never closed spoils its own line and no other.
"""

import codecs
import csv
import io
import re
import unicodedata
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kit.errors import InvalidArgument

ENCODINGS = ("utf-8-sig", "gb18030")
"""In the order in which they are tried."""
HEADER_LINES = 10
MOST_HEADER_CHARACTERS = 10_000
MOST_ROW_LINES = 50
MOST_LINE_CHARACTERS = 2**17

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "full_name": ("姓名", "名字", "name", "full_name", "fullname"),
    "id_number": (
        "身份证号", "身份证号码", "证件号码", "公民身份号码", "居民身份证号码", "id_number",
    ),
    "phone": ("手机", "手机号", "手机号码", "联系电话", "phone"),
    "approval_number": ("批准文号", "approval_number"),
    "approval_date": ("批准日期", "入会日期", "入会时间", "approval_date"),
    "organization_code": ("工会代码", "组织代码", "organization_code"),
}  # fmt: skip
"""What the header may call each column; the first is what we call it."""
_CALLED = {synonym: column for column, synonyms in COLUMNS.items() for synonym in synonyms}
_NEEDED = ("full_name", "id_number")
_REMARK = re.compile(r"\(.*?\)|[\s*:]")


class NotCsv(InvalidArgument):
    message = "this is no text with one person a line; save the spreadsheet as CSV (UTF-8)"
    chinese = "这不是每行一人的文本文件；请将电子表格另存为 CSV（UTF-8）"


class NotText(InvalidArgument):
    message = "the file is neither UTF-8 nor GB18030; save it as CSV (UTF-8)"
    chinese = "文件编码既不是 UTF-8 也不是 GB18030；请另存为 CSV（UTF-8）"


class HeaderMissing(InvalidArgument):
    message = (
        "the first 10 lines hold no header with the columns 姓名 and 身份证号; missing: {missing}"
    )
    chinese = "前 10 行中没有包含“姓名”和“身份证号”的表头；缺少：{missing}"


class NoRows(InvalidArgument):
    message = "there are no rows below the header"
    chinese = "表头之下没有任何数据行"


@dataclass(frozen=True, slots=True)
class Header:
    """Where the columns are."""

    delimiter: str
    line: int
    """The line, from 1, at which the header ends."""
    places: Mapping[str, int]
    """The index of each known column."""
    titles: Mapping[str, str]
    """What this file calls each known column."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row that is not blank."""

    line: int
    """The line, from 1, at which it begins."""
    cells: Mapping[str, str] | None
    """The known columns that it has, trimmed; None if a quote opens in it and is never closed."""


class Sheet:
    """Takes parts of a file and gives the rows that they complete."""

    def __init__(self, encoding: str) -> None:
        decoder = codecs.getincrementaldecoder(encoding)(errors="strict")
        self._decoder = io.IncrementalNewlineDecoder(decoder, translate=True)
        self._rest = ""
        self._first: list[str] = []
        self._rows: _Rows | None = None
        self.header: Header | None = None

    def feed(self, part: bytes, *, last: bool = False) -> list[Row]:
        """The rows that `part` completes; `last`: nothing follows, so all that are left.

        Raises:
            UnicodeDecodeError: if the encoding is another.
            NotCsv: if it is no text in lines.
            HeaderMissing: if there is no header.
        """
        if b"\0" in part:
            raise NotCsv()
        lines = (self._rest + self._decoder.decode(part, last)).split("\n")
        self._rest = lines.pop() if not last or not lines[-1] else ""
        if len(self._rest) > MOST_LINE_CHARACTERS:
            raise NotCsv()
        if self._rows is None:
            self._first += lines
            if len(self._first) < HEADER_LINES and not last:
                return []
            self.header = header_in(self._first)
            lines, self._first = self._first[self.header.line :], []
            self._rows = _Rows(self.header)
        return list(self._rows.feed(lines, last=last))


class _Rows:
    """Lines below the header become rows.

    The parser of the standard library pulls lines.  When the lines run out in the middle of a row,
    they are given to it again, with those that have come meanwhile.
    """

    def __init__(self, header: Header) -> None:
        self._header = header
        self._line = header.line + 1
        self._lines: deque[str] = deque()

    def feed(self, lines: list[str], *, last: bool) -> Iterator[Row]:
        self._lines.extend(lines)
        while self._lines:
            cells, taken = self._parse()
            if taken > len(self._lines) and not last and len(self._lines) < MOST_ROW_LINES:
                return
            if taken > min(len(self._lines), MOST_ROW_LINES):
                cells, taken = None, 1
            row = self._row(cells)
            self._line += taken
            for _ in range(taken):
                self._lines.popleft()
            if row is not None:
                yield row

    def _parse(self) -> tuple[list[str] | None, int]:
        """The cells of the next row, and how many lines it takes: too many if it is open."""
        first = self._lines[0]
        if '"' not in first:
            return first.split(self._header.delimiter), 1
        taken = 0

        def pulled() -> Iterator[str]:
            nonlocal taken
            for line in self._lines:
                taken += 1
                if taken > MOST_ROW_LINES:
                    return
                yield line + "\n"
            taken += 1

        try:
            cells = next(csv.reader(pulled(), delimiter=self._header.delimiter))
        except csv.Error:
            return None, MOST_ROW_LINES + 1
        return cells, taken

    def _row(self, cells: list[str] | None) -> Row | None:
        if cells is None:
            return Row(self._line, None)
        found = {
            column: cells[place].strip()
            for column, place in self._header.places.items()
            if place < len(cells)
        }
        if not any(found.values()) and not any(cell.strip() for cell in cells):
            return None
        return Row(self._line, found)


def header_in(lines: list[str]) -> Header:
    """The header that one of the first ten lines holds.

    Raises:
        HeaderMissing: naming what the best candidate lacks.
    """
    missing = set(_NEEDED)
    for delimiter in ",;\t":
        reader = csv.reader(
            [f"{line[:MOST_HEADER_CHARACTERS]}\n" for line in lines[:HEADER_LINES]],
            delimiter=delimiter,
        )
        for cells in reader:
            header = _header(cells, delimiter, reader.line_num)
            lacking = set(_NEEDED) - header.places.keys()
            if not lacking:
                return header
            missing = min(missing, lacking, key=len)
    titles = (COLUMNS[column][0] for column in _NEEDED if column in missing)
    raise HeaderMissing(missing="、".join(titles))


def _header(cells: list[str], delimiter: str, line: int) -> Header:
    places: dict[str, int] = {}
    for place, cell in enumerate(cells):
        column = _CALLED.get(_REMARK.sub("", unicodedata.normalize("NFKC", cell)).lower())
        if column:
            places.setdefault(column, place)
    titles = {column: cells[place].strip() for column, place in places.items()}
    return Header(delimiter, line, places, titles)
