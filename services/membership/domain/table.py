"""Tables of people: what a header may call its columns, and which rows are no person.

The same for text and for workbooks: both give lines of cells, and each cell as text.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kit.errors import InvalidArgument

HEADER_LINES = 15
"""The header stands in one of the first so many lines, below titles and remarks."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "full_name": (
        "姓名", "名字", "会员姓名", "职工姓名", "员工姓名", "人员姓名", "真实姓名", "name",
        "full_name",
    ),
    "id_number": (
        "身份证号", "身份证号码", "身份证", "身份证件号", "身份证件号码", "证件号", "证件号码",
        "公民身份号码", "公民身份证号码", "居民身份证", "居民身份证号", "居民身份证号码",
        "id_number",
    ),
    "phone": (
        "手机", "手机号", "手机号码", "手机电话", "移动电话", "联系手机", "联系电话", "联系方式",
        "电话", "电话号码", "phone", "mobile",
    ),
    "approval_number": ("批准文号", "批复文号", "入会批准文号", "approval_number"),
    "approval_date": (
        "批准日期", "批准时间", "批复日期", "入会日期", "入会时间", "入会批准日期",
        "加入工会日期", "加入工会时间", "approval_date",
    ),
    "organization_code": (
        "工会代码", "组织代码", "工会组织代码", "所属工会代码", "organization_code",
    ),
}  # fmt: skip
"""What the header may call each column; the first is what we call it."""
NEEDED = ("full_name", "id_number")

_REMARK = re.compile(r"\(.*?\)|\[.*?\]|【.*?】|^\d+[.、]|[\W_]+")
_TOTAL = re.compile(
    r"(本页|本表|部门|以上|全部)?(合计|总计|小计|共计|总人数|合计人数)(:?共?[\d,.]*人?(\(.*\))?)?"
    r"|(以上)?共计?[\d,]+人"
)
_COUNT = re.compile(r"共?[\d,.]*人?")
_NOTE = re.compile(r".*[:;。].*", re.DOTALL)
_SHORTEST_ID = 10
"""Characters from which on a cell of the column ID number is taken for one, however wrong."""


class HeaderMissing(InvalidArgument):
    message = (
        "the first 15 lines hold no header with the columns 姓名 and 身份证号; missing: {missing}"
    )
    chinese = "前 15 行中没有包含“姓名”和“身份证号”的表头；缺少：{missing}"


class NoRows(InvalidArgument):
    message = "there are no rows below the header"
    chinese = "表头之下没有任何数据行"


class Aside(InvalidArgument):
    """Why a row is no person: it is passed over and shown, not refused."""


class TotalLine(Aside):
    message = "a total, and no person; passed over"
    chinese = "合计行，不是人员，已略过"


class NoteLine(Aside):
    message = "a note, and no person; passed over"
    chinese = "说明行，不是人员，已略过"


class HeaderAgain(Aside):
    message = "the header once more; passed over"
    chinese = "重复的表头，已略过"


class NothingRead(Aside):
    message = "every column that is read is empty in this row; passed over"
    chinese = "该行中需要读取的各列均为空，已略过"


ASIDES: Mapping[str, type[Aside]] = {
    kind.__name__: kind for kind in (TotalLine, NoteLine, HeaderAgain, NothingRead)
}


@dataclass(frozen=True, slots=True)
class Header:
    """Where the columns are."""

    line: int
    """The line, from 1, at which the header ends."""
    places: Mapping[str, int]
    """The index of each known column."""
    titles: Mapping[str, str]
    """What this file calls each known column."""

    @property
    def missing(self) -> set[str]:
        """The needed columns that it has not."""
        return set(NEEDED) - self.places.keys()

    def and_below(self, below: "Header") -> "Header":
        """A header of two lines: the lower one says what the upper one parts, such as 手机 below
        联系方式."""
        return Header(below.line, {**self.places, **below.places}, {**self.titles, **below.titles})


@dataclass(frozen=True, slots=True)
class Row:
    """One row that is not blank."""

    line: int
    """The line, from 1, at which it begins."""
    cells: Mapping[str, str] | None
    """The known columns that it has, trimmed; None if a quote opens in it and is never closed."""
    aside: str = ""
    """Why it is no person, a name in ASIDES; empty if it is one."""


def header_of(cells: Sequence[str], line: int) -> Header:
    """The columns that a line names, as far as it is a header.

    >>> header_of(["序号", "*姓 名", "身份证\\n号码(必填)"], 4).places
    {'full_name': 1, 'id_number': 2}
    """
    places: dict[str, int] = {}
    for place, cell in enumerate(cells):
        column = _column(cell)
        if column:
            places.setdefault(column, place)
    titles = {column: " ".join(cells[place].split()) for column, place in places.items()}
    return Header(line, places, titles)


def header_missing(missing: set[str]) -> HeaderMissing:
    """The refusal that names the columns as we call them."""
    return HeaderMissing(missing="、".join(COLUMNS[name][0] for name in NEEDED if name in missing))


def row_of(header: Header, line: int, cells: Sequence[str]) -> Row | None:
    """The row in a line below the header; None if it is blank."""
    found = {
        column: cells[place].strip()
        for column, place in header.places.items()
        if place < len(cells)
    }
    if len(found.get("id_number", "")) >= _SHORTEST_ID:
        return Row(line, found)
    if not any(found.values()) and not any(cell.strip() for cell in cells):
        return None
    return Row(line, found, _aside(found, cells))


def _aside(found: Mapping[str, str], cells: Sequence[str]) -> str:
    """Why a row without an ID number is no person: a name in ASIDES; empty if it may be one."""
    name, number = found.get("full_name", ""), found.get("id_number", "")
    if number:
        if _column(number) == "id_number":
            return HeaderAgain.__name__
        if not _COUNT.fullmatch(_plain(number)):
            return ""
    if _is_total(name) or (
        _COUNT.fullmatch(_plain(name)) and any(_is_total(cell) for cell in cells)
    ):
        return TotalLine.__name__
    if not any(found.values()):
        return NothingRead.__name__
    if not number and _NOTE.fullmatch(_plain(name)):
        return NoteLine.__name__
    return ""


def _is_total(cell: str) -> bool:
    return bool(cell) and _TOTAL.fullmatch(_plain(cell)) is not None


def _plain(cell: str) -> str:
    """Half-width, without blanks."""
    return "".join(unicodedata.normalize("NFKC", cell).split())


def _column(cell: str) -> str:
    return _CALLED.get(_title(cell), "") if len(cell) < 100 else ""


def _title(cell: str) -> str:
    """A title as it is compared: without remarks, marks, blanks and case.

    >>> _title("２．＊身份证号码（必填）：")
    '身份证号码'
    """
    return _REMARK.sub("", unicodedata.normalize("NFKC", cell).strip()).lower()


_CALLED = {_title(synonym): column for column, synonyms in COLUMNS.items() for synonym in synonyms}
