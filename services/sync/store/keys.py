"""The keys that are handed down: own records and copies of those of the nodes above."""

from collections.abc import Iterable, Mapping
from uuid import UUID

from kit.db import Connection
from kit.log import Change
from services.sync.domain.records import Held


class TrustedKeys:
    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    async def lock(self) -> None:
        """One replica at a time hands down."""
        await self._conn.execute("SELECT pg_advisory_xact_lock(hashtext('trusted_keys'))")

    async def lack(self, origin: UUID) -> bool:
        """Whether a node below has a certificate that this node has not handed down."""
        found: bool = await self._conn.fetchval(
            """
            SELECT EXISTS (
                SELECT FROM nodes
                 WHERE origin = parent AND certificate <> ''
                   AND NOT EXISTS (SELECT FROM trusted_keys AS held
                                    WHERE held.id = nodes.id AND held.origin = $1
                                      AND held.certificate = nodes.certificate))
            """,
            origin,
        )
        return found

    async def certificates(self) -> list[bytes]:
        """All that were handed down, by this node and those above."""
        rows = await self._conn.fetch("SELECT certificate FROM trusted_keys")
        return [row["certificate"] for row in rows]

    async def own(self, origin: UUID) -> Mapping[UUID, tuple[bytes, Held]]:
        """The certificates that this node has handed down, with their records."""
        rows = await self._conn.fetch(
            "SELECT id, certificate, version, hash, public FROM trusted_keys WHERE origin = $1",
            origin,
        )
        return {
            row["id"]: (row["certificate"], Held(row["version"], row["hash"], row["public"]))
            for row in rows
        }

    async def put(self, changes: Iterable[tuple[Change, bytes]], *, origin: UUID) -> list[Change]:
        """Write own records, each with its certificate; those that were written.  One that came
        back meanwhile from the parent, in a later version, stays as it is."""
        made = {change.id: (change, certificate) for change, certificate in changes}
        rows = await self._conn.fetch(
            """
            INSERT INTO trusted_keys AS held
                   (origin, id, owner_epoch, version, hash, public, certificate)
            SELECT $1, * FROM unnest($2::uuid[], $3::int[], $4::bigint[], $5::bytea[], $6::bytea[],
                                     $7::bytea[])
            ON CONFLICT (id, origin) DO UPDATE
               SET version = excluded.version, hash = excluded.hash, public = excluded.public,
                   certificate = excluded.certificate
             WHERE held.version < excluded.version
            RETURNING id
            """,
            origin, list(made),
            [change.owner_epoch for change, _ in made.values()],
            [change.version for change, _ in made.values()],
            [change.hash for change, _ in made.values()],
            [change.public for change, _ in made.values()],
            [certificate for _, certificate in made.values()],
        )  # fmt: skip
        return [made[row["id"]][0] for row in rows]
