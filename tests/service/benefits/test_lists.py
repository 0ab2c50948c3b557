"""What a node says of its cards reaches whoever checks them, with a network and without."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit import trust
from kit.headers import new_header
from kit.ids import uuid7
from kit.keys import NodeKeys
from kit.trust import NodeKey
from services.benefits import events
from services.benefits.domain import lists, tokens
from services.benefits.domain.lists import ListRecord, StatusList, StatusListSigned
from services.benefits.usecases.lists import Lists
from services.benefits.usecases.verification import Verification
from smartunion.benefits.v1 import benefits_pb2 as pb
from smartunion.benefits.v1.records_pb2 import PublicStatusList
from smartunion.sync.v1 import sync_pb2
from tests.eventually import eventually
from tests.service.benefits.counter import Counter

Finding = pb.CardVerification.Finding


async def finding(counter: Counter, text: str) -> str:
    answer = await counter.ask(pb.VerifyCardRequest(text=text), by="merchants/shop")
    assert answer.message and answer.chinese_message
    return Finding.Name(answer.finding)


async def is_found(counter: Counter, text: str, name: str) -> None:
    async def check() -> None:
        assert await finding(counter, text) == name

    await eventually(check)


async def test_a_merchant_checks_a_card_and_hears_of_its_revocation_within_seconds(
    counter: Counter,
) -> None:
    shown = await counter.card(await counter.member())
    other = await counter.card(await counter.member())
    await is_found(counter, shown.text, "VALID")
    answer = await counter.ask(pb.VerifyCardRequest(text=shown.text))
    assert (answer.card, answer.organization_code) == (shown.card.name, "510104017")
    assert (answer.node, answer.expire_time) == (shown.card.provenance.origin, shown.expire_time)
    await counter.revoke(shown.card.name)
    await is_found(counter, shown.text, "REVOKED")
    assert await finding(counter, other.text) == "VALID"


@pytest.mark.parametrize(
    ("change", "expected"),
    [(lambda text: text[:-9], "CUT_SHORT"), (lambda text: f"HC1:{text[4:]}", "FOREIGN"),
     (lambda text: f"{text[:60]}AAAAAA{text[66:]}", "ALTERED"), (lambda text: "", "FOREIGN"),
     (lambda text: text * 9, "FOREIGN")],
)  # fmt: skip
async def test_a_bad_text_is_an_answer_and_never_an_error(
    counter: Counter, change: Any, expected: str
) -> None:
    shown = await counter.card(await counter.member())
    assert await finding(counter, change(shown.text)) == expected


async def test_a_card_from_the_future_or_of_another_node_is_refused(counter: Counter) -> None:
    token = tokens.opened(
        tokens.signed_in((await counter.card(await counter.member())).text),
        counter.means.key.public_key().public_bytes_raw(),
    )
    day = timedelta(days=1)
    later = replace(token, begin_time=token.begin_time + day)
    assert await finding(counter, tokens.text_of(later, counter.means.key)) == "NOT_YET_VALID"
    old = replace(token, expire_time=token.sign_time - day)
    assert await finding(counter, tokens.text_of(old, counter.means.key)) == "EXPIRED"
    elsewhere = replace(token, code="110101")
    assert await finding(counter, tokens.text_of(elsewhere, counter.means.key)) == "OUTSIDE_SCOPE"
    strange = replace(token, node=uuid7())
    assert await finding(counter, tokens.text_of(strange, counter.means.key)) == "UNKNOWN_ISSUER"


async def test_a_list_is_signed_again_before_it_grows_old_and_not_sooner(counter: Counter) -> None:
    own = Lists(counter.means)

    async def number() -> int:
        n: int = await counter.pool.fetchval(
            "SELECT number FROM status_lists WHERE origin = $1", counter.settings.node
        )
        return n

    await own.step()
    first = await number()
    await Lists(counter.means).step()
    assert await number() == first
    tomorrow = replace(counter.means, clock=lambda: counter.means.clock() + lists.REMAKE)
    await Lists(tomorrow).step()
    assert await number() > first


async def test_a_list_that_another_key_signed_is_made_again_and_stops_nothing(
    counter: Counter,
) -> None:
    """As it is after a restore of the records without the key."""
    await Lists(counter.means).step()
    for key in (Ed25519PrivateKey.generate(), counter.means.key):
        await Lists(replace(counter.means, key=key)).step()
        known = await counter.means.reads.lists.of(counter.settings.node)
        public = key.public_key().public_bytes_raw()
        assert lists.newest(known, public, node=counter.settings.node)


async def test_lists_of_nodes_below_are_handed_down_as_they_were_signed(counter: Counter) -> None:
    child, key = uuid7(), counter.means.key
    at = counter.means.clock()
    signed: list[bytes] = []
    for number in (5, 6, 4):
        status_list = StatusList(
            node=child, number=number, sign_time=at, expire_time=at + lists.VALID, bits=b""
        )
        signed.append(lists.signed(status_list, key))
        record = ListRecord(id=child, header=new_header(child), number=number, signed=signed[-1])
        change = events.of_list(record, StatusListSigned(node=f"nodes/{child}", occur_time=at))
        async with counter.means.database.transaction() as store:
            await store.lists.save("status_lists", record, change)
        await Lists(counter.means).step()
    row: Any = await counter.pool.fetchrow(
        "SELECT version, public FROM shared_status_lists WHERE origin = $1 AND id = $2",
        counter.settings.node, child,
    )  # fmt: skip
    assert (row["version"], PublicStatusList.FromString(row["public"]).signed) == (2, signed[1])
    assert await counter.events(str(child)) == ["StatusListShared", "StatusListShared"]


@asynccontextmanager
async def a_sync(answer: sync_pb2.ListKeysResponse) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a sync that knows these keys."""

    async def list_keys(request: Any, context: Any) -> sync_pb2.ListKeysResponse:
        return answer

    handler: Any = grpc.unary_unary_rpc_method_handler(
        list_keys, response_serializer=sync_pb2.ListKeysResponse.SerializeToString
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(
            "smartunion.sync.v1.SyncService", {"ListKeys": handler}),)
    )  # fmt: skip
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


async def test_the_bundle_holds_what_a_verifier_needs_and_only_that(
    counter: Counter,
) -> None:
    assert (await counter.refusal(pb.GetTrustBundleRequest())).reason == "TRUST_UNKNOWN"
    at, top, node = counter.means.clock(), counter.means.key, counter.settings.node
    public = top.public_key().public_bytes_raw()
    own = NodeKey(
        node=node, parent=None, organization_code="51", level="province", public_key=public,
        seal_key=bytes(32),
    )  # fmt: skip
    certificate = trust.certify(top, own, at=at)
    answer = sync_pb2.ListKeysResponse(
        root=public, keys=[sync_pb2.NodeKey(certificate=certificate)]
    )
    async with a_sync(answer) as channel:
        keys = NodeKeys(channel, ())
        await keys.ask()
        bundle = await Verification(counter.means, keys, list_age=lists.VALID).bundle()
    assert (bundle.root, bundle.certificates) == (public, [certificate])
    assert any(lists.newest([one], public, node=node) for one in bundle.status_lists)
