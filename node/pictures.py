"""What a network shows of itself: for people as tables, for files as plain values."""

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from smartunion.event.v1 import log_pb2
from smartunion.sync.v1 import sync_pb2


def shown(network: sync_pb2.Network, code: str) -> sync_pb2.NetworkNode:
    """What a network shows of one node."""
    return next(node for node in network.nodes if node.node.organization_code == code)


def verdict(node: sync_pb2.NetworkNode) -> str:
    """Its name, such as `COMPLETE`."""
    return log_pb2.Verdict.Name(node.verdict)


def in_words(network: sync_pb2.Network | None) -> str:
    """The state of each node in a line."""
    if network is None:
        return "there was no answer"
    return "; ".join(
        f"{node.node.display_name}: {verdict(node)}, {node.members:,} members, "
        f"lag {node.lag_entries:,}{'' if node.connected else ', not connected'}"
        for node in network.nodes
    )


def picture(network: sync_pb2.Network) -> Table:
    """The tree of nodes, for people."""
    table = Table(
        "node", "members", "subtree", "lag", "verdict", "heard", "covered",
        box=SIMPLE, pad_edge=False,
    )  # fmt: skip
    for column in table.columns:
        column.no_wrap = True
    for column in table.columns[1:4]:
        column.justify = "right"
    marks = branches([node.node for node in network.nodes])
    for mark, node in zip(marks, network.nodes, strict=True):
        complete = node.verdict == log_pb2.COMPLETE and node.connected
        age = node.heard_age.ToTimedelta().total_seconds()
        table.add_row(
            mark + node.node.display_name, f"{node.members:,}", f"{node.subtree_members:,}",
            f"{node.lag_entries:,}", verdict(node),
            f"{age:.1f} s ago" if node.connected else f"not connected ({age:.0f} s)",
            f"{node.covered_nodes} of {node.subtree_nodes}",
            style="green" if complete else "yellow",
        )  # fmt: skip
    return table


def branches(nodes: Sequence[sync_pb2.Node]) -> list[str]:
    """What stands before the name of each node, parents before children."""
    known = {node.name for node in nodes}
    marks: list[str] = []
    stems: dict[str, str] = {}
    for at, node in enumerate(nodes):
        if node.parent not in known:
            marks.append("")
            stems[node.name] = ""
            continue
        last = all(later.parent != node.parent for later in nodes[at + 1 :])
        marks.append(stems[node.parent] + ("└─ " if last else "├─ "))
        stems[node.name] = stems[node.parent] + ("   " if last else "│  ")
    return marks


def as_facts(network: sync_pb2.Network) -> list[dict[str, Any]]:
    """What GetNetwork says, in plain values."""
    return [
        {
            "node": node.node.name.removeprefix("nodes/"),
            "name": node.node.display_name,
            "organization": node.node.organization_code,
            "members": node.members,
            "subtree_members": node.subtree_members,
            "lag_entries": node.lag_entries,
            "verdict": verdict(node),
            "connected": node.connected,
            "streams": [stream_facts(stream) for stream in node.streams],
        }
        for node in network.nodes
    ]


def stream_facts(stream: sync_pb2.StreamProof) -> dict[str, Any]:
    """What is proved of one stream, in plain values."""
    proof = stream.proof
    return {
        "service": stream.service,
        "channel": proof.channel,
        "verdict": log_pb2.Verdict.Name(proof.verdict),
        "head": stream.head,
        "certified": proof.certified,
        "digest": int.from_bytes(proof.digest, "big").to_bytes(16, "big").hex(),
        "counts": {count.kind: count.records for count in proof.counts},
    }


def proof_table(network: sync_pb2.Network) -> Table:
    """For each stream that holds records: the certificate's number, the counts, and how the digest
    begins: enough for an eye, and a line of 80 characters holds it."""
    table = Table(
        "owner", "records", "number", "certified digest, at the top", box=SIMPLE, pad_edge=False
    )
    table.columns[0].no_wrap = table.columns[-1].no_wrap = True
    for node in network.nodes:
        for stream in map(stream_facts, node.streams):
            counts = "\n".join(f"{count:,} {kind}" for kind, count in stream["counts"].items())
            if counts:
                name = node.node.display_name
                table.add_row(name, counts, f"{stream['certified']:,}", f"{stream['digest'][:12]}…")
    return table


def voices_table(network: sync_pb2.Network) -> Table:
    """Of the voices that each level has handled, how many it closed without an answer."""
    table = Table("level", "voices handled", "closed unanswered", box=SIMPLE, pad_edge=False)
    found: dict[str, dict[str, int]] = {}
    for figure in network.levels:
        found.setdefault(figure.level, {})[figure.name] = figure.value
    for level, figures in found.items():
        handled = figures.get("voices_handled_here", 0)
        unanswered = figures.get("voices_closed_unanswered_here", 0)
        share = f"{unanswered:,} ({unanswered / handled:.0%})" if handled else "–"
        table.add_row(level, f"{handled:,}", share)
    return table
