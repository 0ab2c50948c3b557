"""The nodes above keep the heads of the audit trails below: none is made anew unseen."""

from dataclasses import replace
from uuid import UUID

import grpc

from kit.audit import Act, acting, row_of
from kit.chain import Fault, Head, link
from kit.db import Database, as_owner
from kit.wire import CHANNEL_OPTIONS
from node.audit import check, kept_heads, read_heads
from smartunion.event.v1 import access_pb2, access_pb2_grpc
from tests.eventually import eventually
from tests.federation.conftest import Line
from tests.federation.nodes import Node
from tests.offices import open_at

AUDITOR = "officers/auditor"


async def act(node: Node, times: int) -> None:
    """What a member does at a node, in transactions of its own; and something to certify."""
    acting.set(Act(f"members/{UUID(int=7)}", "a.B.Change", None))
    for _ in range(times):
        async with Database(node.things.pool, lambda conn: conn).transaction() as conn:
            await conn.execute("INSERT INTO roll VALUES (gen_random_uuid(), 1, $1, true)", node.id)
            acting.set(Act(f"members/{UUID(int=7)}", "a.B.Change", None))
    await node.things.add(1)


async def heads_at(holder: Node, origin: Node, *, of: int) -> list[Head]:
    """The heads that a node keeps of another, once the one of a row is among them."""
    found: list[Head] = []

    async def kept() -> None:
        rows = await kept_heads(holder.things.pool, origin.id)
        found[:] = read_heads(f'{{"things": {[list(row) for row in rows]}}}'.replace("'", '"'))[
            "things"
        ]
        assert of in {head.number for head in found}

    await eventually(kept)
    return found


async def finding(node: Node, held: list[Head]) -> str:
    async with node.things.pool.acquire() as conn:
        try:
            return await check(conn, held)
        except Fault as fault:
            return str(fault)


async def test_a_trail_that_is_made_anew_or_cut_is_found_by_what_each_node_above_keeps(
    doomed: Line,
) -> None:
    city = doomed.city
    await act(city, 3)
    await heads_at(doomed.nation, city, of=3)
    await act(city, 2)
    held = await heads_at(doomed.nation, city, of=5)
    assert {3, 5} <= {head.number for head in await heads_at(doomed.province, city, of=5)}
    assert "5 rows, whole, as" in await finding(city, held)

    async with city.things.pool.acquire() as conn, conn.transaction():
        await as_owner(conn)
        await conn.execute("ALTER TABLE audit DISABLE TRIGGER USER")
        await conn.execute("UPDATE audit SET caller = 'officers/nobody' WHERE number = 4")
        head = Head(0, bytes(32))
        for found in await conn.fetch("SELECT * FROM audit ORDER BY number"):
            row = replace(row_of(found), hash=b"")
            head = Head(row.number, link(head.hash, row))
            await conn.execute("UPDATE audit SET hash = $2 WHERE number = $1", *head_of(head))
        await conn.execute("UPDATE audit_head SET number = $1, hash = $2", *head_of(head))
    assert await finding(city, []) == "5 rows, whole"
    assert "a row from 4 to 5 was changed and the chain was made anew" in await finding(city, held)

    await act(city, 1)  # the forged trail is certified too: what was kept before stays
    held = await heads_at(doomed.nation, city, of=6)
    assert "a row from 4 to 5 was changed" in await finding(city, held)

    async with city.things.pool.acquire() as conn, conn.transaction():
        await as_owner(conn)
        await conn.execute("ALTER TABLE audit DISABLE TRIGGER USER")
        await conn.execute("DELETE FROM audit WHERE number > 3")
        await conn.execute(
            "UPDATE audit_head SET (number, hash) = (SELECT number, hash FROM audit"
            " WHERE number = 3)"
        )
    assert (await finding(city, held)).startswith("rows 4 to 6 are missing at the end")
    await listed(doomed, [head for head in reversed(held)])


def head_of(head: Head) -> tuple[int, bytes]:
    return head.number, head.hash


async def listed(line: Line, held: list[Head]) -> None:
    """An officer at the node above sees the heads, page by page; one of another node none."""
    nation = line.nation
    await open_at(nation.databases["things"], nation.id, AUDITOR, nation.code)
    async with grpc.aio.insecure_channel(
        nation.addresses["things"], options=CHANNEL_OPTIONS
    ) as channel:
        stub = access_pb2_grpc.AccessServiceStub(channel)
        request = access_pb2.ListAuditHeadsRequest(parent=f"nodes/{line.city.id}", page_size=2)

        async def page() -> access_pb2.ListAuditHeadsResponse:
            return await stub.ListAuditHeads(request, metadata=nation.token(AUDITOR))

        await eventually(page)
        heads: list[Head] = []
        while True:
            answer = await page()
            heads += [Head(head.number, head.hash) for head in answer.heads]
            request.page_token = answer.next_page_token
            if not request.page_token:
                break
    assert sorted(heads, key=head_of) == sorted(held, key=head_of)
    assert [head.number for head in heads] == sorted((h.number for h in heads), reverse=True)
