"""Directives and what nodes report of them: own records and copies."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from kit.db import Connection
from kit.log import Change
from services.sync.domain.directives import Directive, DirectiveNotFound, Report, State
from services.sync.domain.records import Held

DIRECTIVE = """id, origin, title, text, subtree, levels, due_seconds, create_seconds, expected,
               parent"""


class Directives:
    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def get(self, directive: UUID, *, lock: str = "") -> Directive:
        """Raises DirectiveNotFound."""
        row = await self._conn.fetchrow(
            f"SELECT {DIRECTIVE} FROM directives WHERE id = $1 LIMIT 1 {lock}", directive
        )
        if row is None:
            raise DirectiveNotFound(directive=f"directives/{directive}")
        return _directive(row)

    async def lock(self, directive: UUID) -> Directive:
        """Like `get`; one transaction at a time reports on it."""
        return await self.get(directive, lock="FOR UPDATE")

    async def page(self, before: UUID, limit: int) -> list[Directive]:
        """Those that were issued before one, newest first."""
        rows = await self._conn.fetch(
            f"SELECT {DIRECTIVE} FROM directives WHERE id < $1 ORDER BY id DESC LIMIT $2",
            before, limit,
        )  # fmt: skip
        return [_directive(row) for row in rows]

    async def unreported(self, node: UUID) -> list[Directive]:
        """Those of nodes above that came since the last look, are addressed to this node, and of
        which it has reported nothing yet."""
        rows = await self._conn.fetch(
            f"""
            WITH came AS (UPDATE directives SET looked = true WHERE NOT looked AND origin <> $1
                          RETURNING {DIRECTIVE})
            SELECT * FROM came
             WHERE NOT EXISTS (SELECT FROM directive_reports
                                WHERE directive = came.id AND origin = $1)
            """,
            node,
        )
        found = (_directive(row) for row in rows)
        return [directive for directive in found if node in directive.expected]

    async def add(self, directive: Directive, change: Change) -> None:
        await self._conn.execute(
            f"""
            INSERT INTO directives (looked, owner_epoch, version, hash, public, {DIRECTIVE})
            VALUES (true, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
            """,
            change.owner_epoch, change.version, change.hash, change.public, directive.id,
            directive.origin, *change.kind.parse(change.public),
        )  # fmt: skip


class DirectiveReports:
    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def of(self, directives: Sequence[UUID]) -> dict[UUID, dict[UUID, Report]]:
        """What is known of some directives, by directive and node."""
        rows = await self._conn.fetch(
            "SELECT * FROM directive_reports WHERE directive = ANY ($1)", directives
        )
        found: dict[UUID, dict[UUID, Report]] = {directive: {} for directive in directives}
        for row in rows:
            found[row["directive"]][row["origin"]] = _report(row)
        return found

    async def lock(self, directive: UUID, node: UUID) -> tuple[Report, Held] | None:
        """This node's report, held until the transaction ends."""
        row = await self._conn.fetchrow(
            "SELECT * FROM directive_reports WHERE directive = $1 AND origin = $2 FOR UPDATE",
            directive, node,
        )  # fmt: skip
        if row is None:
            return None
        return _report(row), Held(row["version"], row["hash"], row["public"])

    async def put(self, report: Report, change: Change) -> bool:
        """Write this node's report; False if there is one already that was taken for none."""
        return bool(
            await self._conn.fetchval(
                """
                INSERT INTO directive_reports AS held
                       (origin, id, owner_epoch, version, hash, public, directive, state, reason,
                        report_seconds)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
                ON CONFLICT (id, origin) DO UPDATE
                   SET version = excluded.version, hash = excluded.hash,
                       public = excluded.public, state = excluded.state,
                       reason = excluded.reason, report_seconds = excluded.report_seconds
                 WHERE held.version < excluded.version
                RETURNING true
                """,
                report.node, report.id, change.owner_epoch, change.version, change.hash,
                change.public, *change.kind.parse(change.public),
            )
        )  # fmt: skip


def _directive(row: Any) -> Directive:
    expected = row["expected"]
    return Directive(
        id=row["id"], origin=row["origin"], title=row["title"], text=row["text"],
        subtree=row["subtree"], levels=tuple(row["levels"].split(",")),
        due_time=datetime.fromtimestamp(row["due_seconds"], UTC),
        create_time=datetime.fromtimestamp(row["create_seconds"], UTC),
        expected=tuple(
            UUID(bytes=expected[at : at + 16]) for at in range(0, len(expected), 16)
        ),
        parent=UUID(bytes=row["parent"]) if row["parent"] else None,
    )  # fmt: skip


def _report(row: Any) -> Report:
    return Report(
        directive=row["directive"], node=row["origin"], state=State(row["state"]),
        report_time=datetime.fromtimestamp(row["report_seconds"], UTC), reason=row["reason"],
    )  # fmt: skip
