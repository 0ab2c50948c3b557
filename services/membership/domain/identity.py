"""What is right about a person's name, ID number and phone.

A refusal names the field and what is right.  It never quotes what was given: that is personal.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import date, datetime

from stdnum.cn import ric

from kit.errors import BEIJING, InvalidArgument
from kit.texts import CONTROLS

MOST_NAME_CHARACTERS = 50

_UNSEEN = re.compile(r"[\s\u200b-\u200f\u2060\ufeff]+")
_DASHES = re.compile(r"[-\u2010-\u2015\u2212]+")
_ROUNDED = re.compile(r"\d(\.\d+)?E\+?\d\d?")
_PHONE = re.compile(r"1[3-9]\d{9}", re.ASCII)
_ID_NUMBER = re.compile(r"\d{17}[0-9X]", re.ASCII)


class FullNameLength(InvalidArgument):
    field = "full_name"
    message = "a full name has 1 to 50 characters, not {length}"
    chinese = "姓名应为 1 至 50 个字，而不是 {length} 个"


class FullNameCharacters(InvalidArgument):
    field = "full_name"
    message = "a full name stands on one line and holds no control characters"
    chinese = "姓名应写在一行内，不得含有控制字符"


class IdNumberLength(InvalidArgument):
    field = "id_number"
    message = "an ID number has 18 characters, not {length}"
    chinese = "身份证号应为 18 位，而不是 {length} 位"


class IdNumberFirstGeneration(InvalidArgument):
    field = "id_number"
    message = (
        "first-generation ID cards with 15 digits have been invalid since 2013-01-01 "
        "(Law on Resident Identity Cards); the number with 18 characters is needed"
    )
    chinese = (
        "15 位的第一代居民身份证自 2013-01-01 起停止使用（《居民身份证法》）；请填写 18 位号码"
    )


class IdNumberRounded(InvalidArgument):
    field = "id_number"
    message = (
        "a spreadsheet has turned the ID number into a rounded number, so its last digits are "
        "lost; format the column as text and enter the numbers again"
    )
    chinese = "身份证号已被电子表格改为科学计数法，末尾几位已丢失；请将该列设为文本格式后重新录入"


class IdNumberCharacters(InvalidArgument):
    field = "id_number"
    message = "an ID number is 17 digits followed by a digit or X"
    chinese = "身份证号前 17 位应为数字，末位应为数字或 X"


class IdNumberBirthDate(InvalidArgument):
    field = "id_number"
    message = "characters 7 to 14 of an ID number are the day of birth, which is not in the future"
    chinese = "身份证号第 7 至 14 位应为真实的出生日期，且不得晚于今天"


class IdNumberCheckDigit(InvalidArgument):
    field = "id_number"
    message = "the last character does not agree with the 17 before it: at least one is wrong"
    chinese = "身份证号末位校验码不符：至少有一位有误"


class PhoneMalformed(InvalidArgument):
    field = "phone"
    message = "a mobile phone number has 11 digits, of which the first two are 13 to 19"
    chinese = "手机号应为 11 位数字，以 13 至 19 开头"


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A natural person, as far as a union must know; checked."""

    full_name: str = field(repr=False)
    id_number: str = field(repr=False)
    """18 characters: 17 digits, and a digit or X."""
    phone: str = field(default="", repr=False)
    """11 digits; empty if unknown."""


def person_of(*, full_name: str, id_number: str, phone: str, today: date, path: str = "") -> Person:
    """The person, when name and numbers are right.

    Args:
        today: the day in Beijing.
        path: what stands before the field in a refusal, such as `application.person.`.

    Raises:
        InvalidArgument: the first of the three that is wrong.
    """
    return Person(
        full_name=full_name_of(full_name, field=f"{path}full_name"),
        id_number=id_number_of(id_number, today=today, field=f"{path}id_number"),
        phone=phone_of(phone, field=f"{path}phone"),
    )


def full_name_of(text: str, *, field: str = "full_name") -> str:
    """The trimmed name.

    >>> full_name_of(" 阿依古丽·买买提\u3000")
    '阿依古丽·买买提'
    """
    name = text.strip()
    if not 1 <= len(name) <= MOST_NAME_CHARACTERS:
        raise FullNameLength(field=field, length=len(name))
    if CONTROLS.search(name):
        raise FullNameCharacters(field=field)
    return name


def id_number_of(text: str, *, today: date, field: str = "id_number") -> str:
    """The ID number as the law writes it.

    >>> id_number_of("１１０１０５ 19491231 002x", today=date(2026, 11, 22))
    '11010519491231002X'

    Source: GB 11643-1999.  The region code is not looked up: regions are abolished, numbers stay.
    """
    number = _plain(text).upper()
    if _ROUNDED.fullmatch(number):
        raise IdNumberRounded(field=field)
    if len(number) == 15 and number.isascii() and number.isdigit():
        raise IdNumberFirstGeneration(field=field)
    if len(number) != 18:
        raise IdNumberLength(field=field, length=len(number))
    if not _ID_NUMBER.fullmatch(number):
        raise IdNumberCharacters(field=field)
    if not _is_birth_date(number[6:14], today):
        raise IdNumberBirthDate(field=field)
    if ric.calc_check_digit(number) != number[-1]:
        raise IdNumberCheckDigit(field=field)
    return number


def _plain(text: str) -> str:
    """The text with half-width characters and no blanks; spreadsheets put ' before numbers."""
    if text.isascii() and text.isalnum():
        return text
    return _UNSEEN.sub("", unicodedata.normalize("NFKC", text)).lstrip("'")


def _is_birth_date(digits: str, today: date) -> bool:
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:])) <= today
    except ValueError:
        return False


def phone_of(text: str, *, field: str = "phone") -> str:
    """The mobile phone number in 11 digits; empty if there is none.

    >>> phone_of("+86 138-0000-0000")
    '13800000000'
    """
    number = _DASHES.sub("", _plain(text)).removeprefix("+86")
    if number and not _PHONE.fullmatch(number):
        raise PhoneMalformed(field=field)
    return number


def beijing_date(at: datetime) -> date:
    """The day that it is in Beijing: the one that counts for approvals."""
    return at.astimezone(BEIJING).date()
