"""Many records changed at once, in bulk SQL: the hops are measured, not the calls or the import.

What is written is what the use cases write: the rows, and an outbox row each with right hashes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from kit.db import Connection
from kit.ids import uuid7
from kit.records import Kind, group_hash, record_hash
from smartunion.membership.v1 import events_pb2, membership_pb2, records_pb2

WRITTEN = 1_000
"""Rows that one transaction at the origin changes."""
APPLIED = 2_000
"""Rows that the bare versioned upsert changes at once: as many as a full frame."""

UPSERT = """
    INSERT INTO {table} AS held
           (origin, id, owner_epoch, version, hash, public, organization, state)
    SELECT $1, id, 1, version, hash, public, organization, state
      FROM unnest($2::uuid[], $3::bigint[], $4::bytea[], $5::bytea[], $6::uuid[], $7::smallint[])
           AS line(id, version, hash, public, organization, state)
    ON CONFLICT (id, origin) DO UPDATE
       SET version = excluded.version, hash = excluded.hash, public = excluded.public,
           organization = excluded.organization, state = excluded.state
     WHERE held.version < excluded.version
"""

OUTBOX = """
    INSERT INTO outbox (channel, kind, id, owner_epoch, version, before, hash, public,
                        event_id, event_type, event_time, event)
    SELECT $1, $2, id, 1, version, before, hash, public, event_id, $3, $4, event
      FROM unnest($5::uuid[], $6::bigint[], $7::bytea[], $8::bytea[], $9::bytea[], $10::uuid[],
                  $11::bytea[])
           AS line(id, version, before, hash, public, event_id, event)
"""


@dataclass(frozen=True, slots=True)
class Part:
    """The columns of some rows in their new state."""

    ids: list[UUID]
    versions: list[int]
    before: list[bytes | None]
    hashes: list[bytes]
    publics: list[bytes]
    organizations: list[UUID]
    states: list[int]
    event_ids: list[UUID]
    events: list[bytes]

    @property
    def row(self) -> tuple[list[Any], ...]:
        """The columns of the record's table, as UPSERT takes them."""
        return (self.ids, self.versions, self.hashes, self.publics, self.organizations, self.states)


class Records:
    """Records of one kind at one node, and their states, one after the other."""

    def __init__(self, kind: Kind, origin: UUID, organization: UUID, count: int) -> None:
        self._kind, self.origin, self._organization = kind, origin, organization
        self.ids = [uuid7() for _ in range(count)]
        self.version = 0
        self._hashes: list[bytes | None] = [None] * count

    def next(self, size: int = WRITTEN) -> list[Part]:
        """The next state of all of them, so many rows a part: made before the clock starts."""
        self.version += 1
        return [self._part(at, self.ids[at : at + size]) for at in range(0, len(self.ids), size)]

    def _part(self, at: int, ids: list[UUID]) -> Part:
        state = membership_pb2.Member.ACTIVE  # who leaves has a card revoked: that is no hop
        publics = [
            records_pb2.PublicState(
                salt=id_.bytes, organization=self._organization.bytes, state=state
            ).SerializeToString(deterministic=True)
            for id_ in ids
        ]
        before = self._hashes[at : at + len(ids)]
        hashes = [
            record_hash(self._kind.name, id_, 1, self.version, {"public": group_hash(public)})
            for id_, public in zip(ids, publics, strict=True)
        ]
        self._hashes[at : at + len(ids)] = hashes
        return Part(
            ids, [self.version] * len(ids), before, hashes, publics,
            [self._organization] * len(ids), [state] * len(ids), [uuid7() for _ in ids],
            [self._event(id_) for id_ in ids],
        )  # fmt: skip

    def _event(self, id_: UUID) -> bytes:
        return events_pb2.MemberAdmitted(
            member=f"{self._kind.name}/{id_}", organization=f"organizations/{self._organization}"
        ).SerializeToString()

    async def write(self, conn: Connection, parts: Sequence[Part]) -> None:
        """Change the records at their origin, with the outbox, one transaction a part."""
        event_type = events_pb2.MemberAdmitted.DESCRIPTOR.full_name
        for part in parts:
            async with conn.transaction():
                await conn.execute(UPSERT.format(table=self._kind.table), self.origin, *part.row)
                await conn.execute(
                    OUTBOX, self._kind.channel, self._kind.name, event_type, datetime.now(UTC),
                    part.ids, part.versions, part.before, part.hashes, part.publics,
                    part.event_ids, part.events,
                )  # fmt: skip


async def upsert(conn: Connection, table: str, origin: UUID, parts: Sequence[Part]) -> None:
    """Bare: the rows into a table like theirs, one transaction a part, nothing else."""
    for part in parts:
        await conn.execute(UPSERT.format(table=table), origin, *part.row)


def joined(parts: Sequence[Part], size: int) -> list[Part]:
    """The same rows, so many a part."""
    found = []
    for at in range(0, len(parts), size // WRITTEN):
        some = parts[at : at + size // WRITTEN]
        columns = [
            [value for part in some for value in getattr(part, name)] for name in Part.__slots__
        ]
        found.append(Part(*columns))
    return found
