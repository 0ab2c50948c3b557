"""Status lists: made again when a card was revoked, and handed down to all nodes below."""

import logging
from dataclasses import replace
from datetime import datetime

from kit.db import PASSING
from kit.headers import new_header
from kit.waiting import waited
from services.benefits import events
from services.benefits.domain import lists as domain
from services.benefits.domain.lists import REMAKE, VALID, ListRecord, StatusList
from services.benefits.store import Store
from services.benefits.usecases import Means

POLL = 2.0
"""Seconds between two looks for revoked cards and for lists from below."""

logger = logging.getLogger(__name__)


class Lists:
    """Keeps the node's own list true, and hands down what is newer than what was handed down."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._made_time: datetime | None = None
        self._counted = -1

    async def run(self) -> None:
        """Until cancelled.  What passes by itself is survived by beginning again."""
        while True:
            try:
                await self.step()
            except PASSING as error:
                logger.info("lists begin again", extra={"error": type(error).__name__})
            await waited(self._means.revoked, POLL)

    async def step(self) -> None:
        """Make and share what is due."""
        at = self._means.clock()
        count = await self._means.reads.cards.count_revoked()
        recent = self._made_time is not None and at < self._made_time + REMAKE
        if not recent or count != self._counted:
            async with self._means.database.transaction() as store:
                self._made_time = await self._make(store, at)
            self._counted = count
        async with self._means.database.transaction() as store:
            shared = await self._share(store, at)
        if shared or not recent:
            self._means.committed()

    async def _make(self, store: Store, at: datetime) -> datetime:
        """Sign a new list unless the last says the same and is recent; when the list was signed."""
        last = await store.lists.lock()
        bits = domain.bits_of(await store.cards.revoked())
        public_key = self._means.key.public_key().public_bytes_raw()
        held = domain.newest([last.signed] if last else [], public_key, node=self._means.node)
        if held and held.bits == bits and at < held.sign_time + REMAKE:
            return held.sign_time
        status_list = StatusList(
            node=self._means.node, number=max(int(at.timestamp()), last.number + 1 if last else 1),
            sign_time=at, expire_time=at + VALID, bits=bits,
        )  # fmt: skip
        signed = domain.signed(status_list, self._means.key)
        fact = domain.StatusListSigned(node=f"nodes/{self._means.node}", occur_time=at)
        await self._save(store, "status_lists", last, status_list.number, signed, fact)
        return at

    async def _share(self, store: Store, at: datetime) -> int:
        newer = await store.lists.lock_unshared()
        for record, last in newer:
            fact = domain.StatusListShared(node=f"nodes/{record.id}", occur_time=at)
            last = last or ListRecord(id=record.id, header=new_header(self._means.node))
            await self._save(store, "shared_status_lists", last, record.number, record.signed, fact)
        return len(newer)

    async def _save(
        self, store: Store, table: str, last: ListRecord | None, number: int, signed: bytes,
        fact: domain.StatusListSigned | domain.StatusListShared,
    ) -> None:  # fmt: skip
        if last is None:
            last = ListRecord(id=self._means.node, header=new_header(self._means.node))
        header = last.header.next(resource=table) if last.number else last.header
        record = replace(last, header=header, number=number, signed=signed)
        change = events.of_list(record, fact)
        await store.lists.save(table, record, change)
        await store.outbox.put(change)
