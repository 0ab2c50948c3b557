"""What sync keeps in PostgreSQL: one repository per aggregate, SQL in full view."""

from kit.calls import Calls
from kit.db import Connection
from kit.log import Outbox
from kit.sealing import Keyring
from services.sync.store.directives import DirectiveReports, Directives
from services.sync.store.enrollments import Enrollments, Invitations
from services.sync.store.frames import Frames
from services.sync.store.homes import Homes
from services.sync.store.keys import TrustedKeys
from services.sync.store.nodes import Nodes
from services.sync.store.streams import Streams
from services.sync.store.uplink import Uplink
from services.sync.store.views import Sections, ViewReports, Views
from services.sync.store.watching import Arrivals, Subscribers


class Store:
    """One transaction: all repositories on one connection, committed or undone together."""

    def __init__(self, conn: Connection, keyring: Keyring) -> None:
        self.nodes = Nodes(conn)
        self.homes = Homes(conn)
        self.invitations = Invitations(conn)
        self.enrollments = Enrollments(conn, keyring)
        self.uplink = Uplink(conn, keyring)
        self.streams = Streams(conn)
        self.frames = Frames(conn)
        self.arrivals = Arrivals(conn)
        self.trusted_keys = TrustedKeys(conn)
        self.directives = Directives(conn)
        self.directive_reports = DirectiveReports(conn)
        self.views = Views(conn)
        self.view_reports = ViewReports(conn)
        self.sections = Sections(conn)
        self.subscribers = Subscribers(conn)
        self.outbox = Outbox(conn)
        self.calls = Calls(conn, keyring)
