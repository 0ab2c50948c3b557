"""The checker finds what was planted, and nothing where nothing was."""

from dataclasses import replace

import pytest

from tests.faults.checker import Findings, Record, check

STREET, OTHER = "organizations/510104", "organizations/510105"
NAMES = [f"members/{n}" for n in range(10)]
ACKNOWLEDGED = dict.fromkeys(NAMES, STREET)
LIST = [Record(name, STREET, state=1, version=1) for name in NAMES]


def found(
    owner: list[Record] = LIST, nation: list[Record] = LIST, **persons: list[str]
) -> Findings:
    return check(ACKNOWLEDGED, owner, nation, persons=persons)


def test_nothing_is_found_where_all_is_well() -> None:
    assert found(nation=LIST[::-1], somebody=NAMES[:1]) == Findings()
    assert found().lines() == []


@pytest.mark.parametrize(
    ("lost", "where"),
    [(slice(0, 3), "lost_prefix"), (slice(4, 6), "lost_middle"), (slice(8, 10), "lost_tail")],
)
def test_what_the_nation_lost_is_found_with_its_place(lost: slice, where: str) -> None:
    nation = [record for record in LIST if record not in LIST[lost]]
    assert found(nation=nation) == Findings(**{where: NAMES[lost]})


def test_what_the_owner_lost_is_found_though_the_nation_lost_it_too() -> None:
    kept = LIST[:9]
    assert found(owner=kept, nation=kept) == Findings(lost_tail=NAMES[9:] * 2)


def test_if_all_is_lost_all_of_it_is_a_prefix() -> None:
    assert found(nation=[]) == Findings(lost_prefix=NAMES)


def test_what_nobody_was_told_of_is_unexpected() -> None:
    stranger = Record("members/x", STREET, state=1, version=1)
    assert found(nation=[*LIST, stranger]) == Findings(unexpected=["members/x"])
    assert found(owner=[*LIST, stranger], nation=[*LIST, stranger]) == Findings(
        unexpected=["members/x"]
    )


def test_a_name_that_is_listed_twice_and_a_person_with_two_memberships_are_found() -> None:
    assert found(nation=[*LIST, LIST[3]]) == Findings(duplicated=[NAMES[3]])
    assert found(somebody=NAMES[:2]) == Findings(duplicated=["members/0 = members/1"])


@pytest.mark.parametrize("change", [{"version": 2}, {"organization": OTHER}, {"state": 2}])
def test_a_copy_that_is_not_what_the_owner_has_is_found(change: dict[str, object]) -> None:
    nation = [*LIST[:9], replace(LIST[9], **change)]  # type: ignore[arg-type]
    assert found(nation=nation) == Findings(different=NAMES[9:])


def test_a_member_elsewhere_than_was_told_is_found() -> None:
    moved = [*LIST[:9], replace(LIST[9], organization=OTHER)]
    assert found(owner=moved, nation=moved) == Findings(different=NAMES[9:])
    assert found(owner=moved, nation=moved).lines() == ["different: 1: members/9"]
