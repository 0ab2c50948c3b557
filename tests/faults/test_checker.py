"""The checker finds what was planted, and nothing where nothing was.

Every right history is made by hypothesis: two cities, several officers in each, members that are
written once and applications that are written in two versions, readers that see them arrive.
"""

import json
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.checker import Findings, Observed, Record, check, observed

CITIES = {"5101": ["5101", "51", "0"], "5107": ["5107", "51", "0"]}
"""Each with the nodes that are to hold its records."""


@st.composite
def histories(draw: st.DrawFn) -> Observed:
    """Right ones: each writer has six to ten writes, one of them a second version."""
    found = Observed()
    for city, holders in CITIES.items():
        last: dict[str, Record] = {}
        for officer in range(draw(st.integers(1, 3))):
            rows = [
                Record(f"members/{city}-{officer}-{n}", f"organizations/{city}", 1, 1)
                for n in range(draw(st.integers(5, 9)))
            ]
            rows.insert(draw(st.integers(1, 4)), replace(rows[0], state=2, version=2))
            found.written[f"{city}/{officer}"] = rows
            last |= {record.name: record for record in rows}
        found.held[city] = {node: [*last.values()] for node in holders}
        for node in holders:
            states = [row for rows in found.written.values() for row in rows if row.name in last]
            found.seen.setdefault(node, []).extend(states)
    found.persons = [[f"members/{n}"] for n in range(3)]
    return found


@dataclass(frozen=True)
class Place:
    """Where something is planted: a node, and a writer whose records it holds."""

    city: str
    node: str
    writer: str

    def drop(self, history: Observed, rows: list[Record]) -> list[str]:
        """Let the node hold nothing of these rows' records; how the checker names the rows."""
        gone = {row.name for row in rows}
        held = history.held[self.city][self.node]
        history.held[self.city][self.node] = [r for r in held if r.name not in gone]
        return [f"{self.node}: {r}" for r in history.written[self.writer] if r.name in gone]


def a_place(data: st.DataObject, history: Observed) -> Place:
    city = data.draw(st.sampled_from([*CITIES]))
    node = data.draw(st.sampled_from(CITIES[city]))
    return Place(city, node, data.draw(st.sampled_from(
        [writer for writer in history.written if writer.startswith(city)])))  # fmt: skip


@given(histories())
def test_nothing_is_found_in_a_right_history(history: Observed) -> None:
    assert check(history) == Findings()
    assert check(history).lines() == []


@given(histories(), st.data())
def test_what_a_node_lost_is_found_with_its_place(history: Observed, data: st.DataObject) -> None:
    place = a_place(data, history)
    # The first record is written twice, as rows 0 and `at`: leave rows that keep it to its place.
    rows = [row for row in history.written[place.writer]]
    changed = next(at for at, row in enumerate(rows) if row.version == 2)
    where = data.draw(st.sampled_from(["prefix", "middle", "tail"]))
    if where == "prefix":
        history.written[place.writer] = rows = rows[:changed] + rows[changed + 1 :]
        fix = [replace(rows[0], version=1)]
        for node in CITIES[place.city]:
            held = history.held[place.city][node]
            history.held[place.city][node] = [fix[0] if r.name == fix[0].name else r for r in held]
        lost = rows[: data.draw(st.integers(1, len(rows) - 2))]
    elif where == "middle":
        lost = [row for row in rows[1:-1] if row.name != rows[0].name][:2]
        lost = lost if rows[-1] not in lost else lost[:-1]
    else:
        lost = [row for row in rows[changed + 1 :]][-data.draw(st.integers(1, 2)) :]
    named = place.drop(history, lost)
    assert check(history) == Findings(**{f"lost_{where}": named})


@given(histories(), st.data())
def test_if_all_is_lost_all_of_it_is_a_prefix(history: Observed, data: st.DataObject) -> None:
    place = a_place(data, history)
    named = place.drop(history, history.written[place.writer])
    assert check(history) == Findings(lost_prefix=named)


@given(histories(), st.data())
def test_a_node_that_stays_at_an_older_version_has_lost_the_newer(
    history: Observed, data: st.DataObject
) -> None:
    place = a_place(data, history)
    old, new = (row for row in history.written[place.writer] if row.name.endswith("-0"))
    held = history.held[place.city][place.node]
    history.held[place.city][place.node] = [old if r.name == old.name else r for r in held]
    found = check(history)
    assert found.lost_middle + found.lost_tail == [f"{place.node}: {new}"]
    assert not found.lost_prefix + found.different + found.unexpected


def unexpected(record: Record) -> list[Record]:
    """A record that nobody wrote."""
    return [record, replace(record, name="members/stranger")]


def too_new(record: Record) -> list[Record]:
    return [replace(record, version=9)]


def twice(record: Record) -> list[Record]:
    return [record, record]


def elsewhere(record: Record) -> list[Record]:
    return [replace(record, organization="organizations/other")]


def decided_otherwise(record: Record) -> list[Record]:
    return [replace(record, state=7)]


@pytest.mark.parametrize(
    ("plant", "named"),
    [(unexpected, "unexpected"), (too_new, "unexpected"), (twice, "duplicated"),
     (elsewhere, "different"), (decided_otherwise, "different")],
)  # fmt: skip
@given(history=histories(), data=st.data())
def test_what_a_node_holds_otherwise_than_was_told_is_found(
    plant: Callable[[Record], list[Record]], named: str, history: Observed, data: st.DataObject
) -> None:
    place = a_place(data, history)
    held = history.held[place.city][place.node]
    at = data.draw(st.integers(0, len(held) - 1))
    history.held[place.city][place.node] = [*held[:at], *plant(held[at]), *held[at + 1 :]]
    found = check(history)
    wrong: list[str] = getattr(found, named)
    assert len(wrong) == 1 and wrong[0].startswith(f"{place.node}: members/")
    setattr(found, named, [])
    assert found == Findings()


@given(histories(), st.data())
def test_an_effect_that_happened_twice_is_found(history: Observed, data: st.DataObject) -> None:
    place = a_place(data, history)
    rows = history.written[place.writer]
    again = data.draw(st.sampled_from([row for row in rows if row.version == 1][1:]))
    history.written[place.writer] = [*rows, again]
    assert check(history) == Findings(duplicated=[f"acknowledged 2 times: {again.name} version 1"])
    history.written[place.writer] = rows
    history.persons.append(["members/a", "members/b"])
    assert check(history) == Findings(duplicated=["members/a = members/b"])


@given(histories(), st.data())
def test_a_reader_that_sees_an_older_version_or_none_after_a_newer_is_found(
    history: Observed, data: st.DataObject
) -> None:
    node = data.draw(st.sampled_from([*history.seen]))
    seen = history.seen[node]
    new = data.draw(st.sampled_from([row for row in seen if row.version == 2]))
    older = replace(new, version=data.draw(st.integers(0, 1)))
    seen.insert(data.draw(st.integers(seen.index(new) + 1, len(seen))), older)
    assert check(history) == Findings(reordered=[f"{node}: {older} after version 2"])


@pytest.mark.parametrize("verdict", ["GAP", "DIFFERENT", "REWOUND", "COMPLETE_BUT_PARKED"])
def test_what_was_lost_and_put_right_again_is_found(verdict: str) -> None:
    line = {"what": "verdict", "at": "51", "of": "5101", "connected": True}
    sound = [{**line, "verdict": "UNPROVEN"}, {**line, "verdict": "COMPLETE"}]
    assert check(observed(sound)) == Findings()
    unsound = [*sound, {**line, "verdict": verdict}]
    assert check(observed(unsound)) == Findings(repaired=[f"51 shows {verdict} of 5101"])
    said = {"what": "repair", "node": "0", "message": "snapshot taken"}
    assert check(observed([said])) == Findings(repaired=["0: snapshot taken"])


@given(histories())
def test_a_kept_history_says_all_that_the_check_needs(history: Observed) -> None:
    lines: list[dict[str, Any]] = [{"what": "persons", "members": history.persons}]
    for writer, rows in history.written.items():
        lines += [{"what": "written", "writer": writer, "record": astuple(row)} for row in rows]
    for node, rows in history.seen.items():
        lines += [{"what": "seen", "node": node, "record": astuple(row)} for row in rows]
    for city, holders in history.held.items():
        for node, rows in holders.items():
            held = list(map(astuple, rows))
            lines.append({"what": "held", "city": city, "node": node, "records": held})
    kept = [json.loads(json.dumps(line)) for line in [{"t": 0, "what": "planned"}, *lines]]
    assert observed(kept) == history
