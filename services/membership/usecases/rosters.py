"""Rosters: the upload of a file, and how it goes on."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import suppress
from uuid import UUID

from kit.authority import scope
from kit.ids import uuid7
from kit.rpc import Call, Page, PageTokenForeign, uuid_in
from services.membership.domain.rosters import (
    Roster,
    RosterNameChanged,
    RosterState,
    RosterUnfinished,
    Stopping,
    announce_roster,
)
from services.membership.domain.rows import RowResult
from services.membership.store import Store
from services.membership.usecases import Means
from services.membership.workbooks.writing import ResultBook

MOST_LINE_DIGITS = 18
"""Of the number of a line in a page token: what PostgreSQL's bigint holds in any case."""
LOOK = 0.2
"""Seconds after which a watcher looks at a roster that another replica may be importing."""
RESULT_ROWS = 200
"""Rows of a result file that are written before calls get their turn."""


class Progress:
    """Wakes those of this process who watch an import, and the one who does it."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self.uploaded = asyncio.Event()
        """Set when there is something to import."""
        self._moved = asyncio.Event()

    def move(self) -> None:
        """Tell all watchers to look."""
        self._moved.set()
        self._moved = asyncio.Event()

    async def moved(self) -> None:
        """When `move` is called, or after a moment in any case.

        Raises:
            Stopping: if this process is about to end.
        """
        if self._stop.is_set():
            raise Stopping()
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK):
                await self._moved.wait()


class Rosters:
    def __init__(self, means: Means, progress: Progress) -> None:
        self._means, self._progress = means, progress

    async def create(
        self, parent: str, *, file_name: str, size_bytes: int, sha256: bytes, call: Call
    ) -> Roster:
        async with self._means.database.transaction() as store:
            organization = await store.organizations.of_new(parent, scope.get())
            if earlier := await store.calls.earlier(call, Roster):
                return earlier
            roster = announce_roster(
                id=uuid7(), organization=organization.id, file_name=file_name,
                size_bytes=size_bytes, sha256=sha256, by=call.caller,
            )  # fmt: skip
            organization.check_writable(home=self._means.home.path, node=self._means.node)
            await store.rosters.add(roster)
            await store.calls.answer(call, roster)
        return roster

    async def get(self, roster: UUID) -> Roster:
        return await self._means.reads.rosters.get(roster, scope=scope.get())

    async def receive(self, roster: UUID, offset: int | None, content: bytes) -> Roster:
        """Keep a part; with the last one the check begins, or the file is refused.

        Args:
            offset: where it begins; None: where the part before ended.
        """
        async with self._means.database.transaction() as store:
            held = await store.rosters.lock(roster, scope=scope.get())
            place = held.received_bytes
            received, fresh = held.receive(place if offset is None else offset, content)
            if fresh:
                await store.rosters.add_part(roster, place, fresh)
            if received.state is RosterState.UPLOADING and received.is_complete:
                received = received.complete(await _sha256(store, roster))
                if received.has_ended:
                    await store.rosters.forget_content(roster)
            await store.rosters.save(received)
        self._progress.uploaded.set()
        return received

    async def commit(self, name: UUID, *, call: Call) -> Roster:
        """Import what was checked, by the word of another officer than who brought it.  Each row is
        checked again: the world may have moved."""
        async with self._means.database.transaction() as store:
            roster = await store.rosters.lock(name, scope=scope.get())
            if earlier := await store.calls.earlier(call, Roster):
                return earlier
            committed = roster.commit(by=call.caller)
            scope.get().check_second(roster.name, filer=roster.creator)
            await store.rosters.save(committed)
            await store.rosters.begin_again(name)
            committed = await store.rosters.get(name, scope=scope.get())
            await store.calls.answer(call, committed)
        self._progress.uploaded.set()
        return committed

    async def discard(self, name: UUID, *, call: Call) -> Roster:
        """Give a roster up before it has changed anything."""
        async with self._means.database.transaction() as store:
            roster = await store.rosters.lock(name, scope=scope.get())
            if earlier := await store.calls.earlier(call, Roster):
                return earlier
            discarded = roster.discard()
            await store.rosters.save(discarded)
            await store.rosters.forget_content(name)
            await store.rosters.begin_again(name)
            discarded = await store.rosters.get(name, scope=scope.get())
            await store.calls.answer(call, discarded)
        self._progress.move()
        return discarded

    async def result(self, name: UUID) -> AsyncIterator[bytes]:
        """The result file, in parts.

        Raises:
            RosterUnfinished: unless its rows stand still, from the first part to the last.
        """
        roster = await self.get(name)
        roster.check_has_result()
        book = ResultBook(roster)
        after, rows = 0, list[RowResult]()
        while after == 0 or rows:
            rows = await self._means.reads.roster_rows.page(
                name, outcome=0, after=after, limit=RESULT_ROWS
            )
            after = rows[-1].line if rows else -1
            if content := book.add(rows):
                yield content
            await asyncio.sleep(0)
        now = await self.get(name)
        if now.state is not roster.state:
            raise RosterUnfinished(roster=roster.name, state=now.state.name)
        yield book.end()

    async def watch(self, name: UUID) -> AsyncIterator[Roster]:
        """The roster now, and whenever it has changed, until it rests."""
        shown = None
        while True:
            roster = await self.get(name)
            if roster != shown:
                yield roster
                shown = roster
            if roster.rests:
                return
            await self._progress.moved()

    async def page_of_rows(
        self, name: UUID, *, outcome: int, page: Page
    ) -> tuple[list[RowResult], str | None]:
        """Results in order of line, and the key of the next page."""
        roster = await self.get(name)
        found = await self._means.reads.roster_rows.page(
            roster.id, outcome=outcome, after=_line(page), limit=page.size + 1
        )
        return page.cut(found, key=lambda row: str(row.line))


class Upload:
    """One stream of parts of one roster."""

    def __init__(self, rosters: Rosters) -> None:
        self._rosters = rosters
        self._roster: UUID | None = None

    async def receive(self, name: str, offset: int, content: bytes) -> None:
        """One message; after the first, `name` and `offset` may be left out.

        Raises:
            RosterNameChanged: if a later message names another roster.
        """
        if self._roster is None:
            self._roster = uuid_in(name, "rosters")
            place: int | None = offset
        elif name and uuid_in(name, "rosters") != self._roster:
            raise RosterNameChanged(roster=f"rosters/{self._roster}")
        else:
            place = offset or None
        await self._rosters.receive(self._roster, place, content)

    async def received(self) -> Roster:
        """The roster after the last message."""
        return await self._rosters.get(self._roster or uuid_in("", "rosters"))


async def _sha256(store: Store, roster: UUID) -> str:
    digest = hashlib.sha256()
    async for part in store.rosters.parts(roster):
        digest.update(part)
    return digest.hexdigest()


def _line(page: Page) -> int:
    if page.key and not (page.key.isdigit() and len(page.key) <= MOST_LINE_DIGITS):
        raise PageTokenForeign()
    return int(page.key or 0)
