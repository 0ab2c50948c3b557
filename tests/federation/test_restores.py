"""A backup that is restored, a reader that stayed away, a node that is lost: nothing that a node
above holds vanishes, and everything is proved again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit import frames
from kit.ids import uuid7
from kit.waiting import ended
from node.databases import drop_database
from smartunion.event.v1 import log_pb2, log_pb2_grpc
from smartunion.sync.v1 import frame_pb2, sync_pb2
from tests.eventually import eventually
from tests.federation import nodes
from tests.federation.conftest import Line
from tests.federation.nodes import Node, plain
from tests.federation.test_enrollment import reason
from tests.federation.test_proof import settled, verdict_is
from tests.federation.test_receipts import free
from tests.federation.test_upward import proved
from tests.federation.test_watching import MINE, names, refused, watch
from tests.federation.things import change
from tests.offices import open_at

BOTH = ("things", "sync")


async def copied(postgres: str, source: str, target: str, owner: str) -> None:
    conn = await asyncpg.connect(postgres)
    await drop_database(conn, target)
    await conn.execute(f'CREATE DATABASE "{target}" TEMPLATE "{source}" OWNER "{owner}_owner"')
    await conn.close()


async def back_up(postgres: str, node: Node, *names: str) -> None:
    """A backup of some services of a node, which are stopped for it."""
    await node.stop(*names)
    for name in names:
        database = urlsplit(node.databases[name]).path[1:]
        await copied(postgres, database, f"{database}_backup", database)
    await node.start(*names)


async def restore(postgres: str, node: Node, *names: str) -> None:
    """Put the backup in place of what the services have now, and start them."""
    await node.stop(*names)
    await put_back(postgres, node, *names)
    await node.start(*names)


async def put_back(postgres: str, node: Node, *names: str) -> None:
    for name in names:
        database = urlsplit(node.databases[name]).path[1:]
        await copied(postgres, f"{database}_backup", database, database)


@asynccontextmanager
async def unnoticed(postgres: str, node: Node, *names: str) -> AsyncIterator[None]:
    """The same, and nothing is numbered or taken back before the end: people go on working."""
    await node.stop(*names)
    await put_back(postgres, node, *names)
    conn = await plain(node.databases["things"])
    async with conn.transaction():
        await conn.execute("LOCK TABLE logs IN EXCLUSIVE MODE")
        await node.start(*names)
        yield
    await conn.close()


async def everything_is_proved(line: Line) -> None:
    """Everyone above holds what the nodes below hold, and says COMPLETE of each."""
    await proved(line, {})

    async def check() -> None:
        for above, below in (
            (line.province, line.city), (line.nation, line.city), (line.nation, line.province),
        ):  # fmt: skip
            held = await above.things.versions(below.id)
            assert held == await below.things.versions(below.id)
            state = (await above.network())[below.code]
            assert log_pb2.Verdict.Name(state.verdict) == "COMPLETE"

    await eventually(check)


async def taken_back(node: Node) -> set[UUID]:
    """The things that an operator is told to look at."""
    async with node.sync_stub() as stub:
        answer = await stub.ListTakenBack(
            sync_pb2.ListTakenBackRequest(service="things"), metadata=node.token(), timeout=60
        )
    return {UUID(bytes=record.id) for record in answer.records}


@pytest.mark.parametrize("services", [BOTH, ("things",), ("sync",)], ids=" and ".join)
async def test_a_city_that_is_restored_takes_back_what_the_nodes_above_hold(
    line: Line, postgres: str, services: tuple[str, ...]
) -> None:
    earlier, told = await line.city.things.versions(line.city.id), await taken_back(line.city)
    old = await line.city.things.add(20)
    await proved(line, dict.fromkeys(old, 1))
    await back_up(postgres, line.city, *services)
    lost = await line.city.things.add(30)
    await line.city.things.save(old[:5], version=2)
    known = dict.fromkeys(old + lost, 1) | dict.fromkeys(old[:5], 2)
    await proved(line, known)

    async with unnoticed(postgres, line.city, *services):
        since = await line.city.things.add(10)
        if "things" in services:  # also on a record that had been changed since
            await line.city.things.save(old[4:6], version=2)
    await everything_is_proved(line)

    held = await line.nation.things.versions(line.city.id)
    assert set(held) - set(earlier) == set(old + lost + since)
    assert all(held[id_] >= version for id_, version in known.items())
    if "things" in services:
        assert held[old[4]] == 3  # what was decided since the restore is newer than what came back
        assert held[old[5]] == 2
        assert await taken_back(line.city) - told == {*lost, *old[:5]}
    else:
        assert await taken_back(line.city) == told
    more = await line.city.things.add(10)
    await proved(line, dict.fromkeys(more, 1))


async def events(node: Node) -> list[UUID]:
    """The ids of all events but certificates in the log of the things of a node, in order."""
    rows = await node.things.pool.fetch(
        "SELECT number, kind, event_id FROM entries WHERE channel = 'records' ORDER BY number"
    )
    assert [row["number"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["event_id"] for row in rows if row["kind"] != "certificate"]


async def test_every_event_of_a_city_is_in_its_log_once_after_a_restore(
    line: Line, postgres: str
) -> None:
    await line.city.things.add(5)
    await proved(line, {})
    await back_up(postgres, line.city, *BOTH)
    await line.city.things.add(5)
    await proved(line, {})
    before = await events(line.city)
    await restore(postgres, line.city, *BOTH)
    for _ in range(40):  # more than was lost: the numbers of both lives overlap
        await line.city.things.add(1)
    await everything_is_proved(line)
    after = await events(line.city)
    assert after[: len(before)] == before
    assert len(set(after)) == len(after) >= len(before) + 40


@pytest.mark.parametrize("services", [BOTH, ("things",), ("sync",)], ids=" and ".join)
async def test_a_province_that_is_restored_has_all_of_its_cities_again(
    line: Line, postgres: str, services: tuple[str, ...]
) -> None:
    old = await line.city.things.add(20)
    own = await line.province.things.add(20)
    await proved(line, dict.fromkeys(old, 1))
    await back_up(postgres, line.province, *services)
    lost = await line.city.things.add(30)
    own += await line.province.things.add(30)
    await everything_is_proved(line)
    await restore(postgres, line.province, *services)
    await line.city.things.add(10)
    own += await line.province.things.add(10)
    await everything_is_proved(line)
    assert set(lost) <= set(await line.province.things.versions(line.city.id))
    assert set(own) <= set(await line.nation.things.versions(line.province.id))


async def test_who_watches_at_the_nation_is_told_each_event_of_both_lives_of_a_city_once(
    line: Line, postgres: str
) -> None:
    await settled(line, 5)
    await back_up(postgres, line.city, *BOTH)
    async with watch(line.nation, filter=MINE) as seen:
        lost = names(await line.city.things.add(5))
        told = await seen.until(lost)
        await restore(postgres, line.city, *BOTH)
        since = names(await line.city.things.add(8))
        told += await seen.until(since)
        await everything_is_proved(line)
        [last] = await line.city.things.add(1)
        told += await seen.until(names([last]))
    assert [event.subject for event in told].count(f"things/{last}") == 1
    assert len({event.id for event in told}) == len(told)
    assert {event.subject for event in told} == lost | since | names([last])


async def test_a_restored_city_is_shown_as_rewound_everywhere_until_it_has_taken_back(
    line: Line, postgres: str
) -> None:
    await settled(line, 10)
    await back_up(postgres, line.city, *BOTH)
    await line.city.things.add(10)
    await proved(line, {})
    async with unnoticed(postgres, line.city, *BOTH):
        for node in line.all:
            await verdict_is(node, line.city, "REWOUND")
    await everything_is_proved(line)


async def test_freed_frames_are_not_missed_and_everything_stays_proved(line: Line) -> None:
    for _ in range(3):
        await line.city.things.add(500)
        await proved(line, {})

        async def freed() -> None:
            for node in line.all:
                await free(node)
                assert await kept(node, line.city) <= 1

        await eventually(freed)
    await everything_is_proved(line)


async def kept(node: Node, origin: Node) -> int:
    """How many frames of the things of a node are stored."""
    conn = await plain(node.databases["sync"])
    found = await conn.fetchval(
        "SELECT count(*) FROM frames WHERE origin = $1 AND service = 'things'", origin.id
    )
    await conn.close()
    return int(found)


@asynccontextmanager
async def writing(node: Node) -> AsyncIterator[None]:
    """Someone goes on writing."""

    async def write() -> None:
        while True:
            await node.things.add(20)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(write())
    yield
    await ended(task)


async def detached(node: Node) -> None:
    """Free what the parent of a node needs next, as if it had stayed away for long."""

    async def framed() -> None:  # or what was written last would still be pushed
        conn = await plain(node.databases["sync"])
        number = await conn.fetchval(
            "SELECT number FROM streams"
            " WHERE origin = $1 AND service = 'things' AND channel = 'records'",
            node.id,
        )
        await conn.close()
        assert number == await node.things.pool.fetchval(
            "SELECT head FROM logs WHERE channel = 'records' AND NOT EXISTS (SELECT FROM outbox)"
        )

    async def check() -> None:
        await free(node, detach=timedelta(0))
        streams = (await node.network())[node.code].streams
        things = [stream for stream in streams if stream.service == "things"]
        assert any("parent" in stream.detached for stream in things)

    await eventually(framed)
    await eventually(check)


async def test_a_parent_that_stayed_away_too_long_returns_by_a_snapshot(line: Line) -> None:
    await settled(line, 200)
    await line.province.stop("sync")
    ids = await line.city.things.add(2_000)
    await detached(line.city)
    async with writing(line.city):
        await line.province.start("sync")

        async def arrived() -> None:
            assert set(ids) <= set(await line.nation.things.versions(line.city.id))

        await eventually(arrived)
    await everything_is_proved(line)


async def test_a_watcher_is_refused_where_a_snapshot_took_the_place_of_events(
    line: Line,
) -> None:
    await settled(line, 5)
    async with watch(line.province, filter=MINE) as seen:
        await seen.until(names(await line.city.things.add(1)))
    await line.province.stop("sync")
    await line.city.things.add(1_000)
    await detached(line.city)
    await line.province.start("sync")
    await everything_is_proved(line)
    assert await refused(line.province, resume_token=seen.token) == "EVENTS_TRIMMED"


async def test_a_service_that_is_new_at_the_nation_starts_from_a_snapshot(
    line: Line, postgres: str
) -> None:
    await settled(line, 500)
    await line.nation.stop("things")
    await emptied(postgres, line.nation, "things")
    for node in line.all:
        await free(node, detach=timedelta(0))
    async with writing(line.city):
        await line.nation.start("things")
        await eventually(holds(line.nation, line.city, 500))
    await everything_is_proved(line)


def holds(reader: Node, origin: Node, least: int) -> Callable[[], Awaitable[None]]:
    """A check that a node holds so many things of another."""

    async def check() -> None:
        assert len(await reader.things.versions(origin.id)) >= least

    return check


async def emptied(postgres: str, node: Node, *names: str) -> None:
    """Put an empty database in place of what services have; somebody may act there again."""
    for name in names:
        database = urlsplit(node.databases[name]).path[1:]
        await copied(postgres, "template0", database, database)
        await open_at(node.databases[name], node.id, nodes.OFFICER, node.code)


async def test_a_lost_province_is_rebuilt_from_its_city_and_from_the_nation(
    doomed: Line, postgres: str
) -> None:
    await settled(doomed, 500)
    own = await doomed.province.things.add(100)
    await everything_is_proved(doomed)
    for node in doomed.all:
        await free(node)
    await doomed.province.stop()
    await emptied(postgres, doomed.province, *BOTH)
    await nodes.join(doomed.province, doomed.nation)
    async with writing(doomed.city):
        await doomed.province.start()
        await nodes.confirm(doomed.province, doomed.nation)
        await doomed.city.stop("sync")
        await nodes.join(doomed.city, doomed.province)
        await doomed.city.start("sync")
        await nodes.confirm(doomed.city, doomed.province)
        await eventually(holds(doomed.province, doomed.city, 500))
    await everything_is_proved(doomed)
    assert set(await doomed.province.things.versions(doomed.province.id)) == set(own)


async def test_a_city_that_worked_alone_for_long_joins_by_a_snapshot(
    postgres: str, line: Line, tmp_path: Path
) -> None:
    city = await nodes.make(postgres, tmp_path / "new", "5107", "city")
    await city.start()
    ids = await city.things.add(1_000)
    await verdict_is(city, city, "COMPLETE")
    await free(city, detach=timedelta(0))
    await city.stop("sync")
    await nodes.join(city, line.province)
    async with writing(city):
        await city.start("sync")
        await nodes.confirm(city, line.province)
        await eventually(holds(line.nation, city, len(ids)))

    async def proved_above() -> None:
        held, above = [await node.things.versions(city.id) for node in (city, line.nation)]
        lost = held.items() - above.items()
        assert not lost, f"{len(lost)} of {len(held)} not above: {await line.shown(city.code)}"
        assert len(above) == len(held)
        assert (await line.nation.network())[city.code].verdict == log_pb2.COMPLETE

    await eventually(proved_above)
    await city.stop()


async def test_a_snapshot_that_is_cut_off_leaves_nothing(line: Line) -> None:
    ids = await line.city.things.add(3_000)
    await proved(line, {})

    async def parts() -> AsyncIterator[log_pb2.WriteSnapshotRequest]:
        async with grpc.aio.insecure_channel(line.city.addresses["things"]) as channel:
            read = log_pb2_grpc.LogServiceStub(channel).ReadSnapshot(
                log_pb2.ReadSnapshotRequest(origin=line.city.id.bytes, channel="records"),
                metadata=line.city.token("services/sync"),
            )
            async for part in read:
                if part.HasField("head"):
                    part.head.origin, part.head.frame = bytes(15) + b"\x07", 9
                yield log_pb2.WriteSnapshotRequest(part=part)
                if part.records:
                    await asyncio.sleep(0.5)  # time to write it
                    raise ConnectionError("cut")

    async with grpc.aio.insecure_channel(line.nation.addresses["things"]) as channel:
        stub = log_pb2_grpc.LogServiceStub(channel)
        with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
            await stub.WriteSnapshot(parts(), metadata=line.nation.token("services/sync"))
    assert not await line.nation.things.versions(UUID(int=7))
    assert len(ids) == 3_000


async def link_token(child: Node) -> tuple[tuple[str, str], ...]:
    """What a child shows its parent."""
    conn = await plain(child.databases["sync"])
    sealed = await conn.fetchval("SELECT link_token FROM uplink")
    await conn.close()
    token = await child.opened(sealed, "uplink.link_token")
    return (("authorization", f"Bearer {token}"),)


def a_snapshot(
    origin: UUID, *, frame: int = 9, channel: str = "records"
) -> list[sync_pb2.PushSnapshotRequest]:
    """A snapshot of one thing, as a child that lies might make it."""
    stream = frame_pb2.Stream(origin=origin.bytes, service="things", channel="records")
    head = log_pb2.SnapshotHead(origin=origin.bytes, channel=channel, frame=frame)
    made = change(uuid7(), 1, None)
    record = log_pb2.Entry(
        kind="things", id=made.id.bytes, owner_epoch=1, version=1, hash=made.hash,
        public=made.public,
    )  # fmt: skip
    first = sync_pb2.PushSnapshotRequest(
        stream=stream, hash=bytes(32), part=log_pb2.SnapshotPart(head=head)
    )
    second = sync_pb2.PushSnapshotRequest(part=log_pb2.SnapshotPart(records=[record]))
    return [first, second]


async def test_a_child_cannot_bring_records_of_a_node_that_nobody_has_vouched_for(
    line: Line,
) -> None:
    await settled(line, 10)
    stranger, metadata = uuid7(), await link_token(line.city)
    async with line.province.sync_stub() as stub:
        why = await reason(stub.PushSnapshot(iter(a_snapshot(stranger)), metadata=metadata))
    assert why == "STREAM_UNKNOWN"
    assert not await line.province.things.versions(stranger)


@pytest.mark.parametrize("wrong", [{"channel": "urgent"}, {"frame": 0}, {"frame": 2**63}], ids=str)
async def test_a_snapshot_that_is_not_what_it_says_is_refused(
    line: Line, wrong: dict[str, Any]
) -> None:
    await settled(line, 10)
    before = await line.province.things.versions(line.city.id)
    parts, metadata = a_snapshot(line.city.id, **wrong), await link_token(line.city)
    async with line.province.sync_stub() as stub:
        assert await reason(stub.PushSnapshot(iter(parts), metadata=metadata)) == (
            "SNAPSHOT_MALFORMED"
        )
        assert await reason(stub.PushSnapshot(iter([]), metadata=metadata)) == "STREAM_MALFORMED"
    assert await line.province.things.versions(line.city.id) == before


async def test_nothing_can_be_taken_back_from_nothing(line: Line) -> None:
    async with grpc.aio.insecure_channel(line.city.addresses["things"]) as channel:
        stub = log_pb2_grpc.LogServiceStub(channel)
        metadata = line.city.token("services/sync")
        assert await reason(stub.TakeBack(iter([]), metadata=metadata)) == "CHANNEL_UNKNOWN"
        request = log_pb2.TakeBackRequest(channel="other")
        assert await reason(stub.TakeBack(iter([request]), metadata=metadata)) == "CHANNEL_UNKNOWN"


async def test_a_child_that_leaves_out_a_frame_is_not_believed_what_follows(line: Line) -> None:
    await settled(line, 10)
    await line.city.stop("sync")
    conn = await plain(line.province.databases["sync"])
    last: Any = await conn.fetchrow(
        "SELECT frame, hash, number FROM streams"
        " WHERE origin = $1 AND service = 'things' AND channel = 'records'",
        line.city.id,
    )
    made, stream = change(uuid7(), 1, None), a_snapshot(line.city.id)[0].stream
    entry = log_pb2.Entry(
        number=last["number"] + 9, kind="things", id=made.id.bytes, owner_epoch=1, version=1,
        hash=made.hash, public=made.public,
    )  # fmt: skip
    secret = bytes.fromhex((line.city.folder / "secrets" / "node.key").read_text())
    key = Ed25519PrivateKey.from_private_bytes(secret)
    ahead = frames.make(stream, last["frame"] + 2, bytes(32), [entry], key)
    async with line.province.sync_stub() as stub:
        answer = await stub.PushFrames(
            sync_pb2.PushFramesRequest(frames=[ahead]), metadata=await link_token(line.city)
        )
    told = {(r.stream.service, r.stream.channel): r.frame for r in answer.receipts}
    assert told["things", "records"] == last["frame"]
    assert not await conn.fetchval(
        "SELECT count(*) FROM frames WHERE origin = $1 AND service = 'things' AND number > $2",
        line.city.id, last["frame"],
    )  # fmt: skip
    await conn.close()
    await line.city.start("sync")
    await everything_is_proved(line)


async def test_a_child_can_neither_push_nor_read_what_is_not_below_it(line: Line) -> None:
    await settled(line, 10)
    metadata = await link_token(line.city)
    foreign = sync_pb2.ReadFramesRequest()
    foreign.stream.origin, foreign.stream.service = line.province.id.bytes, "things"
    foreign.stream.channel = "records"
    head = log_pb2.SnapshotHead(origin=line.province.id.bytes, channel="records", frame=99)
    push = sync_pb2.PushSnapshotRequest(
        stream=foreign.stream, hash=bytes(32), part=log_pb2.SnapshotPart(head=head)
    )
    async with line.province.sync_stub() as stub:
        for call in (
            stub.ReadFrames(foreign, metadata=metadata),
            stub.PushSnapshot(iter([push]), metadata=metadata),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
