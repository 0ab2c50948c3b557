"""Ranges: how two holders of a stream find the records in which they differ, by few sums.

The tail of an id is its bytes from the last one, which are random; a range is the leading digits
of a tail.  Both ends sum up the hashes of 256 buckets; of each bucket that differs, of its 16
parts; and so on, until a range holds so few records that they can be named.  100 differences among
a million records take four rounds and about 100 kB.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple
from uuid import UUID

from kit.db import Connection
from kit.errors import InvalidArgument
from kit.proofs import sums_of
from kit.records import Kind
from smartunion.event.v1 import log_pb2 as pb

FEW = 32
"""Records of a range that are named instead of summed up."""

DEEPEST = 9
"""Digits of the smallest range: one more is what tail() in the database has."""

MOST_RANGES = 2_000
"""Ranges in one question: an answer has at most 300 bytes for sums, 1.5 kB for records of each."""


class RangeMalformed(InvalidArgument):
    field = "ranges"
    message = "a range is 2 to 9 digits 0-9a-f, those of the last byte of an id first, not {prefix}"
    chinese = "ranges 应为 2 至 9 位十六进制数字 0-9a-f（从 id 的末字节起），而不是 {prefix}"


class RangesTooMany(InvalidArgument):
    field = "ranges"
    message = "at most 2,000 ranges in one call, not {ranges}"
    chinese = "一次最多查询 2,000 个范围，而不是 {ranges} 个"


def tail(record: UUID) -> str:
    """The digits of an id from its last byte on.

    >>> tail(UUID("01890a5d-ac96-774b-bcce-b302099a8057"))[:6]
    '57809a'
    """
    return record.bytes[::-1].hex()


def check(ranges: Sequence[pb.Range]) -> None:
    """That ranges can be summed up.

    Raises:
        RangesTooMany: if there are more than MOST_RANGES.
        RangeMalformed: if one is no leading part of a tail.
    """
    if len(ranges) > MOST_RANGES:
        raise RangesTooMany(ranges=len(ranges))
    for asked in ranges:
        if not re.fullmatch("[0-9a-f]{2,9}", asked.prefix):
            raise RangeMalformed(prefix=repr(asked.prefix[:20]))


async def sum_ranges(
    conn: Connection, kinds: Iterable[Kind], origin: UUID, channel: str, ranges: Sequence[pb.Range]
) -> pb.SumRangesResponse:
    """What is held of some ranges, or of all buckets if none are given, of one moment."""
    check(ranges)
    of_channel = [kind for kind in kinds if kind.channel == channel]
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        if not ranges:
            return await _all_buckets(conn, of_channel, origin, channel)
        found = []
        for kind in of_channel:
            by_length = defaultdict(list)
            for prefix in {asked.prefix for asked in ranges if asked.kind == kind.name}:
                by_length[len(prefix)].append(prefix)
            for prefixes in by_length.values():
                found += await _of_kind(conn, kind, origin, prefixes)
    return pb.SumRangesResponse(sums=found)


async def _all_buckets(
    conn: Connection, kinds: Iterable[Kind], origin: UUID, channel: str
) -> pb.SumRangesResponse:
    sums = await sums_of(conn, origin, channel)
    wrong = await conn.fetchval(
        "SELECT buckets FROM proofs WHERE origin = $1 AND channel = $2", origin, channel
    )
    return pb.SumRangesResponse(
        sums=[
            pb.RangeSums(
                range=pb.Range(kind=kind.name),
                records=[max(0, sums.records[at, kind.name]) for at in range(256)],
                digests=b"".join(sums.digests[at, kind.name].to_bytes(16) for at in range(256)),
            )
            for kind in kinds
        ],
        different_buckets=wrong or [],
    )


async def _of_kind(
    conn: Connection, kind: Kind, origin: UUID, prefixes: Sequence[str]
) -> list[pb.RangeSums]:
    """Of ranges of one length: the sums of their parts, or their records."""
    parts: dict[str, list[tuple[int, int]]] = {prefix: [(0, 0)] * 16 for prefix in prefixes}
    for part, records, digest in await _ask(
        conn, kind, origin, prefixes,
        "tail(id) >> $4 - 4 AS part, count(*), modulo(sum(element(hash)))", "GROUP BY part",
    ):  # fmt: skip
        digits = f"{part:0{len(prefixes[0]) + 1}x}"
        parts[digits[:-1]][int(digits[-1], 16)] = records, int(digest)
    few = [prefix for prefix in prefixes if sum(count for count, _ in parts[prefix]) <= FEW]
    rows: dict[str, list[Any]] = {prefix: [] for prefix in few}
    if few:
        columns = "id, owner_epoch, version, hash"
        for row in await _ask(conn, kind, origin, few, columns, "ORDER BY id"):
            rows[tail(row["id"])[: len(few[0])]].append(row)
    return [
        _named(kind, prefix, rows[prefix])
        if prefix in rows
        else pb.RangeSums(
            range=pb.Range(kind=kind.name, prefix=prefix),
            records=[records for records, _ in parts[prefix]],
            digests=b"".join(digest.to_bytes(16) for _, digest in parts[prefix]),
        )
        for prefix in sorted(prefixes)
    ]


async def _ask(
    conn: Connection, kind: Kind, origin: UUID, prefixes: Sequence[str], columns: str, end: str
) -> Sequence[Any]:
    """Rows of ranges of one length.  The index on (origin, bucket(id)) finds them."""
    rows: Sequence[Any] = await conn.fetch(
        f"""
        SELECT {columns} FROM {kind.table}
          JOIN unnest($3::bigint[]) AS asked(range) ON tail(id) >> $4 = asked.range
         WHERE origin = $1 AND bucket(id) = ANY ($2) {end}
        """,
        origin, list({int(prefix[:2], 16) for prefix in prefixes}),
        [int(prefix, 16) for prefix in prefixes], 4 * (DEEPEST + 1 - len(prefixes[0])),
    )  # fmt: skip
    return rows


def _named(kind: Kind, prefix: str, rows: Sequence[Any]) -> pb.RangeSums:
    return pb.RangeSums(
        range=pb.Range(kind=kind.name, prefix=prefix),
        ids=b"".join(row["id"].bytes for row in rows),
        owner_epochs=[row["owner_epoch"] for row in rows],
        versions=[row["version"] for row in rows],
        hashes=b"".join(row["hash"] for row in rows),
    )


class State(NamedTuple):
    """Which state of a record is held; a later one is greater in the first two."""

    owner_epoch: int
    version: int
    hash: bytes


class Meaning(IntEnum):
    """As smartunion.sync.v1.Difference.Meaning."""

    MISSING_ABOVE = 1
    OLDER_ABOVE = 2
    ALTERED_ABOVE = 3
    NEWER_ABOVE = 4
    EXTRA_ABOVE = 5


@dataclass(frozen=True, slots=True)
class Difference:
    """A record that is not the same at two holders."""

    kind: str
    id: UUID
    here: State | None
    above: State | None

    @property
    def place(self) -> str:
        """Where it stands in the order of the search."""
        return tail(self.id)

    @property
    def meaning(self) -> Meaning:
        """What it says of the holder above."""
        if self.above is None:
            return Meaning.MISSING_ABOVE
        if self.here is None:
            return Meaning.EXTRA_ABOVE
        here, above = self.here[:2], self.above[:2]
        if here == above:
            return Meaning.ALTERED_ABOVE
        return Meaning.OLDER_ABOVE if above < here else Meaning.NEWER_ABOVE

    @property
    def heals(self) -> bool:
        """Whether asserting the state that is here puts right what is above."""
        return self.meaning <= Meaning.ALTERED_ABOVE


@dataclass(slots=True)
class Search:
    """The search for differences, level by level: ask both ends for `asked`, then `narrow`."""

    most: int
    """About how many differences to find; at most half of MOST_RANGES."""
    start: str = ""
    """The place (leading digits of a tail) at which to begin."""
    buckets: Collection[int] | None = None
    """Where to look; None: wherever the two differ, or one of them knows that it is wrong."""
    asked: list[pb.Range] = field(default_factory=list)
    """Empty at first: all buckets."""
    found: list[Difference] = field(default_factory=list)
    """In order of place, once `asked` is empty again."""
    end: str = ""
    """The place at which this search ends and the next one begins; empty if it has seen all."""

    def narrow(self, here: pb.SumRangesResponse, above: pb.SumRangesResponse) -> None:
        """Take the two answers to `asked`, and decide what to ask next.

        Raises:
            ValueError: if an answer is none.
        """
        doubted = {*here.different_buckets, *above.different_buckets}
        others = {(sums.range.kind, sums.range.prefix): sums for sums in above.sums}
        self.asked = []
        for sums in here.sums:
            other = others.get((sums.range.kind, sums.range.prefix))
            if other is None:
                continue  # a kind that only one of the two knows
            if not sums.records and not other.records:
                self.found += _differences(sums, other)
            elif len(sums.range.prefix) < DEEPEST:
                parts = filter(self._wanted, _differing(sums, other, doubted))
                self.asked += [pb.Range(kind=sums.range.kind, prefix=part) for part in parts]
        self.asked.sort(key=lambda asked: asked.prefix)
        self.found = [one for one in self.found if one.place >= self.start]
        self.found.sort(key=lambda one: (one.place, one.kind))
        self._cut()

    def _wanted(self, part: str) -> bool:
        here = self.buckets is None or int(part[:2], 16) in self.buckets
        return here and part >= self.start[: len(part)]

    def _cut(self) -> None:
        """Keep to about `most`; what comes after is left to the next search."""
        places = [asked.prefix for asked in self.asked] + [one.place for one in self.found]
        places.sort()
        if later := [place for place in places[self.most :] if place > places[self.most - 1]]:
            self.end = later[0]
            self.asked = [asked for asked in self.asked if asked.prefix < self.end]
            self.found = [one for one in self.found if one.place < self.end]

    def saw(self, bucket: int) -> bool:
        """Whether the whole of a bucket was searched."""
        return not self.end or f"{bucket:02x}" < self.end[:2]


def _differing(here: pb.RangeSums, above: pb.RangeSums, doubted: Collection[int]) -> Iterator[str]:
    """The parts of a range that are not the same, or not known to be."""
    prefix = here.range.prefix
    if not here.records or not above.records:  # records at one end, sums at the other
        yield from (f"{prefix}{part:x}" for part in range(16))
        return
    for part, (held, other) in enumerate(zip(_cells(here), _cells(above), strict=True)):
        if held != other or (not prefix and part in doubted):
            yield f"{prefix}{part:x}" if prefix else f"{part:02x}"


def _cells(sums: pb.RangeSums) -> Iterable[tuple[int, bytes]]:
    return zip(sums.records, _pieces(sums.digests), strict=True)


def _pieces(joined: bytes) -> list[bytes]:
    return [joined[at : at + 16] for at in range(0, len(joined), 16)]


def _differences(here: pb.RangeSums, above: pb.RangeSums) -> Iterator[Difference]:
    held, others = _states(here), _states(above)
    for id_ in held.keys() | others.keys():
        if held.get(id_) != others.get(id_):
            yield Difference(here.range.kind, id_, held.get(id_), others.get(id_))


def _states(sums: pb.RangeSums) -> dict[UUID, State]:
    columns = zip(sums.owner_epochs, sums.versions, _pieces(sums.hashes), strict=True)
    ids = [UUID(bytes=id_) for id_ in _pieces(sums.ids)]
    return dict(zip(ids, (State(*state) for state in columns), strict=True))
