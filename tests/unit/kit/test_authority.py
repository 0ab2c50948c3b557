"""Who may do what, where and when: whatever the tree, the offices and the hour."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.authority import (
    PERMISSIONS,
    Finding,
    NoOffice,
    Office,
    OutsideScope,
    Role,
    Scope,
    decide,
    explain,
    highest,
)
from kit.gate import Doorkeeper, Rule
from kit.offices import Offices
from smartunion.event.v1 import access_pb2

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
CODES = st.sampled_from(["1", "11", "110", "1101", "111", "2"])
"""Each begins another, as look-alikes do."""
PATHS = st.lists(CODES, max_size=4).map(lambda codes: ".".join(["0", *codes]))
TIMES = st.integers(-3, 3).map(lambda hours: NOON + timedelta(hours=hours))
OFFICES = st.builds(
    lambda role, path, begin, hours: Office(
        id=UUID(int=1), holder="officers/a", role=role, path=path, begin_time=begin,
        end_time=None if hours is None else begin + timedelta(hours=hours),
    ),
    st.sampled_from(Role), PATHS, TIMES, st.none() | st.integers(0, 4),
)  # fmt: skip
PERMITTED = st.sampled_from(sorted(set().union(*PERMISSIONS.values())))


def stands_at_or_below(path: str, above: str) -> bool:
    """The rule in other words: step for step the same way, as far as the one above goes."""
    steps, way = path.split("."), above.split(".")
    return steps[: len(way)] == way


def a_scope(offices: list[Office], permission: str, at: datetime = NOON) -> Scope:
    return Scope(
        caller="officers/a", permission=permission, offices=lambda: offices, clock=lambda: at
    )


@given(st.lists(OFFICES, max_size=4), PERMITTED, PATHS, TIMES)
def test_one_may_by_an_office_in_force_at_or_above_whose_role_permits_it_and_by_no_other(
    offices: list[Office], permission: str, path: str, at: datetime
) -> None:
    right = [
        one
        for one in offices
        if permission in PERMISSIONS[one.role]
        and stands_at_or_below(path, one.path)
        and one.begin_time <= at
        and (one.end_time is None or at < one.end_time)
    ]
    found = decide(offices, permission, path, at=at)
    assert (found in right) if right else found is None
    if found:
        assert all(one.ends <= found.ends for one in right)
    assert (explain(offices, permission, path, at=at)[0] is Finding.ALLOWED) == bool(right)


@given(st.lists(OFFICES, max_size=4), PERMITTED, PATHS, PATHS)
def test_a_list_holds_exactly_what_could_be_read_one_by_one(
    offices: list[Office], permission: str, asked: str, path: str
) -> None:
    scope = a_scope(offices, permission)
    try:
        within = scope.within(asked)
    except OutsideScope:
        within = []
    listed = any(stands_at_or_below(path, place) for place in within)
    single = decide(offices, permission, path, at=NOON) is not None
    assert listed == (single and stands_at_or_below(path, asked))
    assert bool(scope.decided) == bool(within)


@given(st.lists(PATHS))
def test_of_paths_the_highest_cover_all_and_none_another(paths: list[str]) -> None:
    found = highest(paths)
    assert all(any(stands_at_or_below(path, one) for one in found) for path in paths)
    assert not any(
        stands_at_or_below(one, other) for one in found for other in found if one is not other
    )


@given(st.lists(OFFICES, max_size=3), PATHS)
def test_what_is_handed_down_is_seen_in_line_and_not_beside(
    offices: list[Office], path: str
) -> None:
    scope = a_scope(offices, "notice.read")
    in_line = any(
        stands_at_or_below(path, place) or stands_at_or_below(place, path)
        for place in scope.paths()
    )
    try:
        scope.check_line(path)
    except OutsideScope:
        assert not in_line
    else:
        assert in_line and scope.decided


def test_a_look_alike_is_not_below() -> None:
    office = Office(id=UUID(int=1), holder="officers/a", role=Role.CHAIR, path="0.11",
                    begin_time=NOON, end_time=None)  # fmt: skip
    assert decide([office], "member.read", "0.11", at=NOON)
    assert decide([office], "member.read", "0.11.1101", at=NOON)
    assert not decide([office], "member.read", "0.110", at=NOON)
    assert not decide([office], "member.read", "0", at=NOON)


def test_what_is_not_known_here_is_nobodys() -> None:
    office = Office(id=UUID(int=1), holder="officers/a", role=Role.CHAIR, path="0",
                    begin_time=NOON, end_time=None)  # fmt: skip
    for check in (a_scope([office], "member.read").check, a_scope([office], "x").check_line):
        with pytest.raises(OutsideScope):
            check(None)


class Held(Offices):
    """Offices that are known, of one who holds these."""

    def __init__(self, offices: list[Office]) -> None:
        super().__init__(None, UUID(int=0), clock=lambda: NOON)  # type: ignore[arg-type]
        self._held = {"officers/a": offices}


def test_what_belongs_to_the_node_asks_for_an_office_at_the_node_or_above() -> None:
    rule = Rule(access_pb2.OFFICER, "network.read", access_pb2.HOME)
    for path, may in (("0", True), ("0.11", True), ("0.11.1101", False), ("0.110", False)):
        office = Office(id=UUID(int=1), holder="officers/a", role=Role.AUDITOR, path=path,
                        begin_time=NOON, end_time=None)  # fmt: skip
        door = Doorkeeper(Held([office]), "0.11")
        if may:
            assert door.admit("officers/a", rule).decided
        else:
            with pytest.raises(OutsideScope):
                door.admit("officers/a", rule)
        with pytest.raises(NoOffice):
            door.admit("officers/b", rule)


def test_an_office_that_comes_while_a_call_waits_counts_from_the_next_session_on() -> None:
    def office(path: str) -> Office:
        return Office(id=UUID(int=1), holder="officers/a", role=Role.CHAIR, path=path,
                      begin_time=NOON, end_time=None)  # fmt: skip

    held = [office("0.51")]
    scope = a_scope(held, "member.read")
    assert scope.reach() == ["0.51."]
    held.append(office("0.52"))
    scope.check("0.51.5101")
    with pytest.raises(OutsideScope):
        scope.check("0.52.5201")
    assert scope.reach() == ["0.51.", "0.52."]
    scope.check("0.52.5201")
