"""A node joins by an invitation that counts once, and by a fingerprint that people compare."""

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.duration_pb2 import Duration

from kit import accounts, frames
from kit.ids import uuid7
from kit.status import refused
from kit.trust import NodeKey, certify
from kit.wire import CHANNEL_OPTIONS
from node.issuer import NAME
from services.sync.domain.nodes import fingerprint as fingerprint_of
from smartunion.event.v1 import log_pb2, log_pb2_grpc
from smartunion.sync.v1 import frame_pb2, sync_pb2
from tests.eventually import eventually, waiting
from tests.federation import nodes
from tests.federation.conftest import Line
from tests.federation.nodes import Node, plain
from tests.federation.test_upward import proved


async def reason(call: Awaitable[Any]) -> str:
    """The reason of the refusal with which a call ends."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    told = refused(caught.value)
    assert any(ord(sign) > 0x3000 for sign in told.chinese), caught.value
    return told.reason


def request(
    token: str, *, key: Ed25519PrivateKey | None = None, **changes: Any
) -> sync_pb2.EnrollRequest:
    """What a child shows that holds a key, a fresh one if none is given."""
    held = key or Ed25519PrivateKey.generate()
    public_key = held.public_key().public_bytes_raw()
    node = sync_pb2.Node(
        name=f"nodes/{uuid7()}", display_name="绵阳市总工会", level="city", organization_code="5107"
    )
    asked = sync_pb2.EnrollRequest(
        token=token, node=node, public_key=public_key,
        nats_user_key=accounts.new_key("user").public,
    )  # fmt: skip
    for name, value in changes.items():
        target = asked if hasattr(asked, name) and name != "name" else asked.node
        setattr(target, name, value)
    return certified(asked, held) if "certificate" not in changes else asked


def certified(asked: sync_pb2.EnrollRequest, key: Ed25519PrivateKey) -> sync_pb2.EnrollRequest:
    """The request with the certificate that the holder of a key makes."""
    try:
        node = UUID(asked.node.name.removeprefix("nodes/"))
    except ValueError:
        return asked
    shown = NodeKey(
        node=node, parent=None, organization_code=asked.node.organization_code,
        level=asked.node.level, public_key=asked.public_key, seal_key=bytes(32),
    )  # fmt: skip
    asked.certificate = certify(key, shown, at=datetime.now(UTC))
    return asked


async def invite(node: Node, code: str, **options: Any) -> sync_pb2.Invitation:
    async with node.sync_stub() as stub:
        return await stub.CreateInvitation(
            sync_pb2.CreateInvitationRequest(organization_code=code, **options),
            metadata=node.token(),
        )


async def enroll(node: Node, asked: sync_pb2.EnrollRequest) -> sync_pb2.EnrollResponse:
    async with node.sync_stub() as stub:
        return await stub.Enroll(asked)


async def confirmed(node: Node, name: str, fingerprint: str) -> sync_pb2.Node:
    async with node.sync_stub() as stub:
        return await stub.ConfirmEnrollment(
            sync_pb2.ConfirmEnrollmentRequest(name=name, fingerprint=fingerprint),
            metadata=node.token(),
        )


async def test_an_invitation_is_for_a_place_below_and_for_a_time(line: Line) -> None:
    assert await reason(invite(line.province, "5")) == "ORGANIZATION_CODE_INVALID"
    assert await reason(invite(line.province, "6101")) == "ORGANIZATION_NOT_BELOW"
    assert await reason(invite(line.province, "51")) == "ORGANIZATION_NOT_BELOW"
    for seconds in (0, -1, 91 * 86_400, 10**11):
        call = invite(line.province, "5107", valid_duration=Duration(seconds=seconds))
        assert await reason(call) == "DURATION_OUT_OF_RANGE"
    short = Duration()
    short.FromTimedelta(timedelta(milliseconds=20))
    invitation = await invite(line.province, "5107", valid_duration=short)
    await asyncio.sleep(0.05)
    assert await reason(enroll(line.province, request(invitation.token))) == "INVITATION_INVALID"


async def test_a_repeated_call_gets_the_same_invitation(line: Line) -> None:
    once = {"request_id": str(uuid4())}
    first = await invite(line.province, "5107", **once)
    assert await invite(line.province, "5107", **once) == first
    assert await invite(line.province, "5107") != first
    assert await reason(invite(line.province, "5109", **once)) == "REQUEST_ID_REUSED"
    wrong = invite(line.province, "5107", request_id="seven")
    assert await reason(wrong) == "REQUEST_ID_MALFORMED"


async def test_an_invitation_lets_one_node_in_with_the_keys_it_showed_first(line: Line) -> None:
    token = (await invite(line.province, "5107")).token
    assert await reason(enroll(line.province, request("guessed"))) == "INVITATION_INVALID"
    elsewhere = request(token, organization_code="5109")
    assert await reason(enroll(line.province, elsewhere)) == "INVITATION_INVALID"
    first = request(token)
    assert not (await enroll(line.province, first)).confirmed
    assert not (await enroll(line.province, first)).confirmed
    assert await reason(enroll(line.province, request(token))) == "INVITATION_INVALID"
    other_key = sync_pb2.EnrollRequest()
    other_key.CopyFrom(first)
    other = Ed25519PrivateKey.generate()
    other_key.public_key = other.public_key().public_bytes_raw()
    assert await reason(enroll(line.province, other_key)) == "ENROLLMENT_INVALID"
    certified(other_key, other)
    assert await reason(enroll(line.province, other_key)) == "INVITATION_INVALID"


async def test_a_child_whose_record_comes_back_meanwhile_is_confirmed_once(line: Line) -> None:
    """After a restore the parent has what was announced, and hands it back at any moment."""
    asked = request((await invite(line.province, "5107")).token)
    await enroll(line.province, asked)
    child = UUID(asked.node.name.removeprefix("nodes/"))
    conn = await plain(line.province.databases["sync"])
    back = conn.transaction()
    await back.start()
    await conn.execute(
        """
        INSERT INTO nodes (origin, id, owner_epoch, version, hash, public, parent,
                           organization_code, display_name, level, public_key, certificate)
        SELECT $1, $2, 1, 1, hash, public, $1, '5107', '', 'city', $3, '' FROM nodes LIMIT 1
        """,
        line.province.id, child, asked.public_key,
    )  # fmt: skip
    call = confirmed(line.province, asked.node.name, fingerprint_of(asked.public_key))
    confirming = asyncio.create_task(call)
    await eventually(partial(waiting, conn, 1))
    await back.commit()
    await confirming
    assert not await conn.fetchval("SELECT EXISTS (SELECT FROM outbox WHERE id = $1)", child)
    await conn.execute("DELETE FROM nodes WHERE id = $1", child)
    await conn.close()
    assert (await enroll(line.province, asked)).confirmed


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "nodes/one"}, {"level": "national"}, {"display_name": ""},
        {"public_key": b"short"}, {"nats_user_key": "SUA"}, {"certificate": b""},
        {"key": Ed25519PrivateKey.generate(), "public_key": bytes(32)},
    ],
)  # fmt: skip
async def test_what_a_child_shows_is_checked(line: Line, changes: dict[str, Any]) -> None:
    token = (await invite(line.province, "5107")).token
    wrong = await reason(enroll(line.province, request(token, **changes)))
    assert wrong in ("ENROLLMENT_INVALID", "NAME_MALFORMED")


async def test_only_the_fingerprint_that_people_compared_is_admitted(line: Line) -> None:
    token = (await invite(line.province, "5107")).token
    asked = request(token)
    await enroll(line.province, asked)

    confirm = partial(confirmed, line.province)
    assert await reason(confirm(f"nodes/{uuid4()}", "")) == "ENROLLMENT_NOT_FOUND"
    assert await reason(confirm(asked.node.name, "0000:1111")) == "FINGERPRINT_DIFFERENT"
    right = f"{fingerprint_of(asked.public_key).upper()} "
    assert (await confirm(asked.node.name, right)).parent == f"nodes/{line.province.id}"
    assert await confirm(asked.node.name, right)  # a double click
    given = await enroll(line.province, asked)
    assert given.confirmed and given == await enroll(line.province, asked)


async def test_a_call_without_the_right_token_is_refused(line: Line) -> None:
    async with line.province.sync_stub() as stub:
        network, push = sync_pb2.GetNetworkRequest(), sync_pb2.PushFramesRequest()
        assert await reason(stub.GetNetwork(network)) == "TOKEN_INVALID"
        foreign = (("authorization", "Bearer services/things.AAAA"),)
        assert await reason(stub.GetNetwork(network, metadata=foreign)) == "TOKEN_INVALID"
        elsewhere = line.nation.token()
        assert await reason(stub.GetNetwork(network, metadata=elsewhere)) == "TOKEN_UNTRUSTED"
        service = line.nation.token("services/things")
        assert await reason(stub.GetNetwork(network, metadata=service)) == "TOKEN_INVALID"
        service = line.province.token("services/things")
        assert await reason(stub.GetNetwork(network, metadata=service)) == "ACCESS_DENIED"
        officer = line.province.token()
        assert await reason(stub.PushFrames(push, metadata=officer)) == "ACCESS_DENIED"


async def test_a_child_cannot_bring_what_is_not_below_it(line: Line) -> None:
    """A city that speaks for its province, alters its own frames, or forges new ones."""
    ids = await line.city.things.add(1)
    await proved(line, dict.fromkeys(ids, 1))
    conn = await nodes.plain(line.city.databases["sync"])
    body = await conn.fetchval("SELECT body FROM frames WHERE service = 'things' AND number = 1")
    await conn.close()
    push = await pusher(line)
    frame = frame_pb2.Frame.FromString(body)
    assert await push(frame) == ""  # a repeat is no error
    frame.stream.origin = line.province.id.bytes
    assert await push(frame) == "ORIGIN_FOREIGN"
    frame.stream.origin = line.city.id.bytes
    frame.skeleton += b"x"
    assert await push(frame) == "FRAME_REJECTED"
    frame = frame_pb2.Frame.FromString(body)
    frame.stream.channel = "urgent"
    frame.hash = frames.frame_hash(frame)
    assert await push(frame) == "FRAME_REJECTED"  # not signed by the city
    for wrong in ({"origin": b"short"}, {"service": "a b"}, {"channel": "gossip"}):
        frame = frame_pb2.Frame.FromString(body)
        frame.stream.MergeFrom(frame_pb2.Stream(**wrong))
        assert await reason(push(frame)) == "STREAM_MALFORMED"
    ids = await line.city.things.add(1)  # what was refused keeps nothing else from going up
    await proved(line, dict.fromkeys(ids, 1))


async def pusher(line: Line) -> Any:
    """Push as the city does."""
    conn = await nodes.plain(line.city.databases["sync"])
    sealed = await conn.fetchval("SELECT link_token FROM uplink")
    await conn.close()
    token = await line.city.opened(sealed, "uplink.link_token")

    async def push(frame: frame_pb2.Frame) -> str:
        """Why it was refused; empty if it was not."""
        async with line.province.sync_stub() as stub:
            answer = await stub.PushFrames(
                sync_pb2.PushFramesRequest(frames=[frame]),
                metadata=(("authorization", f"Bearer {token}"),),
            )
        return "".join(receipt.refused for receipt in answer.receipts)

    return push


async def test_services_read_only_with_their_token_and_named_channels(line: Line) -> None:
    async with grpc.aio.insecure_channel(
        line.city.addresses["things"], options=CHANNEL_OPTIONS
    ) as channel:
        stub = log_pb2_grpc.LogServiceStub(channel)
        asked = log_pb2.ReadLogRequest(reader="x", channel="gossip")
        service = line.city.token("services/x")
        assert await reason(stub.ReadLog(asked, metadata=service)) == "CHANNEL_UNKNOWN"
        other = line.city.token("services/y")
        assert await reason(stub.ReadLog(asked, metadata=other)) == "ACCESS_DENIED"
        assert await reason(stub.ReadLog(asked, metadata=line.city.token())) == "ACCESS_DENIED"


async def home(node: Node, code: str) -> sync_pb2.Home:
    """What anybody is told, without a token."""
    async with node.sync_stub() as stub:
        request = sync_pb2.FindHomeRequest(organization_code=code)
        return await stub.FindHome(request, timeout=60, wait_for_ready=True)


async def test_a_client_finds_its_node_from_any_above(line: Line) -> None:
    nation, province, city = line.nation, line.province, line.city

    async def tells(address: str) -> None:
        for node in (nation, province, city):
            found = await home(node, f"{city.code}04")
            assert (found.node, found.organization_code) == (f"nodes/{city.id}", city.code)
            assert (found.address, found.issuer) == (address, NAME)

    for address in ("chengdu.example.org:443", "gh.example.org:8443"):  # it moves once
        city.public_address = address
        await city.stop("sync")
        await city.start("sync")
        await eventually(partial(tells, address))
    assert (await home(nation, "5109")).node == f"nodes/{province.id}"  # 5107 joins above
    silent = await home(nation, "44")
    assert (silent.node, silent.address) == (f"nodes/{nation.id}", "")  # it has not said
    for node, code in ((province, "44"), (city, "5107"), (city, "51")):
        async with node.sync_stub() as stub:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await stub.FindHome(sync_pb2.FindHomeRequest(organization_code=code))
        told = refused(error.value)
        assert (told.reason, told.metadata["above"]) == ("HOME_ABOVE", node.parent)
    assert await reason(home(nation, "510")) == "ORGANIZATION_CODE_INVALID"
