"""What lint finds in the documents, by planting it."""

from pathlib import Path
from typing import Any

import pytest

from docs.check import IDS, ROOT, coverage, outline, rpcs_of, stale, twins

RPCS = {"MembershipService/GetMember"}
TEST = "tests/service/test_members.py::test_a_member_is_found"
TEXTS = {"title": "Members", "chinese": "会员", "papers": ["S3"]}
WORKS = TEXTS | {"works": True, "rpcs": ["MembershipService/GetMember"], "tests": [TEST]}
MISSING = TEXTS | {"works": False, "missing": "There are no members."}
ENGLISH = "# Run it\n\nSee [this](a.md).\n\n```sh\nmake up  # now\n```\n\n| [x](x.md) | y |\n"
CHINESE = "# 运行\n\n见[此](a.md)。\n\n```sh\nmake up  # 马上\n```\n\n| [甲](x.md) | 乙 |\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one test through the API, and one that is none."""
    for folder in ("tests/service", "tests/unit"):
        (tmp_path / folder).mkdir(parents=True)
        file = tmp_path / folder / "test_members.py"
        file.write_text("async def test_a_member_is_found(): ...\n")
    return tmp_path


def found(root: Path, **changed: Any) -> list[str]:
    rows = dict.fromkeys(IDS, MISSING) | {"A1": WORKS} | changed
    return coverage({id_: row for id_, row in rows.items() if row}, RPCS, root)


def test_all_91_rows_that_are_true_are_accepted(root: Path) -> None:
    assert len(IDS) == 91
    assert found(root) == []


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"J11": None}, "J11 is missing"),
        ({"K1": MISSING}, "K1 is none of A1 to J11"),
        ({"A1": WORKS | {"rpcs": ["MembershipService/Sing"]}}, "A1: there is no RPC Membersh"),
        ({"A2": MISSING | {"rpcs": ["SyncService/Sing"]}}, "A2: there is no RPC SyncService/S"),
        ({"A1": WORKS | {"tests": [TEST + "_twice"]}}, "A1: there is no test tests/service"),
        ({"A1": WORKS | {"tests": ["tests/service/test_no.py::test_x"]}}, "A1: there is no test"),
        ({"A1": WORKS | {"tests": [TEST.replace("service", "unit")]}}, "the public API"),
        ({"A1": WORKS | {"rpcs": []}}, "A1.rpcs: List should have at least 1"),
        ({"A1": WORKS | {"tests": []}}, "A1.tests: List should have at least 1"),
        ({"A1": WORKS | {"missing": "much"}}, "A1.missing: Extra inputs"),
        ({"A2": TEXTS | {"works": False}}, "A2.missing: Field required"),
        ({"A2": MISSING | {"tests": [TEST]}}, "A2.tests: List should have at most 0"),
        ({"A2": TEXTS}, "A2: Unable to extract tag"),
        ({"A2": MISSING | {"papers": ["S9"]}}, "A2.papers.0: Input should be 'S0'"),
    ],
)
def test_a_row_that_is_not_true_is_named(root: Path, changed: dict[str, Any], says: str) -> None:
    [told] = found(root, **changed)
    assert says in told


def test_the_rpcs_are_those_of_the_contracts() -> None:
    assert {"MembershipService/GetMember", "SyncService/GetNetwork"} <= rpcs_of(ROOT / "protos")


def test_twins_differ_in_their_language_alone() -> None:
    assert outline(ENGLISH) == outline(CHINESE)
    assert list(twins(ENGLISH, CHINESE)) == []


@pytest.mark.parametrize(
    ("was", "now", "line"),
    [
        ("# 运行", "## 运行", 1),
        ("(a.md)", "(b.md)", 3),
        ("make up", "make demo", 6),
        ("| [甲](x.md) | 乙 |\n", "", 9),
    ],
)
def test_the_first_place_at_which_twins_part_is_named(was: str, now: str, line: int) -> None:
    [told] = twins(ENGLISH, CHINESE.replace(was, now))
    assert told.startswith(f"README.md:{line} has ")


def test_a_page_that_a_program_writes_is_stale_once_it_differs(tmp_path: Path) -> None:
    file = tmp_path / "reasons.md"
    [told] = stale(file, "new", writer="docs.reasons")
    assert told == "reasons.md is not what docs.reasons writes; run: python -m docs.reasons"
    file.write_text("new")
    assert list(stale(file, "new", writer="docs.reasons")) == []
    file.write_text("old")
    assert list(stale(file, "new", writer="docs.reasons")) == [told]
