"""Sections of copies: deleted where a view does not show them, and missed where it does.

What is deleted leaves its hash, so the hash of the record, the sums and the verdict stand.  A
section that comes to be shown is not here: the buckets of such records are asked for, and their
owner asserts them again (services/sync/differences.py).
"""

from collections.abc import Collection, Iterable
from uuid import UUID

from kit.db import Pool
from kit.records import SECTIONS, Kind, hash_of, named

PART = 1_000
"""Records that are looked through in one statement."""

FIRST = UUID(int=0)


async def forget(pool: Pool, kind: Kind, section: str, node: UUID) -> None:
    """Put the hash in place of a section of all copies of a kind."""
    after = FIRST, FIRST
    while rows := await pool.fetch(
        f"""
        SELECT id, origin, {section} AS held FROM {kind.held}
         WHERE (id, origin) > ($1, $2) AND origin <> $3 AND length({section}) > 16
         ORDER BY id, origin LIMIT {PART}
        """,
        *after, node,
    ):  # fmt: skip
        await pool.execute(
            f"""
            UPDATE {kind.held} AS copy SET {section} = gone.hash
              FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::bytea[])
                   AS gone(id, origin, held, hash)
             WHERE copy.id = gone.id AND copy.origin = gone.origin AND {section} = gone.held
            """,
            *zip(*((*row, hash_of(row["held"])) for row in rows), strict=True),
        )
        after = rows[-1]["id"], rows[-1]["origin"]


async def forget_parked(pool: Pool, shown: Collection[str]) -> None:
    """The same of what could not be applied: of kinds that this version does not know, too."""
    for section in SECTIONS:
        rows = await pool.fetch(
            f"SELECT DISTINCT kind, {section} AS held FROM parked WHERE length({section}) > 16"
        )
        for row in rows:
            if named(row["kind"], section) not in shown:
                await pool.execute(
                    f"UPDATE parked SET {section} = $3 WHERE kind = $1 AND {section} = $2",
                    row["kind"], row["held"], hash_of(row["held"]),
                )  # fmt: skip


async def lacking(
    pool: Pool, kinds: Iterable[Kind], shown: Collection[str], node: UUID
) -> dict[tuple[UUID, str], list[int]]:
    """The buckets with copies that lack a section that is shown, by origin and channel."""
    found: dict[tuple[UUID, str], set[int]] = {}
    for kind in kinds:
        for section in kind.sections:
            if named(kind.name, section) not in shown:
                continue
            for row in await pool.fetch(
                f"""
                SELECT origin, array_agg(DISTINCT bucket(id)) AS buckets FROM {kind.held}
                 WHERE origin <> $1 AND length({section}) = 16 GROUP BY origin
                """,
                node,
            ):
                found.setdefault((row["origin"], kind.channel), set()).update(row["buckets"])
    return {stream: sorted(buckets) for stream, buckets in found.items()}
