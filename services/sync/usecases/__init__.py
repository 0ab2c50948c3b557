"""The use cases of sync.  Each is one transaction: load, decide, save, announce."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit.db import Connection, Database, Pool
from kit.ids import utc_now
from kit.sealing import Keyring
from services.sync.domain.nodes import Node
from services.sync.domain.views import NOTHING, Shown
from services.sync.store import Store
from services.sync.usecases.wants import Wants
from smartunion.sync.v1 import sync_pb2


@dataclass(slots=True, kw_only=True)
class Means:
    """What every use case works with."""

    pool: Pool
    keyring: Keyring
    own: Node
    """This node; its parent is not known here."""
    signer: Ed25519PrivateKey
    """Its key."""
    services: Sequence[str]
    """Those of this node: of every node below, the same are expected."""
    committed: Callable[[], None] = lambda: None
    """Called after each commit that announces something."""
    clock: Callable[[], datetime] = utc_now
    shown: Shown = NOTHING
    """What the view in force shows here and above: kept up to date by `views.Views`."""
    wants: Wants = field(default_factory=Wants)
    stored: list[Callable[[set[str]], None]] = field(default_factory=list)
    """Called with the services of which frames were stored, after each commit."""
    wanted: Callable[[sync_pb2.Want], None] = lambda want: None
    """Called with what a child misses of what travels down."""

    def transaction(self) -> AbstractAsyncContextManager[Store]:
        """All or nothing."""
        return Database(self.pool, self.on).transaction()

    @asynccontextmanager
    async def look(self) -> AsyncIterator[Store]:
        """For a single statement, which needs no transaction."""
        async with self.pool.acquire() as conn:
            yield self.on(conn)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Store]:
        """What is read in it is all of one moment."""
        async with (
            self.pool.acquire() as conn,
            conn.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield self.on(conn)

    def on(self, conn: Connection) -> Store:
        """What is kept, on a connection of the caller's own."""
        return Store(conn, self.keyring)

    def tell(self, services: set[str]) -> None:
        """Frames of these services were stored."""
        for told in self.stored:
            told(services)
