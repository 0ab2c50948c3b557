"""The table `offices`: membership's records, and what the other services of the node know of them.

Membership writes it; the other services of the node follow (kit/local.py).
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from google.protobuf.message import Message

from kit.authority import Office, Role
from kit.db import PASSING, Pool, to_uuid
from kit.ids import utc_now
from kit.records import LOCAL, Kind, section_of
from kit.waiting import waited
from smartunion.membership.v1.records_pb2 import PublicOffice

LOOK = 1.0
"""Seconds after which is looked for what other processes have changed."""

COLUMNS = """origin, id, owner_epoch, version, hash, public,
             holder, organization, role, begin_time, end_time"""

logger = logging.getLogger(__name__)


def parse(section: bytes) -> tuple[Any, ...]:
    """The holder, organisation, role, beginning and end in a section `public`.

    Raises:
        ValueError: if it is none, or of a role that this version of the software does not know.
    """
    public = section_of(PublicOffice, section)
    return (
        public.holder, to_uuid(public.organization), int(Role(public.role)),
        public.begin_time.ToDatetime(UTC), time_in(public, "end_time"),
    )  # fmt: skip


def time_in(public: Message, field: str) -> datetime | None:
    """A time of a section that may be absent."""
    found: datetime = getattr(public, field).ToDatetime(UTC)
    return found if public.HasField(field) else None


OFFICES = Kind(
    name="offices",
    table="offices",
    fields={
        "holder": "text",
        "organization": "uuid",
        "role": "smallint",
        "begin_time": "timestamptz",
        "end_time": "timestamptz",
    },
    parse=parse,
    channel=LOCAL,
)


class Offices:
    """All offices of the node, in memory: whom the gate lets in is asked at every call."""

    def __init__(
        self, pool: Pool, node: UUID, *, known: bool = True,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:  # fmt: skip
        self._pool, self._node, self.clock = pool, node, clock
        self.known = asyncio.Event()
        """Set once membership's log was read here: before, nobody can be refused for good."""
        if known:
            self.known.set()
        self._lock = asyncio.Lock()
        self._stamp: object = None
        self._held: Mapping[str, Sequence[Office]] = {}
        self._seats: Mapping[str, Sequence[Office]] = {}
        self.wake = asyncio.Event()
        """Set after a commit of this process; others are seen within LOOK."""

    def of(self, holder: str) -> Sequence[Office]:
        """Those of one holder, also those that do not count now."""
        return self._held.get(holder, ())

    def at(self, path: str) -> Sequence[Office]:
        """Those of exactly one organisation, also those that do not count now."""
        return self._seats.get(path, ())

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.refresh()
            except PASSING as error:
                logger.info("offices not read", extra={"error": type(error).__name__})
            await waited(self.wake, LOOK)

    async def refresh(self) -> None:
        """Read them again if anything has changed."""
        async with self._lock:
            stamp = await self._pool.fetchval(
                "SELECT sum(hashtextextended(encode(hash, 'hex'), 0)) FROM offices"
                " WHERE origin = $1",
                self._node,
            )
            if stamp == self._stamp:
                return
            rows = await self._pool.fetch(
                """
                SELECT offices.id, holder, role, path, begin_time, end_time
                  FROM offices JOIN organizations ON organizations.id = organization
                 WHERE origin = $1
                """,
                self._node,
            )
            held: dict[str, list[Office]] = {}
            seats: dict[str, list[Office]] = {}
            for row in rows:
                office = Office(**{**row, "role": Role(row["role"])})
                held.setdefault(office.holder, []).append(office)
                seats.setdefault(office.path, []).append(office)
            self._held, self._seats, self._stamp = held, seats, stamp
            if held:
                self.known.set()
