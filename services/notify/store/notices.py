"""The table of notices: own ones, and copies of those of the nodes above."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from kit.authority import Scope
from kit.db import Connection, Pool
from kit.headers import Header
from kit.log import Change
from kit.rows import PATH, WITHIN, columns_of
from services.notify.domain.notices import Notice, NoticeNotFound, ReadCount, count_id
from smartunion.notify.v1.records_pb2 import PublicNotice, PublicReadCount

NOTICE = f"""
    SELECT record.id, record.origin, record.version, record.hash, record.public, {PATH},
           (SELECT coalesce(sum(readers), 0)::bigint FROM read_counts
             WHERE notice = record.id AND notice_origin = record.origin) AS readers
      FROM notices record
"""


class Notices:
    def __init__(self, conn: "Connection | Pool", node: UUID) -> None:
        self._conn, self._node = conn, node

    async def get(self, notice: UUID, *, scope: Scope) -> Notice:
        """One notice.  Raises NoticeNotFound, OutsideScope."""
        row = await self._conn.fetchrow(f"{NOTICE} WHERE record.id = $1", notice)
        if row is None:
            raise NoticeNotFound(notice=f"notices/{notice}")
        scope.check_line(row["path"])
        return self._of(row)

    async def page(self, path: str, *, before: UUID, limit: int) -> list[Notice]:
        """Those to organisations at a path and below, newest first."""
        rows = await self._conn.fetch(
            f"""
            {NOTICE} WHERE record.id < $1 AND {WITHIN} ORDER BY record.id DESC LIMIT $3
            """,
            before, path, limit,
        )  # fmt: skip
        return [self._of(row) for row in rows]

    async def add(self, notice: Notice, change: Change) -> None:
        await self._conn.execute(
            """
            INSERT INTO notices (origin, id, owner_epoch, version, hash, public, organization,
                                 expire_seconds)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            """,
            *columns_of(notice, change), notice.organization, int(notice.expire_time.timestamp()),
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
            expire_time=datetime.fromtimestamp(public.expire_seconds, UTC), readers=row["readers"],
        )  # fmt: skip


class ReadCounts:
    def __init__(self, conn: Connection, node: UUID) -> None:
        self._conn, self._node = conn, node

    async def lead(self) -> bool:
        """Whether no other replica counts; the lock ends with the transaction."""
        return bool(
            await self._conn.fetchval("SELECT pg_try_advisory_xact_lock(hashtext('read_counts'))")
        )

    async def take(self) -> list[tuple[UUID, UUID, int]]:
        """The notices that members have read since the last time: id, origin, and all readers."""
        rows = await self._conn.fetch(
            """
            WITH fresh AS (UPDATE reads SET counted = true WHERE NOT counted RETURNING message)
            SELECT id, origin, (SELECT count(*) FROM reads WHERE message = id)
              FROM notices WHERE id IN (SELECT message FROM fresh)
            """
        )
        return [tuple(row) for row in rows]

    async def lock(self, notice: UUID, origin: UUID) -> ReadCount | None:
        """The count of this node, held until the transaction ends; None if there is none yet."""
        row = await self._conn.fetchrow(
            """
            SELECT id, version, hash, public, readers FROM read_counts
             WHERE origin = $1 AND id = $2 FOR UPDATE
            """,
            self._node, count_id(notice, self._node),
        )  # fmt: skip
        if row is None:
            return None
        salt = PublicReadCount.FromString(row["public"]).salt.hex()
        header = Header(
            origin=self._node, version=row["version"], salt=salt, hash=row["hash"].hex()
        )
        return ReadCount(
            id=row["id"], header=header, notice=notice, notice_origin=origin,
            readers=row["readers"],
        )  # fmt: skip

    async def save(self, count: ReadCount, change: Change) -> None:
        await self._conn.execute(
            """
            INSERT INTO read_counts (origin, id, owner_epoch, version, hash, public, notice,
                                     notice_origin, readers)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            ON CONFLICT (id, origin) DO UPDATE
               SET version = excluded.version, hash = excluded.hash, public = excluded.public,
                   readers = excluded.readers
            """,
            *columns_of(count, change), count.notice, count.notice_origin, count.readers,
        )  # fmt: skip
