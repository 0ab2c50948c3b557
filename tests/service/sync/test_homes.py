"""Where a client is sent is where somebody may serve."""

from uuid import UUID

from kit.ids import uuid7
from services.sync.store.homes import Homes
from services.sync.usecases import Sync
from tests.service.sync.test_framing import OWN, sync

__all__ = ["sync"]
LINE = ["51", "5107", "510722"]
"""A county, and what it lies in."""


async def admitted(sync: Sync, code: str, *, by: UUID) -> UUID:
    """A node below another, as that one says."""
    node = uuid7()
    async with sync._pool.acquire() as conn:
        await conn.execute(
            """
            INSERT INTO nodes (origin, owner_epoch, version, hash, public, id, parent,
                               organization_code, display_name, level, public_key, certificate)
            VALUES ($1, 1, 1, $2, '', $3, $1, $4, $4, 'city', '', '')
            """,
            by, bytes(16), node, code,
        )  # fmt: skip
    return node


async def test_a_node_that_admits_to_what_is_not_theirs_sends_nobody_anywhere(sync: Sync) -> None:
    province = await admitted(sync, "51", by=OWN.id)
    other = await admitted(sync, "5101", by=province)
    await admitted(sync, "510722", by=other)  # lies in 5107
    await admitted(sync, "51", by=other)  # lies above
    async with sync._pool.acquire() as conn:
        found = await Homes(conn).nearest(LINE, node=OWN.id)
        assert found is not None and found.node == province
        right = await admitted(sync, "5107", by=province)
        found = await Homes(conn).nearest(LINE, node=OWN.id)
        assert found is not None and found.node == right
