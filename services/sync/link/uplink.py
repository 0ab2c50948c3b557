"""From this node to its parent: joining it, and pushing frames to it."""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any
from uuid import UUID

import grpc
from google.protobuf.message import DecodeError
from nats.aio.client import Client, RawCredentials

from kit import accounts
from kit.carrier import FAILURES, close, dial
from kit.db import PASSING
from kit.errors import Refusal
from kit.log import HEARTBEAT
from kit.records import DOWN
from kit.waiting import ended, waited
from kit.wire import Wire
from services.sync.differences import Differences, Healer, Metadata
from services.sync.domain.enrollments import key_invited_by
from services.sync.domain.streams import StreamKey
from services.sync.link import PEER_FAILURES
from services.sync.restores import Restores
from services.sync.usecases import Means
from services.sync.usecases.down import Down
from services.sync.usecases.frames import Frames
from services.sync.usecases.keys import Keys
from services.sync.usecases.messages import PUSH_BYTES, key_of, to_head
from services.sync.usecases.streams import Streams
from smartunion.sync.v1 import frame_pb2, sync_pb2, sync_pb2_grpc

ANSWER = 5.0
"""Seconds that a parent has to answer a push, over each carrier."""

PULL_EVERY = 0.5
"""Seconds between two questions for what travels down."""

LARGEST_PUSH = 3 * 2**20
"""About how much one push carries that is answered fast."""

FAST = 0.25
"""Seconds within which an answer is fast: the next push may be twice as large.  Urgent entries wait
behind the push that is under way."""

REST = 10.0
"""Seconds for which a stream is not pushed that the parent did not take."""

UNKNOWN_HERE = grpc.StatusCode.UNAUTHENTICATED
"""How a parent answers a link token that it does not know: it was restored, or lost."""

PASSING_CODES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

logger = logging.getLogger(__name__)


class Uplink:
    """Pushes frames to the parent.  The parent's answer, after its commit, is the receipt."""

    def __init__(
        self, means: Means, streams: Streams, frames: Frames, keys: Keys, down: Down,
        restores: Restores, differences: Differences, healer: Healer, *, wire: Wire, parent: str,
        parent_peers: str, nats_url: str, nats_ca: str, invitation: str, node: sync_pb2.Node,
    ) -> None:  # fmt: skip
        """
        Args:
            parent: where its parent lets it enrol.
            parent_peers: where it lets it push, once it is admitted.
        """
        self._means, self._streams, self._frames = means, streams, frames
        self._keys, self._down, self._restores = keys, down, restores
        self._differences, self._healer = differences, healer
        self._wire, self._node = wire, node
        self._parent, self._parent_peers = parent, parent_peers
        self._nats_url, self._nats_ca, self._invitation = nats_url, nats_ca, invitation
        self._cursors: dict[StreamKey, int] = {}
        self._again: dict[StreamKey, set[int]] = {}
        self._resting: dict[StreamKey, float] = {}
        self._snapshot: tuple[StreamKey, asyncio.Task[None]] | None = None
        self._pull_at = 0.0
        self._most = PUSH_BYTES
        self._nats: Client | None = None
        self._token = ""
        self.wake = asyncio.Event()
        """Set when there is something new to push."""

    async def run(self) -> None:
        """Until cancelled.  A parent that is away is no error: this node works alone."""
        if not self._parent:
            return await asyncio.Event().wait()  # type: ignore[return-value]
        known = True
        while True:
            credentials = await self._join(known=known)
            async with self._wire.link(
                self._parent_peers, self._means.signer, credentials["parent_key"],
                credentials["link_certificate"],
            ) as channel:  # fmt: skip
                await self._link(sync_pb2_grpc.SyncServiceStub(channel), credentials)
            known = False
            await asyncio.sleep(0.5)  # a parent that lets in and then refuses is not hurried

    async def _link(self, stub: "sync_pb2_grpc.SyncServiceAsyncStub", credentials: Any) -> None:
        """Push with these credentials until the parent does not know them any more."""
        self._token, self._above = credentials["link_token"], credentials["parent"]
        self._differences.parent = stub, self._metadata()
        dialling = asyncio.create_task(self._dial(credentials))
        try:
            await self._push_forever(stub)
        finally:
            await ended(dialling)
            if self._snapshot is not None:
                self._snapshot[1].cancel()
            if self._nats is not None:
                await close(self._nats)
                self._nats = None

    async def _join(self, *, known: bool) -> Any:
        """The credentials of the parent: those kept, or asked for until an operator confirms.

        Args:
            known: whether the parent knows those that are kept, as far as is known here.
        """
        while True:
            with suppress(*PASSING):
                async with self._means.transaction() as store:
                    kept = await store.uplink.get()
                    seed = await store.uplink.seed(accounts.new_key("user").seed)
                if kept and known and (kept["parent_key"] or not key_invited_by(self._invitation)):
                    return {**kept, "nats_seed": seed}
                if self._invitation:
                    known = await self._enroll(accounts.key_from_seed(seed).public)
                else:
                    logger.warning("no invitation to show to the parent")
                    known = await asyncio.sleep(5, bool(kept))
            await asyncio.sleep(0.0 if known else 0.5)

    async def _enroll(self, user_key: str) -> bool:
        """Ask the parent until it answers; whether an operator has confirmed."""
        request = sync_pb2.EnrollRequest(
            token=self._invitation, node=self._node, public_key=self._means.own.public_key,
            nats_user_key=user_key, certificate=self._keys.own_certificate(),
        )  # fmt: skip
        key = key_invited_by(self._invitation)
        async with self._wire.contact(self._parent, key) as channel:
            answer = await self._ask(sync_pb2_grpc.SyncServiceStub(channel), request)
        if answer.confirmed:
            async with self._means.transaction() as store:
                await store.uplink.save(
                    parent=UUID(answer.parent.removeprefix("nodes/")), key=key,
                    token=answer.link_token, certificate=answer.link_certificate,
                    nats_url=answer.nats_url, user_jwt=answer.nats_user_jwt,
                )  # fmt: skip
            logger.info("joined", extra={"parent": answer.parent})
        return answer.confirmed

    async def _ask(
        self, stub: "sync_pb2_grpc.SyncServiceAsyncStub", request: sync_pb2.EnrollRequest
    ) -> sync_pb2.EnrollResponse:
        """What the parent answers; one that is away is waited for, and so is one that cannot show
        the key which the invitation names."""
        said = ""
        while True:
            try:
                return await stub.Enroll(request, timeout=ANSWER)
            except grpc.aio.AioRpcError as error:
                text = error.details() or error.code().name
                passing = error.code() in PASSING_CODES
                if text != said:
                    told = "parent is not reached" if passing else "parent refuses this node"
                    logger.warning(told, extra={"text": text})
                said = text
                await asyncio.sleep(0.5 if passing else 5)

    async def _dial(self, credentials: Any) -> None:
        url = self._nats_url or credentials["nats_url"]
        if not url or not credentials["user_jwt"] or not self._wire.may_dial(url):
            return
        creds = accounts.creds(credentials["user_jwt"], credentials["nats_seed"])
        prefix = accounts.inbox_prefix(str(self._means.own.id))
        self._nats = await dial(
            url,
            self._nats_ca,
            user_credentials=RawCredentials(creds),
            inbox_prefix=prefix.encode(),
        )

    async def _push_forever(self, stub: "sync_pb2_grpc.SyncServiceAsyncStub") -> None:
        greeted = away = False
        while True:
            try:
                pushed = await self._push(stub, greeted)
                greeted, away = True, False
            except (*PEER_FAILURES, *FAILURES, Refusal) as error:
                if isinstance(error, grpc.aio.AioRpcError) and error.code() is UNKNOWN_HERE:
                    return logger.error("parent does not know this node any more")
                if not away:
                    logger.info("parent is away", extra={"error": type(error).__name__})
                greeted, away = False, True  # its receipts may have gone back meanwhile
                await asyncio.sleep(0.5)
                continue
            if not pushed:
                await waited(self.wake, HEARTBEAT)

    async def _push(self, stub: "sync_pb2_grpc.SyncServiceAsyncStub", greeted: bool) -> bool:
        """One push; the first only asks for receipts.  Whether to go on at once."""
        again, self._again = self._again, {}
        resting = [key for key, until in self._resting.items() if monotonic() < until]
        found: list[frame_pb2.Frame] = []
        freed: list[StreamKey] = []
        if greeted:
            found, freed, streams = await self._frames.next_push(
                self._cursors, again, resting, most=self._most
            )
        else:
            streams = await self._streams.all()
        before = dict(self._cursors)
        heads = [to_head(stream) for stream in streams if stream.key.channel != DOWN]
        request = sync_pb2.PushFramesRequest(frames=found, heads=heads)
        if monotonic() >= self._pull_at:
            request.pull.CopyFrom(await self._down.pull())
            self._pull_at = monotonic() + PULL_EVERY
        answer = await self._send(stub, request)
        receipts = await self._settle(stub, answer)
        for key in freed:
            self._push_snapshot(stub, key)
        for key in {key_of(frame.stream) for frame in found} - again.keys():
            if receipts.get(key, 0) <= before.get(key, 0):
                self._rest(key, answer.receipts)
        for want in answer.wants:
            await self._serve(stub, want)
        if request.HasField("pull"):
            await self._take(stub, answer)
        more = found and any(
            stream.frame > receipts.get(stream.key, 0) and stream.key.channel != DOWN
            for stream in streams
        )
        return bool(more or answer.frames) or not greeted

    async def _settle(
        self, stub: "sync_pb2_grpc.SyncServiceAsyncStub", answer: sync_pb2.PushFramesResponse
    ) -> dict[StreamKey, int]:
        """How far the parent has stored each stream; what it has more than this node comes back."""
        receipts = {
            key_of(receipt.stream): receipt.frame
            for receipt in answer.receipts
            if not receipt.refused
        }
        async with self._means.look() as store:
            await store.frames.settle("parent", receipts.items())
        self._cursors = receipts
        for receipt in await self._streams.compare_receipts(answer.receipts):
            await self._take_back(stub, receipt)
        return receipts

    async def _take(
        self, stub: "sync_pb2_grpc.SyncServiceAsyncStub", answer: sync_pb2.PushFramesResponse
    ) -> None:
        """What the parent hands down."""
        for key in await self._down.take(self._above, answer):
            self._take_snapshot(stub, key)
        if answer.frames:
            self._pull_at = 0.0  # there may be more

    def _rest(self, key: StreamKey, receipts: Sequence[sync_pb2.Receipt]) -> None:
        """Leave a stream alone for a while that the parent does not take; the others go on."""
        why = [receipt.refused for receipt in receipts if key_of(receipt.stream) == key]
        facts = {"service": key.service, "origin": str(key.origin), "reason": "".join(why)}
        logger.error("parent does not take a stream", extra=facts)
        self._resting[key] = monotonic() + REST

    async def _take_back(
        self, stub: "sync_pb2_grpc.SyncServiceAsyncStub", receipt: sync_pb2.Receipt
    ) -> None:
        """This node was restored from a backup: the parent has more of an own stream, or other."""
        key = key_of(receipt.stream)
        if self._resting.get(key, 0.0) > monotonic():
            return
        try:
            await self._restores.take_back(stub, self._metadata(), key, receipt)
        except (grpc.aio.AioRpcError, Refusal) as error:
            facts = {"service": key.service, "error": type(error).__name__}
            logger.error("nothing taken back", extra=facts)
            self._resting[key] = monotonic() + REST

    def _push_snapshot(self, stub: "sync_pb2_grpc.SyncServiceAsyncStub", key: StreamKey) -> None:
        """Send a snapshot of a stream from here up."""
        self._start_snapshot(key, self._restores.push(stub, self._metadata(), key))

    def _take_snapshot(self, stub: "sync_pb2_grpc.SyncServiceAsyncStub", key: StreamKey) -> None:
        """Take a snapshot of a stream that travels down."""
        taken = self._restores.take(stub, self._metadata(), key, parent=self._above)
        self._start_snapshot(key, taken)

    def _start_snapshot(self, key: StreamKey, work: Coroutine[Any, Any, None]) -> None:
        """Beside the pushes, one at a time; its stream rests meanwhile."""
        busy = self._snapshot is not None and not self._snapshot[1].done()
        if busy or (key.channel == DOWN and self._resting.get(key, 0.0) > monotonic()):
            return work.close()
        self._resting[key] = monotonic() + REST

        async def run() -> None:
            try:
                await work
                self._resting.pop(key, None)
            except (*PEER_FAILURES, Refusal) as error:
                facts = {"service": key.service, "error": type(error).__name__}
                logger.info("snapshot not taken", extra=facts)
            self.wake.set()

        self._snapshot = key, asyncio.create_task(run())

    def _metadata(self) -> Metadata:
        return (("authorization", f"Bearer {self._token}"),)

    async def _send(
        self, stub: "sync_pb2_grpc.SyncServiceAsyncStub", request: sync_pb2.PushFramesRequest
    ) -> sync_pb2.PushFramesResponse:
        """The answer to a push; if it is fast, the next push may be larger."""
        began, self._most = monotonic(), PUSH_BYTES  # so large again, if there is no answer
        answer = await self._carry(stub, request)
        if monotonic() - began < FAST:
            nats = self._nats if self._nats and self._nats.is_connected else None
            largest = nats.max_payload * 3 // 4 if nats else LARGEST_PUSH
            self._most = max(PUSH_BYTES, min(2 * request.ByteSize(), largest, LARGEST_PUSH))
        return answer

    async def _carry(
        self, stub: "sync_pb2_grpc.SyncServiceAsyncStub", request: sync_pb2.PushFramesRequest
    ) -> sync_pb2.PushFramesResponse:
        """Over NATS if it is there and answers, else over gRPC: the same message."""
        if self._nats is not None and self._nats.is_connected:
            request.link_token = self._token
            try:
                answer = await self._nats.request("up.push", request.SerializeToString(), ANSWER)
                return sync_pb2.PushFramesResponse.FromString(answer.data)
            except (*FAILURES, DecodeError) as error:
                logger.info("no answer over NATS", extra={"error": type(error).__name__})
            finally:
                request.link_token = ""
        return await stub.PushFrames(request, metadata=self._metadata(), timeout=ANSWER)

    async def _serve(self, stub: "sync_pb2_grpc.SyncServiceAsyncStub", want: sync_pb2.Want) -> None:
        """What a node above misses: from here, or from the node below that has it."""
        key = key_of(want.stream)
        if want.frames and await self._streams.freed(key, min(want.frames)):
            self._push_snapshot(stub, key)
        elif want.frames:
            self._again[key] = set(want.frames)
            self.wake.set()
        self._healer.ask(want)
