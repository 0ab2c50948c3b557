"""Some rows of a roster, settled together: what becomes of each, and what is written for it.

It computes and does no I/O, so that it can run beside the event loop: sealing a thousand people
takes longer than a call may wait.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

from kit.errors import Refusal
from kit.ids import uuid7
from kit.log import Change
from kit.sealing import Sealer
from services.membership import events
from services.membership.domain.members import Application, Member, admit, apply
from services.membership.domain.organizations import Organization
from services.membership.domain.records import Header
from services.membership.domain.rows import (
    Approval,
    Entry,
    OrganizationCodeUnknown,
    RowResult,
    Standing,
    entry_of,
    outcome_of,
    refused,
)
from services.membership.domain.sheet import Header as Columns
from services.membership.domain.sheet import Row
from services.membership.store.people import Known, sealed
from services.membership.usecases import new_salt


@dataclass(slots=True)
class Judged:
    """Rows as far as they can be judged by themselves."""

    entries: list[tuple[Entry, bytes]] = field(default_factory=list)
    """Those that are right in themselves, with the blind index of the ID number."""
    refused: list[RowResult] = field(default_factory=list)


def judge(rows: Sequence[Row], columns: Columns, sealer: Sealer, *, today: date) -> Judged:
    """What each row says."""
    judged = Judged()
    for row in rows:
        try:
            entry = entry_of(row, today=today)
        except Refusal as refusal:
            judged.refused.append(refused(row.line, refusal, columns))
        else:
            index = sealer.index("id_number", entry.person.id_number)
            judged.entries.append((entry, index))
    return judged


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
    first_lines: Mapping[bytes, int]
    """Where each person stands first in the file."""


class Batch:
    """What one transaction of an import writes."""

    def __init__(
        self, columns: Columns, around: Surroundings, sealer: Sealer, *, at: datetime
    ) -> None:
        self._columns, self._around, self._sealer, self._at = columns, around, sealer, at
        self.members: list[Member] = []
        self.admissions: list[Change] = []
        self.applications: list[Application] = []
        self.submissions: list[Change] = []
        self.people: list[tuple[Any, ...]] = []
        self.results: list[RowResult] = []

    def settle(self, judged: Judged) -> None:
        """Decide what becomes of the rows."""
        self.results += judged.refused
        for entry, index in judged.entries:
            try:
                self.results.append(self._settled(entry, index))
            except Refusal as refusal:
                self.results.append(refused(entry.line, refusal, self._columns))
        self.results.sort(key=lambda result: result.line)

    def _settled(self, entry: Entry, index: bytes) -> RowResult:
        around = self._around
        organization = self._organization(entry.organization_code)
        known = around.known.get(index)
        standing = None
        if known:
            standing = Standing(known.member, known.organization == organization.id)
        outcome = outcome_of(entry, standing=standing, first_line=around.first_lines[index])
        if known:
            return RowResult(line=entry.line, outcome=outcome, record=known.name)
        if entry.approval:
            record = self._admit(entry, entry.approval, organization.id, index)
        else:
            record = self._apply(entry, organization.id, index)
        return RowResult(line=entry.line, outcome=outcome, record=record)

    def _organization(self, code: str) -> Organization:
        around = self._around
        if not code:
            return around.organization
        if code not in around.below:
            raise OrganizationCodeUnknown()
        organization = around.below[code]
        organization.check_writable(home=around.organization.path, node=around.node)
        return organization

    def _admit(self, entry: Entry, approval: Approval, organization: UUID, index: bytes) -> str:
        member, fact = admit(
            id=uuid7(), header=self._header(), organization=organization, person=entry.person,
            approval_date=approval.date, approval_number=approval.number, at=self._at,
        )  # fmt: skip
        self.members.append(member)
        self.admissions.append(events.change(member, fact))
        self._add_person(member.id, entry, "member", index)
        return member.name

    def _apply(self, entry: Entry, organization: UUID, index: bytes) -> str:
        application, fact = apply(
            id=uuid7(), header=self._header(), organization=organization, person=entry.person,
            at=self._at,
        )  # fmt: skip
        self.applications.append(application)
        self.submissions.append(events.change(application, fact))
        self._add_person(application.id, entry, "applicant", index)
        return application.name

    def _header(self) -> Header:
        return Header(origin=self._around.node, salt=new_salt())

    def _add_person(self, record: UUID, entry: Entry, standing: str, index: bytes) -> None:
        row = sealed(self._sealer, record, entry.person, standing=standing, index=index)
        self.people.append(row)
