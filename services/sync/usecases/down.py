"""What travels down: the keys of the tree, and the streams of the channel `down`.

A child asks for them in its pushes, and the parent's answer brings what follows: its own streams
and those that came to it from above, all alike for every child.  A frame is taken if its origin is
an ancestor by the chain of certificates, and signed it.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit import frames, trust
from kit.records import DOWN
from kit.trust import CERTIFICATE_VALID, NodeKey
from services.sync import events
from services.sync.domain.nodes import tree
from services.sync.domain.streams import Stream, StreamKey
from services.sync.store import Store
from services.sync.usecases import PUSH_BYTES, Sync, fitting, key_of, to_age, to_stream
from smartunion.sync.v1 import frame_pb2, sync_pb2

MOST_WANTED = 100
"""Frames that are sent again at once."""

logger = logging.getLogger(__name__)


class Down:
    def __init__(self, sync: Sync, signer: Ed25519PrivateKey, seal_key: bytes) -> None:
        """
        Args:
            signer: the node's key.
            seal_key: the public key that seals for this node.
        """
        self._sync, self._signer, self._seal_key = sync, signer, seal_key

    # -- keys

    def own_certificate(self) -> bytes:
        """What the node itself says of its keys; the same for a month."""
        own = self._sync.own
        month = self._now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        key = NodeKey(
            node=own.id, parent=None, organization_code=own.organization_code, level=own.level,
            public_key=own.public_key, seal_key=self._seal_key,
        )  # fmt: skip
        return trust.certify(self._signer, key, at=month)

    async def chain(self, store: Store) -> list[bytes]:
        """The certificates from this node's up to the top's."""
        return await store.uplink.chain() or [self.own_certificate()]

    async def keys(self) -> tuple[bytes, dict[UUID, NodeKey]]:
        """The key of the top, and the keys of all nodes that can be checked with it."""
        async with self._sync.transaction() as store:
            chain = await self.chain(store)
            below = [node.certificate for node in await store.nodes.list()]
            handed = await store.trusted_keys.certificates()
        root = trust.top(chain)
        return root, trust.trusted([*chain, *below, *handed], root, at=self._now())

    async def hand_down(self) -> None:
        """Hand down the certificates of all nodes below that are new."""
        own = self._sync.own.id
        async with self._sync.transaction() as store:
            if not await store.trusted_keys.lack(own):
                return
            await store.trusted_keys.lock()
            chain = await self.chain(store)
            nodes = tree(own, await store.nodes.list())
            certificates = [node.certificate for node in nodes.values()]
            known = trust.trusted([*chain, *certificates], trust.top(chain), at=self._now())
            held = await store.trusted_keys.own(own)
            fresh = []
            for node in (node for node in nodes if node in known):
                certificate, record = held.get(node, (b"", None))
                if known[node].certificate != certificate:
                    certificate = known[node].certificate
                    change = events.handed_down(node, certificate, record, at=self._now())
                    fresh.append((change, certificate))
            await store.trusted_keys.put(fresh, origin=own)
            await store.outbox.put(*(change for change, _ in fresh))
        if fresh:
            self._sync.committed()

    # -- at the parent

    async def receive(
        self, child: UUID, request: sync_pb2.PushFramesRequest
    ) -> sync_pb2.PushFramesResponse:
        """A push of a child, however it came: stored, and answered with receipts, wants, and what
        travels down."""
        response = await self._sync.receive(child, request)
        if request.HasField("pull"):
            await self.answer(child, request.pull, response)
        return response

    async def answer(
        self, child: UUID, pull: sync_pb2.Pull, response: sync_pb2.PushFramesResponse
    ) -> None:
        """Add to the answer of a push what the child has not got of what travels down."""
        cursors = {key_of(receipt.stream): receipt.frame for receipt in pull.after}
        async with self._sync.transaction() as store:
            streams = [
                stream for stream in await store.streams.list() if stream.key.channel == DOWN
            ]
            known = {stream.key for stream in streams}
            reached = [(key, frame) for key, frame in cursors.items() if key in known]
            await store.frames.settle(str(child), reached)
            bodies: list[bytes] = []
            for want in pull.wants:
                if (key := key_of(want.stream)) in known:
                    bodies += await store.frames.some(key, want.frames[:MOST_WANTED])
                    self._sync.wanted(want)
            for stream in streams:
                room = PUSH_BYTES - sum(map(len, bodies))
                bodies += await self._following(store, stream, cursors, room, response)
            response.frames.extend(fitting(bodies))
            response.down.extend(map(to_head, streams))
            chain = await self._chain_of(store, child, pull.certificate)
        if hashlib.sha256(b"".join(chain)).digest() != pull.chain_hash:
            response.chain.extend(chain)

    async def _following(
        self, store: Store, stream: Stream, cursors: Mapping[StreamKey, int], room: int,
        response: sync_pb2.PushFramesResponse,
    ) -> list[bytes]:  # fmt: skip
        after = cursors.get(stream.key, 0)
        if stream.frame <= after or room <= 0:
            return []
        rows = await store.frames.after(stream.key, after, most=room)
        whole = [row["body"] for at, row in enumerate(rows, 1) if row["number"] == after + at]
        if not whole and await store.frames.freed(stream.key, after + 1):
            response.freed.append(to_stream(stream.key))
        elif not whole:
            missing = await store.frames.missing(stream.key, after, stream.frame)
            self._sync.wants.add(stream.key, frames=missing)
        return whole

    async def _chain_of(self, store: Store, child: UUID, shown: bytes) -> list[bytes]:
        """The chain from a child up.  If its certificate is missing, or half over, it is made again
        of what the child shows."""
        chain, own = await self.chain(store), self._sync.own
        held = await store.nodes.certificate(child, origin=own.id)
        if shown and not self._is_fresh(held):
            node, record = await store.nodes.lock(child, origin=own.id)
            node = replace(node, certificate=shown)
            if made := self._sync.certify(node):
                held = made
                change = events.certified(replace(node, certificate=made), record, at=self._now())
                await store.nodes.renew(change, made, origin=own.id)
                await store.outbox.put(change)
        return [held, *chain] if held else []

    def _is_fresh(self, certificate: bytes) -> bool:
        """Whether this node has made it, and more than half of its time is left."""
        with suppress(trust.NotSigned):
            key = trust.certified(certificate, self._sync.own.public_key, at=self._now())
            return key.expire_time - self._now() > CERTIFICATE_VALID / 2
        return False

    # -- at the child

    async def pull(self) -> sync_pb2.Pull:
        """What to ask the parent for."""
        async with self._sync.transaction() as store:
            streams = [stream for stream in await store.streams.list() if is_from_above(stream)]
            chain = await store.uplink.chain()
        alive = self._sync.wants.alive()
        return sync_pb2.Pull(
            after=[
                sync_pb2.Receipt(stream=to_stream(stream.key), frame=stream.frame, hash=stream.hash)
                for stream in streams
            ],
            chain_hash=hashlib.sha256(b"".join(chain)).digest() if chain else b"",
            certificate=self.own_certificate(),
            wants=[alive[stream.key] for stream in streams if stream.key in alive],
        )

    async def take(self, parent: UUID, response: sync_pb2.PushFramesResponse) -> list[StreamKey]:
        """Store what the parent's answer brings; the streams that go on by a snapshot."""
        async with self._sync.transaction() as store:
            if response.chain:
                await self._take_chain(store, list(response.chain))
            chain = await store.uplink.chain()
            above = self._above(chain)
            for frame in response.frames:
                await self._store_frame(store, parent, above, frame)
            told = {key_of(head.stream): head for head in response.down}
            heads = {
                key: head
                for key, head in told.items()
                if key.origin in above and key.channel == DOWN
            }
            await store.streams.hear(
                [(key, head.head, to_age(head.heard_age)) for key, head in heads.items()],
                via=parent,
            )
            streams = [stream for stream in await store.streams.list() if is_from_above(stream)]
            for stream in streams:
                if head := heads.get(stream.key):
                    await self._compare(store, stream, head)
            streams = [stream for stream in await store.streams.list() if is_from_above(stream)]
        if response.frames:
            self._sync.tell({frame.stream.service for frame in response.frames})
        freed = [key for key in map(key_of, response.freed) if key in heads]
        passed = [
            stream.key
            for stream in streams
            if stream.rewound and heads.get(stream.key, sync_pb2.StreamHead()).frame > stream.frame
        ]
        return [*freed, *passed]

    async def _take_chain(self, store: Store, chain: list[bytes]) -> None:
        held, own = await self.chain(store), self._sync.own
        if trust.continues(chain, held, own.id, own.public_key, at=self._now()):
            await store.uplink.save_chain(chain)
        else:
            logger.error("chain from above refused")

    def _above(self, chain: Sequence[bytes]) -> dict[UUID, NodeKey]:
        """The nodes above, by the chain."""
        keys = trust.chained(chain, at=self._now())
        return {key.node: key for key in keys if key.node != self._sync.own.id}

    async def _store_frame(
        self, store: Store, parent: UUID, above: Mapping[UUID, NodeKey], frame: frame_pb2.Frame
    ) -> None:
        key = key_of(frame.stream)
        try:
            if key.channel != DOWN or key.origin not in above:
                raise frames.FrameBroken("origin")
            frames.check(frame, above[key.origin].public_key)
            frames.strip(frame, ())
        except frames.FrameBroken as broken:
            facts = {"origin": str(key.origin), "reason": str(broken)}
            return logger.error("frame from above refused", extra=facts)
        row = await store.streams.lock(key, via=parent)
        if frame.number <= row["frame"]:
            await self._sync.refill(store, key, row, frame, verified=True)
        elif frame.number == row["frame"] + 1 and frame.previous_hash == row["hash"]:
            await store.streams.advance(frame, key, verified=True)
            await store.streams.rewind(key, False)
        elif frame.number == row["frame"] + 1:
            await store.streams.rewind(key, True)

    async def _compare(self, store: Store, stream: Stream, head: sync_pb2.StreamHead) -> None:
        """Show whether the parent has less than it had, or something else: it was restored."""
        if head.frame == stream.frame:
            await store.streams.rewind(stream.key, head.hash != stream.hash)
        elif head.frame < stream.frame:
            await store.streams.rewind(stream.key, True)

    def _now(self) -> datetime:
        return self._sync.clock()


def is_from_above(stream: Stream) -> bool:
    """Whether a stream travels down to this node."""
    return stream.key.channel == DOWN and stream.via is not None


def to_head(stream: Stream) -> sync_pb2.StreamHead:
    """How far a stream goes, as it is told to a neighbour."""
    head = sync_pb2.StreamHead(
        stream=to_stream(stream.key), head=stream.head, rewound=stream.rewound,
        frame=stream.frame, hash=stream.hash,
    )  # fmt: skip
    head.heard_age.FromTimedelta(max(stream.heard_age, timedelta(0)))
    return head
