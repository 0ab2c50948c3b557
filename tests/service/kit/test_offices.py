"""The view of offices that the gate asks at every call."""

from uuid import uuid4

from kit import local
from kit.db import connect
from kit.ids import uuid7
from kit.offices import Offices
from kit.organizations import organization_id
from kit.server import KIT_MIGRATIONS
from node import databases
from tests.offices import appoint


async def test_an_office_in_the_place_of_another_is_seen_though_as_many_are_held(
    postgres: str,
) -> None:
    url = await databases.create(postgres, f"offices_{uuid4().hex}", password="test")
    async with connect(url, KIT_MIGRATIONS) as pool, pool.acquire() as conn:
        await conn.execute(
            "INSERT INTO organizations (id, code, path, display_name, level)"
            " VALUES ($1, '51', '0.51', '四川', 2)",
            organization_id("51"),
        )
        node = uuid7()
        held = Offices(pool, node)
        await appoint(conn, node, "officers/before", "51")
        await held.refresh()
        assert held.of("officers/before")
        await local.forget(conn)  # as a snapshot of a restored membership does
        await appoint(conn, node, "officers/after", "51")
        await held.refresh()
        assert not held.of("officers/before") and held.of("officers/after")
