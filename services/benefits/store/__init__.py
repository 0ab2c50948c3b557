"""What benefits keeps in PostgreSQL: one repository per aggregate, SQL in full view."""

from uuid import UUID

from kit.calls import Calls
from kit.db import Connection, Pool
from kit.log import Outbox
from kit.roll import Roll
from kit.sealing import Keyring
from kit.tree import Organizations
from services.benefits.store.cards import Cards
from services.benefits.store.coupons import Coupons
from services.benefits.store.lists import Lists
from services.benefits.store.programmes import Drafts, Programmes, Stocks


class Store:
    """One transaction: all repositories on one connection, committed or undone together."""

    def __init__(self, conn: Connection, keyring: Keyring, node: UUID) -> None:
        self.organizations = Organizations(conn)
        self.roll = Roll(conn)
        self.cards = Cards(conn, keyring, node)
        self.lists = Lists(conn, node)
        self.programmes = Programmes(conn, node)
        self.drafts = Drafts(conn, node)
        self.stocks = Stocks(conn, node)
        self.coupons = Coupons(conn, node)
        self.calls = Calls(conn, keyring)
        self.outbox = Outbox(conn)


class Reads:
    """What is only read: each statement on a connection of its own, without a transaction."""

    def __init__(self, pool: Pool, keyring: Keyring, node: UUID) -> None:
        self.organizations = Organizations(pool)
        self.roll = Roll(pool)
        self.cards = Cards(pool, keyring, node)
        self.lists = Lists(pool, node)
        self.programmes = Programmes(pool, node)
        self.drafts = Drafts(pool, node)
        self.stocks = Stocks(pool, node)
        self.coupons = Coupons(pool, node)
