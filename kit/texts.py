"""What is right about any text that people write."""

import re

from kit.errors import InvalidArgument

CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_BREAKS = re.compile(r"[\t\r\n]")


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
