"""Whatever is done to a row of an audit trail is found, and named."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.chain import BEGINNING, Head, Row, compare, explain, follow, link

BEGUN = datetime(2026, 11, 1, tzinfo=UTC)


def a_trail(length: int, *, after: Head = BEGINNING, by: str = "officers/li-na") -> list[Row]:
    """Rows as the publisher chains them."""
    rows, head = list[Row](), after
    for number in range(after.number + 1, after.number + length + 1):
        row = Row(
            number=number, time=BEGUN + timedelta(seconds=number), caller=by, method="a.B.Approve",
            office=f"offices/{UUID(int=1)}", path="0.51", names=[f"members/{UUID(int=number)}"],
            request_id=UUID(int=number) if number % 2 else None,
            purpose="核对银行卡" if number % 4 == 0 else "", hash=b"",
        )  # fmt: skip
        rows.append(replace(row, hash=link(head.hash, row)))
        head = Head(number, rows[-1].hash)
    return rows


def finding(rows: Sequence[Row]) -> str:
    """What is wrong with a trail, if its first wrong row shows it."""
    head, wrong = follow(BEGINNING, rows)
    return explain(head, [row for row in rows if row.number >= wrong.number]) if wrong else ""


def renumbered(rows: Sequence[Row]) -> list[Row]:
    return [replace(row, number=number) for number, row in enumerate(rows, start=1)]


def test_a_trail_that_nobody_touched_is_whole() -> None:
    rows = a_trail(9)
    assert follow(BEGINNING, rows) == (Head(9, rows[-1].hash), None)
    assert finding(rows) == ""


@pytest.mark.parametrize("at", [1, 4, 9])
def test_a_changed_row_is_named(at: int) -> None:
    rows = a_trail(9)
    rows[at - 1] = replace(rows[at - 1], caller="officers/wang-wu")
    assert finding(rows) == f"row {at} was changed"


@pytest.mark.parametrize("at", [1, 4, 8])
def test_a_removed_row_is_named(at: int) -> None:
    rows = a_trail(9)
    del rows[at - 1]
    assert finding(rows) == f"row {at} was removed"
    told = f"row {at} was removed, and those behind it were given other numbers"
    if at < 8:  # behind the one before the last, nothing is left to tell it by
        assert finding(renumbered(rows)) == told


@pytest.mark.parametrize("at", [1, 4, 9])
def test_an_inserted_row_is_named(at: int) -> None:
    rows = a_trail(9)
    rows.insert(at - 1, replace(rows[0], caller="officers/nobody", hash=bytes(32)))
    assert finding(renumbered(rows)) == f"row {at} was inserted"


@pytest.mark.parametrize(("one", "other"), [(1, 2), (3, 4), (2, 8), (8, 9)])
def test_rows_that_have_changed_places_are_named(one: int, other: int) -> None:
    rows = a_trail(9)
    first, second = rows[one - 1], rows[other - 1]
    rows[one - 1], rows[other - 1] = (
        replace(second, number=one), replace(first, number=other),
    )  # fmt: skip
    told = f"rows {one} and {other} have changed places"
    assert finding(rows) == told
    rows[one - 1] = replace(rows[one - 1], hash=first.hash)  # and each hash has stayed
    rows[other - 1] = replace(rows[other - 1], hash=second.hash)
    assert finding(rows) == told


def test_rows_in_any_other_order_are_told_from_changed_ones() -> None:
    rows = a_trail(9)
    rows.insert(1, rows.pop(6))
    assert "reordered" in finding(renumbered(rows)) or "inserted" in finding(renumbered(rows))


OTHERS: dict[str, st.SearchStrategy[Any]] = {
    "number": st.integers(-(2**60), 2**60),
    "time": st.datetimes(timezones=st.just(UTC)),
    "caller": st.text(),
    "method": st.text(),
    "office": st.text(),
    "path": st.text(),
    "names": st.lists(st.text(), max_size=3),
    "request_id": st.none() | st.uuids(),
    "purpose": st.text(),
    "hash": st.binary(min_size=32, max_size=32),
}


@given(
    st.integers(1, 6),
    st.sampled_from(sorted(OTHERS)).flatmap(lambda name: st.tuples(st.just(name), OTHERS[name])),
)
def test_any_edit_of_any_row_is_found(at: int, edit: tuple[str, Any]) -> None:
    rows, (name, value) = a_trail(6), edit
    was = getattr(rows[at - 1], name)
    rows[at - 1] = replace(rows[at - 1], **{name: value})
    if value == was:
        assert finding(rows) == ""
    else:
        assert follow(BEGINNING, rows)[1] is not None


@given(st.permutations(range(6)))
def test_any_other_order_is_found(order: list[int]) -> None:
    rows = a_trail(6)
    found = renumbered([rows[at] for at in order])
    assert (follow(BEGINNING, found)[1] is None) == (order == sorted(order))


def test_the_words_of_a_row_cannot_be_moved_from_one_column_to_the_next() -> None:
    row = a_trail(1)[0]
    assert link(bytes(32), replace(row, office="a", path="b")) != link(
        bytes(32), replace(row, office="a,b", path="")
    )
    assert link(bytes(32), replace(row, names=["a", "b"])) != link(
        bytes(32), replace(row, names=['a","b'])
    )


def hashes(rows: Sequence[Row]) -> dict[int, bytes]:
    return {row.number: row.hash for row in rows}


def test_a_trail_that_was_made_anew_as_a_whole_is_found_by_a_head_that_others_keep() -> None:
    rows = a_trail(9)
    held = [Head(rows[at].number, rows[at].hash) for at in (2, 5, 8)]
    forged = rows[:4] + a_trail(5, after=Head(4, rows[3].hash), by="officers/forger")
    assert finding(forged) == ""
    told = compare(held, hashes(forged), Head(9, forged[-1].hash))
    assert told.startswith("a row from 4 to 6 was changed and the chain was made anew")
    assert compare(held, hashes(rows), Head(9, rows[8].hash)) == ""
    later = Head(9, forged[-1].hash)  # the node has certified what was forged
    assert compare([*held, later], hashes(forged), later).startswith("a row from 4 to 6")


def test_a_trail_that_was_cut_at_its_end_is_found_by_a_head_that_others_keep() -> None:
    rows = a_trail(9)
    held = [Head(rows[at].number, rows[at].hash) for at in (2, 8)]
    told = compare(held, hashes(rows[:7]), Head(7, rows[6].hash))
    assert told.startswith("rows 8 to 9 are missing at the end")
