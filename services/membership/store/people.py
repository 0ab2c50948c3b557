"""The table `people`: all that is personal, sealed as far as it is a number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from kit.db import Connection
from kit.sealing import Sealer
from services.membership.domain.identity import Person
from services.membership.domain.members import (
    AlreadyAMember,
    Application,
    ApplicationPending,
    Member,
)

PERSON = "person.full_name, person.id_number, person.phone"
"""Of a table `people person`, joined to a record."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a person is at this node."""

    member: bool
    """Whether the record is a member; else it is a pending application."""
    id: UUID
    organization: UUID

    @property
    def name(self) -> str:
        return f"{'members' if self.member else 'applications'}/{self.id}"


class People:
    def __init__(self, conn: Connection, sealer: Sealer) -> None:
        self._conn, self._sealer = conn, sealer

    async def add_applicant(self, application: Application) -> None:
        """The person of a new application.  Raises AlreadyAMember, ApplicationPending."""
        await self._add(application.id, application.person, "applicant")

    async def add_member(self, member: Member) -> None:
        """The person of a new member.  Raises AlreadyAMember, ApplicationPending."""
        await self._add(member.id, member.person, "member")

    async def _add(self, record: UUID, person: Person | None, standing: str) -> None:
        assert person is not None, "a copy is never new"
        row = sealed(self._sealer, record, person, standing=standing)
        while not await self._conn.fetchval(
            """
            INSERT INTO people (id, full_name, id_number, phone, id_index, standing)
            VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT (id_index) WHERE standing IS NOT NULL DO NOTHING
            RETURNING true
            """,
            *row,
        ):
            known = await self._conn.fetchval(
                "SELECT standing FROM people WHERE id_index = $1 AND standing IS NOT NULL", row[4]
            )
            if known == "member":
                raise AlreadyAMember()
            if known == "applicant":
                raise ApplicationPending()

    async def has_standing(self, id_number: str) -> bool:
        """Whether whoever has an ID number is a member or an applicant here."""
        return bool(
            await self._conn.fetchval(
                "SELECT true FROM people WHERE id_index = $1 AND standing IS NOT NULL",
                self._sealer.index("id_number", id_number),
            )
        )

    async def known(self, indexes: Sequence[bytes], *, node: UUID) -> dict[bytes, Known]:
        """What the persons with these blind indexes are here; those unknown are left out."""
        rows = await self._conn.fetch(
            """
            SELECT id_index, standing = 'member' AS member, person.id,
                   coalesce(member.organization, application.organization) AS organization
              FROM people person
              LEFT JOIN members member ON member.id = person.id AND member.origin = $2
              LEFT JOIN applications application
                     ON application.id = person.id AND application.origin = $2
             WHERE id_index = ANY ($1) AND standing IS NOT NULL
            """,
            indexes, node,
        )  # fmt: skip
        return {row[0]: Known(row[1], row[2], row[3]) for row in rows}

    async def add_all(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Many people at once, as `sealed` made them."""
        columns = ["id", "full_name", "id_number", "phone", "id_index", "standing"]
        await self._conn.copy_records_to_table("people", columns=columns, records=rows)


def sealed(
    sealer: Sealer, record: UUID, person: Person, *, standing: str, index: bytes = b""
) -> tuple[Any, ...]:
    """A row of `people`.  `index`: the blind index, if it is known already."""
    phone, row_id = None, str(record)
    if person.phone:
        phone = sealer.seal(person.phone.encode(), f"people.phone/{row_id}")
    return (
        record,
        person.full_name,
        sealer.seal(person.id_number.encode(), f"people.id_number/{row_id}"),
        phone,
        index or sealer.index("id_number", person.id_number),
        standing,
    )


def opened(sealer: Sealer, record: UUID, row: Any) -> Person | None:
    """The person in a row with the columns PERSON; None if it has none."""
    if row["full_name"] is None:
        return None
    phone = row["phone"]
    return Person(
        full_name=row["full_name"],
        id_number=sealer.open(row["id_number"], f"people.id_number/{record}").decode(),
        phone=sealer.open(phone, f"people.phone/{record}").decode() if phone else "",
    )
