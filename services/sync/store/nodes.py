"""The nodes below: own children and copies."""

from uuid import UUID

from kit.db import Connection
from kit.log import Change
from services.sync.domain.nodes import Node
from services.sync.domain.records import Held

NODE = "id, parent, organization_code, display_name, level, public_key, certificate"


class Nodes:
    """The nodes below: own children and copies."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def list(self) -> list[Node]:
        """All of them, as their parents say."""
        rows = await self._conn.fetch(f"SELECT {NODE} FROM nodes WHERE origin = parent")
        return [Node(**row) for row in rows]

    async def add(self, change: Change, node: Node, *, origin: UUID) -> bool:
        """Write a node's record, unless `origin` has one: it may come back from the parent at the
        same moment, after a restore.  Whether it was written."""
        return bool(
            await self._conn.fetchval(
                f"""
                INSERT INTO nodes (origin, owner_epoch, version, hash, public, {NODE})
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
                ON CONFLICT DO NOTHING RETURNING true
                """,
                origin, change.owner_epoch, change.version, change.hash, change.public, node.id,
                node.parent, node.organization_code, node.display_name, node.level,
                node.public_key, node.certificate,
            )
        )  # fmt: skip

    async def certificate(self, node: UUID, *, origin: UUID) -> bytes:
        """That of an own child; empty if there is none."""
        found: bytes | None = await self._conn.fetchval(
            "SELECT certificate FROM nodes WHERE id = $1 AND origin = $2", node, origin
        )
        return found or b""

    async def lock(self, node: UUID, *, origin: UUID) -> tuple[Node, Held]:
        """An own child and its record, held until the transaction ends."""
        row = await self._conn.fetchrow(
            f"""
            SELECT {NODE}, version, hash, public FROM nodes
             WHERE id = $1 AND origin = $2 FOR UPDATE
            """,
            node, origin,
        )  # fmt: skip
        assert row is not None
        facts = dict(row)
        held = Held(facts.pop("version"), facts.pop("hash"), facts.pop("public"))
        return Node(**facts), held

    async def renew(self, change: Change, certificate: bytes, *, origin: UUID) -> None:
        """Keep the certificate of an own child."""
        await self._conn.execute(
            """
            UPDATE nodes SET version = $3, hash = $4, public = $5, certificate = $6
             WHERE id = $1 AND origin = $2
            """,
            change.id, origin, change.version, change.hash, change.public, certificate,
        )  # fmt: skip
