"""The rules of programmes and coupons, whatever the numbers and times are."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import Refusal
from kit.headers import Header
from kit.organizations import organization_id, tree
from services.benefits import events
from services.benefits.domain import coupons
from services.benefits.domain.coupons import CouponExpired, CouponRedeemed
from services.benefits.domain.programmes import (
    Ended,
    NotStarted,
    Programme,
    ProgrammeCreated,
    Share,
    create,
)

NOW = datetime(2026, 11, 25, tzinfo=UTC)
HEADER = Header(origin=UUID(int=1), salt="00" * 16)
hours = st.integers(-1_000, 1_000).map(lambda count: NOW + timedelta(hours=count))
shares = st.lists(st.builds(Share, node=st.uuids(), stock=st.integers(-1, 100_000_001)), max_size=5)


def a_programme(begin: datetime, end: datetime, use_by: datetime, *parts: Share) -> Programme:
    return create(
        id=UUID(int=2), header=HEADER, organization=organization_id("51"), title="普惠",
        face_value_fen=1, shares=parts or (Share(node=UUID(int=1), stock=1),),
        claim_start_time=begin, claim_end_time=end, use_by_time=use_by,
    )  # fmt: skip


@given(hours, hours, hours, hours)
def test_a_window_is_open_from_its_start_until_before_its_end(
    begin: datetime, end: datetime, use_by: datetime, at: datetime
) -> None:
    try:
        programme = a_programme(begin, end, use_by)
    except Refusal as refusal:
        assert refusal.reason == "TIMES_OUT_OF_ORDER" and not begin < end <= use_by
        return
    assert begin < end <= use_by
    if begin <= at < end:
        programme.check_window(at)
    else:
        with pytest.raises(NotStarted if at < begin else Ended):
            programme.check_window(at)


@given(hours, hours)
def test_a_coupon_is_used_once_and_before_its_end(first: datetime, second: datetime) -> None:
    end = NOW + timedelta(hours=500)
    programme = a_programme(NOW - timedelta(hours=2_000), end, end)
    coupon, _ = coupons.claim(
        programme, id=UUID(int=3), header=HEADER, member=UUID(int=4),
        organization=organization_id("5101"), at=NOW,
    )  # fmt: skip
    if first >= end:
        with pytest.raises(CouponExpired):
            coupon.redeem(programme, at=first)
        return
    used, _ = coupon.redeem(programme, at=first)
    assert (used.redeem_time, used.header.version) == (first, 2)
    with pytest.raises(CouponRedeemed):
        used.redeem(programme, at=second)


@given(shares)
def test_the_stock_is_the_sum_of_what_each_node_gives_out(parts: list[Share]) -> None:
    end = NOW + timedelta(hours=1)
    try:
        programme = a_programme(NOW, end, end, *parts)
    except Refusal as refusal:
        assert refusal.reason in ("SHARE_STOCK_OUT_OF_RANGE", "SHARE_TWICE")
        return
    nodes = {share.node for share in programme.shares}
    assert programme.stock == sum(programme.share_of(node) for node in nodes)
    change = events.of_programme(programme, created(programme))
    assert events.parse_programme(change.public) == (programme.organization,)


def created(programme: Programme) -> ProgrammeCreated:
    return ProgrammeCreated(programme=programme.name, organization="", occur_time=NOW)


@given(st.binary(max_size=80))
def test_a_section_that_is_none_is_refused_as_a_value(section: bytes) -> None:
    for parse in (
        events.parse_card, events.parse_coupon, events.parse_list, events.parse_programme,
    ):  # fmt: skip
        with pytest.raises(ValueError):
            parse(section)


def test_a_programme_is_for_its_part_of_the_tree_alone() -> None:
    node = UUID(int=1)
    organizations = {one.code: one for one in tree({"51": "四川省", "5101": "成都市"})}
    programme = a_programme(NOW, NOW + timedelta(hours=1), NOW + timedelta(hours=1))
    sichuan = organizations["51"]
    assert programme.is_for("0.51", organization=sichuan, node=node)
    assert programme.is_for("0.51.5101.510104", organization=sichuan, node=node)
    for path in ("0", "0.5", "0.511", "0.11.1101"):
        assert not programme.is_for(path, organization=sichuan, node=node)
    assert not programme.is_for("0.51", organization=sichuan, node=UUID(int=9))
