"""A receipt says what is committed, and nothing is freed that someone may still need."""

import asyncio
from datetime import timedelta
from typing import Any

from services.sync.store.frames import Frames
from tests.eventually import eventually
from tests.federation.conftest import Line
from tests.federation.nodes import Node, plain
from tests.federation.test_proof import settled
from tests.federation.test_upward import proved


async def receipt(node: Node, reader: str, origin: Node) -> int:
    """How far a reader has passed the frames of the things of a node, as `node` has it."""
    conn = await plain(node.databases["sync"])
    found = await conn.fetchval(
        "SELECT frame FROM frame_receipts"
        " WHERE reader = $1 AND origin = $2 AND service = 'things' AND channel = 'records'",
        reader, origin.id,
    )  # fmt: skip
    await conn.close()
    return int(found or 0)


async def last_frame(node: Node, origin: Node) -> int:
    conn = await plain(node.databases["sync"])
    found = await conn.fetchval(
        "SELECT frame FROM streams WHERE origin = $1 AND service = 'things'"
        " AND channel = 'records'",
        origin.id,
    )
    await conn.close()
    return int(found or 0)


async def test_a_parent_answers_a_push_only_after_its_commit(line: Line) -> None:
    await settled(line, 10)
    before = await receipt(line.city, "parent", line.city)
    conn = await plain(line.province.databases["sync"])
    async with conn.transaction():
        await conn.execute("LOCK TABLE frames IN EXCLUSIVE MODE")  # no frame can be stored
        await line.city.things.add(10)

        async def made() -> None:
            assert await last_frame(line.city, line.city) > before

        await eventually(made)
        await asyncio.sleep(0.5)  # time for a push, and for an answer that came too early
        assert await receipt(line.city, "parent", line.city) == before
    await conn.close()
    await proved(line, await line.city.things.versions(line.city.id))
    assert await receipt(line.city, "parent", line.city) > before


async def test_a_readers_receipt_never_runs_ahead_of_its_commit(line: Line) -> None:
    await settled(line, 10)
    before = await receipt(line.province, "things", line.city)
    async with line.province.things.pool.acquire() as conn, conn.transaction():
        await conn.execute("LOCK TABLE things IN EXCLUSIVE MODE")  # no copy can be written
        await line.city.things.add(10)

        async def stored() -> None:
            assert await last_frame(line.province, line.city) > before

        await eventually(stored)
        await asyncio.sleep(0.5)
        # Its next question acknowledges the frame before, which may have held a certificate.
        assert await receipt(line.province, "things", line.city) <= before + 1
        assert await last_frame(line.province, line.city) > before
    await proved(line, await line.city.things.versions(line.city.id))


async def free(node: Node, *, detach: timedelta = timedelta(days=30)) -> int:
    """Free frames as if no backup were ever restored."""
    conn: Any = await plain(node.databases["sync"])
    parent = bool(node.parent)
    freed = await Frames(conn).free(own=node.id, parent=parent, keep=timedelta(0), detach=detach)
    await conn.close()
    return freed


async def test_frames_are_freed_when_all_their_readers_have_passed_them(line: Line) -> None:
    await settled(line, 10)
    await line.province.stop("things")
    ids = await line.city.things.add(1_000)

    async def above() -> None:
        assert set(ids) <= set(await line.nation.things.versions(line.city.id))

    await eventually(above)
    await free(line.province)
    await free(line.city)
    await line.province.start("things")
    await proved(line, await line.city.things.versions(line.city.id))

    async def read() -> None:
        held = await line.province.things.versions(line.city.id)
        assert set(ids) <= set(held)

    await eventually(read)

    async def freed() -> None:
        await free(line.province)
        conn = await plain(line.province.databases["sync"])
        left = await conn.fetchval(
            "SELECT count(*) FROM frames WHERE origin = $1 AND service = 'things'", line.city.id
        )
        await conn.close()
        assert left <= 1

    await eventually(freed)
    more = await line.city.things.add(10)
    held = await line.city.things.versions(line.city.id)
    assert set(more) <= set(held)
    await proved(line, held)
