"""What one caller may ask: a bucket that never gives too much, and memory that has an end."""

from collections.abc import Callable
from itertools import accumulate
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit import limits
from kit.errors import Refusal
from kit.gate import Gate, TokenInvalid
from kit.identity import Keys, Verifier
from kit.limits import Allowances, Bucket, Limits, TooManyAtOnce, TooManyCalls
from kit.status import pushback, to_status
from kit.tokens import Tokens, sign
from services.benefits.domain.coupons import SoldOut
from smartunion.benefits.v1 import benefits_pb2
from smartunion.event.v1 import log_pb2

READ_LOG = f"/{log_pb2.DESCRIPTOR.package}.LogService/ReadLog"
VERIFY = f"/{benefits_pb2.DESCRIPTOR.package}.BenefitsService/VerifyCard"
KEY = bytes(32)

rates = st.integers(1, 50)
calls = st.lists(st.tuples(st.floats(0, 3), st.integers(1, 60)), min_size=1, max_size=30)
"""So long after those before, so many at once."""


def served(bucket: Bucket, at: float, count: int) -> int:
    """How many of so many calls a bucket lets through."""
    return [bucket.take(at) for _ in range(count)].count(0.0)


@given(rates, st.floats(0, 1e6), calls)
def test_in_no_time_more_is_given_than_flows_in_and_a_second_s_worth(
    rate: int, start: float, calls: list[tuple[float, int]]
) -> None:
    bucket = Bucket(rate, start)
    times = list(accumulate((gap for gap, _ in calls), initial=start))[1:]
    given = [served(bucket, at, count) for at, (_, count) in zip(times, calls, strict=True)]
    for first, begin in enumerate(times):
        for last in range(first, len(times)):
            most = rate * (times[last] - begin) + rate
            assert sum(given[first : last + 1]) <= most + 1e-3


@given(rates, calls)
def test_after_the_time_said_a_call_is_served_and_not_much_sooner(
    rate: int, calls: list[tuple[float, int]]
) -> None:
    bucket, now = Bucket(rate, 0.0), 0.0
    for gap, count in calls:
        now += gap
        served(bucket, now, count)
        if wait := bucket.take(now):
            assert wait < 1e-3 or bucket.take(now + 0.9 * wait) > 0
            now += wait
            assert bucket.take(now) == 0


@given(rates, st.lists(st.tuples(st.floats(-1e6, 3), st.integers(1, 60)), max_size=30))
def test_a_clock_that_is_set_back_gives_nothing_and_locks_nobody_out(
    rate: int, calls: list[tuple[float, int]]
) -> None:
    bucket, now, forward, total = Bucket(rate, 0.0), 0.0, 0.0, 0
    for gap, count in calls:
        now, forward = now + gap, forward + max(0.0, gap)
        total += served(bucket, now, count)
        assert total <= rate * forward + rate + 1e-3
    if wait := bucket.take(now):
        assert wait < 1 / rate + 1e-6 and bucket.take(now + wait) == 0


def allowances(now: Callable[[], float] = lambda: 0.0, **narrowed: int) -> Allowances:
    return Allowances(Limits(**narrowed), clock=now)


def test_a_made_up_caller_costs_no_memory_for_ever() -> None:
    counted = allowances()
    for number in range(100_000):
        counted.take(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "strangers")
    assert len(counted._buckets) == limits.MOST_BUCKETS
    with counted.running("officers/a", "calls_at_once"):
        assert len(counted._running) == 2
    assert not counted._running


def test_who_calls_all_the_time_is_not_forgotten_for_strangers() -> None:
    counted = allowances(reads=1)
    counted.take("officers/a", "reads")
    for number in range(3 * limits.MOST_BUCKETS):
        counted.take(str(number), "strangers")
        if number % 1_000 == 0:
            with pytest.raises(TooManyCalls):
                counted.take("officers/a", "reads")


def test_each_caller_and_each_sort_of_call_has_an_allowance_of_its_own() -> None:
    counted = allowances(reads=1, writes=1)
    for who in ("officers/a", "officers/b"):
        counted.take(who, "reads")
        counted.take(who, "writes")
    with pytest.raises(TooManyCalls) as told:
        counted.take("officers/a", "writes")
    assert told.value.facts == {"most": "1", "limit": "writes", "seconds": "1.0"}
    again = [detail for detail in to_status(told.value, domain="d").details
             if detail.type_url.endswith("google.rpc.RetryInfo")]  # fmt: skip
    assert len(again) == 1


def test_a_rush_of_people_leaves_room_for_the_parts_of_the_network() -> None:
    counted = allowances(all_at_once=1)
    with counted.running("members/1", "calls_at_once"):
        with pytest.raises(TooManyAtOnce), counted.running("members/2", "calls_at_once"):
            pass
        with (
            counted.running("members/2", "streams_at_once"),
            counted.running("nodes/1", "calls_at_once"),
        ):
            pass
    with counted.running("members/2", "calls_at_once"):
        pass


def a_gate(counted: Allowances, child: Any = None) -> Gate:
    return Gate(
        Tokens(KEY, child),
        Verifier("i", "a", Keys("i", "file:///none"), person_key=KEY),
        counted,
        cast(Any, None),  # No person calls.
    )


async def asked(gate: Gate, token: str, *, port: int = 1, method: str = READ_LOG) -> str:
    metadata: dict[str, str | bytes] = {"authorization": f"Bearer {token}"}
    return (await gate.admit(method, metadata, f"ipv4:192.0.2.7:{port}")).name


async def test_a_flood_of_made_up_tokens_ends_before_they_are_looked_at() -> None:
    looked: list[str] = []

    async def child(token: str) -> str | None:
        looked.append(token)
        return None

    gate = a_gate(allowances(strangers=10), child)
    ends = []
    for number in range(100):
        with pytest.raises((TokenInvalid, TooManyCalls)) as error:
            await asked(gate, f"made-up-{number}", port=number)
        ends.append(error.type)
    assert ends == [TokenInvalid] * 10 + [TooManyCalls] * 90
    assert len(looked) == 10


async def test_who_was_right_before_does_not_suffer_from_strangers_at_the_same_address() -> None:
    gate = a_gate(allowances(strangers=10))
    right = sign(KEY, "sync")
    assert await asked(gate, right) == "services/sync"
    for number in range(30):  # what proves right costs nothing
        assert await asked(gate, sign(KEY, f"s{number}")) == f"services/s{number}"
    for number in range(20):
        with pytest.raises((TokenInvalid, TooManyCalls)):
            await asked(gate, f"made-up-{number}")
    assert await asked(gate, right) == "services/sync"
    with pytest.raises(TooManyCalls):
        await asked(gate, sign(KEY, "notify"))


def test_a_client_is_told_not_to_repeat_what_time_does_not_change() -> None:
    def told(refusal: Refusal) -> list[str]:
        return [value for _, value in pushback(refusal)]

    assert told(TooManyCalls(most=1, limit="reads", seconds=0.25)) == ["250"]
    assert told(SoldOut(programme="programmes/1")) == ["-1"]
    assert told(TokenInvalid()) == []


async def test_a_method_that_is_open_to_anyone_is_limited_by_address() -> None:
    gate = a_gate(allowances(strangers=2))
    for port in range(2):
        assert not (await gate.admit(VERIFY, {}, f"ipv4:192.0.2.7:{port}")).name
    with pytest.raises(TooManyCalls):
        await gate.admit(VERIFY, {}, "ipv4:192.0.2.7:9")
    assert not (await gate.admit(VERIFY, {}, "ipv4:192.0.2.8:9")).name
