"""What `make lint` asks of the documents: coverage.toml is true, the README's twin is its twin, and
what is written by a program is what that program writes today.

python -m docs.check
"""

import ast
import importlib
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from docs import reasons

ROOT = Path(__file__).parents[1]
GROUPS = {"A": 11, "B": 10, "C": 6, "D": 9, "E": 11, "F": 11, "G": 7, "H": 7, "I": 8, "J": 11}
IDS = [f"{group}{number}" for group, count in GROUPS.items() for number in range(1, count + 1)]
"""The 91 systems and functions of the papers, A1 to J11."""
THROUGH_THE_API = ("tests/service/", "tests/federation/", "tests/faults/")
"""Where tests call services; the others call functions."""
TWINS = ("README.md", "README.zh-CN.md")
MARK = re.compile(r"#+ |\||\d+\. |- ")
LINK = re.compile(r"\]\(([^)]+)\)")

Text = Annotated[str, Field(min_length=1)]


class Row(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    title: Text
    chinese: Text
    papers: Annotated[list[Literal["S0", "S1", "S2", "S3", "S4"]], Field(min_length=1)]


class Working(Row):
    works: Literal[True]
    rpcs: Annotated[list[Text], Field(min_length=1)]
    tests: Annotated[list[Text], Field(min_length=1)]


class Missing(Row):
    works: Literal[False]
    missing: Text
    rpcs: list[Text] = []
    """Those that do a part of it."""
    tests: Annotated[list[Text], Field(max_length=0)] = []


Rows: TypeAlias = dict[str, Annotated[Working | Missing, Field(discriminator="works")]]


def coverage(tables: Mapping[str, Any], rpcs: set[str], root: Path = ROOT) -> list[str]:
    """What is wrong with coverage.toml, a line each.

    Args:
        tables: its tables, by id.
        rpcs: those that exist, as `rpcs_of` names them.
        root: the folder that the paths of tests start from.
    """
    problems = [f"{id_} is missing" for id_ in IDS if id_ not in tables]
    problems += [f"{id_} is none of A1 to J11" for id_ in tables if id_ not in IDS]
    try:
        rows = TypeAdapter(Rows).validate_python(tables)
    except ValidationError as error:
        return problems + [_said(one["loc"], one["msg"]) for one in error.errors()]
    for id_, row in rows.items():
        problems += [f"{id_}: there is no RPC {rpc}" for rpc in row.rpcs if rpc not in rpcs]
        problems += [f"{id_}: {told}" for test in row.tests for told in _test(test, root)]
    return problems


def _said(place: tuple[int | str, ...], problem: str) -> str:
    """The second part of a place is which of the two sorts of rows it is."""
    return f"{'.'.join(map(str, place[:1] + place[2:]))}: {problem}"


def _test(test: str, root: Path) -> Iterator[str]:
    if not _exists(test, root):
        yield f"there is no test {test}"
    elif not test.startswith(THROUGH_THE_API):
        yield f"{test} does not go through the public API"


def _exists(test: str, root: Path) -> bool:
    """Whether a file has the test `path::name`; it is not run."""
    path, _, name = test.partition("::")
    if not name.startswith("test_") or not (root / path).is_file():
        return False
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse((root / path).read_text(encoding="utf-8"))
    return any(isinstance(node, functions) and node.name == name for node in tree.body)


def rpcs_of(protos: Path) -> set[str]:
    """Every RPC of the contracts, as `MembershipService/GetMember`."""
    found = set()
    for file in protos.rglob("*.proto"):
        module = ".".join(file.relative_to(protos).with_suffix("").parts) + "_pb2"
        for service in importlib.import_module(module).DESCRIPTOR.services_by_name.values():
            found |= {f"{service.name}/{method.name}" for method in service.methods}
    return found


def twins(one: str, other: str) -> Iterator[str]:
    """The first place at which two texts differ in more than their language."""
    for left, right in zip_longest(outline(one), outline(other), fillvalue=(0, "nothing")):
        if left[1] != right[1]:
            places = zip(TWINS, (left, right), strict=True)
            yield ", but ".join(f"{name}:{line} has {shape}" for name, (line, shape) in places)
            return


def outline(text: str) -> list[tuple[int, str]]:
    """What a line is in any language, with its number: heading, row, item or paragraph, and the
    targets of its links; or a command, without its comment.  Pictures in letters are left out.

    >>> outline("## Run it\\n\\nSee [this](a.md).\\n```sh\\nmake up  # now\\n```")
    [(1, '## '), (3, 'a paragraph a.md'), (4, '```sh'), (5, 'make up'), (6, '```')]
    """
    found, block = [], ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            block = "" if block else line
            shape = line
        elif block:
            shape = "" if block == "```text" else line.partition("#")[0].rstrip()
        else:
            shape = _shape(line)
        found += [(number, shape)] if shape else []
    return found


def _shape(line: str) -> str:
    if not line.strip():
        return ""
    mark = MARK.match(line)
    links = sorted("twin" if link in TWINS else link for link in LINK.findall(line))
    return " ".join([mark[0] if mark else "a paragraph", *links])


def stale(file: Path, text: str, *, writer: str) -> Iterator[str]:
    """What is wrong with a file that a program writes, if it is not `text` any more."""
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        yield f"{file.name} is not what {writer} writes; run: python -m {writer}"


def main() -> None:
    """Say what is wrong, a line each, and end with 1 if anything is."""
    file = ROOT / "docs" / "coverage.toml"
    tables = tomllib.loads(file.read_text(encoding="utf-8"))
    one, other = ((ROOT / name).read_text(encoding="utf-8") for name in TWINS)
    problems = [f"{file.name}: {told}" for told in coverage(tables, rpcs_of(ROOT / "protos"))]
    problems += twins(one, other)
    problems += stale(reasons.PAGE, reasons.page(reasons.refusals()), writer="docs.reasons")
    sys.exit("\n".join(problems) or None)


if __name__ == "__main__":
    main()
