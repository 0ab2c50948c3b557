"""What the parent gave to this node."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from kit.db import Connection
from kit.sealing import Keyring


class Uplink:
    """What the parent gave to this node."""

    def __init__(self, conn: Connection, keyring: Keyring) -> None:
        self._conn, self._sealer = conn, keyring.node

    async def seed(self, new: str) -> str:
        """The seed of this node's NATS user at the parent: `new` at first, the same ever after."""
        sealed = await self._conn.fetchval(
            """
            INSERT INTO uplink (nats_seed) VALUES ($1)
            ON CONFLICT (single) DO UPDATE SET single = true
            RETURNING nats_seed
            """,
            self._sealer.seal(new.encode(), "uplink.nats_seed"),
        )
        return self._sealer.open(sealed, "uplink.nats_seed").decode()

    async def get(self) -> Any | None:
        """The row, its link token opened; None until the parent has admitted this node."""
        row = await self._conn.fetchrow("SELECT * FROM uplink WHERE parent IS NOT NULL")
        if row is None:
            return None
        token = self._sealer.open(row["link_token"], "uplink.link_token").decode()
        return {**row, "link_token": token}

    async def save(
        self, *, parent: UUID, key: bytes, token: str, certificate: bytes, nats_url: str,
        user_jwt: str,
    ) -> None:  # fmt: skip
        """
        Args:
            key: the parent's, as the invitation named it.
            certificate: of this node's key, by the parent.
        """
        await self._conn.execute(
            """
            UPDATE uplink SET parent = $1, link_token = $2, nats_url = $3, user_jwt = $4,
                              parent_key = $5, link_certificate = $6
            """,
            parent, self._sealer.seal(token.encode(), "uplink.link_token"), nats_url, user_jwt,
            key, certificate,
        )  # fmt: skip

    async def chain(self) -> list[bytes]:
        """The certificates from this node's up to the top's; none if this is the top."""
        found: list[bytes] | None = await self._conn.fetchval("SELECT chain FROM uplink")
        return found or []

    async def save_chain(self, chain: Sequence[bytes]) -> None:
        await self._conn.execute("UPDATE uplink SET chain = $1", chain)
