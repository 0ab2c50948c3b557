"""The table `homes`: where nodes are reached, as each says of itself."""

from collections.abc import Sequence
from uuid import UUID

from kit.db import Connection
from kit.log import Change
from services.sync.domain.homes import Home
from services.sync.domain.records import Held


class Homes:
    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def nearest(self, codes: Sequence[str], *, node: UUID) -> Home | None:
        """That of the node below which serves the last of some organisations, one below the other,
        that is served by one; None if none is.  Each node on the way down has certified the next,
        and serves where that lies: nobody admits a node to what is not theirs.

        Args:
            node: this one.
        """
        row = await self._conn.fetchrow(
            """
            WITH RECURSIVE line AS (
                SELECT $2::uuid AS id, 0 AS digits
                 UNION ALL
                SELECT nodes.id, length(organization_code) FROM line JOIN nodes
                    ON nodes.origin = line.id AND nodes.parent = line.id
                   AND organization_code = ANY ($1) AND length(organization_code) > digits
            )
            SELECT nodes.id AS node, display_name, organization_code,
                   coalesce(address, '') AS address, coalesce(issuer, '') AS issuer
              FROM line JOIN nodes USING (id)
              LEFT JOIN homes ON homes.id = nodes.id AND homes.origin = nodes.id
             WHERE nodes.origin = parent AND length(organization_code) = digits AND nodes.id <> $2
             ORDER BY length(organization_code) DESC, nodes.id DESC LIMIT 1
            """,
            codes, node,
        )  # fmt: skip
        return Home(**row) if row else None

    async def lock(self, node: UUID) -> tuple[Home, Held] | None:
        """The own record, held until the transaction ends."""
        row = await self._conn.fetchrow(
            """
            SELECT address, issuer, version, hash, public FROM homes
             WHERE id = $1 AND origin = $1 FOR UPDATE
            """,
            node,
        )
        if row is None:
            return None
        home = Home(
            node=node, display_name="", organization_code="", address=row["address"],
            issuer=row["issuer"],
        )  # fmt: skip
        return home, Held(row["version"], row["hash"], row["public"])

    async def put(self, change: Change, home: Home) -> None:
        """Write the own record."""
        await self._conn.execute(
            """
            INSERT INTO homes VALUES ($1, $1, $2, $3, $4, $5, $1, $6, $7)
            ON CONFLICT (id, origin) DO UPDATE
               SET version = excluded.version, hash = excluded.hash, public = excluded.public,
                   address = excluded.address, issuer = excluded.issuer
            """,
            home.node, change.owner_epoch, change.version, change.hash, change.public,
            home.address, home.issuer,
        )  # fmt: skip
