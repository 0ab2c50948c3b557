"""The result file: a workbook (.xlsx) that is written while it is sent, and never held as a whole.

Libraries that write workbooks hold all cells in memory, or keep them in files on disk; these are
cells about people.  What is needed here is one table of text: a ZIP of five fixed parts and sheets.
Cells are text, so that no program takes one for a formula; a text that begins like a formula gets
an apostrophe, because the file may be saved as CSV one day.

Source: ECMA-376, part 1, chapter 18 (SpreadsheetML).
"""

import io
import re
from collections.abc import Iterable, Sequence
from typing import IO
from xml.sax.saxutils import escape
from zipfile import ZIP_DEFLATED, ZipFile

from services.membership.domain.rosters import Roster, RosterState
from services.membership.domain.rows import Outcome, RowResult

MOST_SHEET_ROWS = 1_000_000
"""A sheet has room for 1,048,576."""
TITLES = (
    "行号 Line", "结果 Result", "姓名 Name", "身份证号 ID number", "有误的列 Column",
    "原因", "Reason", "代码 Code", "记录 Record",
)  # fmt: skip
_WIDTHS = (10, 24, 14, 24, 18, 60, 60, 28, 50)
_PLAIN, _BOLD, _BAD, _PALE = range(4)
_STYLES = {Outcome.REFUSED: _BAD, Outcome.SKIPPED: _PALE}
_DONE = {
    Outcome.ADMITTED: "已成为会员 admitted",
    Outcome.APPLIED: "已提交入会申请 applied",
    Outcome.UNCHANGED: "无变化 unchanged",
    Outcome.REFUSED: "拒绝 refused",
    Outcome.SKIPPED: "略过 skipped",
}
_WOULD = {
    **_DONE,
    Outcome.ADMITTED: "将成为会员 would be admitted",
    Outcome.APPLIED: "将提交入会申请 would apply",
}
_STATES = {
    RosterState.PREVIEWED: "预检，尚未导入 checked, nothing imported yet",
    RosterState.DONE: "已导入 imported",
    RosterState.REFUSED: "已拒绝 refused",
}

_FORMULA = re.compile(r"[=+\-@\t\r]")
_UNSAFE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPES = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_STYLESHEET = (
    f'<styleSheet xmlns="{_MAIN}"><fonts count="3">'
    '<font><sz val="11"/><name val="Calibri"/></font>'
    '<font><b/><sz val="11"/><name val="Calibri"/></font>'
    '<font><sz val="11"/><color rgb="FF808080"/><name val="Calibri"/></font></fonts>'
    '<fills count="3"><fill><patternFill patternType="none"/></fill>'
    '<fill><patternFill patternType="gray125"/></fill>'
    '<fill><patternFill patternType="solid"><fgColor rgb="FFFFC7CE"/></patternFill></fill></fills>'
    '<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>'
    '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>'
    '<cellXfs count="4">'
    '<xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>'
    '<xf numFmtId="0" fontId="1" fillId="0" borderId="0" xfId="0" applyFont="1"/>'
    '<xf numFmtId="0" fontId="0" fillId="2" borderId="0" xfId="0" applyFill="1"/>'
    '<xf numFmtId="0" fontId="2" fillId="0" borderId="0" xfId="0" applyFont="1"/>'
    '</cellXfs><cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles>'
    "</styleSheet>"
)


class ResultBook:
    """The results of one roster; what is written so far is taken away at once."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._words = _WOULD if roster.state is RosterState.PREVIEWED else _DONE
        self._out = _Pipe()
        self._archive = ZipFile(self._out, "w", ZIP_DEFLATED)
        self._sheets = 0
        self._sheet = self._begin_sheet()
        self._rows = 0

    def add(self, results: Iterable[RowResult]) -> bytes:
        """What there is to send after these rows; often nothing yet."""
        for result in results:
            if self._rows == MOST_SHEET_ROWS:
                self._end_sheet()
                self._sheet, self._rows = self._begin_sheet(), 0
            self._rows += 1
            self._write(self._cells(result), _STYLES.get(result.outcome, _PLAIN))
        return self._out.taken()

    def end(self) -> bytes:
        """The rest of the file."""
        self._end_sheet()
        for name, text in _outline(self._sheets).items():
            self._archive.writestr(name, _HEAD + text)
        self._archive.close()
        return self._out.taken()

    def _begin_sheet(self) -> IO[bytes]:
        self._sheets += 1
        self._sheet = self._archive.open(f"xl/worksheets/sheet{self._sheets}.xml", "w")
        columns = "".join(
            f'<col min="{at}" max="{at}" width="{width}" customWidth="1"/>'
            for at, width in enumerate(_WIDTHS, 1)
        )
        head = (
            f'{_HEAD}<worksheet xmlns="{_MAIN}"><sheetViews><sheetView workbookViewId="0">'
            '<pane ySplit="2" topLeftCell="A3" activePane="bottomLeft" state="frozen"/>'
            f"</sheetView></sheetViews><cols>{columns}</cols><sheetData>"
        )
        self._sheet.write(head.encode())
        self._write([self._summary()], _BOLD)
        self._write(TITLES, _BOLD)
        return self._sheet

    def _end_sheet(self) -> None:
        self._sheet.write(b"</sheetData></worksheet>")
        self._sheet.close()

    def _summary(self) -> str:
        roster = self._roster
        told = f" · {roster.refuse_message}" if roster.refuse_message else ""
        return f"{roster.file_name} · {_STATES[roster.state]}{told}"

    def _cells(self, result: RowResult) -> Sequence[str | int]:
        return (
            result.line, self._words[result.outcome], result.shown.full_name,
            result.shown.id_number, result.header, result.chinese_message, result.message,
            result.reason, result.record,
        )  # fmt: skip

    def _write(self, cells: Iterable[str | int], style: int) -> None:
        text = "".join(_cell(cell, style) for cell in cells)
        self._sheet.write(f"<row>{text}</row>".encode())


class _Pipe(io.RawIOBase):
    """Takes what the archive writes until somebody takes it away."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, content: object) -> int:
        part = bytes(content)  # type: ignore[call-overload]
        self._parts.append(part)
        return len(part)

    def taken(self) -> bytes:
        """What was written since the last call."""
        content, self._parts = b"".join(self._parts), []
        return content


def _cell(cell: str | int, style: int) -> str:
    """A cell as text, or as a number.

    >>> _cell(7, 0)
    '<c s="0"><v>7</v></c>'
    >>> "&lt;" in _cell("<", 0), "'=1+1" in _cell("=1+1", 0)
    (True, True)
    """
    if isinstance(cell, int):
        return f'<c s="{style}"><v>{cell}</v></c>'
    if not cell:
        return f'<c s="{style}"/>'
    text = escape(_UNSAFE.sub("", f"'{cell}" if _FORMULA.match(cell) else cell))
    return f'<c s="{style}" t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'


def _outline(sheets: int) -> dict[str, str]:
    """The parts of the archive that say what the others are, by name."""
    numbers = range(1, sheets + 1)
    types = "".join(
        f'<Override PartName="/xl/worksheets/sheet{at}.xml" ContentType="{_TYPES}.worksheet+xml"/>'
        for at in numbers
    )
    listed = "".join(f'<sheet name="结果{at}" sheetId="{at}" r:id="rId{at}"/>' for at in numbers)
    related = "".join(
        f'<Relationship Id="rId{at}" Type="{_OFFICE}/worksheet" Target="worksheets/sheet{at}.xml"/>'
        for at in numbers
    )
    return {
        "xl/styles.xml": _STYLESHEET,
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}">'
        f"<sheets>{listed}</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">{related}'
        f'<Relationship Id="rId0" Type="{_OFFICE}/styles" Target="styles.xml"/></Relationships>',
        "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" '
        f'Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPES}.sheet.main+xml"/>'
        f'<Override PartName="/xl/styles.xml" ContentType="{_TYPES}.styles+xml"/>{types}</Types>',
    }
