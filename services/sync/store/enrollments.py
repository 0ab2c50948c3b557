"""Invitations, and who has shown one."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from kit.db import Connection
from kit.sealing import Keyring
from services.sync.domain.enrollments import Invitation
from services.sync.domain.nodes import Node


class Invitations:
    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def add(self, invitation: Invitation) -> None:
        await self._conn.execute(
            "INSERT INTO invitations (token_hash, organization_code, expire_time)"
            " VALUES ($1, $2, $3)",
            invitation.token_hash, invitation.organization_code, invitation.expire_time,
        )  # fmt: skip

    async def lock(self, token_hash: bytes) -> Invitation | None:
        row = await self._conn.fetchrow(
            """
            SELECT token_hash, organization_code, expire_time, node
              FROM invitations WHERE token_hash = $1 FOR UPDATE
            """,
            token_hash,
        )
        return Invitation(**row) if row else None

    async def use(self, token_hash: bytes, node: UUID) -> None:
        await self._conn.execute(
            "UPDATE invitations SET node = $2 WHERE token_hash = $1", token_hash, node
        )


class Enrollments:
    """Nodes that have shown an invitation; with a link token once they are admitted."""

    def __init__(self, conn: Connection, keyring: Keyring) -> None:
        self._conn, self._sealer = conn, keyring.node

    async def add(self, node: Node, nats_user_key: str, *, fresh: bool) -> bool:
        """Keep what a child showed; False if the node has enrolled with other keys before.

        Args:
            fresh: whether the invitation is shown for the first time.  Then a node that has lost
                its database may come with another NATS user: it waits for a confirmation again.
        """
        return bool(
            await self._conn.fetchval(
                """
                INSERT INTO enrollments AS held (node, organization_code, display_name, level,
                                                 public_key, nats_user_key, certificate,
                                                 create_time)
                VALUES ($1, $2, $3, $4, $5, $6, $8, clock_timestamp())
                ON CONFLICT (node) DO UPDATE
                   SET nats_user_key = excluded.nats_user_key,
                       certificate = excluded.certificate,
                       link_token = CASE WHEN held.nats_user_key = excluded.nats_user_key
                                         THEN held.link_token END,
                       link_token_hash = CASE WHEN held.nats_user_key = excluded.nats_user_key
                                              THEN held.link_token_hash END,
                       revoke_time = NULL
                 WHERE held.public_key = excluded.public_key
                   AND (held.nats_user_key = excluded.nats_user_key OR $7)
                RETURNING true
                """,
                node.id, node.organization_code, node.display_name, node.level, node.public_key,
                nats_user_key, fresh, node.certificate,
            )
        )  # fmt: skip

    async def lock(self, node: UUID) -> Any | None:
        return await self._conn.fetchrow(
            "SELECT * FROM enrollments WHERE node = $1 FOR UPDATE", node
        )

    async def waiting(self) -> Sequence[Any]:
        """Those that no operator has confirmed, oldest first."""
        return await self._conn.fetch(
            """
            SELECT * FROM enrollments WHERE link_token IS NULL AND revoke_time IS NULL
             ORDER BY create_time, node
            """
        )

    async def admit(self, node: UUID, *, token: str, token_hash: bytes, user_jwt: str) -> None:
        await self._conn.execute(
            """
            UPDATE enrollments
               SET link_token = $2, link_token_hash = $3, user_jwt = $4
             WHERE node = $1
            """,
            node, self._sealer.seal(token.encode(), f"enrollments.link_token/{node}"), token_hash,
            user_jwt,
        )  # fmt: skip

    async def revoke(self, node: UUID) -> bool:
        """Whether there was one to take back, with the invitation that it came by."""
        await self._conn.execute("DELETE FROM invitations WHERE node = $1", node)
        return bool(
            await self._conn.fetchval(
                """
                UPDATE enrollments
                   SET link_token = NULL, link_token_hash = NULL, user_jwt = '',
                       revoke_time = coalesce(revoke_time, clock_timestamp())
                 WHERE node = $1 RETURNING true
                """,
                node,
            )
        )

    def token(self, row: Any) -> str:
        """The link token of an admitted node."""
        place = f"enrollments.link_token/{row['node']}"
        return self._sealer.open(row["link_token"], place).decode()

    async def by_token(self, token_hash: bytes) -> UUID | None:
        """The admitted node with this link token."""
        found: UUID | None = await self._conn.fetchval(
            "SELECT node FROM enrollments WHERE link_token_hash = $1", token_hash
        )
        return found

    async def key(self, node: UUID) -> bytes | None:
        """The public key of an admitted node."""
        found: bytes | None = await self._conn.fetchval(
            "SELECT public_key FROM enrollments WHERE node = $1 AND link_token IS NOT NULL", node
        )
        return found

    async def admitted(self) -> list[UUID]:
        """The nodes that an operator has confirmed."""
        rows = await self._conn.fetch("SELECT node FROM enrollments WHERE link_token IS NOT NULL")
        return [row["node"] for row in rows]
