"""The door for records of others: whose copies are kept, and what members on the roll lead to."""

from collections.abc import Sequence
from uuid import UUID

from kit.db import Connection
from kit.follower import Effect
from kit.ids import utc_now
from kit.records import Kind
from kit.roll import Roll, erased
from services.notify.events import HANDLINGS, NOTICES, READ_COUNTS, REPLIES, VOICES
from services.notify.store import Store
from services.notify.store.voices import Keys
from services.notify.usecases.voices import erase
from smartunion.event.v1 import log_pb2

KINDS: tuple[Kind, ...] = (NOTICES, READ_COUNTS, VOICES, HANDLINGS, REPLIES)


def enrolling(keys: Keys, node: UUID) -> Effect:
    """What membership's entries lead to: the roll is kept, and who is erased there is so here."""

    async def enrol(conn: Connection, entries: Sequence[log_pb2.Entry]) -> None:
        await Roll(conn).put(entries)
        if members := erased(entries):
            await erase(Store(conn, keys, node), members, at=utc_now())

    return enrol
