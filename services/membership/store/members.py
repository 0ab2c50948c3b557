"""The tables of applications and members: records, own ones and copies, and details of own ones."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime
from typing import Any
from uuid import UUID

from google.protobuf.message import DecodeError

from kit.authority import Scope
from kit.db import Connection, Pool
from kit.headers import Header
from kit.log import Change
from kit.records import is_held
from kit.rows import PATH, RECORD, WITHIN, certificate, columns_of, header_of
from kit.sealing import Keyring, Sealer
from services.membership.domain.identity import Person
from services.membership.domain.members import (
    Application,
    ApplicationNotFound,
    ApplicationState,
    Ground,
    Member,
    MemberNotFound,
    MemberState,
)
from services.membership.store.people import PERSON, WITH_KEY, opened, sealer_in
from smartunion.membership.v1.records_pb2 import PersonalMember, PublicState

PERSONAL = "personal"
"""The column of the section, or of its hash."""

STATED = f"{RECORD}, record.organization, record.state, {PATH}"

APPLICATION = f"""
    SELECT {STATED}, {PERSON}, certificate,
           create_time, filer, decide_time, decider, reject_reason, member,
           submissions.erase_time, came.state AS came_state
      FROM applications record
      LEFT JOIN people person ON person.id = record.id AND record.origin = $1
      {WITH_KEY}
      LEFT JOIN submissions ON application = record.id AND record.origin = $1
      LEFT JOIN members came ON came.id = submissions.member AND came.origin = $1
      {certificate("records")}
"""
MEMBER = f"""
    SELECT {STATED}, {PERSON}, certificate, approval_date, approval_number,
           erase_time, erase_ground,
           CASE WHEN record.origin <> $1 THEN (
                SELECT personal FROM members_held shown
                 WHERE shown.id = record.id AND shown.origin = record.origin) END AS personal
      FROM members record
      LEFT JOIN people person ON person.id = record.id AND record.origin = $1
      {WITH_KEY}
      LEFT JOIN admissions ON member = record.id AND record.origin = $1
      {certificate("records")}
"""


class Applications:
    def __init__(self, conn: "Connection | Pool", keyring: Keyring, node: UUID) -> None:
        self._conn, self._keyring, self._node = conn, keyring, node

    async def get(self, application: UUID, *, scope: Scope | None, lock: str = "") -> Application:
        """The record of the latest owner; `scope`: None: for whoever filed it.  Raises
        ApplicationNotFound, OutsideScope."""
        row = await self._conn.fetchrow(
            f"{APPLICATION} WHERE record.id = $2 ORDER BY record.owner_epoch DESC LIMIT 1 {lock}",
            self._node, application,
        )  # fmt: skip
        if row is None:
            raise ApplicationNotFound(application=f"applications/{application}")
        if scope is not None:
            scope.check(row["path"])
        return self._of(row)

    async def waiting_of(self, filer: str) -> Application | None:
        """The pending one that somebody has filed; of several the oldest."""
        row = await self._conn.fetchrow(
            f"""
            {APPLICATION}
             WHERE record.origin = $1 AND filer = $2 AND decide_time IS NULL
             ORDER BY record.id LIMIT 1
            """,
            self._node, filer,
        )  # fmt: skip
        return self._of(row) if row else None

    async def lock(self, application: UUID, *, scope: Scope | None) -> Application:
        """Like `get`, and holds the row until the transaction ends."""
        return await self.get(application, scope=scope, lock="FOR UPDATE OF record")

    async def page(self, path: str, *, state: int, after: UUID, limit: int) -> list[Application]:
        """Those to organisations at a path and below, oldest first; `state` 0 means all."""
        rows = await self._conn.fetch(
            f"""
            {APPLICATION}
             WHERE {WITHIN} AND record.id > $3 AND (record.state = $4 OR $4 = 0)
               AND NOT EXISTS (SELECT FROM applications newer WHERE newer.id = record.id
                                  AND newer.owner_epoch > record.owner_epoch)
             ORDER BY record.id LIMIT $5
            """,
            self._node, path, after, state, limit,
        )  # fmt: skip
        return [self._of(row) for row in rows]

    async def of(self, records: Sequence[UUID]) -> list[Application]:
        """Those among the records of a person of this node, oldest first; for the person alone."""
        rows = await self._conn.fetch(
            f"{APPLICATION} WHERE record.origin = $1 AND record.id = ANY ($2) ORDER BY record.id",
            self._node, records,
        )  # fmt: skip
        return [self._of(row) for row in rows]

    async def add(self, application: Application, change: Change) -> None:
        await self._conn.execute(
            """
            WITH record AS (
                INSERT INTO applications (origin, id, owner_epoch, version, hash, public,
                                          organization, state)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            )
            INSERT INTO submissions (application, create_time, filer) VALUES ($2, $9, $10)
            """,
            *_columns(application, change), application.create_time, application.filer,
        )  # fmt: skip

    async def add_all(self, applications: Sequence[Application], changes: Sequence[Change]) -> None:
        """Many at once."""
        pairs = zip(applications, changes, strict=True)
        await self._conn.copy_records_to_table(
            "applications", columns=COLUMNS, records=[_columns(*pair) for pair in pairs]
        )
        await self._conn.copy_records_to_table(
            "submissions",
            columns=["application", "create_time", "filer"],
            records=[(one.id, one.create_time, one.filer) for one in applications],
        )

    async def save_decision(
        self, application: Application, change: Change, *, reason: bytes | None = None
    ) -> None:
        """`reason`: why it was turned down, as `sealed_reason` makes it."""
        await self._conn.execute(
            """
            WITH record AS (
                UPDATE applications SET owner_epoch = $3, version = $4, hash = $5, public = $6,
                       organization = $7, state = $8
                 WHERE origin = $1 AND id = $2
            ), person AS (
                UPDATE people SET standing = NULL WHERE id = $2
            )
            UPDATE submissions
               SET decide_time = $9, decider = $10, reject_reason = $11, member = $12
             WHERE application = $2
            """,
            *_columns(application, change), application.decide_time, application.decider,
            reason, application.member,
        )  # fmt: skip

    async def close_rejected(self, *, by: str, at: datetime) -> None:
        """Let those count as decided whose own record says REJECTED: a restore may have lost who
        did it, and when."""
        await self._conn.execute(
            f"""
            WITH closed AS (
                UPDATE submissions SET decide_time = $1, decider = $2
                  FROM applications
                 WHERE id = application AND origin = $3
                   AND state = {ApplicationState.REJECTED:d}
                   AND decide_time IS NULL AND submissions.member IS NULL AND erase_time IS NULL
                RETURNING application
            )
            UPDATE people SET standing = NULL FROM closed WHERE id = application
            """,
            at, by, self._node,
        )  # fmt: skip

    def _reason(self, row: Any) -> str:
        """Why it was turned down; empty if it was not, or the key is gone."""
        sealed, place = row["reject_reason"], _reason_place(row["id"])
        plain = self._keyring.unseal(row, sealed, place) if sealed else None
        return plain.decode() if plain else ""

    def _of(self, row: Any) -> Application:
        state = ApplicationState(row["state"])
        # A restore may have brought the person back, until the next sweep.
        erased = row["came_state"] == MemberState.ERASED or state is ApplicationState.WITHDRAWN
        return Application(
            id=row["id"], header=_header(row, self._node), organization=row["organization"],
            state=state, person=None if erased else opened(sealer_in(self._keyring, row), row),
            create_time=row["create_time"], filer=row["filer"] or "",
            decide_time=row["decide_time"], decider=row["decider"] or "",
            reject_reason=self._reason(row), member=row["member"], erase_time=row["erase_time"],
        )  # fmt: skip


class Members:
    def __init__(self, conn: "Connection | Pool", keyring: Keyring, node: UUID) -> None:
        self._conn, self._keyring, self._node = conn, keyring, node

    async def get(self, member: UUID, *, scope: Scope, lock: str = "") -> Member:
        """The record of the latest owner.  Raises MemberNotFound, OutsideScope."""
        row = await self._conn.fetchrow(
            f"{MEMBER} WHERE record.id = $2 ORDER BY record.owner_epoch DESC LIMIT 1 {lock}",
            self._node, member,
        )  # fmt: skip
        if row is None:
            raise MemberNotFound(member=f"members/{member}")
        scope.check(row["path"])
        return self._of(row)

    async def own(self, members: Sequence[UUID]) -> list[Member]:
        """Some of this node's own."""
        rows = await self._conn.fetch(
            f"{MEMBER} WHERE record.origin = $1 AND record.id = ANY ($2)", self._node, members
        )
        return [self._of(row) for row in rows]

    async def lock(self, member: UUID, *, scope: Scope) -> Member:
        """Like `get`, and holds the row until the transaction ends."""
        return await self.get(member, scope=scope, lock="FOR UPDATE OF record")

    async def save_state(self, member: Member, change: Change) -> None:
        """That a membership has ended, or that its person is erased: who stands for nothing here
        may join again."""
        await self._conn.execute(
            """
            WITH record AS (
                UPDATE members SET owner_epoch = $3, version = $4, hash = $5, public = $6,
                       organization = $7, state = $8, personal = $9
                 WHERE origin = $1 AND id = $2
            ), admission AS (
                UPDATE admissions SET erase_time = $10, erase_ground = $11 WHERE member = $2
            )
            UPDATE people SET standing = NULL WHERE id = $2
            """,
            *_columns(member, change), change.sections.get(PERSONAL), member.erase_time,
            member.erase_ground,
        )  # fmt: skip

    async def page(self, path: str, *, after: UUID, limit: int) -> list[Member]:
        """The active ones of organisations at a path and below, in order of admission."""
        rows = await self._conn.fetch(
            f"""
            {MEMBER}
             WHERE {WITHIN} AND record.id > $3 AND record.state = $4
               AND NOT EXISTS (SELECT FROM members newer WHERE newer.id = record.id
                                  AND newer.owner_epoch > record.owner_epoch)
             ORDER BY record.id LIMIT $5
            """,
            self._node, path, after, MemberState.ACTIVE, limit,
        )  # fmt: skip
        return [self._of(row) for row in rows]

    async def with_id_number(self, id_number: str, *, path: str) -> list[Member]:
        """Those of this node, at a path and below, that hold the ID number."""
        rows = await self._conn.fetch(
            f"""
            {MEMBER}
             WHERE record.origin = $1 AND {WITHIN} AND person.id_index = $3
               AND (person.standing IS NULL OR person.standing IS NOT NULL) -- for its two indexes
               AND record.state <> $4
             ORDER BY record.id
            """,
            self._node, path, self._keyring.index("id_number", id_number), MemberState.ERASED,
        )  # fmt: skip
        return [self._of(row) for row in rows]

    async def of(self, records: Sequence[UUID]) -> list[Member]:
        """Those among the records of a person of this node, oldest first; for the person alone."""
        rows = await self._conn.fetch(
            f"{MEMBER} WHERE record.origin = $1 AND record.id = ANY ($2) ORDER BY record.id",
            self._node, records,
        )  # fmt: skip
        return [self._of(row) for row in rows]

    async def add(self, member: Member, change: Change) -> None:
        await self._conn.execute(
            """
            WITH record AS (
                INSERT INTO members (origin, id, owner_epoch, version, hash, public,
                                     organization, state, personal)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            )
            INSERT INTO admissions (member, approval_date, approval_number) VALUES ($2, $10, $11)
            """,
            *_columns(member, change), change.sections.get(PERSONAL), member.approval_date,
            member.approval_number,
        )  # fmt: skip

    def _of(self, row: Any) -> Member:
        state = MemberState(row["state"])
        sealer = None if state is MemberState.ERASED else sealer_in(self._keyring, row)
        person = opened(sealer, row)
        approval_date, approval_number = row["approval_date"], row["approval_number"] or ""
        if person is None and is_held(row["personal"]):
            with suppress(DecodeError, ValueError):  # It is as its origin made it.
                shown = PersonalMember.FromString(row["personal"])
                approval_date = date.fromisoformat(shown.approval_date)
                approval_number = shown.approval_number
                person = Person(full_name=shown.full_name, id_number="")
        return Member(
            id=row["id"], header=_header(row, self._node), organization=row["organization"],
            state=state, person=person, approval_date=approval_date,
            approval_number=approval_number, personal_salt=salt_of(sealer) if sealer else "",
            erase_time=row["erase_time"],
            erase_ground=Ground(row["erase_ground"]) if row["erase_ground"] else None,
        )  # fmt: skip

    async def add_all(self, members: Sequence[Member], changes: Sequence[Change]) -> None:
        """Many at once."""
        pairs = zip(members, changes, strict=True)
        await self._conn.copy_records_to_table(
            "members",
            columns=[*COLUMNS, PERSONAL],
            records=[(*_columns(*pair), pair[1].sections.get(PERSONAL)) for pair in pairs],
        )
        await self._conn.copy_records_to_table(
            "admissions",
            columns=["member", "approval_date", "approval_number"],
            records=[(one.id, one.approval_date, one.approval_number) for one in members],
        )


def salt_of(sealer: Sealer) -> str:
    """The salt of a member's section `personal`: who has the tables and not the key cannot try
    names against its hash."""
    return sealer.salt("members/personal").hex()


COLUMNS = ["origin", "id", "owner_epoch", "version", "hash", "public", "organization", "state"]


def _columns(record: Application | Member, change: Change) -> tuple[Any, ...]:
    return *columns_of(record, change), record.organization, record.state


def sealed_reason(sealer: Sealer, application: Application) -> bytes:
    """Why an application was turned down, which may tell of the person."""
    return sealer.seal(application.reject_reason.encode(), _reason_place(application.id))


def _reason_place(application: UUID) -> str:
    return f"submissions.reject_reason/{application}"


def _header(row: Any, node: UUID) -> Header:
    return header_of(row, node, PublicState.FromString(row["public"]).salt)
