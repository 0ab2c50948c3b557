"""The table of cards: records, own ones and copies, and why officers revoked own ones."""

import secrets
from collections.abc import Sequence
from datetime import UTC
from typing import Any
from uuid import UUID

from kit.authority import Scope
from kit.db import Connection, Pool
from kit.log import Change
from kit.rows import PATH, RECORD, WITHIN, certificate, columns_of, header_of
from kit.sealing import KEY, Keyring
from services.benefits.domain.cards import Card, CardNotFound, CardState
from smartunion.benefits.v1.records_pb2 import PublicCard

FEWEST_INDEXES = 2**20
"""Indexes are drawn from so many, and from twice as many while most of them are taken."""

CARD = f"""
    SELECT {RECORD}, {PATH}, certificate, reason, revoker, {KEY}
      FROM cards record
      LEFT JOIN revocations ON card = record.id AND record.origin = $1
      LEFT JOIN data_keys ON data_keys.id = record.member AND record.origin = $1
      {certificate("records")}
"""


class Cards:
    def __init__(self, conn: "Connection | Pool", keyring: Keyring, node: UUID) -> None:
        self._conn, self._keyring, self._node = conn, keyring, node

    async def get(self, card: UUID, *, scope: Scope, lock: str = "") -> Card:
        """The record of the latest owner.  Raises CardNotFound, OutsideScope."""
        row = await self._conn.fetchrow(
            f"{CARD} WHERE record.id = $2 ORDER BY record.owner_epoch DESC LIMIT 1 {lock}",
            self._node, card,
        )  # fmt: skip
        if row is None:
            raise CardNotFound(card=f"cards/{card}")
        scope.check(row["path"])
        return self._of(row)

    async def lock(self, card: UUID, *, scope: Scope) -> Card:
        """Like `get`, and holds the row until the transaction ends."""
        return await self.get(card, scope=scope, lock="FOR UPDATE OF record")

    async def page(self, path: str, *, after: UUID, limit: int) -> list[Card]:
        """Those of organisations at a path and below, oldest first."""
        rows = await self._conn.fetch(
            f"""
            {CARD}
             WHERE {WITHIN} AND record.id > $3
               AND NOT EXISTS (SELECT FROM cards newer WHERE newer.id = record.id
                                  AND newer.owner_epoch > record.owner_epoch)
             ORDER BY record.id LIMIT $4
            """,
            self._node, path, after, limit,
        )  # fmt: skip
        return [self._of(row) for row in rows]

    async def last_of(self, members: Sequence[UUID], *, lock: bool = False) -> dict[UUID, Card]:
        """The active card of each member of this node, or else the last one."""
        rows = await self._conn.fetch(
            f"""
            {CARD}
             WHERE record.origin = $1 AND record.member = ANY ($2)
             ORDER BY record.state DESC, record.id {"FOR UPDATE OF record" if lock else ""}
            """,
            self._node, members,
        )  # fmt: skip
        return {card.member: card for card in map(self._of, rows)}

    async def count_revoked(self) -> int:
        """How many own cards are revoked: it only grows."""
        count: int = await self._conn.fetchval(
            "SELECT count(*) FROM cards WHERE origin = $1 AND state = $2",
            self._node, CardState.REVOKED,
        )  # fmt: skip
        return count

    async def revoked(self) -> list[int]:
        """The indexes of own cards that are revoked."""
        rows = await self._conn.fetch(
            "SELECT status_index FROM cards WHERE origin = $1 AND state = $2",
            self._node, CardState.REVOKED,
        )  # fmt: skip
        return [row["status_index"] for row in rows]

    async def lock_issuing(self) -> None:
        """Wait for other issuing: no index is drawn twice, nobody gets two cards."""
        await self._conn.execute("SELECT pg_advisory_xact_lock(hashtext('cards'))")

    async def draw(self, count: int) -> list[int]:
        """Free indexes of the status list, at random: they tell nothing of who came when."""
        drawn: set[int] = set()
        among = FEWEST_INDEXES
        while len(drawn) < count:
            tried = {secrets.randbelow(among) for _ in range(count - len(drawn))} - drawn
            rows = await self._conn.fetch(
                "SELECT status_index FROM cards WHERE origin = $1 AND status_index = ANY ($2)",
                self._node, list(tried),
            )  # fmt: skip
            drawn |= tried - {row["status_index"] for row in rows}
            if 2 * len(rows) > len(tried):
                among *= 2
        return list(drawn)

    async def add_all(self, cards: Sequence[Card], changes: Sequence[Change]) -> None:
        """Many new ones at once."""
        pairs = zip(cards, changes, strict=True)
        await self._conn.copy_records_to_table(
            "cards",
            columns=["origin", "id", "owner_epoch", "version", "hash", "public", "member",
                     "organization", "state", "status_index", "holder"],
            records=[
                (*columns_of(card, change), card.member, card.organization, card.state,
                 card.status_index, card.member)
                for card, change in pairs
            ],
        )  # fmt: skip

    async def save_all(self, cards: Sequence[Card], changes: Sequence[Change]) -> None:
        """New states of own cards."""
        rows = [
            (*columns_of(card, change)[1:], card.organization, card.state,
             await self._sealed_reason(card), card.revoker)
            for card, change in zip(cards, changes, strict=True)
        ]  # fmt: skip
        await self._conn.execute(
            """
            WITH line AS (
                SELECT * FROM unnest($2::uuid[], $3::int[], $4::bigint[], $5::bytea[], $6::bytea[],
                                     $7::uuid[], $8::smallint[], $9::bytea[], $10::text[])
                  AS line(id, owner_epoch, version, hash, public, organization, state, reason,
                          revoker)
            ), record AS (
                UPDATE cards SET owner_epoch = line.owner_epoch, version = line.version,
                       hash = line.hash, public = line.public, organization = line.organization,
                       state = line.state
                  FROM line WHERE cards.origin = $1 AND cards.id = line.id
            )
            INSERT INTO revocations (card, reason, revoker)
            SELECT id, reason, revoker FROM line WHERE revoker <> ''
            """,
            self._node, *zip(*rows, strict=True),
        )  # fmt: skip

    async def erase(self, members: Sequence[UUID]) -> None:
        """Destroy the keys of members, and why their cards were revoked."""
        await self._keyring.destroy(self._conn, members)
        await self._conn.execute(
            """
            UPDATE revocations SET reason = NULL FROM cards
             WHERE card = cards.id AND cards.origin = $1 AND cards.member = ANY ($2)
            """,
            self._node, members,
        )  # fmt: skip

    async def _sealed_reason(self, card: Card) -> bytes | None:
        if not card.revoke_reason:
            return None
        sealer = await self._keyring.of(self._conn, card.member)
        return sealer.seal(card.revoke_reason.encode(), _place(card.id))

    def _reason(self, row: Any) -> str:
        sealed = row["reason"]
        return ((sealed and self._keyring.unseal(row, sealed, _place(row["id"]))) or b"").decode()

    def _of(self, row: Any) -> Card:
        public = PublicCard.FromString(row["public"])
        revoked = public.HasField("revoke_time")
        return Card(
            id=row["id"], header=header_of(row, self._node, public.salt),
            member=UUID(bytes=public.member), organization=UUID(bytes=public.organization),
            state=CardState(public.state), status_index=public.status_index,
            issue_time=public.issue_time.ToDatetime(UTC),
            revoke_time=public.revoke_time.ToDatetime(UTC) if revoked else None,
            revoke_reason=self._reason(row), revoker=row["revoker"] or "",
        )  # fmt: skip


def _place(card: UUID) -> str:
    return f"revocations.reason/{card}"
