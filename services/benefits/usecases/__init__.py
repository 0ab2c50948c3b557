"""The use cases of benefits.  Each mutation is one transaction: load, decide, save, announce."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit.db import Database
from kit.headers import Header
from kit.ids import uuid_of
from kit.organizations import Organization, organization_in
from kit.rpc import Page, PageTokenForeign
from services.benefits.store import Reads, Store

FIRST, LAST = UUID(int=0), UUID(int=2**128 - 1)


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What every use case works with."""

    database: Database[Store]
    reads: Reads
    node: UUID
    home: Organization
    """The organisation that the node serves."""
    key: Ed25519PrivateKey
    """The node's: cards and status lists are signed with it."""
    card_valid: timedelta
    """How long the text of a card is good."""
    committed: Callable[[], None] = lambda: None
    """Called after each commit that announces something."""
    clock: Callable[[], datetime] = utc_now
    revoked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when an officer has revoked a card: the status list is made again at once."""

    async def check_writable(self, store: Store, organization: UUID, *, name: str = "") -> None:
        """Whether this node may write what belongs to an organisation.

        Raises:
            OrganizationNotFound, OrganizationAbove, OwnedElsewhere: if it may not.
        """
        found = await store.organizations.get(organization, name=name)
        found.check_writable(home=self.home.path, node=self.node)

    async def path_of(self, parent: str) -> str:
        """The path of the organisation that a list is asked for."""
        found = organization_in(parent, field="parent")
        return (await self.reads.organizations.get(found, name=parent)).path


def new_header(node: UUID) -> Header:
    """The header of a record that this node makes."""
    return Header(origin=node, salt=secrets.token_hex(16))


def after(page: Page, first: UUID = FIRST) -> UUID:
    """The id after which a list goes on.  Raises PageTokenForeign."""
    try:
        return uuid_of(page.key) if page.key else first
    except ValueError:
        raise PageTokenForeign() from None


def before(page: Page) -> UUID:
    """The id before which a list goes on, the newest first.  Raises PageTokenForeign."""
    return after(page, LAST)
