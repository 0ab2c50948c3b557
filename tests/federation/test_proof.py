"""What is shown of a node is computed from the tables of the node that shows it."""

from smartunion.event.v1 import log_pb2
from tests.eventually import eventually
from tests.federation.conftest import Line
from tests.federation.nodes import Node
from tests.federation.test_upward import proved
from tests.federation.things import Things, change, plain


async def verdict_is(node: Node, origin: Node, verdict: str) -> None:
    async def check() -> None:
        assert log_pb2.Verdict.Name((await node.network())[origin.code].verdict) == verdict

    await eventually(check)


async def settled(line: Line, n: int = 500) -> list[object]:
    ids = await line.city.things.add(n)
    await proved(line, dict.fromkeys(ids, 1))
    await holds_all(line.province, line.city)
    return list(ids)


async def holds_all(node: Node, origin: Node) -> None:
    """A node holds all things of another, and has proved it."""

    async def check() -> None:
        held = await origin.things.versions(origin.id)
        assert await node.things.versions(origin.id) == held
        proof = await node.proof(origin)
        assert log_pb2.Verdict.Name(proof.verdict) == "COMPLETE"
        assert sum(count.records for count in proof.counts) == len(held)

    await eventually(check)


async def test_a_copy_that_is_deleted_is_noticed_and_comes_back(line: Line) -> None:
    ids = await settled(line)
    await line.province.things.pool.execute("DELETE FROM things WHERE id = $1", ids[7])
    await line.city.things.add(1)  # the next certificate recounts
    await verdict_is(line.province, line.city, "DIFFERENT")
    assert len((await line.province.proof(line.city)).different_buckets) == 1
    await verdict_is(line.province, line.city, "COMPLETE")
    held = await line.province.things.versions(line.city.id)
    assert held == await line.city.things.versions(line.city.id)
    assert ids[7] in held


async def test_a_copy_that_is_altered_is_noticed_and_put_right(line: Line) -> None:
    ids = await settled(line)
    await line.nation.things.pool.execute("UPDATE things SET state = 99 WHERE id = $1", ids[7])
    proof = await line.nation.recount(line.city)
    assert proof.verdict == log_pb2.DIFFERENT
    await verdict_is(line.nation, line.city, "COMPLETE")
    state = await line.nation.things.pool.fetchval("SELECT state FROM things WHERE id = $1", ids[7])
    assert state == 1


async def test_a_stored_frame_that_a_reader_still_needs_is_asked_for_again(line: Line) -> None:
    await settled(line, 10)
    await line.province.stop("things")
    ids = await line.city.things.add(1_000)

    # Proved at the nation: so the province has stored the things, and a certificate after them.
    await proved(line, await line.city.things.versions(line.city.id))
    # Cut from the city, so that the hole can be seen before it is filled.
    await line.city.stop("sync")
    conn = await plain(line.province.databases["sync"])
    gone = await conn.execute(
        "DELETE FROM frames WHERE service = 'things' AND origin = $1 AND number = ("
        " SELECT max(frame) + 1 FROM frame_receipts"
        "  WHERE reader = 'things' AND origin = $1 AND service = 'things')",
        line.city.id,
    )
    await conn.close()
    assert gone == "DELETE 1"
    await line.province.start("things")
    await verdict_is(line.province, line.city, "GAP")
    await line.city.start("sync")

    async def whole() -> None:
        assert set(ids) <= set(await line.province.things.versions(line.city.id))

    await eventually(whole)
    await verdict_is(line.province, line.city, "COMPLETE")


async def test_a_record_written_without_the_outbox_is_never_called_complete(doomed: Line) -> None:
    await settled(doomed, 10)
    await write_and_forget(doomed.city.things)
    await doomed.city.things.add(1)
    await verdict_is(doomed.nation, doomed.city, "DIFFERENT")
    await verdict_is(doomed.city, doomed.city, "DIFFERENT")


async def write_and_forget(things: Things) -> None:
    """The bug: a code path that writes a record and forgets to announce it."""
    forgotten = change((await things.add(1))[0].__class__(int=5), 1, None)
    await things.pool.execute(
        "INSERT INTO things VALUES ($1, $2, 1, 1, $3, $4, $5, 1)",
        things.node, forgotten.id, forgotten.hash, forgotten.public, forgotten.id,
    )  # fmt: skip


async def test_what_cannot_be_applied_is_parked_and_counted_and_applied_later(doomed: Line) -> None:
    await settled(doomed, 10)
    await doomed.nation.stop("things")
    doomed.nation.kinds = ()  # an older version, which does not know the kind
    await doomed.nation.start("things")
    ids = await doomed.city.things.add(3)
    await verdict_is(doomed.nation, doomed.city, "COMPLETE_BUT_PARKED")
    assert (await doomed.nation.proof(doomed.city)).parked == 3
    await doomed.nation.stop("things")
    doomed.nation.kinds = doomed.city.kinds
    await doomed.nation.start("things")
    await doomed.city.things.add(1)
    await verdict_is(doomed.nation, doomed.city, "COMPLETE")
    assert set(ids) <= set(await doomed.nation.things.versions(doomed.city.id))
