"""The tree of nodes, and the worst of what is known of each."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sync.domain.enrollments import OrganizationNotBelow, check_code
from services.sync.domain.network import Proof, Verdict, network
from services.sync.domain.nodes import Node, OrganizationCodeInvalid, tree
from services.sync.domain.streams import Stream, StreamKey
from services.sync.servicer.network import by_level
from smartunion.event.v1 import log_pb2

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def a_node(code: str, parent: Node | None = None) -> Node:
    return Node(
        id=uuid4(), parent=parent.id if parent else None, organization_code=code,
        display_name=code, level="city", public_key=bytes(32),
    )  # fmt: skip


def by_id(*nodes: Node) -> dict[UUID, Node]:
    return {node.id: node for node in nodes}


def a_stream(origin: UUID, *, head: int = 5, rewound: bool = False, age: float = 0) -> Stream:
    return Stream(
        key=StreamKey(origin, "membership", "records"), frame=1, hash=b"", number=head, head=head,
        heard_age=timedelta(seconds=age), rewound=rewound, via=None,
    )  # fmt: skip


def a_proof(verdict: Verdict, *, members: int = 0, applied: int = 5) -> Proof:
    return Proof(verdict=verdict, applied=applied, counts={"members": members}, certify_time=NOW)


def test_a_parent_counts_its_own_members_and_those_below() -> None:
    nation = a_node("0")
    province = a_node("51", nation)
    cities = [a_node("5107", province), a_node("5101", province)]
    streams = [a_stream(node.id) for node in (nation, province, *cities)]
    proofs = {s.key: a_proof(Verdict.COMPLETE, members=10) for s in streams}
    states = network(nation, tree(nation.id, [*cities, province]), streams, proofs)
    assert [state.node.organization_code for state in states] == ["0", "51", "5101", "5107"]
    assert [sum(s.members for s in state.subtree) for state in states] == [40, 30, 10, 10]
    assert all(state.covered for state in states)


def test_a_node_of_which_nothing_came_is_unproven_and_not_connected() -> None:
    nation = a_node("0")
    [_, province] = network(nation, by_id(a_node("51", nation)), [], {})
    assert province.verdict is Verdict.UNPROVEN
    assert not province.connected and not province.covered


@given(st.lists(st.sampled_from(Verdict), min_size=1))
def test_the_worst_stream_speaks_for_the_node(verdicts: list[Verdict]) -> None:
    node = a_node("51")
    streams, proofs = [], {}
    for at, verdict in enumerate(verdicts):
        key = StreamKey(node.id, f"service{at}", "records")
        streams.append(
            Stream(key=key, frame=1, hash=b"", number=1, head=1, heard_age=timedelta(0),
                   rewound=False, via=None)
        )  # fmt: skip
        proofs[key] = a_proof(verdict)
    [state] = network(node, {}, streams, proofs)
    assert state.verdict == max(verdicts)
    assert state.covered == (set(verdicts) == {Verdict.COMPLETE})


def test_a_rewound_stream_is_shown_whatever_its_proof_says() -> None:
    node = a_node("51")
    stream = a_stream(node.id, rewound=True)
    [state] = network(node, {}, [stream], {stream.key: a_proof(Verdict.COMPLETE)})
    assert state.verdict is Verdict.REWOUND


def test_what_is_known_and_not_applied_is_lag() -> None:
    nation = a_node("0")
    province = a_node("51", nation)
    stream = a_stream(province.id, head=9)
    [_, state] = network(
        nation, by_id(province), [stream], {stream.key: a_proof(Verdict.COMPLETE, applied=5)}
    )
    assert state.lag == 4
    assert not state.covered


def test_a_node_with_one_silent_service_is_not_connected() -> None:
    nation = a_node("0")
    province = a_node("51", nation)
    fresh = a_stream(province.id)
    silent = Stream(
        key=StreamKey(province.id, "sync", "records"), frame=1, hash=b"", number=1, head=1,
        heard_age=timedelta(seconds=60), rewound=False, via=None,
    )  # fmt: skip
    [_, state] = network(nation, by_id(province), [fresh, silent], {})
    assert not state.connected


@pytest.mark.parametrize("code", ["", "5", "510", "51010", "5101041", "abcd", "５１", "51 "])
def test_what_is_no_division_code_is_refused(code: str) -> None:
    with pytest.raises(OrganizationCodeInvalid):
        check_code(code, below="0")


@given(st.from_regex(r"[1-9][0-9]{8}", fullmatch=True))
def test_a_division_lies_below_its_own_prefixes_only(code: str) -> None:
    for above in ("0", code[:2], code[:4], code[:6]):
        check_code(code, below=above)
    other = f"{(int(code[0]) % 9) + 1}{code[1:]}"
    with pytest.raises(OrganizationNotBelow):
        check_code(other[:6], below=code[:2])


def test_a_node_that_does_not_show_the_records_of_every_service_is_unproven() -> None:
    nation = a_node("0")
    province = a_node("51", nation)
    stream = a_stream(province.id)
    proofs = {stream.key: a_proof(Verdict.COMPLETE)}
    for services, verdict in (
        (("membership",), Verdict.COMPLETE),
        (("membership", "sync"), Verdict.UNPROVEN),
    ):
        [_, state] = network(nation, by_id(province), [stream], proofs, services)
        assert state.verdict is verdict


def test_a_verdict_that_no_certificate_has_renewed_is_none() -> None:
    node = a_node("51")
    stream, silent = a_stream(node.id), a_stream(node.id, age=600)
    old = Proof(
        verdict=Verdict.COMPLETE, applied=5, counts={}, certify_time=NOW,
        compare_age=timedelta(minutes=4),
    )  # fmt: skip
    [state] = network(node, {}, [stream], {stream.key: old})
    assert state.verdict is Verdict.UNPROVEN
    nation = a_node("0")
    province = a_node("51", nation)
    silent = a_stream(province.id, age=600)
    [_, state] = network(nation, by_id(province), [silent], {silent.key: old})
    assert state.verdict is Verdict.COMPLETE and not state.connected  # as of the last certificate


def test_a_node_cannot_claim_one_that_is_known_above_it() -> None:
    nation = a_node("0")
    province, sibling = a_node("51", nation), a_node("52", nation)
    city = a_node("5101", province)
    forged = [
        Node(id=known.id, parent=parent, organization_code="5109", display_name="forged",
             level="city", public_key=b"x" * 32)
        for known, parent in ((sibling, province.id), (nation, province.id), (province, city.id))
    ]  # fmt: skip
    found = tree(nation.id, [*forged, city, sibling, province])
    assert list(found.values()) == [province, sibling, city]
    network(nation, found, [], {})


def test_figures_are_added_up_over_the_nodes_of_each_level() -> None:
    nodes = [replace(a_node(code), level=level) for code, level in
             (("51", "province"), ("5101", "city"), ("5107", "city"), ("1", "office"))]  # fmt: skip
    figures = [
        log_pb2.Figure(origin=node.id.bytes, name="voices_raised", value=2) for node in nodes
    ] + [log_pb2.Figure(origin=bytes(16), name="voices_raised", value=9)]
    found = [(one.level, one.name, one.value) for one in by_level(nodes, figures)]
    assert found == [("province", "voices_raised", 2), ("city", "voices_raised", 4)]
