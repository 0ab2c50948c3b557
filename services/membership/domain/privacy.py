"""Personal data: why an officer may see it, and for how long it is kept."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from kit.errors import BEIJING, FailedPrecondition, InvalidArgument
from kit.texts import check_characters

LEAST_PURPOSE_CHARACTERS, MOST_PURPOSE_CHARACTERS = 2, 200
_APART = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[\s-]+", re.ASCII)
"""What does not part the digits of a number; the id of a record is none."""
_NUMBER = re.compile(r"\d{11}")
FIRST = datetime.fromtimestamp(0, UTC)
"""Before anything was decided."""


class PurposeLength(InvalidArgument):
    field = "purpose"
    message = "a purpose that the person can read has 2 to 200 characters, not {length}"
    chinese = "供本人查阅的用途说明应为 2 至 200 个字，而不是 {length} 个"


class PurposeNamesNumber(InvalidArgument):
    field = "purpose"
    message = (
        "a purpose holds no ID number, phone or account: whose data it is, is recorded beside it"
    )
    chinese = "用途说明中不得写入身份证号、手机号或账号；查看了谁的信息会另行记录"


class PersonNotHere(FailedPrecondition):
    message = "this node does not hold the person of {resource}: {node} does, or they were erased"
    chinese = "本节点不保存 {resource} 的个人信息：由 {node} 保存，或已被删除"


Span = tuple[datetime, datetime]
"""From a moment, until before another."""


@dataclass(frozen=True, slots=True)
class Term:
    """For how long a person who was turned down is kept (PIPL 19, 47 I 2)."""

    effective_date: date
    """For decisions from this day on, in Beijing; the first term for earlier ones too."""
    days: int


def ended(terms: Sequence[Term], *, at: datetime) -> list[Span]:
    """When those were decided on whose term has ended."""
    ordered = sorted(terms, key=lambda term: term.effective_date)
    begins = [FIRST, *(_beginning(term.effective_date) for term in ordered[1:]), at]
    spans = [
        (begin, min(end, at - timedelta(days=term.days)))
        for term, begin, end in zip(ordered, begins, begins[1:], strict=False)
    ]
    return [(begin, end) for begin, end in spans if begin < end]


def _beginning(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=BEIJING)


def purpose_of(text: str) -> str:
    """The trimmed purpose.

    >>> purpose_of(" 核对 members/01900000-0000-7000-8000-138000000001 ")
    '核对 members/01900000-0000-7000-8000-138000000001'

    Raises:
        PurposeLength: unless it has 2 to 200 characters.
        PurposeNamesNumber: if 11 digits or more follow one another, also apart.
        TextCharacters: if it holds control characters.
    """
    purpose = text.strip()
    if not LEAST_PURPOSE_CHARACTERS <= len(purpose) <= MOST_PURPOSE_CHARACTERS:
        raise PurposeLength(length=len(purpose))
    check_characters(purpose, field="purpose")
    if _NUMBER.search(_APART.sub("", unicodedata.normalize("NFKC", purpose))):
        raise PurposeNamesNumber()
    return purpose
