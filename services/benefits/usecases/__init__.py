"""The use cases of benefits.  Each mutation is one transaction: load, decide, save, announce."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit.db import Database
from kit.ids import utc_now
from kit.organizations import Organization
from services.benefits.store import Reads, Store


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
