"""What a node decides for those below it reaches them all, signed and proved; and nothing else."""

import grpc

from kit.copies import Copies
from kit.frames import Line as Entry
from kit.ids import uuid7
from smartunion.event.v1 import log_pb2, log_pb2_grpc
from smartunion.sync.v1 import frame_pb2, sync_pb2
from tests.eventually import eventually
from tests.federation.conftest import Line
from tests.federation.nodes import Node, plain
from tests.federation.test_enrollment import reason
from tests.federation.things import ORDER, change


async def arrived(origin: Node, *readers: Node) -> None:
    """Each reader holds the orders that the origin holds, and has proved it."""

    async def check() -> None:
        held = await origin.things.versions(origin.id, ORDER)
        for reader in readers:
            assert await reader.things.versions(origin.id, ORDER) == held
            proof = await from_above(reader, origin)
            assert log_pb2.Verdict.Name(proof.verdict) == "COMPLETE"
            assert sum(count.records for count in proof.counts) == len(held)

    await eventually(check)


async def from_above(reader: Node, origin: Node) -> log_pb2.Proof:
    """What a node can prove of the orders of one above it."""
    async with reader.sync_stub() as stub:
        request = sync_pb2.GetNetworkRequest()
        network = await stub.GetNetwork(request, metadata=reader.token(), timeout=60)
    for stream in network.from_above:
        if stream.service == "things" and stream.proof.origin == origin.id.bytes:
            return stream.proof
    return log_pb2.Proof()


async def keys(node: Node) -> tuple[bytes, dict[str, sync_pb2.NodeKey]]:
    """The key of the top, and the keys that a node knows, by division code."""
    async with node.sync_stub() as stub:
        answer = await stub.ListKeys(
            sync_pb2.ListKeysRequest(), metadata=node.token("services/things"), timeout=60
        )
    return answer.root, {key.node.organization_code: key for key in answer.keys}


async def test_what_the_nation_decides_is_readable_and_proved_at_the_city(line: Line) -> None:
    ids = await line.nation.things.add(300, ORDER)
    await line.nation.things.save(ids[:10], version=2, kind=ORDER)
    await arrived(line.nation, line.province, line.city)
    await line.province.things.add(5, ORDER)
    await arrived(line.province, line.city)
    assert await line.nation.things.versions(line.province.id, ORDER) == {}


async def test_everyone_comes_to_know_the_keys_of_the_whole_tree(line: Line) -> None:
    async def known() -> None:
        for node in line.all:
            root, found = await keys(node)
            assert root == found["0"].public_key
            assert set(found) == {"0", "51", "5101"}
            assert all(key.certificate and len(key.seal_key) == 32 for key in found.values())

    await eventually(known)


async def test_a_copy_below_that_is_lost_or_altered_is_put_right(line: Line) -> None:
    ids = await line.nation.things.add(20, ORDER)
    await arrived(line.nation, line.province, line.city)
    city = line.city.things.pool
    await city.execute("DELETE FROM orders WHERE id = $1", ids[0])
    await city.execute("UPDATE orders SET state = 77 WHERE id = $1", ids[1])
    await city.execute(
        "UPDATE proofs SET recount_time = '-infinity' WHERE channel = 'down' AND frame > 0"
    )
    await line.nation.things.add(1, ORDER)  # a certificate follows, at which it is noticed
    await arrived(line.nation, line.province, line.city)
    assert await city.fetchval("SELECT state FROM orders WHERE id = $1", ids[1]) == 1


async def test_a_frame_that_is_gone_on_the_way_is_fetched_again(line: Line) -> None:
    await line.nation.things.add(5, ORDER)
    await arrived(line.nation, line.province, line.city)
    await line.city.stop("things")
    await line.nation.things.add(5, ORDER)

    async def stored() -> None:
        conn = await plain(line.city.databases["sync"])
        gone = await conn.fetchval(
            "DELETE FROM frames WHERE origin = $1 AND channel = 'down' AND service = 'things'"
            " RETURNING true",
            line.nation.id,
        )
        await conn.close()
        assert gone

    await eventually(stored)
    await line.city.start("things")
    await arrived(line.nation, line.province, line.city)


async def test_a_node_that_comes_when_the_frames_are_freed_gets_a_snapshot(doomed: Line) -> None:
    await doomed.nation.things.add(30, ORDER)
    await arrived(doomed.nation, doomed.province, doomed.city)
    await doomed.city.stop()
    for name in ("things", "sync"):
        conn = await plain(doomed.city.databases[name])
        if name == "sync":
            await conn.execute("DELETE FROM frames WHERE origin = $1", doomed.nation.id)
            await conn.execute("DELETE FROM streams WHERE origin = $1", doomed.nation.id)
            await conn.execute("DELETE FROM frame_receipts WHERE origin = $1", doomed.nation.id)
        else:
            await conn.execute("DELETE FROM orders")
            await conn.execute("DELETE FROM sums WHERE origin = $1", doomed.nation.id)
            await conn.execute("DELETE FROM proofs WHERE origin = $1", doomed.nation.id)
        await conn.close()
    conn = await plain(doomed.province.databases["sync"])
    await conn.execute(
        """
        DELETE FROM frames USING streams
         WHERE frames.origin = $1 AND streams.origin = $1 AND frames.channel = 'down'
           AND streams.service = frames.service AND streams.channel = 'down'
           AND frames.number < streams.frame
        """,
        doomed.nation.id,
    )
    await conn.close()
    await doomed.city.start()
    await arrived(doomed.nation, doomed.city)
    await doomed.nation.things.add(3, ORDER)
    await arrived(doomed.nation, doomed.province, doomed.city)


async def test_a_child_can_neither_bring_what_travels_down_nor_forge_what_comes(
    line: Line,
) -> None:
    await line.nation.things.add(1, ORDER)
    await arrived(line.nation, line.province, line.city)
    conn = await plain(line.city.databases["sync"])
    body = await conn.fetchval(
        "SELECT body FROM frames WHERE channel = 'down' AND service = 'things' LIMIT 1"
    )
    await conn.close()
    frame = frame_pb2.Frame.FromString(body)
    async with line.province.sync_stub() as stub:
        token = await link_token(line.city)
        answer = await stub.PushFrames(
            sync_pb2.PushFramesRequest(frames=[frame]),
            metadata=(("authorization", f"Bearer {token}"),), timeout=60,
        )  # fmt: skip
    assert [receipt.refused for receipt in answer.receipts if receipt.refused] == ["ORIGIN_FOREIGN"]


async def test_what_travels_down_is_not_taken_from_a_child(line: Line) -> None:
    made = change(uuid7(), 1, None, ORDER)
    entry = Entry(1, ORDER.name, made.id, 1, 1, made.hash, made.public)
    pool, city = line.province.things.pool, line.city.id
    async with grpc.aio.insecure_channel("127.0.0.1:1") as nobody:
        copies = Copies(pool, line.province.id, "things", (ORDER,), nobody, ())
        async with pool.acquire() as conn:
            undone = conn.transaction()
            await undone.start()
            await copies.apply(conn, city, "records", [entry])
            assert await conn.fetchval("SELECT reason FROM parked WHERE id = $1", made.id)
            assert not await conn.fetchval("SELECT true FROM orders WHERE id = $1", made.id)
            await undone.rollback()


async def test_a_parent_cannot_write_a_childs_own_records_by_a_snapshot(line: Line) -> None:
    head = log_pb2.SnapshotHead(origin=line.city.id.bytes, channel="records", frame=9, number=9)
    request = log_pb2.WriteSnapshotRequest(part=log_pb2.SnapshotPart(head=head))
    async with grpc.aio.insecure_channel(line.city.addresses["things"]) as channel:
        call = log_pb2_grpc.LogServiceStub(channel).WriteSnapshot(
            iter([request]), metadata=line.city.token("services/sync")
        )
        assert await reason(call) == "SNAPSHOT_OWN"


async def link_token(node: Node) -> str:
    """What the node shows its parent."""
    conn = await plain(node.databases["sync"])
    sealed = await conn.fetchval("SELECT link_token FROM uplink")
    await conn.close()
    return await node.opened(sealed, "uplink.link_token")
