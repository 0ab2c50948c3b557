"""The table `bindings`: which person (see kit/identity.py) is which member.

Membership writes it; the other services of the node follow (kit/local.py).
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from kit.authority import OfficesUnread
from kit.db import Pool, to_uuid
from kit.records import LOCAL, Kind, section_of
from smartunion.membership.v1.records_pb2 import PublicBinding

LOOK = 1.0
"""Seconds after which is looked again whether a person is still bound."""

MOST_REMEMBERED = 10_000

COLUMNS = "origin, id, owner_epoch, version, hash, public, person, member, active"


def parse(section: bytes) -> tuple[Any, ...]:
    """The person, the member, and whether it counts, in a section `public`.  Raises ValueError if
    it is none."""
    public = section_of(PublicBinding, section)
    return to_uuid(public.person), to_uuid(public.member), public.active


BINDINGS = Kind(
    name="bindings",
    table="bindings",
    fields={"person": "uuid", "member": "uuid", "active": "boolean"},
    parse=parse,
    channel=LOCAL,
)


class Bindings:
    """Whom a person is at this node, asked at each of their calls."""

    def __init__(
        self, pool: Pool, node: UUID, *, known: asyncio.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """`known`: set once membership's log was read here."""
        self._pool, self._node, self._known, self._clock = pool, node, known, clock
        self._remembered: dict[str, tuple[str, float]] = {}
        """By person: the member, and until when that is taken from here."""

    async def member(self, person: str) -> str | None:
        """The name of the member that a person is; None if they are none.

        Raises:
            OfficesUnread: if that is not known yet.
        """
        found = self._remembered.get(person)
        if found is None or self._clock() >= found[1]:
            found = await self._read(person)
        return found[0] if found else None

    async def _read(self, person: str) -> tuple[str, float] | None:
        self._remembered.pop(person, None)
        member = await self._pool.fetchval(
            "SELECT member FROM bindings WHERE origin = $1 AND person = $2 AND active",
            self._node, UUID(person.partition("/")[2]),
        )  # fmt: skip
        if member is None:
            if not self._known.is_set():
                raise OfficesUnread()
            return None
        if len(self._remembered) >= MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        found = f"members/{member}", self._clock() + LOOK
        self._remembered[person] = found
        return found
