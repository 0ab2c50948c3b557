"""A programme's coupons: claimed from a share and never more, redeemed once."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import grpc
import pytest

from kit.headers import new_header
from kit.ids import uuid7
from kit.rpc import Call
from services.benefits import events
from services.benefits.domain import programmes
from services.benefits.domain.coupons import CouponExpired, SoldOut
from services.benefits.domain.programmes import Share
from services.benefits.usecases.claims import Claims
from services.benefits.usecases.coupons import Coupons
from smartunion.benefits.v1 import benefits_pb2 as pb
from tests.service.benefits.counter import Counter

HOUR = timedelta(hours=1)
SHOP = "merchants/shop-7"


async def test_a_member_sees_claims_and_uses_a_coupon(counter: Counter) -> None:
    member, programme = await counter.member(), await counter.programme(3)
    assert (programme.stock, programme.remaining_here, programme.version) == (3, 3, 1)
    mine = await counter.ask(pb.ListMyProgrammesRequest(), by=member)
    assert programme in mine.programmes
    claimed = await counter.claim(programme, member)
    coupon = claimed.coupon
    assert (coupon.programme, coupon.title, coupon.face_value_fen, coupon.state) == (
        programme.name, "夏日送清凉", 2_000, pb.Coupon.CLAIMED,
    )  # fmt: skip
    assert (await counter.ask(pb.GetProgrammeRequest(name=programme.name))).remaining_here == 2
    listed = await counter.ask(pb.ListMyCouponsRequest(), by=member)
    assert list(listed.coupons) == [claimed]
    used = await counter.ask(pb.RedeemCouponRequest(code=claimed.code), by=SHOP)
    assert (used.name, used.state) == (coupon.name, pb.Coupon.REDEEMED)
    assert used.HasField("redeem_time")
    assert await counter.events(coupon.name) == ["CouponClaimed", "CouponRedeemed"]
    assert await counter.events(programme.name) == ["ProgrammeCreated"]


async def test_a_repeat_gets_the_same_coupon_and_a_second_wish_its_name(counter: Counter) -> None:
    member, programme = await counter.member(), await counter.programme(1)
    request_id = str(uuid4())
    first = await counter.claim(programme, member, request_id=request_id)
    again = await asyncio.gather(
        *(counter.claim(programme, member, request_id=request_id) for _ in range(5))
    )
    assert all(answer == first for answer in again)
    told = await counter.refusal(pb.ClaimCouponRequest(programme=programme.name), by=member)
    assert (told.code, told.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ALREADY_CLAIMED")
    assert told.metadata == {"coupon": first.coupon.name, "programme": programme.name}
    other = await counter.programme(1)
    request = pb.ClaimCouponRequest(programme=other.name, request_id=request_id)
    assert (await counter.refusal(request, by=member)).reason == "REQUEST_ID_REUSED"


async def test_the_same_claim_sent_five_times_at_once_is_one_coupon(counter: Counter) -> None:
    member, programme = await counter.member(), await counter.programme(5)
    request_id = str(uuid4())
    answers = await asyncio.gather(
        *(counter.claim(programme, member, request_id=request_id) for _ in range(5))
    )
    assert len({answer.coupon.name for answer in answers}) == 1
    assert (await counter.ask(pb.GetProgrammeRequest(name=programme.name))).remaining_here == 4


async def test_no_more_coupons_are_given_out_than_there_are(counter: Counter) -> None:
    members = [uuid7() for _ in range(40)]
    await counter.announce(members)
    programme = await counter.programme(25)
    claims = [counter.claim(programme, member) for member in members]
    answers = await asyncio.gather(*claims, return_exceptions=True)
    assert sum(isinstance(answer, pb.MyCoupon) for answer in answers) == 25
    refused = members[next(at for at, one in enumerate(answers) if isinstance(one, Exception))]
    told = await counter.refusal(pb.ClaimCouponRequest(programme=programme.name), by=refused)
    assert (told.code, told.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SOLD_OUT")
    assert "领完" in told.chinese
    winner = members[next(at for at, one in enumerate(answers) if isinstance(one, pb.MyCoupon))]
    told = await counter.refusal(pb.ClaimCouponRequest(programme=programme.name), by=winner)
    assert told.reason == "ALREADY_CLAIMED"


async def test_a_share_is_counted_anew_when_coupons_came_back_after_a_restore(
    counter: Counter,
) -> None:
    members = [await counter.member() for _ in range(4)]
    programme = await counter.programme(3)
    for member in members[:2]:
        await counter.claim(programme, member)
    # As a restore of the database leaves it, and then as the coupons come back from above.
    await counter.pool.execute(
        "UPDATE stocks SET remaining = 3 WHERE programme = $1",
        UUID(programme.name.rpartition("/")[2]),
    )
    await counter.pool.execute(
        "INSERT INTO taken_back (kind, id, reason) VALUES ('coupons', $1, 1)", uuid7()
    )
    await counter.claim(programme, members[2])
    told = await counter.refusal(pb.ClaimCouponRequest(programme=programme.name), by=members[3])
    assert told.reason == "SOLD_OUT"


async def test_coupons_are_claimed_within_the_window_alone(counter: Counter) -> None:
    member, now = await counter.member(), counter.means.clock()
    early = await counter.programme(claim_start_time=now + HOUR, claim_end_time=now + 2 * HOUR)
    told = await counter.refusal(pb.ClaimCouponRequest(programme=early.name), by=member)
    assert told.reason == "NOT_STARTED" and "开始领取" in told.chinese
    late = await counter.programme(claim_end_time=now - HOUR / 2)
    told = await counter.refusal(pb.ClaimCouponRequest(programme=late.name), by=member)
    assert told.reason == "ENDED" and "结束领取" in told.chinese
    mine = (await counter.ask(pb.ListMyProgrammesRequest(page_size=1000), by=member)).programmes
    assert early in mine and late not in mine


async def test_strangers_and_members_of_another_part_get_nothing(counter: Counter) -> None:
    member, programme = await counter.member(), await counter.programme(parent="organizations/5107")
    told = await counter.refusal(pb.ClaimCouponRequest(programme=programme.name), by=member)
    assert (told.code, told.reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_ELIGIBLE")
    assert "不在" in told.chinese
    request = pb.ClaimCouponRequest(programme=programme.name)
    assert (await counter.refusal(request, by=uuid7())).reason == "NOT_A_MEMBER"
    mine = (await counter.ask(pb.ListMyProgrammesRequest(page_size=1000), by=member)).programmes
    assert programme not in mine
    elsewhere = await counter.programme(shares=[pb.Share(node=f"nodes/{uuid7()}", stock=5)])
    told = await counter.refusal(pb.ClaimCouponRequest(programme=elsewhere.name), by=member)
    assert (told.reason, elsewhere.remaining_here) == ("NOT_ELIGIBLE", 0)
    told = await counter.refusal(
        pb.ClaimCouponRequest(programme=f"programmes/{uuid7()}"), by=member
    )
    assert told.reason == "PROGRAMME_NOT_FOUND"


async def test_a_programme_from_above_is_claimed_from_this_nodes_own_share(
    counter: Counter,
) -> None:
    """It came down as a copy; here it is written as the frames of the node above are applied."""
    above, now = uuid7(), counter.means.clock()
    nation = await counter.means.reads.organizations.get(counter.means.home.parent)  # type: ignore[arg-type]
    programme = programmes.create(
        id=uuid7(), header=new_header(above), organization=nation.id, title="全国普惠",
        face_value_fen=100, shares=[Share(node=counter.settings.node, stock=1),
                                    Share(node=above, stock=1_000)],
        claim_start_time=now - HOUR, claim_end_time=now + HOUR, use_by_time=now + HOUR,
    )  # fmt: skip
    _, fact = programmes.Draft(programme=programme, creator="").open(by="officers/x", at=now)
    async with counter.means.database.transaction() as store:
        await store.programmes.add(programme, events.of_programme(programme, fact))
    first, second = await counter.member(), await counter.member()
    shown = await counter.ask(pb.GetProgrammeRequest(name=programme.name))
    assert (shown.provenance.copy, shown.stock, shown.remaining_here) == (True, 1_001, 1)
    await counter.claim(shown, first)
    told = await counter.refusal(pb.ClaimCouponRequest(programme=shown.name), by=second)
    assert told.reason == "SOLD_OUT"


async def test_two_merchants_at_once_redeem_one_coupon_once(counter: Counter) -> None:
    claimed = await counter.claim(await counter.programme(), await counter.member())
    requests = [
        pb.RedeemCouponRequest(code=claimed.code, request_id=str(uuid4())) for _ in range(6)
    ]
    answers = await asyncio.gather(
        *(counter.ask(one, by=f"merchants/{at}") for at, one in enumerate(requests)),
        return_exceptions=True,
    )
    won = [at for at, one in enumerate(answers) if isinstance(one, pb.Coupon)]
    assert len(won) == 1
    assert await counter.ask(requests[won[0]], by=f"merchants/{won[0]}") == answers[won[0]]
    told = await counter.refusal(pb.RedeemCouponRequest(code=claimed.code), by=SHOP)
    winner = cast(pb.Coupon, answers[won[0]])
    time = f"{winner.redeem_time.ToDatetime():%Y-%m-%dT%H:%M:%S}Z"
    assert (told.reason, told.metadata) == (
        "COUPON_REDEEMED", {"coupon": claimed.coupon.name, "redeem_time": time},
    )  # fmt: skip


async def test_a_coupon_is_refused_after_its_end_and_if_its_code_is_forged(
    counter: Counter,
) -> None:
    now = counter.means.clock()
    programme = await counter.programme()
    claimed = await counter.claim(programme, await counter.member())
    late = pb.RedeemCouponRequest(code=claimed.code)
    for code in ("", "x", claimed.code[:-1] + "?", f"{uuid7()}{claimed.code[36:]}", "é" * 57):
        told = await counter.refusal(pb.RedeemCouponRequest(code=code), by=SHOP)
        assert (told.reason, told.field) == ("COUPON_UNKNOWN", "code"), code
        assert "券码" in told.chinese
    later = replace(counter.means, clock=lambda: now + timedelta(days=31))
    call = Call(SHOP, "RedeemCouponRequest", None, b"")
    with pytest.raises(CouponExpired) as error:
        await Coupons(later, counter.keyring).redeem(claimed.code, call=call)
    assert "过期" in error.value.chinese_text
    assert (await counter.ask(late, by=SHOP)).state == pb.Coupon.REDEEMED


@pytest.mark.parametrize(
    ("otherwise", "reason", "field"),
    [
        ({"title": " "}, "TITLE_LENGTH", "programme.title"),
        ({"title": "a\x00b"}, "TEXT_CHARACTERS", "programme.title"),
        ({"face_value_fen": 0}, "FACE_VALUE_OUT_OF_RANGE", "programme.face_value_fen"),
        ({"shares": []}, "SHARES_COUNT", "programme.shares"),
        ({"shares": [pb.Share(node="nodes/x", stock=1)]}, "NAME_MALFORMED", "programme.shares"),
        ({"use_by_time": None}, "TIME_MISSING", "programme.use_by_time"),
    ],
)
async def test_a_programme_that_is_not_right_is_refused(
    counter: Counter, otherwise: dict[str, Any], reason: str, field: str
) -> None:
    told = await counter.refusal(counter.a_programme(**otherwise))
    assert (told.reason, told.field) == (reason, field)
    assert told.chinese


async def test_a_programme_has_one_share_a_node_and_times_in_order(counter: Counter) -> None:
    share = pb.Share(node=f"nodes/{counter.settings.node}", stock=1)
    told = await counter.refusal(counter.a_programme(shares=[share, share]))
    assert told.reason == "SHARE_TWICE"
    assert (await counter.refusal(counter.a_programme(0))).reason == "SHARE_STOCK_OUT_OF_RANGE"
    now = counter.means.clock()
    told = await counter.refusal(counter.a_programme(claim_end_time=now - 2 * HOUR))
    assert told.reason == "TIMES_OUT_OF_ORDER"
    told = await counter.refusal(counter.a_programme(parent="organizations/0"))
    assert told.reason == "OUTSIDE_SCOPE"


async def test_lists_of_programmes_and_coupons_come_in_pages(counter: Counter) -> None:
    member = await counter.member(code="510108")
    made = [await counter.programme(parent="organizations/510108") for _ in range(3)]
    for programme in made:
        await counter.claim(programme, member)
    mine: list[str] = []
    request = pb.ListMyCouponsRequest(page_size=2)
    while True:
        page = await counter.ask(request, by=member)
        mine += [one.coupon.programme for one in page.coupons]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert mine == [one.name for one in reversed(made)]
    seen: list[pb.Programme] = []
    asked: Any = pb.ListMyProgrammesRequest(page_size=1)
    for _ in range(3):
        page = await counter.ask(asked, by=member)
        seen += page.programmes
        asked.page_token = page.next_page_token
    assert [one.name for one in seen] == mine
    assert {one.remaining_here for one in seen} == {9}
    all_ = (await counter.ask(pb.ListProgrammesRequest(page_size=3))).programmes
    assert [one.name for one in all_] == mine


async def test_officers_and_merchants_claim_nothing_and_members_redeem_nothing(
    counter: Counter,
) -> None:
    member = await counter.member()
    for request, by in (
        (pb.ClaimCouponRequest(), "officers/li-na"), (pb.ClaimCouponRequest(), SHOP),
        (pb.RedeemCouponRequest(), f"members/{member}"), (pb.ListMyCouponsRequest(), SHOP),
    ):  # fmt: skip
        assert (await counter.refusal(request, by=by)).reason == "ACCESS_DENIED"
    told = await counter.refusal(pb.CreateProgrammeRequest(), by=f"members/{member}")
    assert told.reason == "NO_OFFICE"


async def test_two_processes_at_one_stock_give_out_no_more_than_there_is(counter: Counter) -> None:
    members = [uuid7() for _ in range(240)]
    await counter.announce(members)
    programme = UUID((await counter.programme(150)).name.rpartition("/")[2])
    desks = (Claims(counter.means), Claims(counter.means))

    async def claim(at: int, member: UUID) -> object:
        call = Call(f"members/{member}", "ClaimCouponRequest", uuid4(), bytes(32))
        return await desks[at % 2].claim(programme, member=member, call=call)

    answers = await asyncio.gather(
        *(claim(at, member) for at, member in enumerate(members)), return_exceptions=True
    )
    assert sum(isinstance(answer, SoldOut) for answer in answers) == 90
    assert (await counter.pool.fetchval(
        "SELECT count(*) FROM coupons WHERE programme = $1", programme
    )) == 150  # fmt: skip
