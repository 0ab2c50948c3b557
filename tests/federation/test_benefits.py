"""Programmes and cards over four nodes: what the province gives out and a city says goes far."""

from collections import Counter as Counted
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner

from node import cli
from services.benefits import events
from services.benefits.domain import lists
from services.benefits.domain.coupons import CouponState
from services.benefits.domain.lists import StatusListSigned
from services.sync.domain.nodes import fingerprint
from smartunion.benefits.v1 import benefits_pb2 as pb
from smartunion.event.v1 import log_pb2
from tests.eventually import eventually
from tests.federation import nodes
from tests.federation.nodes import Node
from tests.service.benefits.conftest import calling, healthy
from tests.service.benefits.counter import Counter
from tests.service.benefits.test_lists import finding

SHOP = "merchants/shop-7"
CHENGDU, MIANYANG = "510104", "510703"
"""Counties in which the members of the two cities live."""


@dataclass
class Tree:
    """A nation, a province, two cities below that, and a counter at each."""

    nodes: list[Node]
    nation: Counter
    province: Counter
    chengdu: Counter
    mianyang: Counter


@pytest.fixture(scope="module")
async def tree(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Tree]:
    folder = tmp_path_factory.mktemp("tree")
    nation, province, *cities = made = [
        await nodes.make(postgres, folder / code, code, level, services=("benefits",))
        for code, level in (
            ("0", "national"), ("51", "province"), ("5101", "city"), ("5107", "city"),
        )
    ]  # fmt: skip
    await nodes.start_tree(
        (nation, None), (province, nation), *((city, province) for city in cities)
    )
    async with AsyncExitStack() as stack:
        counters = list[Counter]()
        for node in made:
            settings = node.settings_of("benefits")
            await healthy(settings, node.running["benefits"][1])
            counters.append(await stack.enter_async_context(calling(settings)))
        yield Tree(made, *counters)
    for node in made:
        await node.stop()


def share(counter: Counter, stock: int) -> pb.Share:
    return pb.Share(node=f"nodes/{counter.settings.node}", stock=stock)


async def arrived(counter: Counter, programme: pb.Programme, member: UUID) -> pb.Programme:
    """The programme, once a member finds it."""

    async def look() -> pb.Programme:
        mine = await counter.ask(pb.ListMyProgrammesRequest(), by=member)
        found: list[pb.Programme] = [one for one in mine.programmes if one.name == programme.name]
        assert found
        return found[0]

    return await eventually(look)


async def test_each_city_gives_out_its_share_of_a_programme_of_the_province(tree: Tree) -> None:
    programme = await tree.province.programme(
        shares=[share(tree.chengdu, 2), share(tree.mianyang, 1)]
    )
    coupons = list[pb.MyCoupon]()
    for city, county, stock in ((tree.chengdu, CHENGDU, 2), (tree.mianyang, MIANYANG, 1)):
        members = [await city.member(code=county) for _ in range(stock + 1)]
        shown = await arrived(city, programme, members[0])
        assert (shown.title, shown.stock, shown.remaining_here) == (programme.title, 3, stock)
        assert shown.provenance.origin == f"nodes/{tree.province.settings.node}"
        coupons += [await city.claim(shown, member) for member in members[:-1]]
        told = await city.refusal(pb.ClaimCouponRequest(programme=shown.name), by=members[-1])
        assert told.reason == "SOLD_OUT"
    await redeemed_once(tree, coupons[0])
    await counted(tree, programme)


async def redeemed_once(tree: Tree, coupon: pb.MyCoupon) -> None:
    """By a merchant of the city that gave it out."""
    request = pb.RedeemCouponRequest(code=coupon.code)
    assert (await tree.mianyang.refusal(request, by=SHOP)).reason == "COUPON_UNKNOWN"
    assert (await tree.chengdu.ask(request, by=SHOP)).state == pb.Coupon.REDEEMED
    assert (await tree.chengdu.refusal(request, by="merchants/8")).reason == "COUPON_REDEEMED"


async def counted(tree: Tree, programme: pb.Programme) -> None:
    """The province comes to hold every coupon of its programme, and proves that these are all."""
    chengdu, mianyang = tree.chengdu.settings.node, tree.mianyang.settings.node

    async def check() -> None:
        rows = await tree.province.pool.fetch(
            "SELECT origin, state FROM coupons WHERE programme = $1", UUID(programme.name[11:])
        )
        assert Counted((row["origin"], row["state"]) for row in rows) == {
            (chengdu, CouponState.REDEEMED): 1, (chengdu, CouponState.CLAIMED): 1,
            (mianyang, CouponState.CLAIMED): 1,
        }  # fmt: skip
        network = await tree.nodes[1].network()
        for code, city in (("5101", tree.chengdu), ("5107", tree.mianyang)):
            [proof] = [
                one.proof for one in network[code].streams
                if (one.service, one.proof.channel) == ("benefits", "records")
            ]  # fmt: skip
            own = await city.pool.fetchval(
                "SELECT count(*) FROM coupons WHERE origin = $1", city.settings.node
            )
            assert log_pb2.Verdict.Name(proof.verdict) == "COMPLETE"
            assert {one.kind: one.records for one in proof.counts}.get("coupons") == own

    await eventually(check)


async def test_a_programme_for_one_city_is_not_for_the_members_of_another(tree: Tree) -> None:
    programme = await tree.province.programme(
        parent="organizations/5101", shares=[share(tree.chengdu, 1), share(tree.mianyang, 1)]
    )
    everybody = await tree.province.programme(shares=[share(tree.mianyang, 1)])
    ours = await tree.chengdu.member(code=CHENGDU)
    theirs = await tree.mianyang.member(code=MIANYANG)
    await arrived(tree.mianyang, everybody, theirs)  # and so did the one before
    mine = await tree.mianyang.ask(pb.ListMyProgrammesRequest(), by=theirs)
    assert programme.name not in [one.name for one in mine.programmes]
    claim = pb.ClaimCouponRequest(programme=programme.name)
    told = await tree.mianyang.refusal(claim, by=theirs)
    assert (told.reason, "其他组织" in told.chinese) == ("NOT_ELIGIBLE", True)
    await tree.chengdu.claim(await arrived(tree.chengdu, programme, ours), ours)
    claim.programme = everybody.name
    assert (await tree.mianyang.refusal(claim, by=ours)).reason == "NOT_A_MEMBER"
    await eventually(lambda: known(tree.chengdu, everybody))
    assert (await tree.chengdu.refusal(claim, by=ours)).reason == "NOT_ELIGIBLE"


async def known(counter: Counter, programme: pb.Programme) -> None:
    await counter.ask(pb.GetProgrammeRequest(name=programme.name))


async def test_a_city_gives_no_share_to_its_neighbour(tree: Tree) -> None:
    request = tree.chengdu.a_programme(
        parent="organizations/5101", shares=[share(tree.mianyang, 1)]
    )
    assert (await tree.chengdu.refusal(request)).reason == "SHARE_NODE_UNKNOWN"


async def found(text: str, expected: str, *counters: Counter) -> None:
    """Each counter comes to find this of a card."""

    async def check() -> None:
        for counter in counters:
            assert await finding(counter, text) == expected

    await eventually(check)


async def bundle_of(
    counter: Counter, file: Path, holds: Callable[[pb.TrustBundle], bool]
) -> pb.TrustBundle:
    """What a merchant fetches there, once it holds something; kept in a file."""

    async def fetch() -> pb.TrustBundle:
        bundle: pb.TrustBundle = await counter.ask(pb.GetTrustBundleRequest(), by=SHOP)
        assert holds(bundle)
        return bundle

    bundle = await eventually(fetch)
    file.write_bytes(bundle.SerializeToString())
    return bundle


def offline(text: str, file: Path, root: bytes) -> tuple[int, str]:
    """The exit code of `smartunion card verify`, and what it finds."""
    arguments = ["card", "verify", text, "--bundle", str(file), "--root", fingerprint(root)]
    result = CliRunner().invoke(cli.app, arguments)
    return result.exit_code, result.output.partition(":")[0]


def number_of(bundle: pb.TrustBundle, counter: Counter) -> int:
    """Of the status list of a counter's node that a bundle holds; 0 if there is none."""
    public = counter.means.key.public_key().public_bytes_raw()
    newest = lists.newest(bundle.status_lists, public, node=counter.settings.node)
    return newest.number if newest else 0


async def test_a_card_of_one_city_is_checked_in_another_until_it_is_revoked(
    tree: Tree, tmp_path: Path
) -> None:
    elsewhere = (tree.mianyang, tree.province, tree.nation)
    lost, kept = [await tree.chengdu.card(await tree.chengdu.member(code=CHENGDU)) for _ in "ab"]
    await found(lost.text, "VALID", tree.chengdu, *elsewhere)
    root = tree.nation.means.key.public_key().public_bytes_raw()
    old, new = tmp_path / "old", tmp_path / "new"
    before = await bundle_of(tree.mianyang, old, lambda bundle: bundle.root == root)
    assert len(before.certificates) == 4
    assert offline(lost.text, old, root) == (0, "VALID")

    await tree.chengdu.revoke(lost.card.name)
    await found(lost.text, "REVOKED", tree.chengdu, *elsewhere)
    await found(kept.text, "VALID", *elsewhere)
    held = number_of(before, tree.chengdu)
    await bundle_of(tree.mianyang, new, lambda bundle: number_of(bundle, tree.chengdu) > held)
    assert offline(lost.text, new, root) == (1, "REVOKED")
    assert offline(kept.text, new, root) == (0, "VALID")
    assert offline(lost.text, old, root) == (0, "VALID")  # nobody has told it


async def test_no_city_can_call_a_revoked_card_of_another_good(tree: Tree, tmp_path: Path) -> None:
    """What a node signs in the name of another travels, and convinces nobody."""
    shown = await tree.chengdu.card(await tree.chengdu.member(code=CHENGDU))
    await tree.chengdu.revoke(shown.card.name)
    await found(shown.text, "REVOKED", tree.mianyang, tree.nation)
    forged = await forge(tree.mianyang, of=tree.chengdu)
    root = tree.nation.means.key.public_key().public_bytes_raw()
    for counter in (tree.mianyang, tree.chengdu, tree.nation):
        file = tmp_path / "bundle"
        await bundle_of(counter, file, lambda bundle: forged in bundle.status_lists)
        assert offline(shown.text, file, root) == (1, "REVOKED")
        await found(shown.text, "REVOKED", counter)


async def forge(counter: Counter, *, of: Counter) -> bytes:
    """Announce, as a node's own list, one that says that no card of another node is revoked."""
    means = counter.means
    at = means.clock() + timedelta(minutes=1)
    async with means.database.transaction() as store:
        last: Any = await store.lists.lock()
        newer = lists.StatusList(
            node=of.settings.node, number=last.number + 1_000, sign_time=at,
            expire_time=at + lists.VALID, bits=b"",
        )  # fmt: skip
        forged = lists.ListRecord(
            id=last.id, header=last.header.next(resource="status_lists"), number=newer.number,
            signed=lists.signed(newer, means.key),
        )  # fmt: skip
        change = events.of_list(forged, StatusListSigned(node=f"nodes/{last.id}", occur_time=at))
        await store.lists.save("status_lists", forged, change)
        await store.outbox.put(change)
    return forged.signed
