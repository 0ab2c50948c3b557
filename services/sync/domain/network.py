"""The network from this node down, with what is proved of each node."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from uuid import UUID

from services.sync.domain.nodes import Node
from services.sync.domain.streams import Stream, StreamKey

CONNECTED = timedelta(seconds=5)
"""A node that was heard of within this time counts as connected."""

STALE = timedelta(minutes=3)
"""A certificate is due every minute; a verdict that is older, of a node that is heard, is none."""


class Verdict(IntEnum):
    """As smartunion.event.v1.Verdict; the worst has the highest number."""

    COMPLETE = 1
    COMPLETE_BUT_PARKED = 2
    UNPROVEN = 3
    GAP = 4
    DIFFERENT = 5
    REWOUND = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a service of this node can prove of one stream, as far as sync must know."""

    verdict: Verdict
    applied: int
    counts: Mapping[str, int]
    certify_time: datetime | None
    compare_age: timedelta = timedelta(0)
    """How long ago the last certificate was compared."""


@dataclass(slots=True, kw_only=True)
class NodeState:
    """What is known here of one node, and of the nodes below it."""

    node: Node
    streams: list[tuple[Stream, Proof | None]]
    verdict: Verdict
    heard_age: timedelta | None
    members: int
    lag: int
    certify_time: datetime | None
    subtree: list["NodeState"] = field(default_factory=list)
    """All states from here down, this one first."""

    @property
    def connected(self) -> bool:
        """Whether the node was heard of just now."""
        return self.heard_age is not None and self.heard_age <= CONNECTED

    @property
    def covered(self) -> bool:
        """Whether what is shown of the node is all there is, as of just now."""
        return self.connected and self.lag == 0 and self.verdict is Verdict.COMPLETE


def network(
    own: Node,
    nodes: Mapping[UUID, Node],
    streams: Iterable[Stream],
    proofs: Mapping[StreamKey, Proof],
    services: Sequence[str] = (),
) -> list[NodeState]:
    """The tree from `own` down, parents before children, each with what is proved of it.

    Args:
        nodes: as `tree` gives them.
        services: those of which every node must show its records.
    """
    of: dict[UUID, list[Stream]] = {}
    for stream in streams:
        of.setdefault(stream.key.origin, []).append(stream)
    below: dict[UUID | None, list[Node]] = {}
    for node in nodes.values():
        below.setdefault(node.parent, []).append(node)

    def grow(node: Node) -> list[NodeState]:
        state = _state(node, of.get(node.id, []), proofs, own=node.id == own.id)
        shown = {stream.key.service for stream, _ in state.streams}
        if not shown.issuperset(services):
            state.verdict = max(state.verdict, Verdict.UNPROVEN)
        for child in below.get(node.id, []):
            state.subtree += grow(child)
        state.subtree.insert(0, state)
        return state.subtree

    return grow(own)


def _state(
    node: Node, streams: Sequence[Stream], proofs: Mapping[StreamKey, Proof], *, own: bool
) -> NodeState:
    pairs = [(stream, proofs.get(stream.key)) for stream in streams]
    known = [proof for _, proof in pairs if proof is not None]
    times = [proof.certify_time for proof in known if proof.certify_time is not None]
    ages = [timedelta(0)] if own else [stream.heard_age for stream in streams]
    return NodeState(
        node=node,
        streams=pairs,
        verdict=max((_verdict(*pair) for pair in pairs), default=Verdict.UNPROVEN),
        heard_age=max(ages, default=None),
        members=sum(proof.counts.get("members", 0) for proof in known),
        lag=0 if own else sum(map(_lag, pairs)),
        certify_time=min(times, default=None),
    )


def _lag(pair: tuple[Stream, Proof | None]) -> int:
    stream, proof = pair
    return max(0, stream.head - (proof.applied if proof else 0))


def _verdict(stream: Stream, proof: Proof | None) -> Verdict:
    if stream.rewound:
        return Verdict.REWOUND
    if stream.refusal:
        return Verdict.DIFFERENT
    if proof is None:
        return Verdict.UNPROVEN
    # Heard of, and yet no certificate for so long: whoever should make them stands still.
    stale = stream.heard_age <= CONNECTED and proof.compare_age > STALE
    return max(proof.verdict, Verdict.UNPROVEN) if stale else proof.verdict
