"""Sheets: the rows of a CSV file that arrives in parts and is never held as a whole.

A file may be UTF-8 or GB18030, its fields parted by comma, semicolon or tab; its header stands in
one of the first lines, its columns in any order.  A field in quotes may hold line breaks; a quote
that is never closed spoils its own line and no other.
"""

import codecs
import csv
import io
from collections import deque
from collections.abc import Iterator

from kit.errors import InvalidArgument
from services.membership.domain.table import (
    HEADER_LINES,
    NEEDED,
    Header,
    Row,
    header_missing,
    header_of,
    row_of,
)

ENCODINGS = ("utf-8-sig", "gb18030")
"""In the order in which they are tried."""
MOST_HEADER_CHARACTERS = 10_000
MOST_ROW_LINES = 50
MOST_LINE_CHARACTERS = 2**17


class NotCsv(InvalidArgument):
    message = "this is no text with one person a line; save the spreadsheet as .xlsx"
    chinese = "这不是每行一人的文本文件；请将电子表格另存为 .xlsx"


class NotText(InvalidArgument):
    message = "the file is neither UTF-8 nor GB18030; save it as .xlsx or CSV (UTF-8)"
    chinese = "文件编码既不是 UTF-8 也不是 GB18030；请另存为 .xlsx 或 CSV（UTF-8）"


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
            delimiter, self.header = header_in(self._first)
            lines, self._first = self._first[self.header.line :], []
            self._rows = _Rows(self.header, delimiter)
        return list(self._rows.feed(lines, last=last))


class _Rows:
    """Lines below the header become rows.

    The parser of the standard library pulls lines.  When the lines run out in the middle of a row,
    they are given to it again, with those that have come meanwhile.
    """

    def __init__(self, header: Header, delimiter: str) -> None:
        self._header, self._delimiter = header, delimiter
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
            return first.split(self._delimiter), 1
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
            cells = next(csv.reader(pulled(), delimiter=self._delimiter))
        except csv.Error:
            return None, MOST_ROW_LINES + 1
        return cells, taken

    def _row(self, cells: list[str] | None) -> Row | None:
        return Row(self._line, None) if cells is None else row_of(self._header, self._line, cells)


def header_in(lines: list[str]) -> tuple[str, Header]:
    """The delimiter, and the header that one of the first lines holds.

    Raises:
        HeaderMissing: naming what the best candidate lacks.
    """
    missing = set(NEEDED)
    for delimiter in ",;\t":
        reader = csv.reader(
            [f"{line[:MOST_HEADER_CHARACTERS]}\n" for line in lines[:HEADER_LINES]],
            delimiter=delimiter,
        )
        for cells in reader:
            header = header_of(cells, reader.line_num)
            if not header.missing:
                return delimiter, header
            missing = min(missing, header.missing, key=len)
    raise header_missing(missing)
