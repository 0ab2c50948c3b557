"""The ledger of consents and legal bases (PIPL 13, 17, 23, 29): what a person was told, in which
version, when, and on which basis their data is used.

A text (告知书) belongs to one use of data and counts from a day on; the day names its version.  Who
applies is told the texts that rest on something else than consent.  The phone number alone rests on
consent: who gives it consents, who withdraws has it deleted, and all else goes on.  Rows are only
added: who withdraws has consented before.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import IntEnum
from uuid import UUID

from kit.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from kit.ids import uuid7
from services.membership.domain.identity import Person

USE = re.compile(r"[a-z][a-z0-9_]{0,49}")
CONTACT = "contact"
"""The use on which phone numbers rest.  No other data rests on consent."""


class UseUnknown(InvalidArgument):
    field = "use"
    message = "there is no text in force for the use {use}; ListPrivacyTexts has them all"
    chinese = "没有适用于用途 {use} 的有效告知书；请查看 ListPrivacyTexts"


class TextOutdated(FailedPrecondition):
    field = "effective_date"
    message = (
        "the text in force for {use} is that of {effective_date}; show it, and send its date as "
        "effective_date"
    )
    chinese = "{use} 现行告知书的生效日期是 {effective_date}；请展示该版本，并填写其生效日期"


class ConsentNotAsked(FailedPrecondition):
    field = "use"
    message = "{use} rests on {basis}, not on consent, which can be neither given nor withdrawn"
    chinese = "{use} 的处理依据是 {basis}，并非同意，因此无需同意，也不能撤回"


class ConsentGiven(AlreadyExists):
    message = "consent to {use} was given already, to the text of {effective_date}"
    chinese = "已对 {use} 表示同意，所依据的告知书生效日期为 {effective_date}"


class ConsentNotGiven(FailedPrecondition):
    field = "use"
    message = "there is no consent to {use} that could be withdrawn"
    chinese = "没有可撤回的对 {use} 的同意"


class Basis(IntEnum):
    """On what the use of data rests, with the numbers of the contract."""

    CONSENT = 1
    CONTRACT = 2
    LEGAL_DUTY = 3


class Step(IntEnum):
    """What happened, with the numbers of the contract."""

    INFORMED = 1
    GIVEN = 2
    WITHDRAWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyText:
    """What people are told of one use of their data."""

    use: str
    effective_date: date
    """From this day on, in Beijing; it names the version."""
    basis: Basis
    title: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """One line of the ledger."""

    id: UUID
    person: UUID
    """The member or application of whom it is."""
    use: str
    effective_date: date
    """Of the text."""
    basis: Basis
    step: Step
    recorder: str
    """Who entered it: an officer, the person, or a roster."""
    time: datetime


@dataclass(frozen=True, slots=True)
class Texts:
    """All texts of a node, past and future ones too."""

    all: tuple[PrivacyText, ...]

    def on(self, day: date) -> dict[str, PrivacyText]:
        """Those in force on a day, by use."""
        begun = [text for text in self.all if text.effective_date <= day]
        return {text.use: text for text in sorted(begun, key=lambda text: text.effective_date)}

    def others(self, today: date) -> list[PrivacyText]:
        """Those in force that rest on something else than consent: what goes on without one."""
        return [text for text in self.on(today).values() if text.basis is not Basis.CONSENT]

    def asks(self, use: str, today: date) -> PrivacyText | None:
        """The text in force of a use, if it asks for consent."""
        text = self.on(today).get(use)
        return text if text and text.basis is Basis.CONSENT else None

    def entered(
        self, people: Iterable[tuple[UUID, Person | None]], *, by: str, at: datetime, today: date
    ) -> list[Consent]:
        """What stands in the ledger of people who apply or are brought by a roster: what they are
        told, and the consent that goes with a phone number.  `by`: who answers for it."""
        told, contact = self.others(today), self.asks(CONTACT, today)
        found = []
        for id, person in people:
            found += [_line(text, Step.INFORMED, id, by=by, at=at) for text in told]
            if contact and person and person.phone:
                found.append(_line(contact, Step.GIVEN, id, by=by, at=at))
        return found

    def give(
        self, use: str, effective_date: str, *, latest: Consent | None, person: UUID, by: str,
        at: datetime, today: date,
    ) -> Consent:  # fmt: skip
        """Consent to the text in force.

        Args:
            effective_date: of the text that the member was shown, as `2026-01-01`.
            latest: what the member did about this use last.

        Raises:
            UseUnknown, TextOutdated, ConsentNotAsked, ConsentGiven
        """
        text = self._asked(use, today)
        if text.effective_date.isoformat() != effective_date:
            raise TextOutdated(use=use, effective_date=text.effective_date)
        if latest and (latest.step, latest.effective_date) == (Step.GIVEN, text.effective_date):
            raise ConsentGiven(use=use, effective_date=text.effective_date)
        return _line(text, Step.GIVEN, person, by=by, at=at)

    def _asked(self, use: str, today: date) -> PrivacyText:
        text = self.on(today).get(use)
        if text is None:
            raise UseUnknown(use=use)
        if text.basis is not Basis.CONSENT:
            raise ConsentNotAsked(use=use, basis=text.basis.name)
        return text


def check_use(use: str) -> None:
    """Raises UseUnknown of what cannot be the name of a use."""
    if not USE.fullmatch(use):
        raise UseUnknown(use=use[:50])


def withdraw(use: str, *, latest: Consent | None, person: UUID, by: str, at: datetime) -> Consent:
    """The end of a consent, also of one to a text that is no longer in force.

    Raises:
        ConsentNotGiven: if there is none.
    """
    if latest is None or latest.step is not Step.GIVEN:
        raise ConsentNotGiven(use=use)
    return Consent(
        id=uuid7(), person=person, use=use, effective_date=latest.effective_date,
        basis=latest.basis, step=Step.WITHDRAWN, recorder=by, time=at,
    )  # fmt: skip


def _line(text: PrivacyText, step: Step, person: UUID, *, by: str, at: datetime) -> Consent:
    return Consent(
        id=uuid7(), person=person, use=text.use, effective_date=text.effective_date,
        basis=text.basis, step=step, recorder=by, time=at,
    )  # fmt: skip
