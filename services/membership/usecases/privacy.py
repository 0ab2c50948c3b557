"""Personal data with nothing masked: for officers who say why, and for whom it is about, who also
decide to what it may be used."""

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from kit import audit
from kit.authority import scope
from kit.chain import Row
from kit.config import CannotServe
from kit.db import Pool
from kit.ids import uuid_of
from kit.roll import NotAMember
from kit.rpc import LAST, Call, Page, PageTokenForeign, caller, uuid_in
from services.membership.domain.consents import (
    CONTACT,
    USE,
    Basis,
    Consent,
    PrivacyText,
    Step,
    Texts,
    check_use,
    withdraw,
)
from services.membership.domain.identity import Person, beijing_date
from services.membership.domain.members import Application, Member
from services.membership.domain.officers import Office
from services.membership.domain.privacy import PersonNotHere, Term, purpose_of
from services.membership.store.consents import Consents
from services.membership.usecases import Means

MOST_EXPORTED = 10_000
"""Lines of the ledger, and as many accesses: some 4 MB."""

Access = tuple[Row, Office | None]
"""A row of the audit trail that reveals, and the office by which, unless that is lost."""


class Reveals:
    def __init__(self, means: Means) -> None:
        self._means = means

    async def person(self, name: str, *, purpose: str, call: Call) -> Person:
        """The person of a member or an application, once the audit trail says who asks, and why."""
        kind = "applications" if name.startswith("applications/") else "members"
        id_ = uuid_in(name, kind)
        async with self._means.database.transaction() as store:
            records = store.applications if kind == "applications" else store.members
            record = await records.get(id_, scope=scope.get())
            told = purpose_of(purpose)
            if record.person is None:
                raise PersonNotHere(resource=record.name, node=f"nodes/{record.header.origin}")
            await store.calls.earlier(call, str)
            await store.calls.answer(call, record.name)
            act = audit.acting.get()
            act.touch(record.name)
            act.purpose = told
        return record.person


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """All that membership holds of one person at this node."""

    time: datetime
    members: list[Member]
    applications: list[Application]
    consents: list[Consent]
    texts: list[PrivacyText]
    """Those that the consents name."""
    accesses: list[Access]
    offices: list[Office]


class MyData:
    """What is held of the member who calls."""

    def __init__(self, means: Means, pool: Pool) -> None:
        self._means, self._pool = means, pool

    def texts(self) -> list[PrivacyText]:
        """Those in force today."""
        return [*self._means.texts.on(beijing_date(self._means.clock())).values()]

    async def export(self) -> Export:
        _, records = await self._records()
        reads = self._means.reads
        consents = await reads.consents.page(records, before=LAST, limit=MOST_EXPORTED)
        named = {(one.use, one.effective_date) for one in consents}
        return Export(
            time=self._means.clock(),
            members=await reads.members.of(records),
            applications=await reads.applications.of(records),
            consents=consents,
            texts=[
                one for one in await reads.consents.texts()
                if (one.use, one.effective_date) in named
            ],
            accesses=await self._accesses(records, before=audit.END, limit=MOST_EXPORTED),
            offices=await reads.officers.held_by([f"members/{one}" for one in records]),
        )  # fmt: skip

    async def page_of_accesses(self, page: Page) -> tuple[list[Access], str | None]:
        """Who had their data revealed, the newest first, and the key of the next page."""
        _, records = await self._records()
        before = _number(page.key or str(audit.END))
        found = await self._accesses(records, before=before, limit=page.size + 1)
        return page.cut(found, key=lambda access: str(access[0].number))

    async def page_of_consents(self, page: Page) -> tuple[list[Consent], str | None]:
        """Their lines of the ledger, the newest first, and the key of the next page."""
        _, records = await self._records()
        return page.cut(
            await self._means.reads.consents.page(
                records, before=page.before(), limit=page.size + 1
            )
        )

    async def give(self, use: str, effective_date: str, *, call: Call) -> Consent:
        at = self._means.clock()
        return await self._add(
            use, call, lambda latest, member: self._means.texts.give(
                use, effective_date, latest=latest, person=member, by=call.caller, at=at,
                today=beijing_date(at),
            )
        )  # fmt: skip

    async def withdraw(self, use: str, *, call: Call) -> tuple[Consent, list[PrivacyText]]:
        """The line that ends a consent, and what goes on without it.  What rests on that consent
        alone is deleted."""
        at = self._means.clock()
        consent = await self._add(
            use, call, lambda latest, member: withdraw(
                use, latest=latest, person=member, by=call.caller, at=at
            )
        )  # fmt: skip
        return consent, self._means.texts.others(beijing_date(at))

    async def _add(
        self, use: str, call: Call, decide: Callable[[Consent | None, UUID], Consent]
    ) -> Consent:
        check_use(use)
        member, records = await self._records()
        async with self._means.database.transaction() as store:
            latest = await store.consents.lock_latest(records, use)
            if earlier := await store.calls.earlier(call, Consent):
                return earlier
            consent = decide(latest, member)
            await store.consents.add_all([consent])
            if (consent.use, consent.step) == (CONTACT, Step.WITHDRAWN):
                await store.people.forget_phone(await store.people.records_of(member))
            await store.calls.answer(call, consent)
        return consent

    async def _accesses(self, records: Sequence[UUID], *, before: int, limit: int) -> list[Access]:
        names = [f"{kind}/{one}" for kind in ("applications", "members") for one in records]
        rows = await audit.page_of_reveals(self._pool, names, before=before, limit=limit)
        offices = await self._means.reads.officers.with_ids(_id(row.office) for row in rows)
        return [(row, offices.get(_id(row.office))) for row in rows]

    async def _records(self) -> tuple[UUID, list[UUID]]:
        """The member, and all records of the person.  Raises NotAMember."""
        member = uuid_in(caller.get(), "members")
        records = await self._means.reads.people.records_of(member)
        if not records:
            raise NotAMember(member=f"members/{member}")
        return member, records


def texts_in(file: Path) -> Texts:
    """The texts in a TOML file: see privacy.toml.

    Raises:
        CannotServe: if it cannot be read; the text says what is wrong.
    """
    try:
        rows = _read(file)["texts"]
        texts = tuple(PrivacyText(**{**row, "basis": Basis[row["basis"].upper()]}) for row in rows)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CannotServe(
            f"{file}: each [[texts]] has use, effective_date, basis (consent, contract or "
            f"legal_duty), title and text ({type(error).__name__})"
        ) from None
    for one in texts:
        if not USE.fullmatch(str(one.use)) or type(one.effective_date) is not date:
            raise CannotServe(
                f"{file}: a use has lower-case letters, digits and underscores; an effective_date "
                "is a day such as 2026-01-01, without quotes"
            )
        if one.basis is Basis.CONSENT and one.use != CONTACT:
            raise CannotServe(
                f"{file}: {one.use} asks for consent, but this version uses nothing on consent but "
                f"the phone number, for {CONTACT}; leave it out"
            )
    return Texts(texts)


def terms_in(file: Path) -> list[Term]:
    """The terms of storage in the same file.  Raises CannotServe."""
    try:
        terms = [Term(**row) for row in _read(file)["terms"]]
        right = bool(terms) and all(
            type(one.effective_date) is date and type(one.days) is int and 0 < one.days < 36_500
            for one in terms
        )
    except (OSError, ValueError, KeyError, TypeError):
        right = False
    if not right:
        raise CannotServe(
            f"{file}: there is a [[terms]] at least; each has an effective_date without quotes, "
            "and days, a whole number from 1 on"
        )
    return terms


def _read(file: Path) -> dict[str, Any]:
    return tomllib.loads(file.read_text(encoding="utf-8"))


async def keep_texts(texts: Texts, consents: Consents, *, today: date) -> None:
    """Keep what people are told from now on.

    Raises:
        CannotServe: if a text was changed that people were told before, or if there is none for
            those who apply, or none on which a phone number is kept.
    """
    for one in await consents.keep(texts):
        raise CannotServe(
            f"the text of {one.use} from {one.effective_date} is not what people were told; leave "
            "it, and add a text with a later effective_date"
        )
    if all(one.basis is Basis.CONSENT for one in texts.on(today).values()):
        raise CannotServe(
            "no text in force rests on contract or legal_duty; whoever applies must be told one"
        )
    if not texts.asks(CONTACT, today):
        raise CannotServe(
            f"no text in force asks for consent to {CONTACT}; phone numbers are kept on it alone"
        )


def _id(office: str) -> UUID:
    return uuid_of(office.removeprefix("offices/"))


def _number(key: str) -> int:
    """The number before which a list goes on.  Raises PageTokenForeign."""
    if not key.isdigit() or int(key) > audit.END:
        raise PageTokenForeign()
    return int(key)
