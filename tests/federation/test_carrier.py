"""Whatever NATS does, nothing is lost, nothing comes twice, and every record keeps its order."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.js.api import DeliverPolicy

from services.sync.link.uplink import ANSWER
from smartunion.sync.v1 import frame_pb2, sync_pb2
from tests.eventually import eventually, waiting
from tests.federation import nodes
from tests.federation.conftest import Line
from tests.federation.nodes import Node, plain
from tests.federation.test_down import link_token
from tests.federation.test_enrollment import reason
from tests.federation.test_upward import proved


async def client(node: Node) -> Client:
    return await nats.connect(node.nats, user_credentials=node.creds or None)


async def test_subscribers_of_the_node_get_each_event_with_its_attributes(carried: Line) -> None:
    nc = await client(carried.city)
    got = await nc.subscribe("smartunion.membership.v1.MemberAdmitted")

    async def connected() -> None:
        """What the city announces before it is connected is in its log alone."""
        await carried.city.things.add(1)
        assert await heard(got, 0.5)

    await eventually(connected)
    stored = await nc.jetstream().subscribe(got.subject, deliver_policy=DeliverPolicy.NEW)
    [id_] = await carried.city.things.add(1)
    while (message := await heard(stored, 5)).headers["ce-subject"] != f"things/{id_}":
        pass
    headers = message.headers
    assert headers["ce-type"] == message.subject == "smartunion.membership.v1.MemberAdmitted"
    assert UUID(headers["ce-id"]).version == 7 and UUID(headers["run"])
    assert int(headers["number"]) >= 1 and headers["ce-time"].endswith("+00:00")
    await nc.close()


async def heard(subscription: Subscription, within: float) -> Any:
    try:
        return await subscription.next_msg(within)
    except nats.errors.TimeoutError:
        raise AssertionError("nothing was announced") from None


async def write(line: Line, acknowledged: dict[UUID, int], stop: asyncio.Event) -> None:
    while not stop.is_set():
        ids = await line.city.things.add(20)
        acknowledged.update(dict.fromkeys(ids, 1))
        await line.city.things.save(ids[:5], version=2)
        acknowledged.update(dict.fromkeys(ids[:5], 2))
        await asyncio.sleep(0.01)


async def test_all_jetstream_stores_may_vanish_while_records_are_written(carried: Line) -> None:
    acknowledged: dict[UUID, int] = {}
    stop = asyncio.Event()
    writer = asyncio.create_task(write(carried, acknowledged, stop))
    clients = [await client(node) for node in carried.all]
    for _ in range(3):
        await asyncio.sleep(0.5)
        for nc in clients:
            try:
                await nc.jetstream().delete_stream("EVENTS")
            except nats.js.errors.NotFoundError:
                continue  # not made again yet
    stop.set()
    await writer
    await proved(carried, acknowledged)
    for nc in clients:
        await nc.close()


async def test_a_tail_that_is_cut_off_and_published_past_is_not_missed(carried: Line) -> None:
    nc = await client(carried.city)
    first = await carried.city.things.add(20)
    await proved(carried, dict.fromkeys(first, 1))
    await carried.city.stop("sync")
    second = await carried.city.things.add(20)
    js = nc.jetstream()
    await js.purge_stream("EVENTS")
    for number in (1_000, 1_001):  # someone publishes on, past what was cut off
        await js.publish("head.things.records", str(number).encode())
    await carried.city.start("sync")
    third = await carried.city.things.add(20)
    await proved(carried, dict.fromkeys(first + second + third, 1))
    await nc.close()


async def test_heads_that_repeat_lie_and_come_in_any_order_do_no_harm(carried: Line) -> None:
    nc = await client(carried.city)
    await carried.city.things.add(1)

    async def noise() -> None:
        for number in [5, 3, 3, 0, 10**12, 1, 2, 2] * 20:
            for subject in ("head.things.records", "head.frames.things"):
                await nc.publish(subject, str(number).encode())
            await nc.publish("head.things.records", b"nonsense")
            await asyncio.sleep(0.005)

    ids = (await asyncio.gather(noise(), carried.city.things.add(500)))[1]
    await carried.city.things.save(ids[:100], version=2)
    held = await carried.city.things.versions(carried.city.id)
    await proved(carried, held)
    await nc.close()


async def test_frames_travel_over_nats_and_go_over_grpc_when_it_is_gone(carried: Line) -> None:
    seen = []
    nc = await client(carried.province)

    async def listen(message: object) -> None:
        seen.append(message)

    await nc.subscribe(f"up.{carried.city.id}.push", cb=listen)
    await nc.flush()
    first = await carried.city.things.add(10)
    await proved(carried, dict.fromkeys(first, 1))
    assert seen, "the city's pushes come over its own account"
    await nc.close()


async def test_a_child_that_floods_its_parent_with_pushes_keeps_no_other_child_waiting(
    carried: Line, postgres: str, tmp_path: Path
) -> None:
    province, city = carried.province, carried.city
    sibling = await nodes.make(postgres, tmp_path / "sibling", "5107", "city")
    await nodes.join(sibling, province)
    await sibling.start()
    await nodes.confirm(sibling, province)
    await eventually(partial(arrived, province, sibling, await sibling.things.add(1)))
    nc, conn = await client(province), await plain(province.databases["sync"])
    stream = frame_pb2.Stream(origin=city.id.bytes, service="things", channel="records")
    push = sync_pb2.PushFramesRequest(
        link_token=await link_token(city), heads=[sync_pb2.StreamHead(stream=stream, head=1)]
    )
    async with conn.transaction():
        await conn.execute("SELECT FROM streams WHERE origin = $1 FOR UPDATE", city.id)
        for _ in range(50):
            await nc.publish(f"up.{city.id}.push", push.SerializeToString(), reply="nobody")
        await eventually(partial(waiting, conn, 5))
        async with province.sync_stub() as stub:
            metadata = (("authorization", f"Bearer {push.link_token}"),)
            call = stub.PushFrames(push, metadata=metadata, timeout=10)
            assert await reason(call) == "TOO_MANY_AT_ONCE"
        found = await sibling.things.add(1)
        await eventually(partial(arrived, province, sibling, found), within=ANSWER - 1)
    await proved(carried, dict.fromkeys(await city.things.add(1), 1))
    await sibling.stop()
    await nc.close()
    await conn.close()


async def arrived(parent: Node, child: Node, ids: list[UUID]) -> None:
    assert (await parent.things.versions(child.id)).keys() >= set(ids)
