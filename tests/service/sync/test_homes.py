"""Where a client is sent is where somebody may serve."""

from kit import db
from services.sync.domain.homes import Home
from services.sync.usecases import Means
from tests.service.sync.conftest import OWN, admitted

LINE = ["51", "5107", "510722"]
"""A county, and what it lies in."""


async def nearest(means: Means) -> Home | None:
    async with means.look() as store:
        return await store.homes.nearest(LINE, node=OWN.id)


async def test_a_node_that_admits_to_what_is_not_theirs_sends_nobody_anywhere(
    means: Means, pool: db.Pool
) -> None:
    province = await admitted(pool, "51", by=OWN.id)
    other = await admitted(pool, "5101", by=province)
    await admitted(pool, "510722", by=other)  # lies in 5107
    await admitted(pool, "51", by=other)  # lies above
    found = await nearest(means)
    assert found is not None and found.node == province
    right = await admitted(pool, "5107", by=province)
    found = await nearest(means)
    assert found is not None and found.node == right
