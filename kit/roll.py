"""The roll (会员名册): the members of this node, as other services than membership know them.

A service that follows membership keeps which organisation each member belongs to, and nothing
personal.  Where that stands in the tree, the table `organizations` says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from kit.db import Connection, Pool
from kit.errors import PermissionDenied
from kit.records import section_of
from smartunion.event.v1 import log_pb2
from smartunion.membership.v1 import membership_pb2
from smartunion.membership.v1.records_pb2 import PublicState


class NotAMember(PermissionDenied):
    message = "{member} is not an active member at this node"
    chinese = "{member} 不是本节点的在籍会员"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A member on the roll."""

    id: UUID
    organization: UUID
    path: str
    """Of the organisation: see `kit.organizations`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """What has become of a member."""

    id: UUID
    organization: UUID
    active: bool
    fresh: bool
    """Whether the member was not on the roll before."""


def erased(entries: Sequence[log_pb2.Entry]) -> list[UUID]:
    """The members of whom membership says that nothing personal shall be left."""
    latest = {entry.id: entry for entry in entries if entry.kind == "members"}
    return [
        UUID(bytes=id_)
        for id_, entry in latest.items()
        if section_of(PublicState, entry.public).state == membership_pb2.Member.ERASED
    ]


class Roll:
    def __init__(self, conn: "Connection | Pool") -> None:
        self._conn = conn

    async def member(self, member: UUID) -> Enrolled:
        """An active member.  Raises NotAMember."""
        found = await self.members([member])
        if member not in found:
            raise NotAMember(member=f"members/{member}")
        return found[member]

    async def members(self, members: Sequence[UUID]) -> dict[UUID, Enrolled]:
        """Those of them that are active members."""
        rows = await self._conn.fetch(
            """
            SELECT roll.id, organization, path
              FROM roll JOIN organizations ON organizations.id = organization
             WHERE roll.id = ANY ($1) AND active
            """,
            members,
        )
        return {row["id"]: Enrolled(**row) for row in rows}

    async def put(self, entries: Sequence[log_pb2.Entry]) -> list[Enrolment]:
        """Write what membership announced; what has changed by it.

        Raises:
            ValueError: if a section is not that of a member.
        """
        latest = {entry.id: entry for entry in entries if entry.kind == "members"}
        sections = [section_of(PublicState, entry.public) for entry in latest.values()]
        # Of a row that was inserted, and not updated, xmax is 0.
        rows = await self._conn.fetch(
            """
            INSERT INTO roll AS held (id, version, organization, active)
            SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::boolean[])
            ON CONFLICT (id) DO UPDATE
               SET version = excluded.version, organization = excluded.organization,
                   active = excluded.active
             WHERE held.version < excluded.version
            RETURNING id, organization, active, xmax = 0 AS fresh
            """,
            [UUID(bytes=id_) for id_ in latest],
            [entry.version for entry in latest.values()],
            [UUID(bytes=section.organization) for section in sections],
            [section.state == membership_pb2.Member.ACTIVE for section in sections],
        )
        return [Enrolment(**row) for row in rows]
