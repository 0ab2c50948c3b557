"""What is right about any text that people write, and how one is shown in part."""

import re

from kit.errors import InvalidArgument

CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_BREAKS = re.compile(r"[\t\r\n]")
_NUMBER = re.compile(r"(?<![0-9A-Za-z])(\d{17}[\dXx]|1[3-9]\d{9})(?![0-9A-Za-z])", re.ASCII)
"""An ID number or a mobile phone number."""


class TextCharacters(InvalidArgument):
    message = "a text holds no control characters such as NUL"
    chinese = "文本中不得含有 NUL 等控制字符"


def check_characters(text: str, *, field: str, lines: bool = False) -> None:
    """Whether a text can be shown, and kept: PostgreSQL has no place for a NUL.

    Args:
        lines: whether it may have line breaks and tabs.

    Raises:
        TextCharacters: if it holds a control character.
    """
    if CONTROLS.search(_BREAKS.sub("", text) if lines else text):
        raise TextCharacters(field=field)


def hidden(text: str, first: int, last: int) -> str:
    """A text of which only the first and the last characters are shown; none, if that would leave
    fewer than four to hide.

    >>> hidden("11010519491231002X", 6, 4), hidden("13800000000", 3, 4), hidden("123456", 0, 4)
    ('110105********002X', '138****0000', '******')
    """
    if len(text) < first + last + 4:
        return "*" * len(text)
    return text[:first] + "*" * (len(text) - first - last) + text[len(text) - last :]


def without_numbers(text: str) -> str:
    """A text in which ID numbers and phone numbers are hidden: the last wall before a log.

    >>> without_numbers("key (11010519491231002X) of 13800000000 at 1732500000123")
    'key (110105********002X) of 138****0000 at 1732500000123'
    """
    return _NUMBER.sub(lambda found: hidden(found[0], 6 if len(found[0]) == 18 else 3, 4), text)
