"""How much one caller may ask of a service: so many calls a second, and so many at once.

Calls a second are counted by token buckets, one for each caller and sort of call.  Who shows no
token that was right is counted by network address, before anything is looked up for them.
"""

import ipaddress
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Literal, TypeAlias
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field

from kit.errors import ResourceExhausted

MOST_BUCKETS = 10_000
"""That are remembered, about 3 MB; of more callers, who called longest ago begins anew."""

PAUSE = 1.0
"""Seconds after which one may look again whether a call has ended."""

ROUNDING = 1e-6
"""Of a call: what sums of fractions may be short of it."""

Sort: TypeAlias = Literal["reads", "writes", "streams", "strangers", "neighbours"]
AtOnce: TypeAlias = Literal["calls_at_once", "streams_at_once", "pushes_at_once"]
Most = Annotated[int, Field(ge=1)]


class Limits(BaseModel):
    """What an operator may narrow.  A second's worth of calls may come all at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reads: Most = 5_000
    """Calls a second of one officer, member or merchant that change nothing."""
    writes: Most = 2_000
    """Calls a second of one of them that have a `request_id`."""
    streams: Most = 100
    """Streams a second that one of them opens: watches, uploads, downloads."""
    strangers: Most = 500
    """Calls a second from one address that need no token, or show a wrong one."""
    neighbours: Most = 20_000
    """Calls a second of one service of the node, and of one child."""
    calls_at_once: Most = 500
    """Of one caller, or from one address without a token."""
    streams_at_once: Most = 100
    """The same of streams."""
    pushes_at_once: Most = 5
    """Pushes of one child, over NATS and gRPC together: half of the connections to the database, so
    that no child keeps the others waiting.  Each replica of a child sends one at a time."""
    all_at_once: Most = 1_000
    """Calls, and as many streams, of all but services and children."""


class TooManyCalls(ResourceExhausted):
    message = (
        "you may make {most} such calls a second here (limits.{limit}); make this one again in "
        "{seconds} s"
    )
    chinese = "此类调用每秒最多 {most} 次（limits.{limit}）；请在 {seconds} 秒后重试"


class TooManyAtOnce(ResourceExhausted):
    message = (
        "{most} such calls are under way, the most at once (limits.{limit}); end one, or make "
        "this one again in {seconds} s"
    )
    chinese = (
        "已有 {most} 个此类调用正在进行，达到上限（limits.{limit}）；请结束其中一个，"
        "或在 {seconds} 秒后重试"
    )


class Bucket:
    """Holds at most a second's worth of calls, full at first, and fills as time passes."""

    __slots__ = ("_at", "_left", "_rate")

    def __init__(self, rate: int, now: float) -> None:
        self._rate, self._left, self._at = rate, float(rate), now

    def take(self, now: float) -> float:
        """Take a call out: 0, or if there is none, after how many seconds there will be.

        A clock that was set back fills nothing, and is believed from then on.
        """
        self._left = min(self._rate, self._left + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._left < 1 - ROUNDING:
            return (1 - self._left) / self._rate
        self._left -= 1
        return 0.0

    def give_back(self) -> None:
        """Put a call in that did not count."""
        self._left = min(self._rate, self._left + 1)


class Allowances:
    """What each caller has left."""

    def __init__(self, limits: Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._most: dict[str, int] = limits.model_dump()
        self._buckets: OrderedDict[tuple[str, Sort], Bucket] = OrderedDict()
        """Who called last is last."""
        self._running: Counter[tuple[str, str]] = Counter()
        """Only who has a call under way."""

    def take(self, who: str, sort: Sort) -> None:
        """Count a call.  Raises TooManyCalls."""
        now = self._clock()
        bucket = self._buckets.get((who, sort))
        if bucket is None:
            if len(self._buckets) >= MOST_BUCKETS:
                self._buckets.popitem(last=False)
            bucket = self._buckets[who, sort] = Bucket(self._most[sort], now)
        else:
            self._buckets.move_to_end((who, sort))
        if wait := bucket.take(now):
            raise TooManyCalls(most=self._most[sort], limit=sort, seconds=_said(wait))

    def give_back(self, who: str, sort: Sort) -> None:
        """Take back that a call was counted."""
        if bucket := self._buckets.get((who, sort)):
            bucket.give_back()

    @contextmanager
    def running(self, who: str, kind: AtOnce) -> Iterator[None]:
        """While a call is under way.  Raises TooManyAtOnce.

        What services and children call is not counted with the rest, so that a rush of people does
        not hold it up.
        """
        own, every = (who, kind), ("", kind)
        counted = [(own, kind)] if is_neighbour(who) else [(own, kind), (every, "all_at_once")]
        for key, limit in counted:
            if self._running[key] >= self._most[limit]:
                raise TooManyAtOnce(most=self._most[limit], limit=limit, seconds=PAUSE)
        for key, _ in counted:
            self._running[key] += 1
        try:
            yield
        finally:
            for key, _ in counted:
                self._running[key] -= 1
                if not self._running[key]:
                    del self._running[key]


def is_neighbour(who: str) -> bool:
    """Whether it is a part of the network that calls, and no person.

    >>> is_neighbour("services/sync"), is_neighbour("officers/li-na")
    (True, False)
    """
    return who.startswith(("services/", "nodes/"))


def address_of(peer: str) -> str:
    """By what strangers are told apart: an address, or the /64 that one subscriber of IPv6 has.

    >>> address_of("ipv4:192.0.2.7:51022")
    '192.0.2.7'
    >>> address_of("ipv6:%5B2001:db8::1%5D:51022")
    '2001:db8::/64'
    >>> address_of("ipv6:[::ffff:192.0.2.7]:51022")
    '192.0.2.7'
    >>> address_of("unix:/run/a")
    'unix:/run/a'
    """
    host = unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return peer[:100]
    if address.version == 4:
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))


def _said(seconds: float) -> float:
    """Rounded up to milliseconds."""
    return math.ceil(seconds * 1000) / 1000
