"""Differences: the records of a stream that are not the same here and above, and their healing.

    Differences   asks the own service and the parent, range by range (kit/ranges.py)
    Healer        answers wants: names the records that differ, has their origin assert them again

The child dials the parent, never the other way: so it is the child that compares.
"""

import asyncio
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from time import monotonic

import grpc

from kit.errors import FailedPrecondition, Refusal, Unavailable
from kit.ranges import Search
from kit.records import DOWN
from kit.rpc import PageTokenForeign
from services.sync.domain.streams import ServiceUnknown, StreamKey
from services.sync.usecases import Means
from services.sync.usecases.messages import key_of, to_stream
from smartunion.event.v1 import log_pb2, log_pb2_grpc
from smartunion.sync.v1 import sync_pb2, sync_pb2_grpc

ANSWER = 5.0
"""Seconds that either end has to answer one question."""

REASSERT_EVERY = 10.0
"""Seconds between two assertions of the same stream: the first must have time to arrive."""

MOST = 1_000
"""About how many differences are searched for at once."""

Metadata = tuple[tuple[str, str], ...]

logger = logging.getLogger(__name__)


class ServiceAway(Unavailable):
    message = "the service {service} of this node did not answer ({code}); repeat the call"
    chinese = "本节点的服务 {service} 没有应答（{code}）；请重试"


class ParentMissing(FailedPrecondition):
    message = "this node has not been admitted by a parent, so there is nothing to compare with"
    chinese = "本节点尚未被上级节点接纳，没有可比对的对象"


class ParentAway(Unavailable):
    message = "the parent did not answer ({code}); repeat the call when the link is there"
    chinese = "上级节点没有应答（{code}）；请在链路恢复后重试"


class ParentOlder(FailedPrecondition):
    message = "the parent runs a version that cannot be compared with; have it updated first"
    chinese = "上级节点的版本不支持比对；请先升级上级节点"


class Differences:
    """Compares what the services of this node hold with what those of the parent hold."""

    def __init__(self, peers: Mapping[str, grpc.aio.Channel], metadata: Metadata) -> None:
        self._metadata = metadata
        self.logs = {name: log_pb2_grpc.LogServiceStub(peer) for name, peer in peers.items()}
        self.parent: tuple[sync_pb2_grpc.SyncServiceAsyncStub, Metadata] | None = None
        """The parent and this node's link token, once it has been admitted."""

    async def held(
        self, key: StreamKey, ranges: Sequence[log_pb2.Range]
    ) -> log_pb2.SumRangesResponse:
        """What the own service holds of some ranges.

        Raises:
            ServiceUnknown, ServiceAway
        """
        if key.service not in self.logs:
            raise ServiceUnknown(service=key.service, known=", ".join(self.logs))
        request = log_pb2.SumRangesRequest(
            origin=key.origin.bytes, channel=key.channel, ranges=ranges
        )
        try:
            return await self.logs[key.service].SumRanges(
                request, metadata=self._metadata, timeout=ANSWER
            )
        except grpc.aio.AioRpcError as error:
            raise ServiceAway(service=key.service, code=error.code().name) from None

    async def _above(
        self, key: StreamKey, ranges: Sequence[log_pb2.Range]
    ) -> log_pb2.SumRangesResponse:
        if self.parent is None:
            raise ParentMissing()
        stub, metadata = self.parent
        request = sync_pb2.CompareRangesRequest(stream=to_stream(key), ranges=ranges)
        try:
            return await stub.CompareRanges(request, metadata=metadata, timeout=ANSWER)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise ParentOlder() from None
            raise ParentAway(code=error.code().name) from None

    async def search(
        self, key: StreamKey, *, most: int = MOST, start: str = "",
        buckets: Collection[int] | None = None,
    ) -> Search:  # fmt: skip
        """The differences of a stream, in at most ten rounds.

        Args:
            start: `end` of the search before.

        Raises:
            ServiceUnknown, ServiceAway, ParentMissing, ParentAway, ParentOlder, PageTokenForeign
        """
        if not re.fullmatch("[0-9a-f]{0,32}", start):
            raise PageTokenForeign()
        search = Search(most, start, buckets)
        while True:
            here, above = await asyncio.gather(
                self.held(key, search.asked), self._above(key, search.asked)
            )
            try:
                search.narrow(here, above)
            except ValueError:
                raise ParentAway(code="DATA_LOSS") from None  # what it says is no answer
            if not search.asked:
                return search


LONGEST_PAUSE = 3_600.0
"""Seconds between two assertions of the same buckets of a stream that travels down, or of which
sections are lacking, at most."""

MOST_LACKING = 10_000
"""About how many records of a stream are asserted at once because sections of them are lacking."""

LACKING = "sections/"
"""What a bucket is called under which sections are lacking, before its number."""

_Asked = tuple[StreamKey, set[int], set[bytes], set[int]]
"""Buckets that differ, records, and buckets that lack sections."""


class Healer:
    """Serves wants of nodes above for records, from here or through the node below."""

    def __init__(self, means: Means, differences: Differences, metadata: Metadata) -> None:
        self._means, self._differences, self._metadata = means, differences, metadata
        self._asked: asyncio.Queue[_Asked] = asyncio.Queue()
        self._served: dict[tuple[StreamKey, str], tuple[float, float]] = {}
        """When each was served last, and how long the pause after it is."""

    def ask(self, want: sync_pb2.Want) -> None:
        """Serve a want soon; one that follows too closely is passed over, and said again."""
        key = key_of(want.stream)
        buckets = set(want.buckets) if want.buckets and self._due(key, "buckets") else set()
        ids, lacking = set[bytes](), set[int]()
        if key.origin != self._means.own.id:
            self._means.wants.add(
                key, frames=want.frames, buckets=want.buckets, ids=want.ids,
                sections=want.sections,
            )  # fmt: skip
            if key.channel == DOWN:
                return  # it goes on to the node above
        else:
            if want.ids and self._due(key, "ids"):
                ids = {id_ for id_ in want.ids if len(id_) == 16}
            # Before the view is known here, asserting would bring no section.
            if want.sections and self._means.shown.above and self._due(key, "sections"):
                lacking = {bucket for bucket in want.sections if bucket < 256}
        if buckets or ids or lacking:
            self._asked.put_nowait((key, buckets, ids, lacking))

    def _due(self, key: StreamKey, what: str) -> bool:
        """Whether a want is served again.  What travels down is asserted without a search, and so
        is a bucket that lacks sections: the pause doubles while the same is wanted, for it may be
        what no assertion heals."""
        now = monotonic()
        at, pause = self._served.get((key, what), (-LONGEST_PAUSE, REASSERT_EVERY))
        if now - at < pause:
            return False
        again = (
            key.channel == DOWN or what.startswith(LACKING)
        ) and now - at < 2 * pause + REASSERT_EVERY
        longer = min(2 * pause, LONGEST_PAUSE) if again else REASSERT_EVERY
        self._served[key, what] = now, longer
        return True

    async def run(self) -> None:
        """Until cancelled.  A want that cannot be served now is said again by who wants it."""
        while True:
            key, buckets, ids, lacking = await self._asked.get()
            await self._assert_lacking(key, lacking)
            whole = set[int]()
            if buckets and key.channel == DOWN:
                whole = buckets
            elif buckets:
                whole, found = await self._search(key, buckets)
                ids |= found
            if key.origin == self._means.own.id:
                await self._reassert(key, whole, ids)
            else:
                self._means.wants.add(key, ids=ids)

    async def _assert_lacking(self, key: StreamKey, buckets: set[int]) -> None:
        """Have the own service assert buckets of which sections are lacking above: those that are
        due, until enough is written at once."""
        written = 0
        for bucket in sorted(buckets):
            if written < MOST_LACKING and self._due(key, f"{LACKING}{bucket}"):
                written += await self._reassert(key, {bucket}, set())

    async def _search(self, key: StreamKey, buckets: set[int]) -> tuple[set[int], set[bytes]]:
        """The records of some buckets to assert again, and the buckets to assert as a whole."""
        try:
            search = await self._differences.search(key, buckets=buckets)
        except ParentOlder:
            return buckets, set()
        except Refusal as refusal:
            logger.info("not compared", extra={"service": key.service, "reason": refusal.reason})
            return set(), set()
        whole = {bucket for bucket in buckets if not search.saw(bucket)}
        return whole, {found.id.bytes for found in search.found if found.heals}

    async def _reassert(self, key: StreamKey, buckets: set[int], ids: set[bytes]) -> int:
        """Have the own service write records to its log again; how many."""
        log = self._differences.logs.get(key.service)
        if log is None or not (buckets or ids):
            return 0
        with suppress(grpc.aio.AioRpcError):
            answer = await log.Reassert(
                log_pb2.ReassertRequest(channel=key.channel, buckets=buckets, ids=ids),
                metadata=self._metadata, timeout=30,
            )  # fmt: skip
            logger.info("asserted again", extra={"records": answer.records})
            return answer.records
        return 0
