"""The door for records of others: whose copies are kept, and what members on the roll lead to."""

from collections.abc import Sequence

from kit.db import Connection
from kit.records import Kind
from kit.roll import Roll
from services.notify.events import HANDLINGS, NOTICES, READ_COUNTS, REPLIES, VOICES
from smartunion.event.v1 import log_pb2

KINDS: tuple[Kind, ...] = (NOTICES, READ_COUNTS, VOICES, HANDLINGS, REPLIES)


async def enrol(conn: Connection, entries: Sequence[log_pb2.Entry]) -> None:
    """Keep the roll, by what membership announced."""
    await Roll(conn).put(entries)
