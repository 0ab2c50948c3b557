"""The use cases of membership.  Each mutation is one transaction: load, decide, save, announce."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kit.db import Database
from kit.ids import utc_now
from kit.organizations import Organization
from services.membership.domain.consents import Texts
from services.membership.store import Reads, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What every use case works with."""

    database: Database[Store]
    reads: Reads
    node: UUID
    home: Organization
    """The organisation that the node serves."""
    texts: Texts
    """What people are told of the use of their data."""
    committed: Callable[[], None] = lambda: None
    """Called after each commit that announces something."""
    clock: Callable[[], datetime] = utc_now
