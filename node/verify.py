"""An independent recount: do the databases of a network say what the network says of itself?

    python -m node.verify build/endpoints.json [build/demo-report.json]

It shares no code with what it checks: hashes are made here by hand, from the documentation, and
sections are decoded here from protobuf's wire format.  For each node and each kind of record it
reads the owner's table and the copies at every ancestor, checks each row (its hash; its columns
against its section), and compares counts, digests and, where they differ, records.  With a report,
also what GetNetwork printed.  Exit code 0: nothing differs; 1: the lines say what does.
"""

import argparse
import asyncio
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg

MODULUS = 2**128
SHOWN = 5
"""Records that are named where many differ."""


@dataclass(frozen=True)
class Kind:
    """A kind of record: where it is kept, and which field of its section each column repeats."""

    table: str
    service: str
    columns: Mapping[str, int]
    """Numbers of the fields of the section `public`."""
    channel: str = "records"
    """`down` travels to the nodes below, the others to those above."""
    sections: tuple[str, ...] = ()
    """The columns of its sections besides `public`: 16 bytes are a hash, and NULL is no section."""


HANDLING = {"voice": 2, "voice_origin": 3, "action": 6, "addressee": 7}

KINDS = (
    Kind(
        "members", "membership", {"organization": 2, "state": 3}, sections=("personal",)
    ),
    Kind("applications", "membership", {"organization": 2, "state": 3}),
    Kind("cards", "benefits", {"member": 2, "organization": 3, "state": 4, "status_index": 5}),
    Kind("coupons", "benefits", {"programme": 2, "member": 3, "organization": 4, "state": 5}),
    Kind("programmes", "benefits", {"organization": 2}, "down"),
    Kind("status_lists", "benefits", {"node": 2, "number": 3}),
    Kind("shared_status_lists", "benefits", {"node": 2, "number": 3}, "down"),
    Kind("notices", "notify", {"organization": 2, "expire_seconds": 3}, "down"),
    Kind("read_counts", "notify", {"notice": 2, "notice_origin": 3, "readers": 4}),
    Kind("voices", "notify", {"organization": 2}, "urgent"),
    Kind("handlings", "notify", HANDLING, "urgent"),
    Kind("replies", "notify", HANDLING, "down"),
    Kind(
        "nodes",
        "sync",
        {"parent": 2, "organization_code": 3, "display_name": 4, "level": 5, "public_key": 6,
         "certificate": 7},
    ),
    Kind("homes", "sync", {"node": 2, "address": 3, "issuer": 4}),
    Kind("trusted_keys", "sync", {"certificate": 2}, "down"),
    Kind(
        "directives",
        "sync",
        {"title": 2, "text": 3, "subtree": 4, "levels": 5, "due_seconds": 6, "create_seconds": 7,
         "expected": 8, "parent": 9},
        "down",
    ),
    Kind(
        "directive_reports",
        "sync",
        {"directive": 2, "state": 3, "reason": 4, "report_seconds": 5},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Node:
    """A node, as the file of endpoints describes it."""

    id: UUID
    name: str
    parent: UUID | None
    postgres: Mapping[str, str]


@dataclass
class Tally:
    """What one table holds of one origin."""

    digest: int = 0
    """The sum of the hashes that follow from the rows, modulo 2^128."""
    records: dict[UUID, tuple[int, int, bytes]] = field(default_factory=dict)
    """Owner epoch, version and hash, by id."""
    faults: list[str] = field(default_factory=list)
    """Rows that do not agree with themselves."""


def group_hash(section: bytes) -> bytes:
    """BLAKE2b, 16 bytes, personalised `section`."""
    return hashlib.blake2b(section, digest_size=16, person=b"section").digest()


def record_hash(
    kind: str, record: UUID, epoch: int, version: int, sections: Mapping[str, bytes]
) -> bytes:
    """BLAKE2b, 16 bytes, personalised `record`, over the id (16 bytes), the epoch (4) and the
    version (8), the kind with its length (2) before it, and the name of each section likewise with
    its group hash, in alphabetical order; numbers are big-endian."""
    parts = [record.bytes, epoch.to_bytes(4, "big"), version.to_bytes(8, "big")]
    parts += [len(kind.encode()).to_bytes(2, "big"), kind.encode()]
    for name, section in sorted(sections.items()):
        hash_ = section if len(section) == 16 and name != "public" else group_hash(section)
        parts += [len(name).to_bytes(2, "big"), name.encode(), hash_]
    return hashlib.blake2b(b"".join(parts), digest_size=16, person=b"record").digest()


def fields(message: bytes) -> dict[int, int | bytes]:
    """The fields of a protobuf message by number, undecoded; of a repeated one the last.

    >>> fields(bytes([0x12, 0x02, 0x68, 0x69, 0x18, 0x96, 0x01]))
    {2: b'hi', 3: 150}

    Raises:
        ValueError: if it is no protobuf message.
    """
    found: dict[int, int | bytes] = {}
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            found[number], at = _varint(message, at)
            continue
        if wire not in (1, 2, 5):
            raise ValueError(f"wire type {wire}")
        length, at = _varint(message, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
        if at + length > len(message):
            raise ValueError("cut short")
        found[number], at = message[at : at + length], at + length
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message):
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
    raise ValueError("cut short")


def _plain(value: Any) -> int | bytes:
    """The value of a column as it stands in a section."""
    match value:
        case UUID():
            return value.bytes
        case str():
            return value.encode()
        case _:
            return value  # type: ignore[no-any-return]


def faults_of(kind: Kind, row: Mapping[str, Any]) -> list[str]:
    """What a row says that does not follow from its section."""
    wrong = []
    computed = hash_of(kind, row)
    if computed != row["hash"]:
        wrong.append(f"hash is {row['hash'].hex()}, its content gives {computed.hex()}")
    try:
        section = fields(row["public"])
    except ValueError as error:
        return [*wrong, f"its section cannot be read ({error})"]
    for column, number in kind.columns.items():
        held = _plain(row[column])
        if held != section.get(number, type(held)()):
            wrong.append(f"column {column} is not what its section says")
    return wrong


def hash_of(kind: Kind, row: Mapping[str, Any]) -> bytes:
    """The hash that follows from a row."""
    held = {name: row[name] for name in ("public", *kind.sections) if row[name] is not None}
    return record_hash(kind.table, row["id"], row["owner_epoch"], row["version"], held)


async def tally(conn: Any, kind: Kind, origin: UUID) -> Tally:
    """Recount the records of one kind and one origin from every row."""
    names = ["id", "owner_epoch", "version", "hash", "public", *kind.sections, *kind.columns]
    columns = ", ".join(names)
    found = Tally()
    for row in await conn.fetch(f"SELECT {columns} FROM {kind.table} WHERE origin = $1", origin):
        epoch, version = row["owner_epoch"], row["version"]
        computed = hash_of(kind, row)
        found.digest = (found.digest + int.from_bytes(computed, "big")) % MODULUS
        found.records[row["id"]] = (epoch, version, computed)
        found.faults += [f"{kind.table}/{row['id']}: {text}" for text in faults_of(kind, row)]
    return found


def difference(kind: Kind, owner: Tally, holder: Tally) -> list[str]:
    """What the holder has otherwise than the owner."""
    ids = owner.records.keys() | holder.records.keys()
    wrong = sorted(id_ for id_ in ids if owner.records.get(id_) != holder.records.get(id_))
    lines = [_how(kind, id_, owner.records, holder.records) for id_ in wrong[:SHOWN]]
    if len(wrong) > SHOWN:
        lines.append(f"{kind.table}: and {len(wrong) - SHOWN:,} more")
    return lines


def _how(kind: Kind, id_: UUID, owner: Mapping[UUID, Any], holder: Mapping[UUID, Any]) -> str:
    if id_ not in holder:
        return f"{kind.table}/{id_} is missing"
    if id_ not in owner:
        return f"{kind.table}/{id_} is not the owner's"
    epoch, version, _ = owner[id_]
    here_epoch, here_version, _ = holder[id_]
    if (epoch, version) != (here_epoch, here_version):
        return (
            f"{kind.table}/{id_} is in version {here_epoch}.{here_version}, "
            f"the owner's in {epoch}.{version}"
        )
    return f"{kind.table}/{id_} has another content in the same version"


def nodes_in(endpoints: Mapping[str, Any]) -> list[Node]:
    """The nodes of a file of endpoints."""
    return [
        Node(
            UUID(node["node"]),
            node["name"],
            UUID(node["parent"]) if node["parent"] else None,
            node["postgres"],
        )
        for node in endpoints["nodes"]
    ]


def holders(nodes: Sequence[Node], origin: Node, kind: Kind) -> Iterator[Node]:
    """The owner, its parent, and so on to the top; of what travels down, all below the owner."""
    if kind.channel == "down":
        yield origin
        for node in nodes:
            if node.parent == origin.id:
                yield from holders(nodes, node, kind)
        return
    by_id = {node.id: node for node in nodes}
    at: Node | None = origin
    while at is not None:
        yield at
        at = by_id.get(at.parent) if at.parent else None


class Recount:
    """One run over one network."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._connections: dict[tuple[UUID, str], Any] = {}
        self.tallies: dict[tuple[UUID, str, UUID], Tally] = {}
        """By holder, kind and origin."""
        self.wrong: list[str] = []
        self.lines: list[str] = []

    async def run(self) -> None:
        """Recount everything.

        Raises:
            OSError, asyncpg.PostgresError: if a database cannot be read.
        """
        try:
            for kind in KINDS:
                for origin in self._nodes:
                    await self._origin(kind, origin)
                for holder in self._nodes:
                    await self._strangers(kind, holder)
        finally:
            for conn in self._connections.values():
                await conn.close()

    async def _origin(self, kind: Kind, origin: Node) -> None:
        owner: Tally | None = None
        for holder in holders(self._nodes, origin, kind):
            found = await tally(await self._connect(holder, kind), kind, origin.id)
            self.tallies[holder.id, kind.table, origin.id] = found
            owner = owner or found
            where = f"{holder.name}: {kind.table} of {origin.name}"
            self.wrong += [f"{where}: {fault}" for fault in found.faults[:SHOWN]]
            self.wrong += [f"{where}: {line}" for line in difference(kind, owner, found)]
            if found.records:
                self.lines.append(f"{where}: {len(found.records):,} records, {found.digest:032x}")

    async def _strangers(self, kind: Kind, holder: Node) -> None:
        """Records of nodes whose records do not travel to the holder must not be there."""
        conn = await self._connect(holder, kind)
        rows = await conn.fetch(f"SELECT origin, count(*) FROM {kind.table} GROUP BY origin")
        for origin, count in rows:
            if (holder.id, kind.table, origin) not in self.tallies:
                self.wrong.append(
                    f"{holder.name}: {count:,} {kind.table} of the node {origin}, "
                    "which does not lie below"
                )

    async def _connect(self, node: Node, kind: Kind) -> Any:
        key = (node.id, kind.service)
        if key not in self._connections:
            dsn = node.postgres[kind.service]
            owner = {"role": f"{urlsplit(dsn).username}_owner"}  # from whom nothing is kept
            self._connections[key] = await asyncpg.connect(dsn, server_settings=owner)
        return self._connections[key]

    def compare(self, network: Sequence[Mapping[str, Any]]) -> None:
        """Compare the recount at the node that answered GetNetwork, the first, with its answer."""
        top = UUID(network[0]["node"])
        for shown in network:
            origin = UUID(shown["node"])
            members = self.tallies.get((top, "members", origin), Tally())
            self._expect(shown, "members", len(members.records), shown["members"])
            for stream in shown["streams"]:
                self._stream(top, origin, shown, stream)
        missing = {node.id for node in self._nodes} - {UUID(shown["node"]) for shown in network}
        names = [node.name for node in self._nodes if node.id in missing]
        self.wrong += [f"GetNetwork does not show {name}" for name in names]
        everyone = sum(
            len(found.records)
            for (holder, kind, _), found in self.tallies.items()
            if holder == top and kind == "members"
        )
        self._expect(network[0], "subtree_members", everyone, network[0]["subtree_members"])

    def _stream(
        self, top: UUID, origin: UUID, shown: Mapping[str, Any], stream: Mapping[str, Any]
    ) -> None:
        where = stream["service"], stream["channel"]
        kinds = [k for k in KINDS if (k.service, k.channel) == where]
        found = {k.table: self.tallies.get((top, k.table, origin), Tally()) for k in kinds}
        digest = sum(one.digest for one in found.values()) % MODULUS
        counts = {table: len(one.records) for table, one in found.items() if one.records}
        printed = {table: count for table, count in stream["counts"].items() if count}
        self._expect(shown, f"digest of {stream['service']}", f"{digest:032x}", stream["digest"])
        self._expect(shown, f"counts of {stream['service']}", counts, printed)

    def _expect(self, shown: Mapping[str, Any], what: str, recounted: Any, printed: Any) -> None:
        if recounted != printed:
            self.wrong.append(
                f"GetNetwork: {what} of {shown['name']} is {printed}, recounted {recounted}"
            )


async def verify(endpoints: Path, report: Path | None) -> tuple[list[str], list[str]]:
    """What was counted, and what differs; each a list of lines."""
    recount = Recount(nodes_in(json.loads(endpoints.read_text(encoding="utf-8"))))
    await recount.run()
    if report is not None:
        recount.compare(json.loads(report.read_text(encoding="utf-8"))["network"])
    return recount.lines, recount.wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Recount the databases of a network.")
    parser.add_argument("endpoints", type=Path, help="a file such as build/endpoints.json")
    parser.add_argument("report", type=Path, nargs="?", help="a file with what GetNetwork said")
    given = parser.parse_args()
    try:
        lines, wrong = asyncio.run(verify(given.endpoints, given.report))
    except (OSError, ValueError, KeyError, asyncpg.PostgresError) as error:
        lines, wrong = [], [f"cannot recount: {type(error).__name__}: {error}"]
    print(*lines, *wrong, sep="\n")
    print(f"{len(wrong)} differences" if wrong else "nothing differs")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
