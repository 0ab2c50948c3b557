"""The bell: how those who watch an inbox learn that something has come, at one query for all."""

import asyncio
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from kit.db import PASSING
from kit.waiting import waited
from services.notify.domain.inbox import Arrival
from services.notify.store import Reads
from services.notify.store.inbox import EVER

LOOK = 0.25
"""Seconds after which is looked for what other processes have brought."""

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Watcher:
    """A member who watches."""

    member: UUID
    path: str
    """Of the member's organisation."""
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class Bell:
    """Wakes those of this process who watch, when something has come for them."""

    def __init__(self, reads: Reads, stop: asyncio.Event) -> None:
        self._reads, self._stop = reads, stop
        self._watchers = set[Watcher]()
        self.wake = asyncio.Event()
        """Set after a commit of this process; others are seen within LOOK."""

    @property
    def stopping(self) -> bool:
        """Whether this process is about to end."""
        return self._stop.is_set()

    @contextmanager
    def watching(self, member: UUID, path: str) -> Iterator[Watcher]:
        """Somebody watches until the end of the block."""
        watcher = Watcher(member, path)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.remove(watcher)

    async def run(self) -> None:
        """Until cancelled."""
        since, known = EVER, set[UUID]()
        while True:
            await waited(self.wake, LOOK)
            if self._stop.is_set():
                self._wake(self._watchers)
            elif not self._watchers:
                since = EVER
                continue
            try:
                following = await self._reads.inbox.horizon()
                arrivals = [] if since == EVER else await self._reads.inbox.arrivals(since)
            except PASSING as error:
                logger.info("bell begins again", extra={"error": type(error).__name__})
                continue
            if since == EVER:  # Those who came meanwhile have not been told of anything.
                self._wake(self._watchers)
            fresh = [one for one in arrivals if one.id not in known]
            self._wake({one for one in self._watchers if _concern(fresh, one)})
            since, known = following, {one.id for one in arrivals}

    def _wake(self, watchers: Iterable[Watcher]) -> None:
        for watcher in watchers:
            watcher.woken.set()


def _concern(arrivals: Iterable[Arrival], watcher: Watcher) -> bool:
    return any(one.is_for(watcher.member, watcher.path) for one in arrivals)
