"""The table of notices: own ones, and copies of those of the nodes above."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from kit.db import Connection, Pool
from kit.headers import Header
from kit.log import Change
from services.notify.domain.notices import Notice, NoticeNotFound
from smartunion.notify.v1.records_pb2 import PublicNotice

COLUMNS = "notice.id, notice.origin, notice.version, notice.hash, notice.public"


class Notices:
    def __init__(self, conn: "Connection | Pool", node: UUID) -> None:
        self._conn, self._node = conn, node

    async def get(self, notice: UUID) -> Notice:
        """One notice.  Raises NoticeNotFound."""
        row = await self._conn.fetchrow(
            f"SELECT {COLUMNS} FROM notices notice WHERE id = $1", notice
        )
        if row is None:
            raise NoticeNotFound(notice=f"notices/{notice}")
        return self._of(row)

    async def page(self, path: str, *, before: UUID, limit: int) -> list[Notice]:
        """Those to organisations at a path and below, newest first."""
        rows = await self._conn.fetch(
            f"""
            SELECT {COLUMNS} FROM notices notice
             WHERE id < $2 AND organization IN (
                   SELECT id FROM organizations
                    WHERE path = $1 OR path >= $1 || '.' AND path < $1 || '/')
             ORDER BY id DESC LIMIT $3
            """,
            path, before, limit,
        )  # fmt: skip
        return [self._of(row) for row in rows]

    async def add(self, notice: Notice, change: Change) -> None:
        await self._conn.execute(
            """
            INSERT INTO notices (origin, id, owner_epoch, version, hash, public, organization,
                                 expire_seconds)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            """,
            notice.header.origin, notice.id, change.owner_epoch, change.version, change.hash,
            change.public, notice.organization, int(notice.expire_time.timestamp()),
        )  # fmt: skip

    def _of(self, row: Any) -> Notice:
        public = PublicNotice.FromString(row["public"])
        header = Header(
            origin=row["origin"], copy=row["origin"] != self._node, version=row["version"],
            hash=row["hash"].hex(),
        )  # fmt: skip
        return Notice(
            id=row["id"], header=header, organization=UUID(bytes=public.organization),
            title=public.title, text=public.text,
            expire_time=datetime.fromtimestamp(public.expire_seconds, UTC),
        )  # fmt: skip
