"""A subscriber reads the stream BELOW with credentials of its own, and can do nothing else."""

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import nats.errors
import nats.js.errors
import pytest
from nats.aio.client import Client, RawCredentials
from nats.aio.msg import Msg
from nats.js.client import JetStreamContext

from kit import accounts
from node import keys, ports
from node.issuer import DevelopmentIssuer
from node.nats_server import NatsServer
from smartunion.membership.v1.events_pb2 import MemberAdmitted
from smartunion.sync.v1 import sync_pb2 as pb
from smartunion.sync.v1.sync_pb2 import EventFilter
from tests.eventually import eventually
from tests.federation import nodes
from tests.federation.conftest import Line
from tests.federation.nodes import Node
from tests.federation.test_enrollment import reason
from tests.federation.test_watching import ADMITTED, names, watch
from tests.federation.things import CRY
from tests.pages import Page

MINE = EventFilter(types=[ADMITTED])
VIOLATION = "permissions violation"


class Program:
    """A program above, with the key that it made."""

    def __init__(self, node: Node, key: accounts.Key, made: pb.Subscriber) -> None:
        self.node, self.key, self.made = node, key, made
        self.errors: list[str] = []
        self.closed = asyncio.Event()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Client]:
        creds = accounts.creds(self.made.nats_user_jwt, self.key.seed)
        client = Client()
        try:
            await client.connect(
                self.made.nats_url, user_credentials=RawCredentials(creds),
                inbox_prefix=self.made.inbox_prefix.encode(), allow_reconnect=False,
                error_cb=self._note, closed_cb=self._close,
            )  # fmt: skip
            yield client
        finally:
            await client.close()

    def jetstream(self, client: Client) -> JetStreamContext:
        return client.jetstream(prefix=self.made.api_prefix)

    async def _note(self, error: Exception) -> None:
        self.errors.append(str(error).lower())

    async def _close(self) -> None:
        self.closed.set()

    async def pull(self, client: Client, expected: set[str]) -> list[Msg]:
        """All messages until those of these records have come, each acknowledged."""
        pulling = await self.jetstream(client).pull_subscribe_bind(self.made.consumer, "BELOW")
        found: list[Msg] = []
        missing = set(expected)
        async with asyncio.timeout(15):
            while missing:
                try:
                    messages = await pulling.fetch(10, timeout=1)
                except (TimeoutError, nats.errors.Error):
                    continue
                for message in messages:
                    await message.ack()
                    found.append(message)
                    missing.discard((message.headers or {})["ce-subject"])
        await pulling.unsubscribe()
        return found


async def call(node: Node, method: str, request: Any) -> Any:
    async with node.sync_stub() as stub:
        return await getattr(stub, method)(
            request, metadata=node.token(), timeout=60, wait_for_ready=True
        )


async def subscribe(node: Node, asked: EventFilter | None = None) -> Program:
    key = accounts.new_key("user")
    request = pb.CreateSubscriberRequest(
        display_name="省级大屏", nats_user_key=key.public, filter=asked or MINE,
        request_id=str(uuid4()),
    )  # fmt: skip
    made = await call(node, "CreateSubscriber", request)
    assert made == await call(node, "CreateSubscriber", request)
    return Program(node, key, made)


async def let_in(program: Program) -> None:
    """Wait until the subscriber's account and consumer are there."""

    async def there() -> None:
        try:
            async with program.connected() as client:
                await program.jetstream(client).consumer_info("BELOW", program.made.consumer)
        except (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError) as error:
            raise AssertionError(repr(error)) from None

    await eventually(there)


@pytest.fixture(scope="module")
async def program(carried: Line) -> Program:
    """A subscriber at the nation."""
    made = await subscribe(carried.nation)
    await let_in(made)
    return made


async def test_a_subscriber_gets_the_events_of_all_nodes_below(
    carried: Line, program: Program
) -> None:
    wrote = {node.code: await node.things.add(30) for node in carried.all}
    urgent = await carried.city.things.add(2, kind=CRY)
    expected = set().union(*map(names, wrote.values())) | names(urgent, "cries")
    async with program.connected() as client:
        found = await program.pull(client, expected)
    [id_] = wrote["5101"][:1]
    message = next(
        message for message in found if (message.headers or {})["ce-subject"] == f"things/{id_}"
    )
    headers = message.headers or {}
    assert message.subject == f"below.{carried.city.id}.{ADMITTED}"
    assert headers["ce-source"] == f"/nodes/{carried.city.id}/things/records"
    assert headers["ce-type"] == ADMITTED and UUID(headers["ce-id"]).version == 7
    assert MemberAdmitted.FromString(message.data).member == f"things/{id_}"
    token = (found[-1].headers or {})["resume-token"]
    async with watch(carried.nation, filter=MINE, resume_token=token) as seen:
        [next_] = await carried.city.things.add(1)
        assert (await seen.event()).subject == f"things/{next_}"


async def test_a_subscriber_gets_only_what_its_filter_lets_through(carried: Line) -> None:
    asked = EventFilter(types=["smartunion.membership.*", ADMITTED], subtree="51")
    some = await subscribe(carried.nation, asked)
    await let_in(some)
    await carried.nation.things.add(3)
    wrote = names(await carried.city.things.add(3)) | names(await carried.province.things.add(3))
    async with some.connected() as client:
        found = await some.pull(client, wrote)
    origins = {message.subject.split(".")[1] for message in found}
    assert origins == {str(carried.city.id), str(carried.province.id)}
    assert {(message.headers or {})["ce-type"] for message in found} == {ADMITTED}


async def test_a_subscriber_may_ask_nats_for_nothing_else(carried: Line, program: Program) -> None:
    nation, other = carried.nation, await subscribe(carried.nation)
    await let_in(other)
    make = json.dumps({"stream_name": "BELOW", "config": {"deliver_subject": "smartunion.forged"}})
    domain = (nation.folder / "node-id").read_text()
    async with program.connected() as client:
        for asked in (
            "$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.BELOW",
            "$JS.API.STREAM.PURGE.BELOW", "$JS.API.STREAM.DELETE.BELOW",
            f"$JS.{domain}.API.STREAM.DELETE.BELOW", "$JS.API.STREAM.MSG.GET.BELOW",
            "$JS.API.DIRECT.GET.BELOW", "$JS.API.STREAM.INFO.EVENTS",
            "$JS.API.CONSUMER.CREATE.BELOW", "$JS.API.CONSUMER.CREATE.EVENTS",
            f"$JS.API.CONSUMER.CREATE.BELOW.{program.made.consumer}",
            "$JS.API.CONSUMER.NAMES.BELOW",
            f"$JS.API.CONSUMER.DELETE.BELOW.{program.made.consumer}",
            f"$JS.API.CONSUMER.DELETE.BELOW.{other.made.consumer}",
            f"$JS.API.CONSUMER.MSG.NEXT.BELOW.{other.made.consumer}",
            f"$JS.API.CONSUMER.INFO.BELOW.{other.made.consumer}",
            f"below.CONSUMER.MSG.NEXT.BELOW.{other.made.consumer}",
            f"below.CONSUMER.INFO.BELOW.{other.made.consumer}", "below.STREAM.INFO.BELOW",
            f"$JS.ACK.BELOW.{other.made.consumer}.1.1.1.1.0", "$JS.API.CONSUMER.MSG.NEXT.EVENTS.x",
            f"below.{nation.id}.{ADMITTED}", ADMITTED, "head.things.records", "up.push",
            f"up.{carried.province.id}.push", "$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.USER.INFO",
        ):  # fmt: skip
            program.errors.clear()
            with pytest.raises((nats.errors.NoRespondersError, TimeoutError)):
                await client.request(asked, make.encode(), timeout=0.2)
            assert VIOLATION in "".join(program.errors), asked
        for listened in (
            ">", "below.>", "smartunion.>", "head.>", "up.>", "_INBOX.>", "$SYS.>",
            f"{other.made.inbox_prefix}.>", f"_INBOX_{carried.province.id}.>",
        ):  # fmt: skip
            program.errors.clear()
            await client.subscribe(listened, cb=_no)
            await client.flush()
            await eventually(_said(program), within=2)
        info = await program.jetstream(client).consumer_info("BELOW", program.made.consumer)
        assert info.name == program.made.consumer
    [id_] = await carried.city.things.add(1)  # and nothing has come to harm
    async with other.connected() as client:
        await other.pull(client, names([id_]))


async def _no(message: Msg) -> None:
    raise AssertionError(message.subject)


def _said(program: Program) -> Callable[[], Awaitable[None]]:
    async def said() -> None:
        assert VIOLATION in "".join(program.errors)

    return said


async def test_a_revoked_subscriber_is_cut_at_once_and_the_others_are_not(
    carried: Line, program: Program
) -> None:
    doomed = await subscribe(carried.nation)
    await let_in(doomed)
    request = pb.RevokeSubscriberRequest(name=doomed.made.name, request_id=str(uuid4()))
    async with doomed.connected() as client:
        doomed.closed.clear()
        revoked = await call(carried.nation, "RevokeSubscriber", request)
        await asyncio.wait_for(doomed.closed.wait(), 1)
        assert client.is_closed and revoked.HasField("revoke_time")
    assert revoked == await call(carried.nation, "RevokeSubscriber", request)
    later = pb.RevokeSubscriberRequest(name=doomed.made.name)
    assert revoked == await call(carried.nation, "RevokeSubscriber", later)
    with pytest.raises(nats.errors.Error):
        async with doomed.connected():
            pass
    [id_] = await carried.city.things.add(1)
    async with program.connected() as client:
        await program.pull(client, names([id_]))


async def test_the_page_for_subscribers_does_what_it_says(carried: Line, tmp_path: Path) -> None:
    page = Page("subscribe.md", tmp_path)
    nation = carried.nation
    token = DevelopmentIssuer(nation.folder / "secrets", nation.id).token(nodes.OFFICER)
    page.node(token, sync=nation.addresses["sync"])

    async def admit() -> None:
        while True:
            await carried.city.things.add(1)
            await asyncio.sleep(0.1)

    admitting = asyncio.create_task(admit())
    try:
        program = "\n".join(page.blocks("python"))
        page.check(await page.run(sys.executable, "-Werror", "-c", program))
    finally:
        admitting.cancel()


async def test_subscribers_are_listed_and_what_cannot_be_one_is_refused(
    carried: Line, program: Program
) -> None:
    nation = carried.nation
    await subscribe(nation)
    found: list[pb.Subscriber] = []
    token = ""
    while not found or token:
        request = pb.ListSubscribersRequest(page_size=1, page_token=token)
        answer = await call(nation, "ListSubscribers", request)
        token = answer.next_page_token
        found += answer.subscribers
    assert program.made in found and len(found) == len({item.name for item in found}) >= 2
    key = accounts.new_key("user").public
    for wrong, why in (
        ({"display_name": ""}, "SUBSCRIBER_INVALID"),
        ({"nats_user_key": "SUA"}, "SUBSCRIBER_INVALID"),
        ({"filter": EventFilter(types=["x y"])}, "EVENT_TYPE_MALFORMED"),
        ({"filter": EventFilter(origins=[f"nodes/{uuid4()}"])}, "ORIGIN_UNKNOWN"),
        ({"request_id": "seven"}, "REQUEST_ID_MALFORMED"),
    ):
        right: dict[str, Any] = {"display_name": "大屏", "nats_user_key": key}
        asked = pb.CreateSubscriberRequest(**(right | wrong))
        assert await reason(call(nation, "CreateSubscriber", asked)) == why
    nobody = pb.RevokeSubscriberRequest(name=f"subscribers/{uuid4()}")
    assert await reason(call(nation, "RevokeSubscriber", nobody)) == "SUBSCRIBER_NOT_FOUND"


async def test_a_node_without_a_nats_of_its_own_says_so(line: Line) -> None:
    key = accounts.new_key("user").public
    asked = pb.CreateSubscriberRequest(display_name="大屏", nats_user_key=key)
    assert await reason(call(line.nation, "CreateSubscriber", asked)) == "NATS_FOREIGN"


async def test_nats_may_lose_all_it_has_and_who_was_revoked_stays_out(
    postgres: str, tmp_path: Path
) -> None:
    node = await nodes.make(postgres, tmp_path / "city", "5101", "city")
    known = keys.nats_keys(node.folder / "secrets")
    server = NatsServer(node.folder / "nats", ports.free(), known, str(node.id))
    running = await server.start()
    node.nats, node.creds = server.url, str(known.node_creds)
    await node.start()
    one, other = await subscribe(node), await subscribe(node)
    await let_in(other)
    async with one.connected() as client:
        await one.pull(client, names(await node.things.add(5)))
    await running.stop()
    shutil.rmtree(server.folder)
    await call(node, "RevokeSubscriber", pb.RevokeSubscriberRequest(name=other.made.name))
    ids = await node.things.add(5)
    running = await server.start()
    await let_in(one)
    async with one.connected() as client:
        await one.pull(client, names(ids))
        await one.pull(client, names(await node.things.add(5)))
    with pytest.raises(nats.errors.Error):
        async with other.connected():
            pass
    await node.stop()
    await running.stop()
