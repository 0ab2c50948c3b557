"""The part of the tree of organisations that a node holds: a table in each service's database."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from kit.authority import Scope
from kit.config import CannotServe
from kit.db import Connection, Pool, as_owner
from kit.divisions import divisions, version
from kit.organizations import (
    Level,
    Organization,
    OrganizationNotFound,
    around,
    near,
    organization_id,
    organization_in,
    tree,
)

COLUMNS = "id, code, display_name, level, parent, path"
HOST = """(SELECT host FROM organizations above
            WHERE host IS NOT NULL AND starts_with(one.path || '.', above.path || '.')
            ORDER BY length(above.path) DESC LIMIT 1) AS host"""


class Organizations:
    def __init__(self, conn: "Connection | Pool") -> None:
        self._conn = conn

    async def get(self, organization: UUID, *, name: str = "") -> Organization:
        """One organisation.

        Args:
            name: what the caller called it.

        Raises:
            OrganizationNotFound: if it is not in the part of the tree held here.
        """
        row = await self._conn.fetchrow(
            f"SELECT {COLUMNS}, {HOST} FROM organizations one WHERE id = $1", organization
        )
        if row is None:
            raise OrganizationNotFound(organization=name or f"organizations/{organization}")
        return _organization(row)

    async def parent(self, name: str) -> Organization:
        """The `parent` of a request.

        Raises:
            OrganizationNameMalformed, OrganizationNotFound
        """
        return await self.get(organization_in(name, field="parent"), name=name)

    async def within(self, name: str, scope: Scope) -> list[str]:
        """The paths of the `parent` of a List request, as far as the caller may list there.

        Raises:
            OrganizationNameMalformed, OrganizationNotFound, OutsideScope
        """
        return scope.within((await self.parent(name)).path)

    async def of_new(self, name: str, scope: Scope) -> Organization:
        """The `parent` of a request that makes something there.

        Raises:
            OrganizationNameMalformed, OrganizationNotFound, OutsideScope
        """
        found = await self.parent(name)
        scope.check(found.path)
        return found

    async def page_of_children(self, parent: UUID, *, after: str, limit: int) -> list[Organization]:
        """Those directly below, in order of code."""
        rows = await self._conn.fetch(
            f"""
            SELECT {COLUMNS}, {HOST} FROM organizations one
             WHERE parent = $1 AND code > $2 ORDER BY code LIMIT $3
            """,
            parent, after, limit,
        )  # fmt: skip
        return [_organization(row) for row in rows]

    async def page_of_subtree(self, path: str, *, after: str, limit: int) -> list[Organization]:
        """All below, in order of code."""
        rows = await self._conn.fetch(
            f"""
            SELECT {COLUMNS}, {HOST} FROM organizations one
             WHERE path >= $1 || '.' AND path < $1 || '/' AND code > $2 ORDER BY code LIMIT $3
            """,
            path, after, limit,
        )  # fmt: skip
        return [_organization(row) for row in rows]

    async def with_codes(self, codes: Sequence[str], *, within: str) -> dict[str, Organization]:
        """Those with one of the codes that stand at the path `within` or below, by code."""
        rows = await self._conn.fetch(
            f"SELECT {COLUMNS}, {HOST} FROM organizations one WHERE code = ANY ($1)", codes
        )
        found = (_organization(row) for row in rows)
        return {one.code: one for one in found if one.is_within(within)}


async def seeded(code: str, pool: Pool, *, below: bool = True) -> Organization:
    """The organisation that the node serves, with the tree around it in the database.

    Args:
        below: whether what is below it is held too, and not only what is above.

    Raises:
        CannotServe: if there is no such division.
    """
    seed_version = version(code) if below else f"above {version(code)}"
    async with pool.acquire() as conn:
        if not await is_seeded(conn, seed_version):
            try:
                organizations = around(tree(near(divisions(), code, below=below)), code)
            except KeyError:
                raise CannotServe(
                    f"organization = {code!r} is no division code; set 0 for the nation, or 2, 4, "
                    "6 or 9 digits, such as 5101"
                ) from None
            await seed(conn, seed_version, organizations)
        return await Organizations(conn).get(organization_id(code))


async def is_seeded(conn: Connection, version: str) -> bool:
    """Whether the tree is that of `version`."""
    return bool(await conn.fetchval("SELECT true FROM seeds WHERE version = $1", version))


async def seed(conn: Connection, version: str, organizations: Iterable[Organization]) -> None:
    """Bring the tree up to the divisions of `version`.

    One transaction: replicas that start together do it once.  What is no longer listed stays:
    members may belong to it.
    """
    async with conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock(hashtext('seed'))")
        if await is_seeded(conn, version):
            return
        await conn.execute("CREATE TEMPORARY TABLE fresh (LIKE organizations) ON COMMIT DROP")
        await conn.copy_records_to_table(
            "fresh",
            columns=[column.strip() for column in COLUMNS.split(",")],
            records=(
                (one.id, one.code, one.display_name, one.level, one.parent, one.path)
                for one in organizations
            ),
        )
        await conn.execute(
            f"""
            INSERT INTO organizations AS held ({COLUMNS}) SELECT {COLUMNS} FROM fresh
            ON CONFLICT (id) DO UPDATE
               SET display_name = excluded.display_name, level = excluded.level,
                   parent = excluded.parent, path = excluded.path
             WHERE (held.display_name, held.level, held.parent, held.path) IS DISTINCT FROM
                   (excluded.display_name, excluded.level, excluded.parent, excluded.path)
            """
        )
        await conn.execute(
            """
            INSERT INTO seeds (version) VALUES ($1)
            ON CONFLICT (single) DO UPDATE SET version = excluded.version
            """,
            version,
        )
    async with conn.transaction():
        await as_owner(conn)
        await conn.execute("ANALYZE organizations")


def _organization(row: Any) -> Organization:
    return Organization(**{**row, "level": Level(row["level"])})
