"""The table of programmes, and what is left of this node's shares."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from kit.authority import Scope
from kit.db import Connection, Pool
from kit.headers import Header
from kit.log import Change
from kit.rows import PATH, RECORD, WITHIN, certificate, columns_of, header_of
from services.benefits.domain.programmes import Draft, Programme, ProgrammeNotFound, Share
from smartunion.benefits.v1.records_pb2 import PublicProgramme

PROGRAMME = f"SELECT {RECORD}, {PATH}, certificate FROM programmes record {certificate('down')}"


class Programmes:
    def __init__(self, conn: "Connection | Pool", node: UUID) -> None:
        self._conn, self._node = conn, node

    async def get(self, programme: UUID, *, scope: Scope | None) -> Programme:
        """One programme; `scope`: None: for members and merchants.

        Raises:
            ProgrammeNotFound, OutsideScope
        """
        rows = await self._rows([programme])
        if not rows:
            raise ProgrammeNotFound(programme=f"programmes/{programme}")
        if scope is not None:
            scope.check_line(rows[-1]["path"])
        return self._of(rows[-1])

    async def some(self, programmes: Collection[UUID]) -> dict[UUID, Programme]:
        """Of each that is known the record of the latest owner."""
        return {row["id"]: self._of(row) for row in await self._rows(programmes)}

    async def _rows(self, programmes: Collection[UUID]) -> Sequence[Any]:
        return await self._conn.fetch(
            f"{PROGRAMME} WHERE record.id = ANY ($2) ORDER BY record.owner_epoch",
            self._node, programmes,
        )  # fmt: skip

    async def page(
        self, *, paths: Sequence[str], below: bool, before: UUID, limit: int
    ) -> list[Programme]:
        """Those that are for organisations at paths, the newest first.

        Args:
            below: also those that are for an organisation below one of the paths.
        """
        rows = await self._conn.fetch(
            f"""
            {PROGRAMME}
             WHERE record.id < $2
               AND record.organization IN (
                    SELECT id FROM organizations, unnest($3::text[]) AS place
                     WHERE starts_with(place || '.', path || '.')
                        OR $5 AND path >= place || '.' AND path < place || '/')
               AND NOT EXISTS (SELECT FROM programmes newer WHERE newer.id = record.id
                                  AND newer.owner_epoch > record.owner_epoch)
             ORDER BY record.id DESC LIMIT $4
            """,
            self._node, before, paths, limit, below,
        )  # fmt: skip
        return [self._of(row) for row in rows]

    async def add(self, programme: Programme, change: Change) -> None:
        await self._conn.execute(
            """
            INSERT INTO programmes (origin, id, owner_epoch, version, hash, public, organization)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            """,
            *columns_of(programme, change), programme.organization,
        )  # fmt: skip

    def _of(self, row: Any) -> Programme:
        public = PublicProgramme.FromString(row["public"])
        return _programme(row["id"], header_of(row, self._node, public.salt), public)


class Drafts:
    """Programmes of this node that somebody has made; those that are open too."""

    def __init__(self, conn: "Connection | Pool", node: UUID) -> None:
        self._conn, self._node = conn, node

    async def get(self, programme: UUID, *, scope: Scope, lock: str = "") -> Draft:
        """One draft.  Raises ProgrammeNotFound, OutsideScope."""
        row = await self._conn.fetchrow(
            f"SELECT *, {PATH} FROM drafts record WHERE id = $1 {lock}", programme
        )
        if row is None:
            raise ProgrammeNotFound(programme=f"programmes/{programme}")
        scope.check(row["path"])
        return self._of(row)

    async def lock(self, programme: UUID, *, scope: Scope) -> Draft:
        """Like `get`, and holds the row until the transaction ends."""
        return await self.get(programme, scope=scope, lock="FOR UPDATE OF record")

    async def page(self, path: str, *, before: UUID, limit: int) -> list[Draft]:
        """Those of organisations at a path and below that nobody has opened, the newest first."""
        rows = await self._conn.fetch(
            f"""
            SELECT * FROM drafts record
             WHERE opener = '' AND id < $1 AND {WITHIN} ORDER BY id DESC LIMIT $3
            """,
            before, path, limit,
        )  # fmt: skip
        return [self._of(row) for row in rows]

    async def add(self, draft: Draft, public: PublicProgramme) -> None:
        await self._conn.execute(
            "INSERT INTO drafts (id, organization, public, creator) VALUES ($1, $2, $3, $4)",
            draft.programme.id, draft.programme.organization,
            public.SerializeToString(deterministic=True), draft.creator,
        )  # fmt: skip

    async def save_opening(self, draft: Draft) -> None:
        await self._conn.execute(
            "UPDATE drafts SET opener = $2 WHERE id = $1", draft.programme.id, draft.opener
        )

    def _of(self, row: Any) -> Draft:
        public = PublicProgramme.FromString(row["public"])
        header = Header(origin=self._node, salt=public.salt.hex())
        programme = _programme(row["id"], header, public)
        return Draft(programme=programme, creator=row["creator"], opener=row["opener"])


def _programme(id_: UUID, header: Header, public: PublicProgramme) -> Programme:
    return Programme(
        id=id_, header=header, organization=UUID(bytes=public.organization), title=public.title,
        face_value_fen=public.face_value_fen,
        shares=tuple(
            Share(node=UUID(bytes=share.node), stock=share.stock) for share in public.shares
        ),
        claim_start_time=public.claim_start_time.ToDatetime(UTC),
        claim_end_time=public.claim_end_time.ToDatetime(UTC),
        use_by_time=public.use_by_time.ToDatetime(UTC),
    )  # fmt: skip


class Stocks:
    def __init__(self, conn: "Connection | Pool", node: UUID) -> None:
        self._conn, self._node = conn, node

    async def remaining(self, programmes: list[Programme]) -> dict[UUID, int]:
        """What is left of this node's share of each."""
        rows = await self._conn.fetch(
            "SELECT programme, remaining FROM stocks WHERE programme = ANY ($1)",
            [one.id for one in programmes],
        )
        known = {row["programme"]: row["remaining"] for row in rows}
        return {one.id: known.get(one.id, one.share_of(self._node)) for one in programmes}

    async def lock(self, programme: UUID) -> tuple[int | None, datetime | None]:
        """What is left, held until the transaction ends; None if nobody has claimed yet.  And when
        coupons came back last, after a restore: then it must be counted."""
        row = await self._conn.fetchrow(
            """
            SELECT remaining, (SELECT max(take_time) FROM taken_back WHERE kind = 'coupons')
              FROM stocks WHERE programme = $1 FOR UPDATE
            """,
            programme,
        )
        return (row[0], row[1]) if row else (None, None)

    async def count(self, programme: Programme) -> int:
        """Count what is left, and hold it until the transaction ends."""
        await self._conn.execute(
            "INSERT INTO stocks (programme, remaining) VALUES ($1, 0) ON CONFLICT DO NOTHING",
            programme.id,
        )
        await self.lock(programme.id)  # before it is counted: who held it may have claimed
        remaining: int = await self._conn.fetchval(
            """
            UPDATE stocks SET remaining = greatest(0, $2 - (
                SELECT count(*) FROM coupons WHERE programme = $1 AND origin = $3))
             WHERE programme = $1 RETURNING remaining
            """,
            programme.id, programme.share_of(self._node), self._node,
        )  # fmt: skip
        return remaining

    async def take(self, programme: UUID, count: int) -> None:
        """Take some away; the row is locked."""
        await self._conn.execute(
            "UPDATE stocks SET remaining = remaining - $2 WHERE programme = $1", programme, count
        )
