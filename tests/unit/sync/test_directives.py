"""What became of a directive adds up, whatever the tree and whoever has reported."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sync.domain.directives import (
    SETTLED,
    Directive,
    DirectiveSettled,
    Report,
    State,
    parts,
    progress,
)
from services.sync.domain.nodes import Node

DUE = datetime(2026, 12, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@st.composite
def a_tree(draw: st.DrawFn) -> tuple[UUID, dict[UUID, Node]]:
    """A node and those below it, parents before children."""
    ids = [uuid4() for _ in range(draw(st.integers(1, 12)))]
    below = {
        id_: Node(
            id=id_, parent=ids[draw(st.integers(0, at))], organization_code="51",
            display_name="", level="city", public_key=bytes(32),
        )
        for at, id_ in enumerate(ids[1:])
    }  # fmt: skip
    return ids[0], below


def addressed_to(nodes: tuple[UUID, ...]) -> Directive:
    return Directive(
        id=uuid4(), origin=uuid4(), title="夏送清凉", text="走访", subtree="51", levels=("city",),
        due_time=DUE, create_time=DUE - timedelta(days=30), expected=nodes,
    )  # fmt: skip


def a_report(node: UUID, state: State) -> Report:
    return Report(directive=uuid4(), node=node, state=state, report_time=DUE)


@given(a_tree(), st.data())
def test_the_parts_have_every_node_once_and_add_up_to_the_whole(
    tree: tuple[UUID, dict[UUID, Node]], data: st.DataObject
) -> None:
    own, below = tree
    nodes = [own, *below]
    directive = addressed_to(tuple(data.draw(st.sets(st.sampled_from(nodes)))))
    states = data.draw(st.dictionaries(st.sampled_from(nodes), st.sampled_from(State)))
    reports = {node: a_report(node, state) for node, state in states.items()}
    split = parts(own, below)
    assert sorted(node for part in split.values() for node in part) == sorted(nodes)
    assert set(split) == {own} | {node.id for node in below.values() if node.parent == own}
    at = data.draw(st.sampled_from([DUE, DUE + SECOND]))
    whole = progress(directive, reports, nodes, at=at)
    counted = [progress(directive, reports, part, at=at) for part in split.values()]
    assert whole.expected == len(directive.expected) == sum(part.expected for part in counted)
    assert whole.silent == sum(part.silent for part in counted) >= 0
    assert whole.overdue == sum(part.overdue for part in counted)
    for state in State:
        assert whole.states[state] == sum(part.states[state] for part in counted)
        assert whole.states[state] == sum(
            reports[node].state is state for node in directive.expected if node in reports
        )


@pytest.mark.parametrize("state", [None, *State])
def test_overdue_is_who_has_neither_done_nor_refused_it_after_the_last_moment(
    state: State | None,
) -> None:
    node = uuid4()
    reports = {node: a_report(node, state)} if state else {}
    for at, late in ((DUE, False), (DUE + SECOND, True)):
        found = progress(addressed_to((node,)), reports, [node], at=at)
        assert found.overdue == int(late and state not in SETTLED)


@given(st.lists(st.sampled_from(State)))
def test_a_report_never_goes_back_and_is_settled_once(states: list[State]) -> None:
    report = a_report(uuid4(), State.RECEIVED)
    for state in states:
        if report.state in SETTLED:
            with pytest.raises(DirectiveSettled):
                report.moved(state, at=DUE)
        else:
            assert report.moved(state, at=DUE).state == max(report.state, state)
            report = report.moved(state, at=DUE)
