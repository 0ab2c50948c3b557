"""What differs between a child and its parent is found by few bytes, named, and healed."""

import random
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import grpc
import pytest

from kit.ids import uuid7
from kit.rpc import Context
from services.sync import differences
from services.sync.servicer.sync import SyncServicer
from smartunion.event.v1 import log_pb2, log_pb2_grpc
from smartunion.sync.v1 import frame_pb2, sync_pb2
from tests.eventually import eventually
from tests.federation import scale
from tests.federation.conftest import Line
from tests.federation.nodes import Node
from tests.federation.scale import MEANING, Pair, found, unhealed
from tests.federation.test_enrollment import reason
from tests.federation.test_proof import holds_all, settled, verdict_is
from tests.federation.things import change, plain


@pytest.fixture
async def pair(postgres: str, tmp_path: Path) -> AsyncIterator[Pair]:
    async with scale.pair(postgres, tmp_path) as pair:
        yield pair


async def asserted(node: Node) -> list[UUID]:
    """The records that a node has written to its log again."""
    rows = await node.things.pool.fetch(
        "SELECT id FROM entries WHERE event_type = $1 ORDER BY number",
        log_pb2.RecordReasserted.DESCRIPTOR.full_name,
    )
    return [row["id"] for row in rows]


async def differing(node: Node, **asked: object) -> dict[UUID, int]:
    async with node.sync_stub() as stub:
        request = sync_pb2.ListDifferencesRequest(service="things", **asked)  # type: ignore[arg-type]
        return found(await stub.ListDifferences(request, metadata=node.token(), timeout=60))


async def test_exactly_what_a_node_two_levels_up_lost_is_asserted_again(line: Line) -> None:
    await settled(line)
    ids = random.sample(sorted(await line.city.things.versions(line.city.id)), 3)
    city, nation = line.city, line.nation
    things = nation.things.pool
    async with unhealed(city):
        await things.execute("DELETE FROM things WHERE id = $1", ids[0])
        await things.execute("UPDATE things SET state = 99 WHERE id = $1", ids[1])
        await things.execute("UPDATE things SET public = '' WHERE id = $1", ids[2])
        assert (await nation.recount(city)).verdict == log_pb2.DIFFERENT
        expected = {
            ids[0]: MEANING.MISSING_ABOVE,
            ids[1]: MEANING.ALTERED_ABOVE,
            ids[2]: MEANING.ALTERED_ABOVE,
        }
        assert await differing(line.province, origin=f"nodes/{city.id}") == expected
    await verdict_is(nation, city, "COMPLETE")
    assert await differing(line.province, origin=f"nodes/{city.id}") == {}
    assert await nation.things.versions(city.id) == await city.things.versions(city.id)
    assert sorted(set(await asserted(city))) == sorted(ids)


async def test_what_cannot_be_healed_is_listed_and_not_asserted_for_ever(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(differences, "REASSERT_EVERY", 0.3)
    child, things = pair.child, pair.parent.things.pool
    ids = await child.things.add(300)
    await child.things.save(ids[:100], version=2)
    await holds_all(pair.parent, child)
    older, newer, extra = ids[0], ids[1], uuid7()
    async with unhealed(child):
        for id_, version in ((older, 1), (newer, 3), (extra, 1)):
            state = change(id_, version, None)
            await things.execute("DELETE FROM things WHERE id = $1", id_)
            await things.execute(
                "INSERT INTO things VALUES ($1, $2, 1, $3, $4, $5, $6, $7)", child.id, id_,
                version, state.hash, state.public, UUID(int=0), version,
            )  # fmt: skip
        assert (await pair.parent.recount(child)).verdict == log_pb2.DIFFERENT
        expected = {newer: MEANING.NEWER_ABOVE, extra: MEANING.EXTRA_ABOVE}
        assert await differing(child) == expected | {older: MEANING.OLDER_ABOVE}

    async def healed() -> None:
        assert await differing(child) == expected

    await eventually(healed)
    before = (await asserted(child)).count(older)
    under_way = set()  # what is new may not have arrived when the parent is compared with
    for _ in range(3):  # each time the parent wants the buckets that still differ
        under_way |= set(await child.things.add(1))
        await wanted_again(pair)
    after = await asserted(child)
    assert set(after) - under_way == {older}
    assert after.count(older) == before
    await verdict_is(pair.parent, child, "DIFFERENT")


async def test_an_origin_whose_own_sums_are_wrong_does_not_assert_for_ever(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asserting cannot heal it: only people can say which of its table and its log is right."""
    monkeypatch.setattr(differences, "REASSERT_EVERY", 0.3)
    child = pair.child
    await child.things.add(300)
    await holds_all(pair.parent, child)
    await child.things.pool.execute(
        "UPDATE sums SET digest = modulo(digest + 1) WHERE origin = $1", child.id
    )
    under_way = set(await child.things.add(1))
    await verdict_is(pair.parent, child, "DIFFERENT")
    for _ in range(3):
        under_way |= set(await child.things.add(1))
        await wanted_again(pair)
    assert set(await asserted(child)) <= under_way
    await verdict_is(child, child, "DIFFERENT")


async def wanted_again(pair: Pair) -> None:
    """Wait until the next certificate has been compared, and the child was told."""
    before = (await pair.parent.proof(pair.child)).certified
    passed = pair.line.passed_bytes

    async def check() -> None:
        proof = await pair.parent.proof(pair.child)
        assert proof.certified > before and proof.different_buckets
        assert pair.line.passed_bytes > passed + 10_000  # two searches

    await eventually(check)


async def test_a_record_that_only_the_parent_has_left_is_listed(pair: Pair) -> None:
    """The child's own table has lost it, and its audit knows in which bucket."""
    ids = await pair.child.things.add(300)
    await holds_all(pair.parent, pair.child)
    await pair.child.things.pool.execute("DELETE FROM things WHERE id = $1", ids[7])
    await pair.child.recount(pair.child)
    assert await differing(pair.child) == {ids[7]: MEANING.EXTRA_ABOVE}
    assert await asserted(pair.child) == []


async def unknown_method(self: object, request: object, context: Context) -> None:
    """As a server answers that has not got the method."""
    await context.abort(grpc.StatusCode.UNIMPLEMENTED)


async def test_under_an_older_parent_whole_buckets_are_asserted(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scale.pair(postgres, tmp_path) as pair:
        ids = await pair.child.things.add(2_000)
        await holds_all(pair.parent, pair.child)
        await pair.parent.stop("sync")
        monkeypatch.setattr(SyncServicer, "CompareRanges", unknown_method)
        await pair.parent.start("sync")

        async def older() -> None:
            assert await reason(differing(pair.child)) == "PARENT_OLDER"

        await eventually(older)
        bucket = {id_ for id_ in ids if id_.bytes[15] == ids[7].bytes[15]}
        await pair.parent.things.pool.execute("DELETE FROM things WHERE id = $1", ids[7])
        await pair.parent.recount(pair.child)

        async def whole() -> None:
            assert len(bucket) > 1 and set(await asserted(pair.child)) == bucket

        await eventually(whole)
        await holds_all(pair.parent, pair.child)


async def test_more_differences_than_one_search_finds_are_healed_all_the_same(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(differences, "MOST", 20)
    await pair.child.things.add(1_000)
    await holds_all(pair.parent, pair.child)
    await pair.parent.things.pool.execute("DELETE FROM things")
    await pair.parent.recount(pair.child)
    await holds_all(pair.parent, pair.child)


async def test_100_differences_are_found_by_few_bytes_and_told_in_pages(pair: Pair) -> None:
    async with unhealed(pair.child), pair.child.sync_stub() as stub:
        expected = await pair.spoil(await pair.fill(20_000), 100)
        listed, _, passed = await pair.list()
        _, _, again = await pair.list()
        pages: dict[UUID, int] = {}
        request = sync_pb2.ListDifferencesRequest(service="things", page_size=30)
        while request.page_token or not pages:
            answer = await stub.ListDifferences(request, metadata=pair.child.token())
            assert len(answer.differences) <= 30
            pages |= found(answer)
            request.page_token = answer.next_page_token
    assert listed == pages == expected
    # Heartbeats included, more of them the slower the machine; of a million: bench/differences.py
    assert min(passed, again) < 200_000


async def test_a_comparison_that_cannot_be_made_is_refused_with_the_reason(line: Line) -> None:
    city = line.city
    assert await reason(differing(line.nation)) == "PARENT_MISSING"
    assert await reason(differing(city, channel="gossip")) == "CHANNEL_UNKNOWN"
    assert await reason(differing(city, origin="nodes/x")) == "NAME_MALFORMED"
    assert await reason(differing(city, origin=f"nodes/{line.nation.id}")) == "NODE_UNKNOWN"
    assert await reason(differing(city, page_size=-1)) == "PAGE_SIZE_OUT_OF_RANGE"
    assert await reason(differing(city, page_token="x")) == "PAGE_TOKEN_FOREIGN"
    async with city.sync_stub() as stub:
        request = sync_pb2.ListDifferencesRequest(service="gossip")
        call = stub.ListDifferences(request, metadata=city.token())
        assert await reason(call) == "SERVICE_UNKNOWN"
        call = stub.ListDifferences(request, metadata=city.token("services/things"))
        assert await reason(call) == "ACCESS_DENIED"
    await line.province.stop("things")
    assert await reason(differing(city)) == "PARENT_AWAY"
    await line.province.stop("sync")
    assert await reason(differing(city)) == "PARENT_AWAY"
    await line.province.start("sync", "things")

    async def back() -> None:
        assert await differing(city) == {}

    await eventually(back)


async def test_a_child_compares_only_what_lies_below_it(line: Line) -> None:
    conn = await plain(line.city.databases["sync"])
    sealed = await conn.fetchval("SELECT link_token FROM uplink")
    await conn.close()
    token = await line.city.opened(sealed, "uplink.link_token")
    metadata = (("authorization", f"Bearer {token}"),)

    async def compare(origin: UUID, service: str = "things", *prefixes: str) -> str:
        ranges = [log_pb2.Range(kind="things", prefix=prefix) for prefix in prefixes]
        stream = frame_pb2.Stream(origin=origin.bytes, service=service, channel="records")
        request = sync_pb2.CompareRangesRequest(stream=stream, ranges=ranges)
        async with line.province.sync_stub() as stub:
            return await reason(stub.CompareRanges(request, metadata=metadata))

    assert await compare(line.province.id) == "ORIGIN_FOREIGN"
    city = line.city.id
    assert await compare(city, "gossip") == "SERVICE_UNKNOWN"
    assert await compare(city, "a b") == "STREAM_MALFORMED"
    assert await compare(city, "things", "A7") == "RANGE_MALFORMED"
    assert await compare(city, "things", *["a7"] * 2_001) == "RANGES_TOO_MANY"


async def test_records_are_asserted_by_their_ids(line: Line) -> None:
    ids, before = await line.city.things.add(3), await asserted(line.city)
    address, token = line.city.addresses["things"], line.city.token("services/sync")
    async with grpc.aio.insecure_channel(address) as channel:
        log = log_pb2_grpc.LogServiceStub(channel)
        wanted = [ids[1].bytes, uuid7().bytes]  # the other is nobody's
        request = log_pb2.ReassertRequest(channel="records", ids=wanted)
        assert (await log.Reassert(request, metadata=token)).records == 1
        for wrong in ([b"short"], [bytes(16)] * 10_001):
            request = log_pb2.ReassertRequest(channel="records", ids=wrong)
            assert await reason(log.Reassert(request, metadata=token)) == "IDS_MALFORMED"

    async def written() -> None:
        assert await asserted(line.city) == [*before, ids[1]]

    await eventually(written)
