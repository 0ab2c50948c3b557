"""Proofs: what the origin certifies, and what a holder of copies finds in its own tables.

Both ends keep running sums of record hashes, modulo 2^128 in 256 buckets, in the transactions that
change the records.  At a certificate, which stands in the stream at the prefix that it describes, a
holder compares its own sums with the origin's, and recounts some buckets of its tables against
them, row by row and field by field.  So a lost row, an altered field and a forgotten outbox are all
found, by whoever holds the table, from nothing but the table.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from kit.audit import head_of, keep_head
from kit.db import Connection, Pool
from kit.records import MODULUS, NO_SECTIONS, Kind, bucket, element, groups_of, record_hash
from smartunion.event.v1 import log_pb2

RECOUNT_ROWS = 5_000
"""Rows that a recount may read: all of a small node, some buckets in turn of a large one."""

CERTIFIED_ROWS = 2_000
"""The same at a certificate of a large node, of which a burst brings many a second."""

STUCK = 60.0
"""Seconds after which a row of the outbox without a number forbids COMPLETE."""

ALL_BUCKETS = range(256)

UNSOUND = bytes(16)
"""In place of the hash of a copy whose row disagrees with itself: so it differs from its origin's
by its hash alone, and is found where the hashes are compared (kit/ranges.py)."""


Cell = tuple[int, str]
"""A bucket and a kind."""


@dataclass(slots=True)
class Sums:
    """How many records there are and what their hashes sum to, per bucket and kind."""

    records: Counter[Cell] = field(default_factory=Counter)
    digests: Counter[Cell] = field(default_factory=Counter)
    """Modulo 2^128."""
    altered: dict[str, list[UUID]] = field(default_factory=dict)
    """Of a recount: by kind, the records whose row is not what its hash or its section says."""

    def add(self, at: int, kind: str, records: int, digest: int) -> None:
        """Count more records, or take some away."""
        self.records[at, kind] += records
        self.digests[at, kind] = (self.digests[at, kind] + digest) % MODULUS

    def counts(self) -> dict[str, int]:
        """The records per kind, where there are any."""
        counts: Counter[str] = Counter()
        for (_, kind), records in self.records.items():
            counts[kind] += records
        return dict(+counts)

    def by_bucket(self) -> list[int]:
        """The 256 digests over all kinds."""
        digests = [0] * 256
        for (at, _), digest in self.digests.items():
            digests[at] = (digests[at] + digest) % MODULUS
        return digests

    def altered_buckets(self) -> set[int]:
        """The buckets in which a row disagrees with itself."""
        return {bucket(record) for records in self.altered.values() for record in records}


async def sums_of(conn: Connection, origin: UUID, channel: str) -> Sums:
    """The running sums of a stream."""
    sums = Sums()
    for row in await conn.fetch(
        "SELECT bucket, kind, records, digest FROM sums WHERE origin = $1 AND channel = $2",
        origin, channel,
    ):  # fmt: skip
        sums.add(row["bucket"], row["kind"], row["records"], int(row["digest"]))
    return sums


async def recount(
    conn: Connection, kinds: Iterable[Kind], origin: UUID, channel: str, buckets: Sequence[int]
) -> Sums:
    """Count the records of some buckets again, from every field of their rows."""
    found = Sums()
    for kind in kinds:
        if kind.channel != channel:
            continue
        names = ["id", "owner_epoch", "version", "hash", "public", *kind.sections, *kind.fields]
        columns = ", ".join(names)
        restriction = "" if len(buckets) == 256 else "AND bucket(id) = ANY ($2)"
        arguments = [origin] if len(buckets) == 256 else [origin, list(buckets)]
        query = f"SELECT {columns} FROM {kind.held} WHERE origin = $1 {restriction}"
        rows = await conn.fetch(query, *arguments)
        for at in range(0, len(rows), 500):
            _count(found, kind, rows[at : at + 500])
            await asyncio.sleep(0)  # calls get their turn
    return found


def _count(found: Sums, kind: Kind, rows: Iterable[Any]) -> None:
    records, digests = [0] * 256, [0] * 256
    for record, owner_epoch, version, hash_, public, *values in rows:
        sections = _sections(kind, values) if kind.sections else NO_SECTIONS
        groups = groups_of(public, sections)
        computed = record_hash(kind.name, record, owner_epoch, version, groups)
        if computed != hash_ or tuple(values) != kind.parse(public):
            found.altered.setdefault(kind.name, []).append(record)
            computed = UNSOUND
        at = bucket(record)
        records[at] += 1
        digests[at] += element(computed)
    for at in ALL_BUCKETS:
        if records[at]:
            found.add(at, kind.name, records[at], digests[at])


def _sections(kind: Kind, values: list[Any]) -> Mapping[str, bytes]:
    """Take the sections besides `public` off the front of a row's values."""
    held, values[:] = values[: len(kind.sections)], values[len(kind.sections) :]
    pairs = zip(kind.sections, held, strict=True)
    return {name: section for name, section in pairs if section is not None}


def turn(next_bucket: int, records: int, rows: int = RECOUNT_ROWS) -> list[int]:
    """The buckets that are recounted this time: about so many rows, but all of a small node.

    >>> turn(0, 4_000, CERTIFIED_ROWS) == list(range(256))
    True
    >>> turn(255, 640_000)
    [255, 0]
    """
    if records <= RECOUNT_ROWS:
        return [*ALL_BUCKETS]
    return [(next_bucket + step) % 256 for step in range(max(1, rows * 256 // records))]


async def _proof(conn: Connection, origin: UUID, channel: str) -> Any:
    await conn.execute(
        "INSERT INTO proofs (origin, channel) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        origin, channel,
    )  # fmt: skip
    return await conn.fetchrow(
        "SELECT * FROM proofs WHERE origin = $1 AND channel = $2 FOR UPDATE", origin, channel
    )


async def audit(
    conn: Connection, kinds: Iterable[Kind], node: UUID, channel: str, *,
    rows: int = RECOUNT_ROWS, whole: bool = False,
) -> None:  # fmt: skip
    """Recount own tables against running sums and unnumbered rows, all in one snapshot.

    A record that was written without the outbox is in the table and in neither of the two.  One
    recount at a time: two would end each other when they write what they found.
    """
    async with conn.transaction(isolation="repeatable_read"):
        await conn.execute("LOCK TABLE audits")
        proof = await _proof(conn, node, channel)
        sums = await sums_of(conn, node, channel)
        records = sum(sums.counts().values())
        buckets = [*ALL_BUCKETS] if whole else turn(proof["next_bucket"], records, rows)
        stuck = False
        for row in await conn.fetch(
            """
            SELECT bucket(id) AS bucket, kind, max(clock_timestamp() - insert_time) AS age,
                   modulo(sum(element(hash)) - coalesce(sum(element(before)), 0)) AS digest
              FROM outbox WHERE channel = $1 GROUP BY 1, 2
            """,
            channel,
        ):
            sums.add(row["bucket"], row["kind"], 0, int(row["digest"]))
            stuck = stuck or row["age"].total_seconds() > STUCK
        found = await recount(conn, kinds, node, channel, buckets)
        expected, held = sums.by_bucket(), found.by_bucket()
        wrong = {b for b in buckets if held[b] != expected[b]} | found.altered_buckets()
        wrong |= set(proof["buckets"]) - set(buckets)
        verdict = log_pb2.DIFFERENT if wrong or stuck else log_pb2.COMPLETE
        await conn.execute(
            """
            UPDATE proofs SET verdict = $3, buckets = $4, next_bucket = $5
             WHERE origin = $1 AND channel = $2
            """,
            node, channel, verdict, sorted(wrong), (buckets[-1] + 1) % 256,
        )  # fmt: skip


async def certify(
    conn: Connection, node: UUID, channel: str, *, number: int, run: UUID
) -> log_pb2.Certificate:
    """What this node vouches for at `number`, by its running sums."""
    sums = await sums_of(conn, node, channel)
    proof = await _proof(conn, node, channel)
    head = await head_of(conn)
    now = Timestamp()
    now.FromDatetime(datetime.now(UTC))
    certificate = log_pb2.Certificate(
        number=number,
        certify_time=now,
        run=run.bytes,
        counts=[
            log_pb2.Certificate.Count(kind=kind, records=records)
            for kind, records in sorted(sums.counts().items())
        ],
        digests=b"".join(digest.to_bytes(16, "big") for digest in sums.by_bucket()),
        audited=proof["verdict"] == log_pb2.COMPLETE,
        audit_number=head.number,
        audit_hash=head.hash,
    )
    await _save(conn, node, channel, certificate, proof["verdict"], sums)
    await conn.execute(
        "UPDATE proofs SET applied = $3 WHERE origin = $1 AND channel = $2", node, channel, number
    )
    return certificate


async def compare(
    conn: Connection, kinds: Sequence[Kind], origin: UUID, channel: str,
    certificate: log_pb2.Certificate,
) -> None:  # fmt: skip
    """Compare own sums with the certificate at its prefix, and recount some of the tables.

    In the transaction that applied the entries before the certificate, and none after it.
    """
    await keep_head(conn, origin, certificate)
    proof = await _proof(conn, origin, channel)
    if certificate.number < proof["settled"]:
        return  # a snapshot brought newer states than it speaks of
    sums = await sums_of(conn, origin, channel)
    buckets = turn(proof["next_bucket"], sum(sums.counts().values()), CERTIFIED_ROWS)
    again = sorted({*buckets, *proof["buckets"]})  # what was wrong is not forgotten
    altered = await _put_right(conn, kinds, origin, channel, sums, again)
    sums = await sums_of(conn, origin, channel)
    parked = await _with_parked(conn, kinds, origin, channel, sums)
    certified, held = _digests(certificate), sums.by_bucket()
    wrong = {b for b in ALL_BUCKETS if held[b] != certified[b]} | altered
    counts = {count.kind: count.records for count in certificate.counts}
    if wrong or not certificate.audited or (not parked and counts != sums.counts()):
        verdict = log_pb2.DIFFERENT
    else:
        verdict = log_pb2.COMPLETE_BUT_PARKED if parked else log_pb2.COMPLETE
    await _save(conn, origin, channel, certificate, verdict, sums)
    await conn.execute(
        "UPDATE proofs SET buckets = $3, next_bucket = $4 WHERE origin = $1 AND channel = $2",
        origin, channel, sorted(wrong), (buckets[-1] + 1) % 256,
    )  # fmt: skip


async def recount_some(conn: Connection, kinds: Sequence[Kind], node: UUID) -> None:
    """Recount copies between certificates: the streams that were least lately looked at."""
    left = RECOUNT_ROWS
    for row in await conn.fetch(
        "SELECT origin, channel, next_bucket FROM proofs WHERE origin <> $1 ORDER BY recount_time",
        node,
    ):
        sums = await sums_of(conn, row["origin"], row["channel"])
        records = sum(sums.counts().values())
        buckets = turn(row["next_bucket"], records)
        await recount_copies(conn, kinds, row["origin"], row["channel"], buckets)
        left -= records * len(buckets) // 256
        if left <= 0:
            return


async def recount_copies(
    conn: Connection, kinds: Sequence[Kind], origin: UUID, channel: str,
    buckets: Sequence[int] = ALL_BUCKETS,
) -> None:  # fmt: skip
    """Recount copies of a stream now.  What differs stays DIFFERENT until a certificate says
    otherwise."""
    async with conn.transaction():
        proof = await _proof(conn, origin, channel)
        sums = await sums_of(conn, origin, channel)
        wrong = await _put_right(conn, kinds, origin, channel, sums, buckets)
        await conn.execute(
            "UPDATE proofs SET next_bucket = $3, recount_time = clock_timestamp()"
            " WHERE origin = $1 AND channel = $2",
            origin, channel, (buckets[-1] + 1) % 256,
        )  # fmt: skip
        after = await sums_of(conn, origin, channel)
        was, now = sums.by_bucket(), after.by_bucket()
        wrong |= {b for b in ALL_BUCKETS if was[b] != now[b]}
        if wrong:
            await conn.execute(
                "UPDATE proofs SET verdict = $3, buckets = $4 WHERE origin = $1 AND channel = $2",
                origin, channel, log_pb2.DIFFERENT, sorted(wrong | set(proof["buckets"])),
            )  # fmt: skip


def _digests(certificate: log_pb2.Certificate) -> list[int]:
    cut = certificate.digests
    return [int.from_bytes(cut[at : at + 16], "big") for at in range(0, 4096, 16)]


async def _put_right(
    conn: Connection, kinds: Sequence[Kind], origin: UUID, channel: str,
    sums: Sums, buckets: Sequence[int],
) -> set[int]:  # fmt: skip
    """Recount buckets; where the sums are not those of the table, the table's are taken.

    So the comparison with the certificate shows the difference, and a repair of the table repairs
    the sums with it.  Returns the buckets in which a row disagrees with itself.
    """
    found = await recount(conn, kinds, origin, channel, buckets)
    tables = {kind.name: kind.table for kind in kinds}
    for name, records in found.altered.items():
        await conn.execute(
            f"UPDATE {tables[name]} SET hash = $3 WHERE origin = $1 AND id = ANY ($2)",
            origin, records, UNSOUND,
        )  # fmt: skip
    for at in buckets:
        for kind in kinds:  # of a kind that this version does not know, nothing can be said
            cell = at, kind.name
            if found.digests[cell] != sums.digests[cell]:
                await conn.execute(
                    """
                    INSERT INTO sums VALUES ($1, $2, $3, $4, $5, $6)
                    ON CONFLICT (origin, channel, kind, bucket) DO UPDATE
                       SET records = excluded.records, digest = excluded.digest
                    """,
                    origin, channel, kind.name, at, found.records[cell], found.digests[cell],
                )  # fmt: skip
    return found.altered_buckets()


async def _with_parked(
    conn: Connection, kinds: Iterable[Kind], origin: UUID, channel: str, sums: Sums
) -> int:
    """Add to the digests what is parked, in place of what is held of it; how many entries."""
    rows = await conn.fetch(
        """
        SELECT DISTINCT ON (kind, id) kind, id, hash, count(*) OVER () AS entries
          FROM parked WHERE origin = $1 AND channel = $2
         ORDER BY kind, id, owner_epoch DESC, version DESC
        """,
        origin, channel,
    )  # fmt: skip
    tables = {kind.name: kind.table for kind in kinds}
    for row in rows:
        held = None
        if row["kind"] in tables:
            held = await conn.fetchval(
                f"SELECT hash FROM {tables[row['kind']]} WHERE id = $1 AND origin = $2",
                row["id"], origin,
            )  # fmt: skip
        delta = element(row["hash"]) - element(held or b"")
        sums.add(bucket(row["id"]), row["kind"], 0, delta)
    return rows[0]["entries"] if rows else 0


async def _save(
    conn: Connection, origin: UUID, channel: str,
    certificate: log_pb2.Certificate, verdict: int, sums: Sums,
) -> None:  # fmt: skip
    await conn.execute(
        """
        UPDATE proofs
           SET certificate = $3, verdict = $4, counts = $5, digest = $6,
               compare_time = clock_timestamp()
         WHERE origin = $1 AND channel = $2
        """,
        origin, channel, certificate.SerializeToString(), verdict,
        json.dumps(sums.counts()), sum(sums.by_bucket()) % MODULUS,
    )  # fmt: skip


async def proof_of(conn: "Connection | Pool", origin: UUID, channel: str) -> log_pb2.Proof:
    """The proof of one stream as it stands."""
    for proof in await list_proofs(conn):
        if proof.origin == origin.bytes and proof.channel == channel:
            return proof
    return log_pb2.Proof(origin=origin.bytes, channel=channel, verdict=log_pb2.UNPROVEN)


async def list_proofs(conn: "Connection | Pool") -> list[log_pb2.Proof]:
    """The proofs of all streams whose records are kept here."""
    rows = await conn.fetch(
        """
        SELECT origin, channel, applied, certificate, verdict, buckets, counts, digest,
               clock_timestamp() - compare_time AS age,
               (SELECT count(*) FROM parked
                 WHERE parked.origin = proofs.origin AND parked.channel = proofs.channel) AS parked
          FROM proofs ORDER BY origin, channel
        """
    )
    return [_to_proof(row) for row in rows]


def _to_proof(row: Any) -> log_pb2.Proof:
    certificate = log_pb2.Certificate.FromString(row["certificate"])
    proof = log_pb2.Proof(
        origin=row["origin"].bytes, channel=row["channel"], verdict=row["verdict"],
        certified=certificate.number, applied=row["applied"], parked=row["parked"],
        different_buckets=row["buckets"], digest=int(row["digest"]).to_bytes(16, "big"),
        counts=[
            log_pb2.Certificate.Count(kind=kind, records=records)
            for kind, records in sorted(json.loads(row["counts"]).items())
        ],
    )  # fmt: skip
    if row["age"] is not None:
        age = Duration()
        age.FromTimedelta(row["age"])
        proof.compare_age.CopyFrom(age)
        proof.certify_time.CopyFrom(certificate.certify_time)
    return proof
