"""Every refusal can be told apart, read in two languages, and acted on."""

import re
import string
from datetime import UTC, datetime

import pytest

from docs.reasons import refusals
from services.benefits.domain.coupons import CouponRedeemed


def facts(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_reason_is_used_once() -> None:
    names = [kind.__name__ for kind in refusals()]
    assert len(names) > 20
    assert sorted(names) == sorted(set(names))


def test_every_refusal_says_the_same_in_english_and_chinese() -> None:
    for kind in refusals():
        assert facts(kind.message) == facts(kind.chinese), kind
        assert re.search("[\u4e00-\u9fff]", kind.chinese), kind
        example = kind(**dict.fromkeys(facts(kind.message), "x"))
        assert str(example) and example.chinese_text
        assert re.fullmatch("[A-Z][A-Z0-9_]*", example.reason)


def test_every_refusal_has_a_code() -> None:
    for kind in refusals():
        assert kind.code in (3, 5, 6, 7, 8, 9, 14, 16), kind


@pytest.mark.parametrize(
    ("at", "told", "chinese"),
    [
        (datetime(2026, 11, 26, 16, 4, 5, 999_999, UTC), "2026-11-26T16:04:05Z",
         "北京时间2026年11月27日00:04:05"),
        (datetime(9999, 12, 31, 23, tzinfo=UTC), "9999-12-31T23:00:00Z", "9999-12-31T23:00:00Z"),
    ],
)  # fmt: skip
def test_a_time_is_told_in_beijings_in_chinese_and_else_in_utc(
    at: datetime, told: str, chinese: str
) -> None:
    refusal = CouponRedeemed(coupon="coupons/1", redeem_time=at)
    assert str(refusal) == f"coupons/1 was redeemed at {told}; a coupon is good once"
    assert refusal.facts["redeem_time"] == told
    assert refusal.chinese_text == f"coupons/1 已于 {chinese} 核销；每张券只能使用一次"
