"""The table `offices`, whose columns the kit knows: see kit/offices.py."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from kit.authority import Role, Scope
from kit.db import Connection, Pool
from kit.log import Change
from kit.offices import COLUMNS, time_in
from kit.rows import PATH, RECORD, WITHIN, columns_of, header_of
from services.membership.domain.members import MemberState
from services.membership.domain.officers import (
    HolderMalformed,
    Office,
    OfficeHeld,
    OfficeNotFound,
    StillInOffice,
)
from smartunion.membership.v1.records_pb2 import PublicOffice

OFFICE = f"SELECT {RECORD}, {PATH}, ''::bytea AS certificate FROM offices record"


class Officers:
    def __init__(self, conn: "Connection | Pool", node: UUID) -> None:
        self._conn, self._node = conn, node

    async def lock(self, office: UUID, *, scope: Scope) -> Office:
        """One office, held until the transaction ends.  Raises OfficeNotFound, OutsideScope."""
        row = await self._conn.fetchrow(
            f"{OFFICE} WHERE record.origin = $1 AND record.id = $2 FOR UPDATE OF record",
            self._node, office,
        )  # fmt: skip
        if row is None:
            raise OfficeNotFound(office=f"offices/{office}")
        scope.check(row["path"])
        return self._of(row)

    async def page(
        self, path: str, *, ending_after: datetime, after: UUID, limit: int
    ) -> list[Office]:
        """Those of organisations at a path and below, oldest first."""
        rows = await self._conn.fetch(
            f"""
            {OFFICE}
             WHERE record.origin = $1 AND {WITHIN} AND record.id > $3
               AND coalesce(record.end_time, 'infinity') > $4
             ORDER BY record.id LIMIT $5
            """,
            self._node, path, after, ending_after, limit,
        )  # fmt: skip
        return [self._of(row) for row in rows]

    async def held_by(self, holders: Sequence[str]) -> list[Office]:
        """All that were ever given to some holders, oldest first."""
        rows = await self._conn.fetch(
            f"{OFFICE} WHERE record.origin = $1 AND record.holder = ANY ($2) ORDER BY record.id",
            self._node, holders,
        )  # fmt: skip
        return [self._of(row) for row in rows]

    async def with_ids(self, offices: Iterable[UUID]) -> dict[UUID, Office]:
        """Those of them that are known here."""
        rows = await self._conn.fetch(
            f"{OFFICE} WHERE record.origin = $1 AND record.id = ANY ($2)", self._node, set(offices)
        )
        return {row["id"]: self._of(row) for row in rows}

    async def lock_appointing(self) -> None:
        """Wait for other appointing: nobody gets the same office twice."""
        await self._conn.execute("SELECT pg_advisory_xact_lock(hashtext('offices'))")

    async def check_member(self, office: Office) -> None:
        """Raises HolderMalformed if it is given to a member whom this node does not have, or whom
        nobody is bound to: whoever is bound first would hold it."""
        collection, _, member = office.holder.partition("/")
        if collection == "members" and not await self._conn.fetchval(
            """
            SELECT true FROM members JOIN bindings USING (origin)
             WHERE origin = $1 AND members.id = $2 AND state = $3
               AND member = members.id AND active
            """,
            self._node, UUID(member), MemberState.ACTIVE,
        ):  # fmt: skip
            raise HolderMalformed()

    async def check_free(self, office: Office) -> None:
        """Raises OfficeHeld if the holder has the same office at some time of its term."""
        held = await self._held(office)
        if held is not None:
            raise OfficeHeld(holder=office.holder, role=office.role.name, office=f"offices/{held}")

    async def is_free(self, office: Office) -> bool:
        """Whether the holder has the same office at no time of its term."""
        return await self._held(office) is None

    async def _held(self, office: Office) -> UUID | None:
        held: UUID | None = await self._conn.fetchval(
            """
            SELECT id FROM offices
             WHERE origin = $1 AND holder = $2 AND organization = $3 AND role = $4
               AND begin_time < coalesce(end_time, 'infinity')
               AND begin_time < coalesce($6::timestamptz, 'infinity')
               AND coalesce(end_time, 'infinity') > $5
             LIMIT 1
            """,
            self._node, office.holder, office.organization, office.role, office.begin_time,
            office.end_time,
        )  # fmt: skip
        return held

    async def check_none(self, holder: str, *, at: datetime) -> None:
        """Raises StillInOffice if somebody holds an office, or will."""
        office = await self._conn.fetchval(
            """
            SELECT id FROM offices
             WHERE origin = $1 AND holder = $2 AND coalesce(end_time, 'infinity') > $3
               AND begin_time < coalesce(end_time, 'infinity') LIMIT 1
            """,
            self._node, holder, at,
        )  # fmt: skip
        if office is not None:
            raise StillInOffice(member=holder, office=f"offices/{office}")

    async def of_former(self, *, at: datetime) -> list[Office]:
        """Those in force, or to come, of members who are not active any more: a restore from a
        backup may have brought some back."""
        rows = await self._conn.fetch(
            f"""
            {OFFICE} JOIN members ON members.origin = record.origin
               AND record.holder = 'members/' || members.id
             WHERE record.origin = $1 AND members.state <> $2
               AND coalesce(record.end_time, 'infinity') > $3
               AND record.begin_time < coalesce(record.end_time, 'infinity')
               FOR UPDATE OF record
            """,
            self._node, MemberState.ACTIVE, at,
        )  # fmt: skip
        return [self._of(row) for row in rows]

    async def has_chair(self, organization: UUID, *, at: datetime) -> bool:
        """Whether an organisation has a chair now."""
        return bool(
            await self._conn.fetchval(
                """
                SELECT true FROM offices
                 WHERE origin = $1 AND organization = $2 AND role = $3
                   AND begin_time <= $4 AND coalesce(end_time, 'infinity') > $4 LIMIT 1
                """,
                self._node, organization, Role.CHAIR, at,
            )
        )  # fmt: skip

    async def add(self, office: Office, change: Change) -> None:
        await self._conn.execute(
            f"""
            INSERT INTO offices ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
            """,
            *columns_of(office, change), office.holder, office.organization, office.role,
            office.begin_time, office.end_time,
        )  # fmt: skip

    async def save_end(self, office: Office, change: Change) -> None:
        await self._conn.execute(
            """
            UPDATE offices SET owner_epoch = $3, version = $4, hash = $5, public = $6, end_time = $7
             WHERE origin = $1 AND id = $2
            """,
            *columns_of(office, change), office.end_time,
        )  # fmt: skip

    def _of(self, row: Any) -> Office:
        public = PublicOffice.FromString(row["public"])
        return Office(
            id=row["id"], header=header_of(row, self._node, public.salt), holder=public.holder,
            organization=UUID(bytes=public.organization), role=Role(public.role),
            begin_time=public.begin_time.ToDatetime(UTC), end_time=time_in(public, "end_time"),
            appointer=public.appointer, dismisser=public.dismisser,
        )  # fmt: skip
