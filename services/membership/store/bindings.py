"""The table `bindings`, whose columns the kit knows (kit/bindings.py), and failed attempts."""

from datetime import datetime
from typing import Any
from uuid import UUID

from kit.bindings import COLUMNS
from kit.db import Connection
from kit.log import Change
from kit.rows import RECORD, columns_of, header_of
from kit.sealing import Keyring
from services.membership.domain.bindings import WITHIN, Binding
from services.membership.domain.members import MemberState
from smartunion.membership.v1.records_pb2 import PublicBinding


class Bindings:
    def __init__(self, conn: Connection, keyring: Keyring, node: UUID) -> None:
        self._conn, self._keyring, self._node = conn, keyring, node

    async def lock(self) -> None:
        """Wait for other binding: attempts are counted one after the other."""
        await self._conn.execute("SELECT pg_advisory_xact_lock(hashtext('bindings'))")

    async def of_person(self, person: UUID) -> Binding | None:
        """The one that counts."""
        return await self._active("person", person)

    async def of_member(self, member: UUID) -> Binding | None:
        """The one that counts."""
        return await self._active("member", member)

    async def of_erased(self) -> list[Binding]:
        """Those that count of members who are erased: a restore from a backup may have brought
        some back."""
        rows = await self._conn.fetch(
            f"""
            SELECT {RECORD}, person, member, active, ''::bytea AS certificate FROM bindings record
              JOIN members ON members.origin = record.origin AND members.id = member
             WHERE record.origin = $1 AND active AND state = $2
            """,
            self._node, MemberState.ERASED,
        )  # fmt: skip
        return [self._of(row) for row in rows]

    async def _active(self, column: str, value: UUID) -> Binding | None:
        row = await self._conn.fetchrow(
            f"""
            SELECT {RECORD}, person, member, active, ''::bytea AS certificate FROM bindings record
             WHERE origin = $1 AND {column} = $2 AND active
            """,
            self._node, value,
        )  # fmt: skip
        return self._of(row) if row else None

    async def were_one(self, person: UUID, member: UUID) -> bool:
        """Whether a person is a member, or has been."""
        return bool(
            await self._conn.fetchval(
                "SELECT true FROM bindings WHERE origin = $1 AND person = $2 AND member = $3",
                self._node, person, member,
            )
        )  # fmt: skip

    async def add(self, binding: Binding, change: Change) -> None:
        await self._conn.execute(
            f"INSERT INTO bindings ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            *columns_of(binding, change), binding.person, binding.member, binding.active,
        )  # fmt: skip

    async def save_end(self, binding: Binding, change: Change) -> None:
        await self._conn.execute(
            """
            UPDATE bindings SET owner_epoch = $3, version = $4, hash = $5, public = $6, active = $7
             WHERE origin = $1 AND id = $2
            """,
            *columns_of(binding, change), binding.active,
        )  # fmt: skip

    async def attempts(self, person: UUID, id_number: str, *, at: datetime) -> tuple[int, int]:
        """How many have failed of a person, and at an ID number, in the time that counts."""
        row = await self._conn.fetchrow(
            """
            SELECT (SELECT count(*) FROM binding_attempts WHERE person = $1 AND attempt_time > $3),
                   (SELECT count(*) FROM binding_attempts WHERE id_index = $2 AND attempt_time > $3)
            """,
            person, self._keyring.index("id_number", id_number), at - WITHIN,
        )  # fmt: skip
        assert row is not None
        return row[0], row[1]

    async def add_attempt(self, person: UUID, subject: str, *, at: datetime) -> None:
        """Count one that has failed.

        Args:
            subject: the ID number; or the name of what counts as one, which is no ID number.
        """
        await self._conn.execute(
            "INSERT INTO binding_attempts VALUES ($1, $2, $3)",
            person, self._keyring.index("id_number", subject), at,
        )  # fmt: skip

    async def forget_attempts(self, *, at: datetime) -> None:
        """Those that count no longer."""
        await self._conn.execute(
            "DELETE FROM binding_attempts WHERE attempt_time <= $1", at - WITHIN
        )

    def _of(self, row: Any) -> Binding:
        public = PublicBinding.FromString(row["public"])
        return Binding(
            id=row["id"], header=header_of(row, self._node, public.salt), person=row["person"],
            member=row["member"], active=row["active"],
        )  # fmt: skip
