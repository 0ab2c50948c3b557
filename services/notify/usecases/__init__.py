"""The use cases of notify.  Each mutation is one transaction: load, decide, save, announce."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from kit.db import Database
from kit.headers import Header
from kit.ids import uuid_of
from kit.organizations import Organization
from kit.roll import Enrolled
from kit.rpc import Page, PageTokenForeign, caller, uuid_in
from services.notify.store import Reads, Store

LAST = UUID(int=2**128 - 1)


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

    def new_header(self) -> Header:
        """The header of a record that this node makes."""
        return Header(origin=self.node, salt=new_salt())


def new_salt() -> str:
    """32 hex digits that nobody can guess."""
    return secrets.token_hex(16)


async def member_who_calls(means: Means) -> Enrolled:
    """Raises NotAMember unless an active member of this node calls."""
    return await means.reads.roll.member(uuid_in(caller.get(), "members"))


def before(page: Page) -> UUID:
    """Where a list that begins with the newest goes on."""
    try:
        return uuid_of(page.key) if page.key else LAST
    except ValueError:
        raise PageTokenForeign() from None
