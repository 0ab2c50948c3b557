"""The table `people`: all that is personal, sealed with a key for each person.

Whoever applies or is admitted gets a key, named by the record that is made.  A member that came of
an application has the application's key, so its row holds the same sealed bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from kit.db import Connection, Pool
from kit.sealing import KEY, Keyring, KeyRow, Sealer
from services.membership.domain.identity import Person
from services.membership.domain.members import (
    AlreadyAMember,
    Application,
    ApplicationPending,
    ApplicationState,
    Member,
    MemberState,
)
from services.membership.domain.privacy import Span

PERSON = f"person.person, {KEY}"
"""Of a table `people person`, joined to a record, and its key: see WITH_KEY."""
WITH_KEY = "LEFT JOIN data_keys ON data_keys.id = person.key"


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


@dataclass(frozen=True, slots=True)
class PersonRow:
    """A new person: a row of `people`, and one of `data_keys`."""

    values: tuple[Any, ...]
    key: KeyRow
    sealer: Sealer

    @property
    def id(self) -> UUID:
        """Of the record that is made."""
        return self.key.id

    @property
    def index(self) -> bytes:
        """The blind index of the ID number."""
        index: bytes = self.values[3]
        return index


class People:
    def __init__(self, conn: "Connection | Pool", keyring: Keyring, node: UUID) -> None:
        self._conn, self._keyring, self._node = conn, keyring, node

    async def add_applicant(self, application: Application) -> None:
        """The person of a new application.  Raises AlreadyAMember, ApplicationPending."""
        assert application.person is not None, "a copy is never new"
        row = sealed(self._keyring, application.id, application.person, standing="applicant")
        await self.hold([row.index])
        while not await self._conn.fetchval(
            """
            INSERT INTO people (id, key, person, id_index, standing)
            VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (id_index) WHERE standing IS NOT NULL DO NOTHING
            RETURNING true
            """,
            *row.values,
        ):
            known = await self._conn.fetchval(
                "SELECT standing FROM people WHERE id_index = $1 AND standing IS NOT NULL",
                row.index,
            )
            if known == "member":
                raise AlreadyAMember()
            if known == "applicant":
                raise ApplicationPending()
        await self._keyring.add(self._conn, [row.key])

    async def hold(self, indexes: Sequence[bytes]) -> None:
        """Lock what persons, by blind index, were here before they come again, so that no consent
        is withdrawn meanwhile by who does not see yet what they are now."""
        await self._conn.execute(
            """
            SELECT FROM people WHERE id_index = ANY ($1) AND standing IS NULL
             ORDER BY id FOR UPDATE
            """,
            indexes,
        )

    async def admit(self, application: Application, member: Member) -> None:
        """The applicant, who stands for nothing any more, is a member."""
        await self._conn.execute(
            """
            INSERT INTO people (id, key, person, id_index, standing)
            SELECT $2, key, person, id_index, 'member' FROM people WHERE id = $1
            """,
            application.id, member.id,
        )  # fmt: skip

    async def has_standing(self, id_number: str) -> bool:
        """Whether whoever has an ID number is a member or an applicant here."""
        return bool(
            await self._conn.fetchval(
                "SELECT true FROM people WHERE id_index = $1 AND standing IS NOT NULL",
                self._keyring.index("id_number", id_number),
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

    async def records_of(self, member: UUID) -> list[UUID]:
        """All records here of the person of a member, the member's own among them, the oldest
        first; none if there is no such member of this node."""
        rows = await self._conn.fetch(
            """
            WITH own AS (
                SELECT id_index FROM people
                  JOIN members ON members.id = people.id AND origin = $2
                 WHERE people.id = $1
            )
            SELECT id FROM people JOIN own USING (id_index) WHERE standing IS NOT NULL
             UNION ALL
            SELECT id FROM people JOIN own USING (id_index) WHERE standing IS NULL
             ORDER BY id
            """,
            member, self._node,
        )  # fmt: skip
        return [row["id"] for row in rows]

    async def add_all(self, rows: Sequence[PersonRow]) -> None:
        """Many people at once."""
        await self._keyring.add(self._conn, [row.key for row in rows])
        columns = ["id", "key", "person", "id_index", "standing"]
        await self._conn.copy_records_to_table(
            "people", columns=columns, records=[row.values for row in rows]
        )

    async def sealer_of(self, record: UUID) -> Sealer:
        """What seals for the person of a record; if that was lost, the node's."""
        row = await self._conn.fetchrow(
            f"SELECT {KEY} FROM people person JOIN data_keys ON data_keys.id = key"
            " WHERE person.id = $1",
            record,
        )
        return self._keyring.sealer(row) if row else self._keyring.node

    async def forget_phone(self, records: Sequence[UUID]) -> None:
        """Seal the person of some records anew, without the phone number."""
        for row in await self._conn.fetch(
            f"SELECT person.id, {PERSON} FROM people person {WITH_KEY} WHERE person.id = ANY ($1)",
            records,
        ):
            sealer = sealer_in(self._keyring, row)
            if sealer and (person := opened(sealer, row)):
                without = _sealed(sealer, row["key"], replace(person, phone=""))
                await self._conn.execute(
                    "UPDATE people SET person = $2 WHERE id = $1", row["id"], without
                )

    async def erase(self, node: UUID, member: UUID | None = None) -> tuple[list[bytes], list[str]]:
        """Destroy the keys of persons whose own record says ERASED, and their rows; who they were,
        by blind index, and by which records.

        Args:
            member: None: of all.  A restore from a backup may have brought some back.
        """
        erased = await self._conn.fetch(
            f"""
            WITH erased AS (
                SELECT person.id, person.key, id_index
                  FROM members JOIN people person USING (id)
                 WHERE origin = $1 AND state = {MemberState.ERASED:d} AND (id = $2 OR $2 IS NULL)
            ), keys AS (
                DELETE FROM data_keys WHERE id IN (SELECT key FROM erased)
            ), gone AS (
                DELETE FROM people WHERE id IN (SELECT id FROM erased UNION SELECT key FROM erased)
            )
            SELECT id_index, ARRAY['members/' || id, 'applications/' || key] AS records FROM erased
            """,
            node, member,
        )  # fmt: skip
        return [row[0] for row in erased], [name for row in erased for name in row[1]]

    async def erase_turned_down(
        self, decided: Span, *, at: datetime
    ) -> tuple[list[bytes], list[str]]:
        """The same of those who were turned down in a span of time.  What else they are here has a
        key of its own."""
        return await self._erase_applicants("decide_time >= $2 AND decide_time < $3", at, *decided)

    async def erase_withdrawn(
        self, node: UUID, application: UUID | None = None, *, at: datetime
    ) -> tuple[list[bytes], list[str]]:
        """The same of those whose own application says WITHDRAWN, and is decided with it.

        Args:
            application: None: of all.  A restore from a backup may have brought some back.
        """
        return await self._erase_applicants(
            f"""
            application IN (SELECT id FROM applications
                             WHERE origin = $2 AND state = {ApplicationState.WITHDRAWN:d}
                               AND (id = $3 OR $3 IS NULL))
            """,
            at, node, application,
        )  # fmt: skip

    async def _erase_applicants(
        self, which: str, at: datetime, *values: Any
    ) -> tuple[list[bytes], list[str]]:
        erased = await self._conn.fetch(
            f"""
            WITH due AS (
                UPDATE submissions
                   SET erase_time = $1, reject_reason = NULL,
                       decide_time = coalesce(decide_time, $1),
                       decider = coalesce(nullif(decider, ''), filer)
                 WHERE {which} AND submissions.member IS NULL AND erase_time IS NULL
                RETURNING application
            ), gone AS (
                DELETE FROM people USING due WHERE id = application RETURNING id, id_index
            ), keys AS (
                DELETE FROM data_keys WHERE id IN (SELECT id FROM gone)
            )
            SELECT id_index, 'applications/' || id AS record FROM gone
            """,
            at, *values,
        )  # fmt: skip
        return [row[0] for row in erased], [row[1] for row in erased]


def sealed(
    keyring: Keyring, record: UUID, person: Person, *, standing: str, index: bytes = b""
) -> PersonRow:
    """A new person.  `index`: the blind index, if it is known already."""
    sealer, key = keyring.make(record)
    values = (
        record, record, _sealed(sealer, record, person),
        index or keyring.index("id_number", person.id_number), standing,
    )  # fmt: skip
    return PersonRow(values, key, sealer)


def _sealed(sealer: Sealer, key: UUID, person: Person) -> bytes:
    text = f"{person.id_number}\n{person.phone}\n{person.full_name}"
    return sealer.seal(text.encode(), _place(key))


def sealer_in(keyring: Keyring, row: Any) -> Sealer | None:
    """The key in a row with the columns PERSON; None if there is none any more."""
    return keyring.sealer(row) if row["wrapped"] else None


def opened(sealer: Sealer | None, row: Any) -> Person | None:
    """The person in a row with the columns PERSON, by its key."""
    if sealer is None:
        return None
    text = sealer.open(row["person"], _place(row["key"])).decode()
    id_number, phone, full_name = text.split("\n")
    return Person(full_name=full_name, id_number=id_number, phone=phone)


def _place(key: UUID) -> str:
    return f"people.person/{key}"
