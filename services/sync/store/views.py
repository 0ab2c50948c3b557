"""Views and what nodes report of them: own records and copies."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from kit.db import Connection
from kit.log import Change
from services.sync.domain.records import Held
from services.sync.domain.views import View


class Views:
    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def lock(self) -> None:
        """One at a time makes a version."""
        await self._conn.execute("SELECT pg_advisory_xact_lock(hashtext('views'))")

    async def of(self, origin: UUID) -> list[View]:
        """Those that a node has made, oldest first."""
        rows = await self._conn.fetch(
            """
            SELECT id, origin, number, effective_seconds, create_seconds, rules FROM views
             WHERE origin = $1 ORDER BY number
            """,
            origin,
        )
        return [_view(row) for row in rows]

    async def add(self, view: View, change: Change) -> None:
        await self._conn.execute(
            """
            INSERT INTO views (origin, id, owner_epoch, version, hash, public, number,
                               effective_seconds, create_seconds, rules)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
            """,
            view.origin, view.id, change.owner_epoch, change.version, change.hash, change.public,
            *change.kind.parse(change.public),
        )  # fmt: skip


class ViewReports:
    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def all(self) -> dict[UUID, UUID]:
        """The view to which each node holds, as it says itself."""
        rows = await self._conn.fetch("SELECT id, view FROM view_reports WHERE origin = id")
        return {row["id"]: row["view"] for row in rows}

    async def lock(self, node: UUID) -> tuple[UUID, Held] | None:
        """The view of this node's report and its record, held until the transaction ends."""
        row = await self._conn.fetchrow(
            "SELECT view, version, hash, public FROM view_reports"
            " WHERE id = $1 AND origin = $1 FOR UPDATE",
            node,
        )
        if row is None:
            return None
        return row["view"], Held(row["version"], row["hash"], row["public"])

    async def put(self, node: UUID, change: Change) -> bool:
        """Write this node's report; False if another replica has written one meanwhile."""
        return bool(
            await self._conn.fetchval(
                """
                INSERT INTO view_reports AS held
                       (origin, id, owner_epoch, version, hash, public, view, report_seconds)
                VALUES ($1, $1, $2, $3, $4, $5, $6, $7)
                ON CONFLICT (id, origin) DO UPDATE
                   SET version = excluded.version, hash = excluded.hash,
                       public = excluded.public, view = excluded.view,
                       report_seconds = excluded.report_seconds
                 WHERE held.version < excluded.version
                RETURNING true
                """,
                node, change.owner_epoch, change.version, change.hash, change.public,
                *change.kind.parse(change.public),
            )
        )  # fmt: skip


class Sections:
    """The sections besides `public` in the frames that are stored."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def older(self, view: UUID | None, limit: int) -> Sequence[Any]:
        """Frames in which sections were left by another view."""
        rows: Sequence[Any] = await self._conn.fetch(
            """
            SELECT origin, service, channel, number, body FROM frames
             WHERE view IS NOT NULL AND view IS DISTINCT FROM $1
             LIMIT $2 FOR UPDATE SKIP LOCKED
            """,
            view, limit,
        )  # fmt: skip
        return rows

    async def left(self, view: UUID) -> bool:
        """Whether there are such frames, also while somebody is at them."""
        return bool(
            await self._conn.fetchval(
                "SELECT EXISTS (SELECT FROM frames WHERE view IS NOT NULL AND view <> $1)", view
            )
        )

    async def leave(self, row: Any, body: bytes, view: UUID | None) -> None:
        """Keep of a frame what a view leaves."""
        await self._conn.execute(
            """
            UPDATE frames SET body = $5, view = $6
             WHERE origin = $1 AND service = $2 AND channel = $3 AND number = $4
            """,
            row["origin"], row["service"], row["channel"], row["number"], body, view,
        )  # fmt: skip


def _view(row: Any) -> View:
    rules = [rule.split(":") for rule in row["rules"].split(",") if rule]
    return View(
        id=row["id"], origin=row["origin"], number=row["number"],
        effective_time=datetime.fromtimestamp(row["effective_seconds"], UTC),
        create_time=datetime.fromtimestamp(row["create_seconds"], UTC),
        rules={section: level for section, level in rules},
    )  # fmt: skip
