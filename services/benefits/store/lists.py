"""The tables of status lists: what nodes say of their cards, and what is handed down of it."""

from typing import Any
from uuid import UUID

from kit.db import Connection, Pool
from kit.log import Change
from kit.rows import RECORD, columns_of, header_of
from services.benefits.domain.lists import ListRecord
from smartunion.benefits.v1.records_pb2 import PublicStatusList


class Lists:
    def __init__(self, conn: "Connection | Pool", node: UUID) -> None:
        self._conn, self._node = conn, node

    async def of(self, node: UUID) -> list[bytes]:
        """The lists of a node that are known, as it signed them, whoever brought them."""
        rows = await self._conn.fetch(
            """
            SELECT public FROM status_lists WHERE id = $1 AND origin = id
            UNION ALL SELECT public FROM shared_status_lists WHERE id = $1
            """,
            node,
        )
        return [PublicStatusList.FromString(row["public"]).signed for row in rows]

    async def all(self) -> list[bytes]:
        """Of each node the list with the greatest number."""
        rows = await self._conn.fetch(
            """
            SELECT DISTINCT ON (id) public
              FROM (SELECT id, number, public FROM status_lists WHERE origin = id UNION ALL
                    SELECT id, number, public FROM shared_status_lists) list
             ORDER BY id, number DESC
            """
        )
        return [PublicStatusList.FromString(row["public"]).signed for row in rows]

    async def lock(self) -> ListRecord | None:
        """The node's own, for this transaction alone; None before there is one."""
        await self._conn.execute("SELECT pg_advisory_xact_lock(hashtext('status_lists'))")
        row = await self._conn.fetchrow(
            f"""
            SELECT {RECORD}, number, NULL AS certificate FROM status_lists record
             WHERE origin = $1 AND id = $1
            """,
            self._node,
        )
        return row and self._of(row)

    async def lock_unshared(self) -> list[tuple[ListRecord, ListRecord | None]]:
        """The lists of this node and those below that are newer than what is handed down of them,
        each with that; for this transaction alone."""
        await self._conn.execute("SELECT pg_advisory_xact_lock(hashtext('shared_status_lists'))")
        rows = await self._conn.fetch(
            f"""
            SELECT {RECORD}, record.number, NULL AS certificate, shared
              FROM status_lists record
              LEFT JOIN shared_status_lists shared
                     ON shared.origin = $1 AND shared.id = record.id
             WHERE record.number > coalesce(shared.number, 0) AND record.origin = record.id
            """,
            self._node,
        )
        return [
            (self._of(row), row["shared"] and self._of({**row["shared"], "certificate": None}))
            for row in rows
        ]

    async def save(self, table: str, record: ListRecord, change: Change) -> None:
        """A new record or state, in `status_lists` or `shared_status_lists`."""
        await self._conn.execute(
            f"""
            INSERT INTO {table} (origin, id, owner_epoch, version, hash, public, node, number)
            VALUES ($1, $2, $3, $4, $5, $6, $2, $7)
            ON CONFLICT (id, origin) DO UPDATE
               SET owner_epoch = excluded.owner_epoch, version = excluded.version,
                   hash = excluded.hash, public = excluded.public, number = excluded.number
            """,
            *columns_of(record, change), record.number,
        )  # fmt: skip

    def _of(self, row: Any) -> ListRecord:
        public = PublicStatusList.FromString(row["public"])
        return ListRecord(
            id=row["id"], header=header_of(row, self._node, public.salt), number=row["number"],
            signed=public.signed,
        )  # fmt: skip
