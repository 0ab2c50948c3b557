"""What notify keeps in PostgreSQL: one repository per aggregate, SQL in full view."""

from uuid import UUID

from kit.calls import Calls
from kit.db import Connection, Pool
from kit.log import Outbox
from kit.roll import Roll
from kit.tree import Organizations
from services.notify.store.inbox import Inbox
from services.notify.store.notices import Notices, ReadCounts
from services.notify.store.voices import Keys, Voices


class Store:
    """One transaction: all repositories on one connection, committed or undone together."""

    def __init__(self, conn: Connection, keys: Keys, node: UUID) -> None:
        self.organizations = Organizations(conn)
        self.notices = Notices(conn, node)
        self.read_counts = ReadCounts(conn, node)
        self.voices = Voices(conn, keys, node)
        self.inbox = Inbox(conn, keys, node)
        self.calls = Calls(conn, keys.keyring)
        self.outbox = Outbox(conn)


class Reads:
    """What is only read, or is one statement: each on a connection of its own."""

    def __init__(self, pool: Pool, keys: Keys, node: UUID) -> None:
        self.organizations = Organizations(pool)
        self.roll = Roll(pool)
        self.voices = Voices(pool, keys, node)
        self.notices = Notices(pool, node)
        self.inbox = Inbox(pool, keys, node)
