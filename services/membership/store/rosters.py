"""The tables of rosters, of their content, and of what became of their rows."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

from kit.authority import Scope
from kit.db import Connection, Pool
from kit.rows import PATH
from kit.sealing import Keyring
from services.membership.domain.rosters import ENDED, Roster, RosterNotFound, RosterState
from services.membership.domain.rows import SETTLED, Outcome, RowResult, Shown

COLUMNS = """id, organization, file_name, size_bytes, sha256, state, received_bytes, total_rows,
             done_rows, admitted_rows, applied_rows, unchanged_rows, refused_rows, skipped_rows,
             creator, committer, sheet, unread_sheets, refuse_reason, refuse_message"""


class Rosters:
    def __init__(self, conn: "Connection | Pool", keyring: Keyring) -> None:
        self._conn, self._sealer = conn, keyring.node

    async def get(self, roster: UUID, *, scope: Scope | None, lock: str = "") -> Roster:
        """One roster.

        Args:
            scope: None: for the import itself.

        Raises:
            RosterNotFound, OutsideScope
        """
        row = await self._conn.fetchrow(
            f"SELECT {COLUMNS}, {PATH} FROM rosters record WHERE id = $1 {lock}", roster
        )
        if row is None:
            raise RosterNotFound(roster=f"rosters/{roster}")
        values = dict(row)
        path = values.pop("path")
        if scope is not None:
            scope.check(path)
        return Roster(
            **{
                **values,
                "state": RosterState(row["state"]),
                "unread_sheets": tuple(row["unread_sheets"]),
            }
        )

    async def lock(self, roster: UUID, *, scope: Scope | None) -> Roster:
        """Like `get`, and holds the row until the transaction ends."""
        return await self.get(roster, scope=scope, lock="FOR UPDATE OF record")

    async def add(self, roster: Roster) -> None:
        await self._conn.execute(
            """
            INSERT INTO rosters (id, organization, file_name, size_bytes, sha256, state, creator)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            """,
            roster.id, roster.organization, roster.file_name, roster.size_bytes, roster.sha256,
            roster.state, roster.creator,
        )  # fmt: skip

    async def save(self, roster: Roster) -> None:
        """What changes but for the counts of rows."""
        await self._conn.execute(
            """
            UPDATE rosters SET state = $2, received_bytes = $3, total_rows = $4,
                   refuse_reason = $5, refuse_message = $6, sheet = $7, unread_sheets = $8,
                   committer = $9
             WHERE id = $1
            """,
            roster.id, roster.state, roster.received_bytes, roster.total_rows,
            roster.refuse_reason, roster.refuse_message, roster.sheet, roster.unread_sheets,
            roster.committer,
        )  # fmt: skip

    async def at_work(self) -> list[UUID]:
        """Those whose rows are to be imported or checked, oldest first."""
        rows = await self._conn.fetch(
            "SELECT id FROM rosters WHERE state IN (2, 5) ORDER BY id"  # As the index says it.
        )
        return [row["id"] for row in rows]

    async def advance(self, roster: UUID, outcomes: Counter[Outcome]) -> None:
        """Count rows as done.  The roster must be locked before."""
        await self._conn.execute(
            """
            UPDATE rosters
               SET done_rows = done_rows + $2, admitted_rows = admitted_rows + $3,
                   applied_rows = applied_rows + $4, unchanged_rows = unchanged_rows + $5,
                   refused_rows = refused_rows + $6, skipped_rows = skipped_rows + $7
             WHERE id = $1
            """,
            roster, outcomes.total(), outcomes[Outcome.ADMITTED], outcomes[Outcome.APPLIED],
            outcomes[Outcome.UNCHANGED], outcomes[Outcome.REFUSED],
            outcomes[Outcome.SKIPPED],
        )  # fmt: skip

    async def begin_again(self, roster: UUID) -> None:
        """Forget the results of the check.  The roster must be locked before."""
        await self._conn.execute(
            """
            UPDATE rosters
               SET done_rows = 0, admitted_rows = 0, applied_rows = 0, unchanged_rows = 0,
                   refused_rows = 0, skipped_rows = 0
             WHERE id = $1
            """,
            roster,
        )
        await self._conn.execute("DELETE FROM roster_rows WHERE roster = $1", roster)

    async def add_part(self, roster: UUID, place: int, content: bytes) -> None:
        """Keep a part of the file, sealed."""
        sealed = self._sealer.seal(content, _place(roster, place))
        await self._conn.execute(
            "INSERT INTO roster_chunks (roster, place, content) VALUES ($1, $2, $3)",
            roster, place, sealed,
        )  # fmt: skip

    async def parts(self, roster: UUID) -> AsyncIterator[bytes]:
        """The parts of the file in order, one at a time."""
        place = -1
        while row := await self._conn.fetchrow(
            """
            SELECT place, content FROM roster_chunks
             WHERE roster = $1 AND place > $2 ORDER BY place LIMIT 1
            """,
            roster, place,
        ):  # fmt: skip
            place = row["place"]
            yield self._sealer.open(row["content"], _place(roster, place))

    async def delete_abandoned(self, before: UUID) -> int:
        """Delete those announced before an id was made that never got all their content, or were
        checked and never committed."""
        deleted = await self._conn.fetchval(
            """
            WITH abandoned AS (
                SELECT id FROM rosters WHERE state IN ($1, $2) AND id < $3 FOR UPDATE SKIP LOCKED
            ), parts AS (
                DELETE FROM roster_chunks WHERE roster IN (SELECT id FROM abandoned)
            ), results AS (
                DELETE FROM roster_rows WHERE roster IN (SELECT id FROM abandoned)
            ), gone AS (
                DELETE FROM rosters WHERE id IN (SELECT id FROM abandoned) RETURNING id
            )
            SELECT count(*) FROM gone
            """,
            RosterState.UPLOADING, RosterState.PREVIEWED, before,
        )  # fmt: skip
        return int(deleted)

    async def forget_content(self, roster: UUID) -> None:
        """Delete the parts of the file."""
        await self._conn.execute("DELETE FROM roster_chunks WHERE roster = $1", roster)


class RosterRows:
    def __init__(self, conn: "Connection | Pool", keyring: Keyring) -> None:
        self._conn, self._sealer = conn, keyring.node

    async def add_all(self, roster: UUID, results: Sequence[RowResult]) -> None:
        await self._conn.copy_records_to_table(
            "roster_rows",
            columns=["roster", "line", "outcome", "record", "reason", "header", "message",
                     "chinese_message", "shown", "id_index"],
            records=[
                (roster, row.line, row.outcome, row.record, row.reason, row.header, row.message,
                 row.chinese_message, self._sealed(roster, row), row.index)
                for row in results
            ],
        )  # fmt: skip

    async def lines_of(self, roster: UUID, indexes: Sequence[bytes]) -> dict[bytes, int]:
        """The lines that have settled people, by blind index."""
        rows = await self._conn.fetch(
            """
            SELECT id_index, line FROM roster_rows
             WHERE roster = $1 AND id_index = ANY ($2) AND outcome = ANY ($3)
            """,
            roster, indexes, SETTLED,
        )  # fmt: skip
        return dict(rows)

    async def forget(
        self, indexes: Sequence[bytes], records: Sequence[str], *, ended: bool = False
    ) -> None:
        """Forget persons, by blind index, in results that name some records or none.

        Args:
            ended: only in results that nobody waits for: the persons may come again in others.
        """
        await self._conn.execute(
            """
            UPDATE roster_rows SET shown = NULL, id_index = NULL
             WHERE id_index = ANY ($1) AND (record = '' OR record = ANY ($2))
               AND NOT ($3 AND roster IN (SELECT id FROM rosters WHERE state <> ALL ($4)))
            """,
            indexes, records, ended, ENDED,
        )  # fmt: skip

    async def page(self, roster: UUID, *, outcome: int, after: int, limit: int) -> list[RowResult]:
        """Results in order of line; `outcome` 0 means all."""
        rows = await self._conn.fetch(
            """
            SELECT line, outcome, record, reason, header, message, chinese_message, shown
              FROM roster_rows
             WHERE roster = $1 AND line > $2 AND (outcome = $3 OR $3 = 0)
             ORDER BY line LIMIT $4
            """,
            roster, after, outcome, limit,
        )  # fmt: skip
        return [self._result(roster, row) for row in rows]

    async def forget_shown(self, before: UUID) -> None:
        """Forget the persons in results of rosters announced before an id was made."""
        await self._conn.execute(
            """
            WITH old AS (
                UPDATE rosters SET forgotten = true WHERE id < $1 AND NOT forgotten RETURNING id
            )
            UPDATE roster_rows SET shown = NULL, id_index = NULL
             WHERE roster IN (SELECT id FROM old)
            """,
            before,
        )

    def _sealed(self, roster: UUID, row: RowResult) -> bytes:
        text = f"{row.shown.full_name}\n{row.shown.id_number}"
        return self._sealer.seal(text.encode(), _row_place(roster, row.line))

    def _result(self, roster: UUID, row: Any) -> RowResult:
        shown = Shown()
        if row["shown"] is not None:
            text = self._sealer.open(row["shown"], _row_place(roster, row["line"])).decode()
            shown = Shown(*text.rsplit("\n", 1))
        return RowResult(**{**row, "outcome": Outcome(row["outcome"]), "shown": shown})


def _place(roster: UUID, place: int) -> str:
    return f"roster_chunks.content/{roster}/{place}"


def _row_place(roster: UUID, line: int) -> str:
    return f"roster_rows.shown/{roster}/{line}"
