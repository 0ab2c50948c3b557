"""Inboxes: read from what is there for many, and from what each member has marked as read."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from kit.db import Connection, Pool
from kit.ids import first_uuid7, time_of
from kit.roll import Enrolled
from kit.sealing import KEY
from services.notify.domain.inbox import Arrival, Message, MessageKind, ancestors
from services.notify.domain.notices import LONGEST
from services.notify.domain.voices import Action
from services.notify.store.voices import Keys, own_text, reply_text
from smartunion.notify.v1.records_pb2 import PublicHandling, PublicNotice

EVER = 0
"""Before every transaction."""

TITLES = {
    Action.PASSED_ON: "您的诉求已转交上级工会",
    Action.ANSWERED: "您的诉求有了答复",
    Action.CLOSED: "您的诉求已办结",
}

# Each part is a short walk along an index, so the page costs the same however many there are.
MESSAGES = f"""
    SELECT message.*, {KEY}, NOT EXISTS (SELECT FROM reads
                                   WHERE reads.message = message.id AND reads.member = $1) AS unread
      FROM (
        (SELECT notice.*, '' AS title, '' AS text, NULL::bytea AS sealed
           FROM organizations above CROSS JOIN LATERAL (
                SELECT id, {MessageKind.NOTICE:d} AS kind, organization, public
                  FROM notices
                 WHERE organization = above.id AND id < $3 AND id >= $7
                   AND expire_seconds > $6 AND arrival >= $4::text::xid8
                 ORDER BY id DESC LIMIT $5) notice
          WHERE above.path = ANY ($2))
        UNION ALL
        (SELECT $1, {MessageKind.WELCOME:d}, $8, ''::bytea, title, text, NULL
           FROM welcomes JOIN organizations ON id = organization
          WHERE path = ANY ($2) AND effective_time <= $9 AND $1 < $3 AND $4 = '{EVER}'
          ORDER BY length(path) DESC, effective_time DESC LIMIT 1)
        UNION ALL
        (SELECT step.id, {MessageKind.VOICE:d}, $8, step.public, '', '', handling_texts.text
           FROM raisings CROSS JOIN LATERAL (
                SELECT id, public, arrival FROM handlings
                 WHERE voice = raisings.voice AND origin = $10
                 UNION ALL
                SELECT id, public, arrival FROM replies
                 WHERE voice = raisings.voice AND voice_origin = $10 AND origin <> $10
                   AND EXISTS (SELECT FROM handlings below
                                WHERE below.voice = replies.voice
                                  AND below.addressee = replies.origin
                                  AND below.origin <> replies.origin
                                UNION ALL
                               SELECT FROM replies below
                                WHERE below.voice = replies.voice
                                  AND below.addressee = replies.origin
                                  AND below.origin <> replies.origin)) step
           LEFT JOIN handling_texts ON handling = step.id
          WHERE member = $1 AND step.id < $3 AND arrival >= $4::text::xid8
          ORDER BY step.id DESC LIMIT $5)
      ) message LEFT JOIN data_keys ON data_keys.id = $1
     ORDER BY message.id DESC LIMIT $5
"""


class Inbox:
    def __init__(self, conn: "Connection | Pool", keys: Keys, node: UUID) -> None:
        self._conn, self._keys, self._node = conn, keys, node

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
            _admission_time(member.id), self._node,
        )  # fmt: skip
        return [self._message(row) for row in rows]

    async def horizon(self) -> int:
        """The transaction before which all is decided: what arrives later is of it or after it."""
        return int(
            await self._conn.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
        )

    async def arrivals(self, since: int) -> list[Arrival]:
        """What has come for whom, since a horizon."""
        rows = await self._conn.fetch(
            """
            SELECT notice.id, path, NULL::uuid AS member
              FROM notices notice JOIN organizations ON organizations.id = organization
             WHERE arrival >= $1::text::xid8
            UNION ALL
            SELECT id, '', member
              FROM (SELECT id, voice FROM handlings
                     WHERE arrival >= $1::text::xid8 AND origin = $2
                    UNION ALL
                    SELECT id, voice FROM replies
                     WHERE arrival >= $1::text::xid8 AND voice_origin = $2) step
              JOIN raisings USING (voice)
            """,
            str(since), self._node,
        )  # fmt: skip
        return [Arrival(**row) for row in rows]

    async def mark(self, member: UUID, message: UUID) -> None:
        """Note that a member has read a message."""
        await self._conn.execute(
            "INSERT INTO reads (message, member) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            message, member,
        )  # fmt: skip

    def _message(self, row: Any) -> Message:
        title, text, organization = row["title"], row["text"], row["organization"]
        expire_time = voice = None
        match MessageKind(row["kind"]):
            case MessageKind.NOTICE:
                notice = PublicNotice.FromString(row["public"])
                title, text = notice.title, notice.text
                expire_time = datetime.fromtimestamp(notice.expire_seconds, UTC)
            case MessageKind.VOICE:
                step = PublicHandling.FromString(row["public"])
                voice, organization = UUID(bytes=step.voice), UUID(bytes=step.organization)
                title = TITLES[Action(step.action)]
                text = self._text(voice, row, step)
            case MessageKind.WELCOME:
                pass
        return Message(
            id=row["id"], kind=MessageKind(row["kind"]), title=title, text=text, voice=voice,
            organization=organization, expire_time=expire_time, unread=row["unread"],
        )  # fmt: skip

    def _text(self, voice: UUID, row: Any, step: PublicHandling) -> str:
        if row["sealed"] is not None:
            return own_text(self._keys, row, row["id"], row["sealed"])
        return reply_text(self._keys, voice, row["id"], step.sealed_text)


def _admission_time(member: UUID) -> datetime | None:
    """When a member was admitted: what its id says.  None if it says nothing."""
    try:
        return time_of(member)
    except ValueError:
        return None
