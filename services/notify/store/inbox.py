"""Inboxes: read from what is there for many, and from what each member has marked as read."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from kit.db import Connection, Pool
from kit.ids import first_uuid7, time_of
from kit.roll import Enrolled
from services.notify.domain.inbox import Arrival, Message, MessageKind, ancestors
from services.notify.domain.notices import LONGEST
from smartunion.notify.v1.records_pb2 import PublicNotice

EVER = 0
"""Before every transaction."""

# Each part is a short walk along an index, so the page costs the same however many there are.
MESSAGES = f"""
    SELECT message.*, NOT EXISTS (SELECT FROM reads
                                   WHERE reads.message = message.id AND reads.member = $1) AS unread
      FROM (
        (SELECT notice.*, '' AS title, '' AS text
           FROM organizations above CROSS JOIN LATERAL (
                SELECT id, {MessageKind.NOTICE:d} AS kind, organization, public
                  FROM notices
                 WHERE organization = above.id AND id < $3 AND id >= $7
                   AND expire_seconds > $6 AND arrival >= $4::text::xid8
                 ORDER BY id DESC LIMIT $5) notice
          WHERE above.path = ANY ($2))
        UNION ALL
        (SELECT $1, {MessageKind.WELCOME:d}, $8, ''::bytea, title, text
           FROM welcomes JOIN organizations ON id = organization
          WHERE path = ANY ($2) AND effective_time <= $9 AND $1 < $3 AND $4 = '{EVER}'
          ORDER BY length(path) DESC, effective_time DESC LIMIT 1)
      ) message
     ORDER BY id DESC LIMIT $5
"""


class Inbox:
    def __init__(self, conn: "Connection | Pool") -> None:
        self._conn = conn

    async def page(
        self, member: Enrolled, *, at: datetime, before: UUID, since: int = EVER, limit: int
    ) -> list[Message]:
        """Newest first.

        Args:
            since: a horizon; what had come before it is left out.
        """
        rows = await self._conn.fetch(
            MESSAGES, member.id, ancestors(member.path), before, str(since), limit,
            int(at.timestamp()), first_uuid7(at - LONGEST), member.organization,
            _admission_time(member.id),
        )  # fmt: skip
        return [_message(row) for row in rows]

    async def horizon(self) -> int:
        """The transaction before which all is decided: what arrives later is of it or after it."""
        return int(
            await self._conn.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
        )

    async def arrivals(self, since: int) -> list[Arrival]:
        """What has come for whom, since a horizon."""
        rows = await self._conn.fetch(
            """
            SELECT notice.id, path
              FROM notices notice JOIN organizations ON organizations.id = organization
             WHERE arrival >= $1::text::xid8
            """,
            str(since),
        )  # fmt: skip
        return [Arrival(**row) for row in rows]

    async def mark(self, member: UUID, message: UUID) -> None:
        """Note that a member has read a message."""
        await self._conn.execute(
            "INSERT INTO reads (message, member) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            message, member,
        )  # fmt: skip


def _admission_time(member: UUID) -> datetime | None:
    """When a member was admitted: what its id says.  None if it says nothing."""
    try:
        return time_of(member)
    except ValueError:
        return None


def _message(row: Any) -> Message:
    title, text, expire_time = row["title"], row["text"], None
    if row["kind"] == MessageKind.NOTICE:
        public = PublicNotice.FromString(row["public"])
        title, text = public.title, public.text
        expire_time = datetime.fromtimestamp(public.expire_seconds, UTC)
    return Message(
        id=row["id"], kind=MessageKind(row["kind"]), title=title, text=text,
        organization=row["organization"], expire_time=expire_time, unread=row["unread"],
    )  # fmt: skip
