"""The import of rosters, in the background: 1,000 rows a transaction, with their results.

What is counted as done is committed with the rows that it counts, so after a crash the import goes
on where it ended: the file is parsed again, and what is done is skipped.  A replica holds a lock in
the database while it imports; should it lose that, the count of done rows stops the slower one.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import asyncpg

from kit.carrier import waited
from kit.db import PASSING, Pool
from kit.errors import Refusal
from kit.sealing import Sealer
from services.membership.domain.identity import beijing_date
from services.membership.domain.organizations import Organization
from services.membership.domain.rosters import (
    ImportFailed,
    Roster,
    RosterNotFound,
    RosterState,
)
from services.membership.domain.sheet import ENCODINGS, Header, NoRows, NotText, Row, Sheet
from services.membership.store import Store
from services.membership.usecases import Means
from services.membership.usecases.batches import Batch, Judged, Surroundings, judge
from services.membership.usecases.rosters import Progress

BATCH = 1_000
"""Rows a transaction."""
SLICE = 50
"""Rows that are computed before calls get their turn.  Not threads: sealing lets go of the
interpreter so often that two threads that compute take longer than one."""
SLICE_BYTES = 2**16
"""Bytes that are parsed before calls get their turn."""
POLL = 1.0
"""Seconds after which a replica looks for rosters whose importer has died."""

MOST_FAILURES = 5
"""In a row, of one roster and for an unforeseen reason: more would only repeat it for ever."""
PAUSE = 1.0
"""Seconds before the next try after the first such failure; twice as long after each more."""
ABANDONED = timedelta(days=7)
"""An upload that has not ended by then goes on no more: whoever began it has begun another, and its
parts are people's data that nobody needs."""
SWEEP = 3_600.0
"""Seconds between two looks for such uploads."""

logger = logging.getLogger(__name__)


class Overtaken(Exception):
    """Another replica imports the roster."""


class Importer:
    def __init__(self, means: Means, progress: Progress, pool: Pool, sealer: Sealer) -> None:
        self._means, self._progress, self._pool, self._sealer = means, progress, pool, sealer
        self._failures: dict[UUID, tuple[int, float]] = {}
        """How often a roster has failed in a row, and when it may be tried again (monotonic)."""
        self._swept = -SWEEP

    async def run(self) -> None:
        """Import what has been uploaded, until cancelled."""
        while True:
            try:
                await self._sweep()
                for roster in await self._means.reads.rosters.importing():
                    if self._failures.get(roster, (0, 0.0))[1] <= time.monotonic():
                        await self._import_alone(roster)
            except PASSING as error:
                logger.info("import begins again", extra={"error": type(error).__name__})
            await waited(self._progress.uploaded, POLL)

    async def _sweep(self) -> None:
        """Now and then, delete the rosters whose upload was given up."""
        if time.monotonic() - self._swept < SWEEP:
            return
        before = self._means.clock() - ABANDONED
        oldest = UUID(int=int(before.timestamp() * 1_000) << 80)  # An id begins with its time.
        async with self._means.database.transaction() as store:
            deleted = await store.rosters.delete_abandoned(oldest)
        self._swept = time.monotonic()
        if deleted:
            logger.info("uploads given up are deleted", extra={"rosters": deleted})

    async def _import_alone(self, roster: UUID) -> None:
        """Import one roster, unless another replica does.  A failure leaves it for another try;
        too many refuse it."""
        try:
            async with self._alone(roster) as alone:
                if alone:
                    await self._import(await self._means.reads.rosters.get(roster))
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
                held = await self._means.reads.rosters.get(roster)
                await self._save(held.refuse(ImportFailed()))
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
        try:
            encoding, total = await self._survey(roster)
        except Refusal as refusal:
            await self._save(roster.refuse(refusal))
            return
        await self._save(replace(roster, total_rows=total))
        organization = await self._means.reads.organizations.get(roster.organization)
        done = roster.done_rows
        async for header, judged in self._judged(roster, encoding):
            await self._import_batch(roster.id, organization, header, judged, done=done)
            done += len(judged)
            self._progress.move()
            self._means.committed()
        await self._save(replace(roster, total_rows=total, state=RosterState.DONE))

    async def _survey(self, roster: Roster) -> tuple[str, int]:
        """The encoding of the whole file, and how many rows it has.

        Raises:
            NotText, NotCsv, HeaderMissing, NoRows: if the file as a whole is refused.
        """
        for encoding in ENCODINGS:
            try:
                total = 0
                async for _, rows in self._rows(roster, encoding):
                    total += len(rows)
            except UnicodeDecodeError:
                continue
            if not total:
                raise NoRows()
            return encoding, total
        raise NotText()

    async def _rows(self, roster: Roster, encoding: str) -> AsyncIterator[tuple[Header, list[Row]]]:
        """The rows of the file, in the portions in which its parts complete them."""
        sheet, read = Sheet(encoding), 0
        async for part in self._means.reads.rosters.parts(roster.id):
            for at in range(0, len(part), SLICE_BYTES):
                piece = part[at : at + SLICE_BYTES]
                read += len(piece)
                rows = sheet.feed(piece, last=read == roster.size_bytes)
                await asyncio.sleep(0)
                if sheet.header:
                    yield sheet.header, rows

    async def _batches(
        self, roster: Roster, encoding: str
    ) -> AsyncIterator[tuple[Header, list[Row]]]:
        """The rows that are not done yet, 1,000 at a time."""
        skip, waiting = roster.done_rows, list[Row]()
        async for header, rows in self._rows(roster, encoding):
            waiting += rows[skip:]
            skip = max(0, skip - len(rows))
            while len(waiting) >= BATCH:
                yield header, waiting[:BATCH]
                waiting = waiting[BATCH:]
        if waiting:
            yield header, waiting

    async def _judged(self, roster: Roster, encoding: str) -> AsyncIterator[tuple[Header, Judged]]:
        """The batches, each judged while the database is busy with the one before."""
        ahead: asyncio.Future[tuple[Header, Judged]] | None = None
        try:
            async for header, rows in self._batches(roster, encoding):
                ready, ahead = ahead, asyncio.ensure_future(self._judge(header, rows))
                if ready:
                    yield await ready
            if ahead:
                yield await ahead
        finally:
            if ahead:
                ahead.cancel()

    async def _judge(self, header: Header, rows: list[Row]) -> tuple[Header, Judged]:
        today, judged = beijing_date(self._means.clock()), Judged()
        for at in range(0, len(rows), SLICE):
            judge(rows[at : at + SLICE], header, self._sealer, judged, today=today)
            await asyncio.sleep(0)
        return header, judged

    async def _import_batch(
        self, roster: UUID, organization: Organization, header: Header, judged: Judged, *,
        done: int,
    ) -> None:  # fmt: skip
        while True:
            try:
                async with self._means.database.transaction() as store:
                    await self._check_in_step(store, roster, done)
                    around = await self._surroundings(store, roster, organization, judged)
                    batch = Batch(header, around, judged.refused, at=self._means.clock())
                    for at in range(0, len(judged.entries), SLICE):
                        batch.settle(judged.entries[at : at + SLICE])
                        await asyncio.sleep(0)
                    await _write(store, roster, batch)
                return
            except asyncpg.UniqueViolationError as error:
                if error.constraint_name != "one_standing":
                    raise
                # Someone has joined meanwhile: look again.

    async def _check_in_step(self, store: Store, roster: UUID, done: int) -> None:
        held = await store.rosters.lock(roster)
        if held.done_rows != done or held.state is not RosterState.IMPORTING:
            raise Overtaken(str(roster))

    async def _surroundings(
        self, store: Store, roster: UUID, organization: Organization, judged: Judged
    ) -> Surroundings:
        codes = {row.entry.organization_code for row in judged.entries} - {""}
        below: dict[str, Organization] = {}
        if codes:
            below = await store.organizations.with_codes(list(codes), within=organization.path)
        indexes = [row.index for row in judged.entries]
        known = await store.people.known(indexes, node=self._means.node)
        lines: dict[str, int] = {}
        if known:
            names = [one.name for one in known.values()]
            lines = await store.roster_rows.lines_of(roster, names)
        return Surroundings(
            node=self._means.node, organization=organization, below=below, known=known,
            lines=lines,
        )  # fmt: skip

    async def _save(self, roster: Roster) -> None:
        """Save what has changed but for the counts; what has ended needs its content no more."""
        async with self._means.database.transaction() as store:
            held = await store.rosters.lock(roster.id)
            if held.state is not RosterState.IMPORTING:
                raise Overtaken(str(roster.id))
            await store.rosters.save(roster)
            if roster.has_ended:
                await store.rosters.forget_content(roster.id)
        self._progress.move()


async def _write(store: Store, roster: UUID, batch: Batch) -> None:
    """All that a batch changes, in the transaction that holds the roster."""
    if batch.people:
        await store.people.add_all(batch.people)
        await store.outbox.put(*batch.admissions, *batch.submissions)
    if batch.members:
        await store.members.add_all(batch.members, batch.admissions)
    if batch.applications:
        await store.applications.add_all(batch.applications, batch.submissions)
    await store.roster_rows.add_all(roster, batch.results)
    await store.rosters.advance(roster, Counter(result.outcome for result in batch.results))
