"""Every refusal can be told apart, read in two languages, and acted on."""

import importlib
import re
import string
from collections.abc import Iterator
from pathlib import Path

from kit.errors import Refusal

ROOT = Path(__file__).parents[2]


def refusals() -> list[type[Refusal]]:
    """Every reason of kit and the services."""
    for folder in ("kit", "services"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.name != "__main__.py":
                module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
                importlib.import_module(module.removesuffix(".__init__"))
    ours = [kind for kind in kinds(Refusal) if kind.__module__.startswith(("kit.", "services."))]
    return [kind for kind in ours if hasattr(kind, "message")]


def kinds(kind: type[Refusal]) -> Iterator[type[Refusal]]:
    for below in kind.__subclasses__():
        yield below
        yield from kinds(below)


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
