"""The check and the import of rosters, in the background: 1,000 rows a transaction, with their
results.

What is counted as done is committed with the rows that it counts, so after a crash the import goes
on where it ended: the file is parsed again, and what is done is skipped.  A replica holds a lock in
the database while it imports; should it lose that, the count of done rows stops the slower one.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from kit.db import PASSING, Pool
from kit.errors import Refusal
from kit.organizations import Organization
from kit.sealing import Keyring
from kit.waiting import waited
from services.membership.domain.identity import beijing_date
from services.membership.domain.privacy import Term, ended
from services.membership.domain.rosters import AT_WORK, Roster, RosterNotFound, RosterState
from services.membership.domain.table import Header, Row
from services.membership.store import Store
from services.membership.usecases import Means
from services.membership.usecases.batches import Batch, Judged, Surroundings, judge
from services.membership.usecases.bindings import end_binding
from services.membership.usecases.files import File, Portion
from services.membership.usecases.officers import SERVICE, end_office
from services.membership.usecases.rosters import Progress

BATCH = 1_000
"""Rows a transaction."""
SLICE = 50
"""Rows that are computed before calls get their turn.  Not threads: sealing lets go of the
interpreter so often that two threads that compute take longer than one."""
POLL = 1.0
"""Seconds after which a replica looks for rosters whose importer has died."""

MOST_FAILURES = 5
"""In a row, of one roster and for an unforeseen reason: more would only repeat it for ever."""
PAUSE = 1.0
"""Seconds before the next try after the first such failure; twice as long after each more."""
ABANDONED = timedelta(days=7)
"""An upload that has not ended by then goes on no more: whoever began it has begun another, and its
parts are people's data that nobody needs.  The same for a roster that nobody has committed."""
SHOWN = timedelta(days=30)
"""For so long, the result file shows whom a row was about."""
SWEEP = 3_600.0
"""Seconds between two looks for such uploads."""

logger = logging.getLogger(__name__)


class Overtaken(Exception):
    """Another replica imports the roster."""


class Importer:
    def __init__(
        self, means: Means, progress: Progress, pool: Pool, keyring: Keyring, terms: Sequence[Term]
    ) -> None:
        """`terms`: for how long those who were turned down are kept."""
        self._means, self._progress, self._pool, self._keyring = means, progress, pool, keyring
        self._terms = terms
        self._failures: dict[UUID, tuple[int, float]] = {}
        """How often a roster has failed in a row, and when it may be tried again (monotonic)."""
        self._swept = -SWEEP

    async def run(self) -> None:
        """Import what has been uploaded, until cancelled."""
        while True:
            try:
                await self._sweep()
                for roster in await self._means.reads.rosters.at_work():
                    if self._failures.get(roster, (0, 0.0))[1] <= time.monotonic():
                        await self._import_alone(roster)
            except PASSING as error:
                logger.info("import begins again", extra={"error": type(error).__name__})
            await waited(self._progress.uploaded, POLL)

    async def _sweep(self) -> None:
        """At the start and now and then: delete what was given up, forget whom old results were
        about, and erase."""
        if time.monotonic() - self._swept < SWEEP:
            return
        now = self._means.clock()
        async with self._means.database.transaction() as store:
            deleted = await store.rosters.delete_abandoned(_first_id(now - ABANDONED))
            await store.roster_rows.forget_shown(_first_id(now - SHOWN))
            await store.bindings.forget_attempts(at=now)
            for decided in ended(self._terms, at=now):
                gone = await store.people.erase_turned_down(decided, at=now)
                await store.roster_rows.forget(*gone, ended=True)
            await self._end_again(store, now)
        self._swept = time.monotonic()
        if deleted:
            logger.info("uploads given up are deleted", extra={"rosters": deleted})

    async def _end_again(self, store: Store, at: datetime) -> None:
        """What a restore may have brought back: persons, logins and offices of who is no member;
        and applications that were decided."""
        await store.roster_rows.forget(*await store.people.erase(self._means.node))
        await store.applications.close_rejected(by=SERVICE, at=at)
        withdrawn = await store.people.erase_withdrawn(self._means.node, at=at)
        await store.roster_rows.forget(*withdrawn, ended=True)
        await store.bindings.lock()
        for binding in await store.bindings.of_erased():
            await end_binding(store, binding, at=at)
        for office in await store.officers.of_former(at=at):
            await end_office(store, office, by=SERVICE, at=at)

    async def _import_alone(self, roster: UUID) -> None:
        """Import one roster, unless another replica does.  A failure leaves it for another try;
        too many refuse it."""
        try:
            async with self._alone(roster) as alone:
                if alone:
                    await self._import(await self._means.reads.rosters.get(roster, scope=None))
                    self._failures.pop(roster, None)
        except PASSING:
            raise
        except Overtaken:
            self._failures.pop(roster, None)
            logger.info("import goes on elsewhere", extra={"roster": str(roster)})
        except Exception as error:
            extra = {"roster": str(roster), "error": type(error).__name__}
            logger.error("import failed", extra=extra)  # The text of an error may quote a row.
            await self._count_failure(roster)

    async def _count_failure(self, roster: UUID) -> None:
        count = self._failures.get(roster, (0, 0.0))[0] + 1
        self._failures[roster] = (count, time.monotonic() + PAUSE * 2 ** (count - 1))
        if count >= MOST_FAILURES:
            with suppress(Overtaken, RosterNotFound):
                held = await self._means.reads.rosters.get(roster, scope=None)
                await self._save(held.give_up(), was=held.state)
            del self._failures[roster]

    @asynccontextmanager
    async def _alone(self, roster: UUID) -> AsyncIterator[bool]:
        """Whether no other replica imports the roster; none can while the block runs."""
        key = f"hashtext('import/{roster}')"
        async with self._pool.acquire() as conn:
            alone = await conn.fetchval(f"SELECT pg_try_advisory_lock({key})")
            try:
                yield bool(alone)
            finally:
                if alone and not conn.is_closed():
                    await conn.execute(f"SELECT pg_advisory_unlock({key})")

    async def _import(self, roster: Roster) -> None:
        file = File(self._means.reads.rosters, roster)
        try:
            survey = await file.survey()
        except Refusal as refusal:
            await self._save(roster.refuse(refusal), was=roster.state)
            return
        roster = replace(
            roster, total_rows=survey.total_rows, sheet=survey.sheet,
            unread_sheets=survey.unread_sheets,
        )  # fmt: skip
        await self._save(roster, was=roster.state)
        organization = await self._means.reads.organizations.get(roster.organization)
        done = roster.done_rows
        async with aclosing(self._judged(roster, file.rows(survey.encoding))) as batches:
            async for header, judged in batches:
                await self._import_batch(roster, organization, header, judged, done=done)
                done += len(judged)
                self._progress.move()
                self._means.committed()
        await self._save(roster.finish(), was=roster.state)

    async def _judged(
        self, roster: Roster, portions: AsyncGenerator[Portion, None]
    ) -> AsyncGenerator[tuple[Header, Judged], None]:
        """The batches, each judged while the database is busy with the one before."""
        ahead: asyncio.Future[tuple[Header, Judged]] | None = None
        sealing = roster.state is RosterState.IMPORTING
        try:
            async with aclosing(_batches(portions, skip=roster.done_rows)) as batches:
                async for header, rows in batches:
                    ready, ahead = ahead, asyncio.ensure_future(self._judge(header, rows, sealing))
                    if ready:
                        yield await ready
            if ahead:
                yield await ahead
        finally:
            if ahead:
                ahead.cancel()

    async def _judge(self, header: Header, rows: list[Row], sealing: bool) -> tuple[Header, Judged]:
        today, judged = beijing_date(self._means.clock()), Judged()
        for at in range(0, len(rows), SLICE):
            some = rows[at : at + SLICE]
            judge(some, header, self._keyring, judged, sealing=sealing, today=today)
            await asyncio.sleep(0)
        return header, judged

    async def _import_batch(
        self, roster: Roster, organization: Organization, header: Header, judged: Judged, *,
        done: int,
    ) -> None:  # fmt: skip
        while True:
            try:
                async with self._means.database.transaction() as store:
                    await self._check_in_step(store, roster, done)
                    around = await self._surroundings(store, roster.id, organization, judged)
                    batch = Batch(
                        header, around, judged.refused, by=roster.creator, at=self._means.clock()
                    )
                    for at in range(0, len(judged.entries), SLICE):
                        batch.settle(judged.entries[at : at + SLICE])
                        await asyncio.sleep(0)
                    await self._write(store, roster, batch)
                return
            except asyncpg.UniqueViolationError as error:
                if error.constraint_name != "one_standing":
                    raise
                # Someone has joined meanwhile: look again.

    async def _write(self, store: Store, roster: Roster, batch: Batch) -> None:
        """All that a batch changes, in the transaction that holds the roster: of rows that are only
        checked, nothing but what is shown of them."""
        if batch.people:
            await self._write_people(store, roster, batch)
        await store.roster_rows.add_all(roster.id, batch.results)
        await store.rosters.advance(roster.id, Counter(row.outcome for row in batch.results))

    async def _write_people(self, store: Store, roster: Roster, batch: Batch) -> None:
        await store.people.hold([person.index for person in batch.people])
        await store.people.add_all(batch.people)
        await store.outbox.put(*batch.admissions, *batch.submissions)
        if batch.members:
            await store.members.add_all(batch.members, batch.admissions)
        if batch.applications:
            await store.applications.add_all(batch.applications, batch.submissions)
        at = self._means.clock()
        entered = self._means.texts.entered(
            [
                *((one.id, one.person) for one in batch.members),
                *((one.id, one.person) for one in batch.applications),
            ],
            by=roster.name, at=at, today=beijing_date(at),
        )  # fmt: skip
        await store.consents.add_all(entered)

    async def _check_in_step(self, store: Store, roster: Roster, done: int) -> None:
        held = await store.rosters.lock(roster.id, scope=None)
        if held.done_rows != done or held.state is not roster.state:
            raise Overtaken(roster.name)

    async def _surroundings(
        self, store: Store, roster: UUID, organization: Organization, judged: Judged
    ) -> Surroundings:
        codes = {row.entry.organization_code for row in judged.entries} - {""}
        below: dict[str, Organization] = {}
        if codes:
            below = await store.organizations.with_codes(list(codes), within=organization.path)
        indexes = [row.index for row in judged.entries]
        known = await store.people.known(indexes, node=self._means.node)
        lines = await store.roster_rows.lines_of(roster, indexes)
        return Surroundings(
            node=self._means.node, organization=organization, below=below, known=known,
            lines=lines,
        )  # fmt: skip

    async def _save(self, roster: Roster, *, was: RosterState) -> None:
        """Save what has changed but for the counts; what has ended needs its content no more."""
        async with self._means.database.transaction() as store:
            held = await store.rosters.lock(roster.id, scope=None)
            if held.state is not was or was not in AT_WORK:
                raise Overtaken(str(roster.id))
            await store.rosters.save(roster)
            if roster.has_ended:
                await store.rosters.forget_content(roster.id)
        self._progress.move()


def _first_id(at: datetime) -> UUID:
    """No id made from then on is less: an id begins with its time."""
    return UUID(int=int(at.timestamp() * 1_000) << 80)


async def _batches(
    portions: AsyncGenerator[Portion, None], *, skip: int
) -> AsyncGenerator[Portion, None]:
    """The rows after the first `skip`, 1,000 at a time."""
    waiting = list[Row]()
    async with aclosing(portions):
        async for header, rows in portions:
            waiting += rows[skip:]
            skip = max(0, skip - len(rows))
            while len(waiting) >= BATCH:
                yield header, waiting[:BATCH]
                waiting = waiting[BATCH:]
    if waiting:
        yield header, waiting
