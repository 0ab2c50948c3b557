"""Every refusal can be told apart, read in two languages, and acted on."""

import re
import string

from docs.reasons import refusals


def facts(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_reason_is_used_once() -> None:
    names = [kind.__name__ for kind in refusals()]
    assert len(names) > 20
    assert sorted(names) == sorted(set(names))


def test_every_refusal_says_the_same_in_english_and_chinese() -> None:
    for kind in refusals():
        assert facts(kind.message) == facts(kind.chinese), kind
        assert re.search("[\u4e00-\u9fff]", kind.chinese), kind
        example = kind(**dict.fromkeys(facts(kind.message), "x"))
        assert str(example) and example.chinese_text
        assert re.fullmatch("[A-Z][A-Z0-9_]*", example.reason)


def test_every_refusal_has_a_code() -> None:
    for kind in refusals():
        assert kind.code in (3, 5, 6, 7, 8, 9, 14, 16), kind
