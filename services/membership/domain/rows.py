"""Rows of a roster: what each says of a person, and what becomes of it.

No result quotes a cell: columns get shifted, and then an ID number stands anywhere.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import IntEnum
from functools import lru_cache

from kit.errors import FailedPrecondition, InvalidArgument, Refusal
from kit.texts import check_characters, hidden
from services.membership.domain.identity import MOST_NAME_CHARACTERS, Person, person_of
from services.membership.domain.members import AlreadyAMember, ApplicationPending
from services.membership.domain.table import ASIDES, Aside, Header, Row

MOST_NUMBER_CHARACTERS = 100
_DATE = re.compile(
    r"(\d{4})[-/.](\d\d?)[-/.](\d\d?)|(\d{4})(\d\d)(\d\d)|(\d{4})年(\d\d?)月(\d\d?)[日号]"
)
_TIME = re.compile(r"([T ]+|(?<=[日号]))\d\d?:\d\d(:\d\d(\.\d+)?)?$")
_SERIAL = re.compile(r"\d{5}(\.\d+)?")
_SERIAL_ZERO = date(1899, 12, 30)
_ERROR = re.compile(r"#(N/A|REF!|VALUE!|DIV/0!|NAME\?|NULL!|NUM!|SPILL!|CALC!|FIELD!|BUSY!)")
_DIGIT = re.compile(r"\d")


class RowMalformed(InvalidArgument):
    message = 'a quote (") opens in this row and is never closed'
    chinese = '该行的引号（"）没有闭合'


class CellError(InvalidArgument):
    message = "the cell holds the error {error} of a formula; write the value itself"
    chinese = "单元格是公式错误 {error}；请直接填写内容"


class DateMalformed(InvalidArgument):
    field = "approval_date"
    message = "a date is written as 2026-11-22, 2026/11/22, 2026.11.22, 20261122 or 2026年11月22日"
    chinese = "日期应写作 2026-11-22、2026/11/22、2026.11.22、20261122 或 2026年11月22日"


class DateInFuture(InvalidArgument):
    field = "approval_date"
    message = "the day of approval is not later than today, {today} in Beijing"
    chinese = "批准日期不得晚于今天（北京时间 {today}）"


class ApprovalNumberMissing(InvalidArgument):
    field = "approval_number"
    message = "an approval has both a date and a document number; the number is missing"
    chinese = "批准日期和批准文号应同时填写；缺少批准文号"


class ApprovalDateMissing(InvalidArgument):
    field = "approval_date"
    message = "an approval has both a date and a document number; the date is missing"
    chinese = "批准日期和批准文号应同时填写；缺少批准日期"


class ApprovalNumberLength(InvalidArgument):
    field = "approval_number"
    message = "an approval number has at most 100 characters, not {length}"
    chinese = "批准文号不得超过 100 个字，而不是 {length} 个"


class OrganizationCodeUnknown(InvalidArgument):
    field = "organization_code"
    message = "the code is that of the roster's organisation or of one below it"
    chinese = "组织代码应为花名册所属组织或其下级组织的代码"


class DuplicateRow(FailedPrecondition):
    field = "id_number"
    message = "the person stands in line {line} already"
    chinese = "此人已出现在第 {line} 行"


class Outcome(IntEnum):
    """What became of a row, with the numbers of the contract."""

    ADMITTED = 1
    APPLIED = 2
    UNCHANGED = 3
    REFUSED = 4
    SKIPPED = 5


SETTLED = (Outcome.ADMITTED, Outcome.APPLIED, Outcome.UNCHANGED)
"""Of rows after which the same person comes twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """The approval that a roster shows."""

    date: date
    number: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row that is right in itself."""

    line: int
    person: Person
    organization_code: str = ""
    """Empty: the roster's own organisation."""
    approval: Approval | None = None
    """None: the person asks to join."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The person of a row, as far as a result may show it: numbers are masked."""

    full_name: str = field(default="", repr=False)
    id_number: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowResult:
    """What became of one row."""

    line: int
    outcome: Outcome
    record: str = ""
    """The name of the member or application; empty if refused."""
    reason: str = ""
    header: str = ""
    """The column that is wrong, as the header of the file names it."""
    message: str = ""
    chinese_message: str = ""
    shown: Shown = Shown()
    index: bytes | None = field(default=None, repr=False)
    """The blind index of the ID number; None if that is wrong, or the result is read."""


def refused(
    line: int, refusal: Refusal, header: Header, shown: Shown, index: bytes | None
) -> RowResult:
    """The result of a row that is refused, or passed over."""
    return RowResult(
        line=line, outcome=Outcome.SKIPPED if isinstance(refusal, Aside) else Outcome.REFUSED,
        reason=refusal.reason, header=header.titles.get(refusal.field, ""), message=str(refusal),
        chinese_message=refusal.chinese_text, shown=shown, index=index,
    )  # fmt: skip


def shown_of(row: Row) -> Shown:
    """What may be shown of a row, whatever stands in its cells."""
    cells = row.cells or {}
    name, number = cells.get("full_name", ""), cells.get("id_number", "")
    if len(name) > MOST_NAME_CHARACTERS or _DIGIT.search(unicodedata.normalize("NFKC", name)):
        name = _masked(name)
    return Shown(name, _masked(number))


def _masked(text: str) -> str:
    """As an ID number is masked, as far as the text is as long as one.

    >>> _masked("11010519491231002"), _masked("13800000000")
    ('110105*******1002', '1**********')
    """
    text = text[:MOST_NAME_CHARACTERS]
    return hidden(text, 6, 4) if len(text) >= 15 else text[:1] + "*" * (len(text) - 1)


def entry_of(row: Row, *, today: date) -> Entry:
    """What the row says.

    Raises:
        Aside: if it is no person.
        InvalidArgument: the first thing that is wrong with it.
    """
    cells = row.cells
    if cells is None:
        raise RowMalformed()
    if row.aside:
        raise ASIDES[row.aside]()
    for column, cell in cells.items():
        if cell.startswith("#") and (error := _ERROR.fullmatch(cell)):
            raise CellError(field=column, error=error[0])
    person = person_of(
        full_name=cells.get("full_name", ""), id_number=cells.get("id_number", ""),
        phone=cells.get("phone", ""), today=today,
    )  # fmt: skip
    return Entry(
        line=row.line,
        person=person,
        organization_code=unicodedata.normalize("NFKC", cells.get("organization_code", "")),
        approval=approval_of(
            cells.get("approval_date", ""), cells.get("approval_number", ""), today=today
        ),
    )


def approval_of(day: str, number: str, *, today: date) -> Approval | None:
    """The approval, if both cells are filled; None if neither is.

    Raises:
        ApprovalDateMissing, ApprovalNumberMissing, ApprovalNumberLength: if one is wrong.
        TextCharacters: if the number holds control characters.
        DateMalformed, DateInFuture: if the date is.
    """
    if not day and not number:
        return None
    if not day:
        raise ApprovalDateMissing()
    if not number:
        raise ApprovalNumberMissing()
    if len(number) > MOST_NUMBER_CHARACTERS:
        raise ApprovalNumberLength(length=len(number))
    check_characters(number, field="approval_number", lines=True)
    return Approval(date=date_of(day, today=today), number=number)


def date_of(text: str, *, today: date) -> date:
    """The day that a cell names: as people write it, or the number that a spreadsheet keeps.

    >>> date_of("2025年3月8日", today=date(2026, 11, 22))
    datetime.date(2025, 3, 8)
    >>> date_of("45724", today=date(2026, 11, 22))
    datetime.date(2025, 3, 8)
    """
    found = _written(text)
    if found > today:
        raise DateInFuture(today=today)
    return found


@lru_cache
def _written(text: str) -> date:
    """The day, kept: a roster has few, and each many times."""
    plain = _TIME.sub("", unicodedata.normalize("NFKC", text).strip()).replace(" ", "")
    if _SERIAL.fullmatch(plain):
        return _SERIAL_ZERO + timedelta(days=int(plain[:5]))
    if match := _DATE.fullmatch(plain):
        return _day(*(int(part) for part in match.groups() if part))
    raise DateMalformed()


def _day(year: int, month: int, day: int) -> date:
    try:
        return date(year, month, day)
    except ValueError:
        raise DateMalformed() from None


@dataclass(frozen=True, slots=True)
class Standing:
    """What the person of a row is at this node already."""

    is_member: bool
    """Else: an application waits for a decision."""
    in_same_organization: bool


def outcome_of(entry: Entry, *, standing: Standing | None, earlier_line: int | None) -> Outcome:
    """What becomes of a row that is right in itself.

    Args:
        standing: what the person is already; None if unknown.
        earlier_line: the line of the file that has settled the same person; None if none has.

    Raises:
        DuplicateRow, AlreadyAMember, ApplicationPending: if it is refused.
    """
    if earlier_line is not None:
        raise DuplicateRow(line=earlier_line)
    if standing is None:
        return Outcome.ADMITTED if entry.approval else Outcome.APPLIED
    if standing.is_member:
        if not standing.in_same_organization:
            raise AlreadyAMember()
    elif entry.approval or not standing.in_same_organization:
        raise ApplicationPending()
    return Outcome.UNCHANGED
