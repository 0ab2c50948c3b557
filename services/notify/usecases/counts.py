"""How many have read: counted in the background, so that reading writes one row and no record."""

import asyncio
import logging

from kit.db import PASSING
from kit.headers import new_header
from services.notify import events
from services.notify.domain.notices import ReadCount, count_id
from services.notify.usecases import Means

COUNT_EVERY = 2.0
"""Seconds between two counts."""

logger = logging.getLogger(__name__)


class Counting:
    def __init__(self, means: Means) -> None:
        self._means = means

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.step()
            except PASSING as error:
                logger.info("counting begins again", extra={"error": type(error).__name__})
            await asyncio.sleep(COUNT_EVERY)

    async def step(self) -> None:
        """Bring the records of this node up to what its members have read."""
        node, at = self._means.node, self._means.clock()
        async with self._means.database.transaction() as store:
            if not await store.read_counts.lead():
                return
            taken = await store.read_counts.take()
            for notice, origin, readers in taken:
                known = await store.read_counts.lock(notice, origin)
                if known is None:
                    known = ReadCount(
                        id=count_id(notice, node), header=new_header(self._means.node),
                        notice=notice, notice_origin=origin, readers=0,
                    )  # fmt: skip
                counted, fact = known.count(readers, at=at)
                change = events.count_change(counted, fact)
                await store.read_counts.save(counted, change)
                await store.outbox.put(change)
        if taken:
            self._means.committed()
