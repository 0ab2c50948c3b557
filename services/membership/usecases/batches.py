"""Some rows of a roster, settled together: what becomes of each, and what is written for it.

It computes and does no I/O, and can be asked for some rows at a time: sealing a thousand people
takes longer than a call may wait.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from uuid import UUID

from kit.errors import Refusal
from kit.headers import Header, new_header
from kit.ids import uuid7
from kit.log import Change
from kit.organizations import Organization
from kit.sealing import Keyring
from services.membership import events
from services.membership.domain.identity import id_number_of
from services.membership.domain.members import Application, Member, admit, apply
from services.membership.domain.rows import (
    Approval,
    Entry,
    OrganizationCodeUnknown,
    Outcome,
    RowResult,
    Shown,
    Standing,
    entry_of,
    outcome_of,
    refused,
    shown_of,
)
from services.membership.domain.table import Header as Columns
from services.membership.domain.table import Row
from services.membership.store.members import salt_of
from services.membership.store.people import Known, PersonRow, sealed


@dataclass(frozen=True, slots=True)
class Sound:
    """A row that is right in itself."""

    entry: Entry
    shown: Shown
    index: bytes
    """The blind index of the ID number."""
    person: PersonRow | None
    """Who is new if the person is unknown; None: the row is only checked."""


@dataclass(slots=True)
class Judged:
    """Rows as far as they can be judged by themselves."""

    entries: list[Sound] = field(default_factory=list)
    refused: list[RowResult] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.entries) + len(self.refused)


def judge(
    rows: Sequence[Row], columns: Columns, keyring: Keyring, judged: Judged, *, sealing: bool,
    today: date,
) -> None:  # fmt: skip
    """Add to `judged` what each row says.  `sealing`: not only to be checked."""
    for row in rows:
        try:
            entry = entry_of(row, today=today)
        except Refusal as refusal:
            index = _index(row, keyring, today)
            judged.refused.append(refused(row.line, refusal, columns, shown_of(row), index))
        else:
            index = keyring.index("id_number", entry.person.id_number)
            person = _sealed(entry, index, keyring) if sealing else None
            judged.entries.append(Sound(entry, shown_of(row), index, person))


def _index(row: Row, keyring: Keyring, today: date) -> bytes | None:
    """The blind index of an ID number that is right in a row that is not."""
    with suppress(Refusal):
        number = id_number_of((row.cells or {}).get("id_number", ""), today=today)
        return keyring.index("id_number", number)
    return None


def _sealed(entry: Entry, index: bytes, keyring: Keyring) -> PersonRow:
    standing = "member" if entry.approval else "applicant"
    return sealed(keyring, uuid7(), entry.person, standing=standing, index=index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the database knows of the persons and organisations in some rows."""

    node: UUID
    organization: Organization
    """The roster's own."""
    below: Mapping[str, Organization]
    """The organisations that rows name, by code, as far as they are part of it."""
    known: Mapping[bytes, Known]
    """What persons are here already, by blind index."""
    lines: Mapping[bytes, int]
    """The lines done before that have settled them, by blind index."""


class Batch:
    """What one transaction of an import writes."""

    def __init__(
        self, columns: Columns, around: Surroundings, refused: list[RowResult], *, by: str,
        at: datetime,
    ) -> None:  # fmt: skip
        """`by`: who brought the roster."""
        self._columns, self._around, self._by, self._at = columns, around, by, at
        self.lines: dict[bytes, int] = {}
        """Of the persons settled in this batch, by blind index."""
        self.members: list[Member] = []
        self.admissions: list[Change] = []
        self.applications: list[Application] = []
        self.submissions: list[Change] = []
        self.people: list[PersonRow] = []
        self.results = list(refused)

    def settle(self, rows: Sequence[Sound]) -> None:
        """Decide what becomes of rows, in their order."""
        for row in rows:
            try:
                self.results.append(self._settled(row))
            except Refusal as refusal:
                line, columns = row.entry.line, self._columns
                self.results.append(refused(line, refusal, columns, row.shown, row.index))
            else:
                self.lines[row.index] = row.entry.line

    def _settled(self, row: Sound) -> RowResult:
        entry, around = row.entry, self._around
        organization = self._organization(entry.organization_code)
        known = around.known.get(row.index)
        line = self.lines.get(row.index) or around.lines.get(row.index)
        standing = None
        if known:
            standing = Standing(known.member, known.organization == organization.id)
        outcome = outcome_of(entry, standing=standing, earlier_line=line)
        if known:
            return _result(row, outcome, known.name)
        if not row.person:
            return _result(row, outcome, "")
        self.people.append(row.person)
        if entry.approval:
            record = self._admit(row.person, entry, entry.approval, organization.id)
        else:
            record = self._apply(row.person.id, entry, organization.id)
        return _result(row, outcome, record)

    def _organization(self, code: str) -> Organization:
        around = self._around
        if not code:
            return around.organization
        if code not in around.below:
            raise OrganizationCodeUnknown()
        organization = around.below[code]
        organization.check_writable(home=around.organization.path, node=around.node)
        return organization

    def _admit(self, row: PersonRow, entry: Entry, approval: Approval, organization: UUID) -> str:
        member, fact = admit(
            id=row.id, header=self._header(), organization=organization, person=entry.person,
            approval_date=approval.date, approval_number=approval.number,
            personal_salt=salt_of(row.sealer), at=self._at,
        )  # fmt: skip
        self.members.append(member)
        self.admissions.append(events.change(member, fact))
        return fact.member

    def _apply(self, id: UUID, entry: Entry, organization: UUID) -> str:
        application, fact = apply(
            id=id, header=self._header(), organization=organization, person=entry.person,
            by=self._by, at=self._at,
        )  # fmt: skip
        self.applications.append(application)
        self.submissions.append(events.change(application, fact))
        return fact.application

    def _header(self) -> Header:
        return new_header(self._around.node)


def _result(row: Sound, outcome: Outcome, record: str) -> RowResult:
    return RowResult(
        line=row.entry.line, outcome=outcome, record=record, shown=row.shown, index=row.index
    )
