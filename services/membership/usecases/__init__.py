"""The use cases of membership.  Each mutation is one transaction: load, decide, save, announce."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from kit.db import Database
from kit.headers import Header
from kit.organizations import Organization
from services.membership.store import Reads, Store


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
    committed: Callable[[], None] = lambda: None
    """Called after each commit that announces something."""
    clock: Callable[[], datetime] = utc_now

    async def check_writable(self, store: Store, organization: UUID, *, name: str) -> None:
        """Whether this node may write what belongs to an organisation.

        Raises:
            OrganizationNotFound, OrganizationAbove, OwnedElsewhere: if it may not.
        """
        found = await store.organizations.get(organization, name=name)
        found.check_writable(home=self.home.path, node=self.node)

    def new_header(self) -> Header:
        """The header of a record that this node makes."""
        return Header(origin=self.node, salt=new_salt())


def new_salt() -> str:
    """32 hex digits that nobody can guess."""
    return secrets.token_hex(16)
