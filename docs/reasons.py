"""The table in docs/reasons.md: every reason of a refusal, written from the classes themselves.

python -m docs.reasons
"""

import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from google.rpc import code_pb2

from kit.errors import Refusal

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reasons.md"
SEEN_BY_CLIENTS = ("kit", "services")
"""The folders whose refusals leave a service; those of `node` are told at the command line."""

TABLE = "|---|---|---|---|---|---|\n"
"""The line under the header of the table: what stands above is written by people."""


def refusals() -> list[type[Refusal]]:
    """Every reason that a client can meet, in order of name."""
    for folder in SEEN_BY_CLIENTS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.name != "__main__.py":
                module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
                importlib.import_module(module.removesuffix(".__init__"))
    found = [
        kind for kind in _below(Refusal) if kind.__module__.partition(".")[0] in SEEN_BY_CLIENTS
    ]
    return sorted((kind for kind in found if hasattr(kind, "message")), key=lambda k: k.__name__)


def _below(kind: type[Refusal]) -> Iterator[type[Refusal]]:
    for below in kind.__subclasses__():
        yield below
        yield from _below(below)


def page(kinds: Iterable[type[Refusal]]) -> str:
    """The page as it stands, with a row for each of these reasons."""
    above, _, _ = PAGE.read_text(encoding="utf-8").partition(TABLE)
    return above + TABLE + "".join(f"| {' | '.join(_row(kind))} |\n" for kind in kinds)


def _row(kind: type[Refusal]) -> Iterator[str]:
    folder, _, place = kind.__module__.partition(".")
    yield f"`{kind.__new__(kind).reason}`"  # not made from facts, which nobody has
    yield f"`{code_pb2.Code.Name(kind.code)}`"
    for text in (kind.message, kind.chinese):
        yield text.replace("{{", "{").replace("}}", "}").replace("|", "\\|").replace("*", "\\*")
    yield place.partition(".")[0] if folder == "services" else "all"
    yield f"`{kind.field}`" if kind.field else ""


if __name__ == "__main__":
    PAGE.write_text(page(refusals()), encoding="utf-8")
