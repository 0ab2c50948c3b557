"""What membership keeps in PostgreSQL: one repository per aggregate, SQL in full view."""

from uuid import UUID

from kit.calls import Calls
from kit.db import Connection, Pool
from kit.log import Outbox
from kit.sealing import Keyring
from kit.tree import Organizations
from services.membership.store.bindings import Bindings
from services.membership.store.consents import Consents
from services.membership.store.members import Applications, Members
from services.membership.store.officers import Officers
from services.membership.store.people import People
from services.membership.store.rosters import RosterRows, Rosters


class Store:
    """One transaction: all repositories on one connection, committed or undone together."""

    def __init__(self, conn: Connection, keyring: Keyring, node: UUID) -> None:
        self.organizations = Organizations(conn)
        self.people = People(conn, keyring, node)
        self.applications = Applications(conn, keyring, node)
        self.members = Members(conn, keyring, node)
        self.consents = Consents(conn)
        self.officers = Officers(conn, node)
        self.bindings = Bindings(conn, keyring, node)
        self.rosters = Rosters(conn, keyring)
        self.roster_rows = RosterRows(conn, keyring)
        self.calls = Calls(conn, keyring)
        self.outbox = Outbox(conn)


class Reads:
    """What is only read: each statement on a connection of its own, without a transaction."""

    def __init__(self, pool: Pool, keyring: Keyring, node: UUID) -> None:
        self.organizations = Organizations(pool)
        self.people = People(pool, keyring, node)
        self.applications = Applications(pool, keyring, node)
        self.members = Members(pool, keyring, node)
        self.consents = Consents(pool)
        self.officers = Officers(pool, node)
        self.rosters = Rosters(pool, keyring)
        self.roster_rows = RosterRows(pool, keyring)
