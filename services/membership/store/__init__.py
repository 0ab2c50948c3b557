"""What membership keeps in PostgreSQL: one repository per aggregate, SQL in full view."""

from uuid import UUID

from kit.calls import Calls
from kit.db import Connection, Pool
from kit.log import Outbox
from kit.sealing import Sealer
from kit.tree import Organizations
from services.membership.store.bindings import Bindings
from services.membership.store.members import Applications, Members
from services.membership.store.officers import Officers
from services.membership.store.people import People
from services.membership.store.rosters import RosterRows, Rosters


class Store:
    """One transaction: all repositories on one connection, committed or undone together."""

    def __init__(self, conn: Connection, sealer: Sealer, node: UUID) -> None:
        self.organizations = Organizations(conn)
        self.people = People(conn, sealer)
        self.applications = Applications(conn, sealer, node)
        self.members = Members(conn, sealer, node)
        self.officers = Officers(conn, node)
        self.bindings = Bindings(conn, sealer, node)
        self.rosters = Rosters(conn, sealer)
        self.roster_rows = RosterRows(conn, sealer)
        self.calls = Calls(conn, sealer)
        self.outbox = Outbox(conn)


class Reads:
    """What is only read: each statement on a connection of its own, without a transaction."""

    def __init__(self, pool: Pool, sealer: Sealer, node: UUID) -> None:
        self.organizations = Organizations(pool)
        self.applications = Applications(pool, sealer, node)
        self.members = Members(pool, sealer, node)
        self.officers = Officers(pool, node)
        self.rosters = Rosters(pool, sealer)
        self.roster_rows = RosterRows(pool, sealer)
