"""What every record has besides its own fields, whoever owns it."""

import secrets
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from kit.organizations import OwnedElsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Where a record comes from, and which of its states this is."""

    origin: UUID
    """The node that owns it."""
    copy: bool = False
    """Whether it is a copy, held above its owner."""
    certify_time: datetime | None = None
    """When the owner last certified the copies, by its clock; None for an own record."""
    owner_epoch: int = 1
    version: int = 1
    salt: str = ""
    """32 hex digits, fixed for the life of the record; empty in a copy."""
    hash: str = ""
    """32 hex digits: of the state that the table holds; empty if it holds none yet."""

    def next(self, *, resource: str) -> "Header":
        """The header of the state that follows.

        Raises:
            OwnedElsewhere: if the record is a copy.
        """
        if self.copy:
            raise OwnedElsewhere(resource=resource, node=f"nodes/{self.origin}")
        return replace(self, version=self.version + 1)


def new_header(node: UUID) -> Header:
    """The header of a record that a node makes."""
    return Header(origin=node, salt=new_salt())


def new_salt() -> str:
    """32 hex digits that nobody can guess."""
    return secrets.token_hex(16)
