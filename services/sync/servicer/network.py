"""The network and its nodes as messages."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from google.protobuf.duration_pb2 import Duration

from services.sync.domain.network import NodeState, Proof, Verdict
from services.sync.domain.nodes import LEVELS, Node, fingerprint
from services.sync.domain.streams import Stream, StreamKey
from smartunion.event.v1 import log_pb2
from smartunion.sync.v1 import sync_pb2 as pb


def from_proof(proof: log_pb2.Proof) -> Proof:
    """What sync must know of a proof."""
    return Proof(
        verdict=Verdict(proof.verdict),
        applied=proof.applied,
        counts={count.kind: count.records for count in proof.counts},
        certify_time=proof.certify_time.ToDatetime() if proof.HasField("certify_time") else None,
        compare_age=proof.compare_age.ToTimedelta(),
    )


def to_node(node: Node) -> pb.Node:
    return pb.Node(
        name=f"nodes/{node.id}",
        display_name=node.display_name,
        level=node.level,
        organization_code=node.organization_code,
        fingerprint=fingerprint(node.public_key),
        parent=f"nodes/{node.parent}" if node.parent else "",
    )


def to_network_node(
    state: NodeState,
    proofs: Mapping[StreamKey, log_pb2.Proof],
    detached: Mapping[StreamKey, Sequence[str]],
    figures: Sequence[log_pb2.Figure],
    views: Mapping[UUID, UUID],
) -> pb.NetworkNode:
    view = views.get(state.node.id)
    return pb.NetworkNode(
        node=to_node(state.node),
        verdict=log_pb2.Verdict.Name(state.verdict),
        members=state.members,
        subtree_members=sum(below.members for below in state.subtree),
        lag_entries=state.lag,
        heard_age=_duration(state.heard_age),
        connected=state.connected,
        certify_time=state.certify_time,
        covered_nodes=sum(below.covered for below in state.subtree),
        subtree_nodes=len(state.subtree),
        streams=[to_stream_proof(stream, proofs, detached) for stream, _ in state.streams],
        figures=[
            pb.NodeFigure(name=figure.name, value=figure.value)
            for figure in figures
            if figure.origin == state.node.id.bytes
        ],
        view=f"views/{view}" if view else "",
    )


def by_level(nodes: Sequence[Node], figures: Sequence[log_pb2.Figure]) -> list[pb.LevelFigure]:
    """The figures added up over the nodes of each level, from the top level down."""
    levels = {node.id.bytes: node.level for node in nodes}
    sums: Counter[tuple[int, str]] = Counter()
    for figure in figures:
        if (level := levels.get(figure.origin)) in LEVELS:
            sums[LEVELS.index(level), figure.name] += figure.value
    return [
        pb.LevelFigure(level=LEVELS[at], name=name, value=value)
        for (at, name), value in sorted(sums.items())
    ]


def to_stream_proof(
    stream: Stream,
    proofs: Mapping[StreamKey, log_pb2.Proof],
    detached: Mapping[StreamKey, Sequence[str]],
) -> pb.StreamProof:
    return pb.StreamProof(
        service=stream.key.service, head=stream.head, proof=proofs.get(stream.key),
        detached=detached.get(stream.key), via=f"nodes/{stream.via}" if stream.via else "",
        refusals=stream.refusals, refusal=stream.refusal,
    )  # fmt: skip


def _duration(age: timedelta | None) -> Duration | None:
    if age is None:
        return None
    duration = Duration()
    duration.FromTimedelta(age)
    return duration


def without_ages(network: pb.Network) -> bytes:
    """The network as far as a change of it is worth a message."""
    bare = pb.Network()
    bare.CopyFrom(network)
    for node in bare.nodes:
        node.ClearField("heard_age")
        for stream in node.streams:
            stream.proof.ClearField("compare_age")
    for stream in bare.from_above:
        stream.proof.ClearField("compare_age")
    return bare.SerializeToString(deterministic=True)
