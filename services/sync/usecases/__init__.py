"""The use cases of sync.  Each is one transaction: load, decide, save, announce."""

import hashlib
import logging
import re
import secrets
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from time import monotonic
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.duration_pb2 import Duration

from kit import frames, tls, trust
from kit.db import Connection, Database, Pool
from kit.ids import utc_now
from kit.log_service import ChannelUnknown
from kit.records import DOWN, TRAVELLING
from kit.rpc import Call
from kit.sealing import Keyring
from kit.trust import NodeKey
from services.sync.domain.enrollments import (
    INVITATION_LONGEST,
    INVITATION_VALID,
    ChildUnknown,
    DurationOutOfRange,
    EnrollmentInvalid,
    EnrollmentNotFound,
    FingerprintDifferent,
    Invitation,
    InvitationInvalid,
    check_code,
    check_enrollment,
    invitation_text,
)
from services.sync.domain.nodes import Node, NodeUnknown, fingerprint, tree
from services.sync.domain.streams import (
    UNKNOWN_RUN,
    Cursor,
    FrameRejected,
    OriginForeign,
    ServiceUnknown,
    Stream,
    StreamKey,
    StreamMalformed,
)
from services.sync.domain.views import NOTHING, Shown
from services.sync.events import joined
from services.sync.store import Store
from smartunion.event.v1 import log_pb2
from smartunion.sync.v1 import frame_pb2, sync_pb2

logger = logging.getLogger(__name__)

PUSH_BYTES = 768 * 1024
"""About how much one push carries at first; a NATS as it is installed takes messages of 1 MiB."""

READ_BYTES = 4 * 2**20
"""About how much one answer to a reader carries."""

SECTION_ALTERED = "SECTION_ALTERED"
"""Why a row of a section was not taken: it is not what the skeleton of its frame says."""

WANT_AGE = 5.0
"""Seconds after which a want that was not repeated is forgotten."""

Admit = Callable[[UUID, str], Awaitable[str]]
"""Opens a child's account in NATS for its user key; returns the user's JWT, empty without NATS."""


@dataclass(frozen=True, slots=True)
class Invited:
    """An invitation, as it is answered once."""

    token: str
    organization_code: str
    expire_time: datetime


@dataclass(slots=True)
class Wants:
    """What readers here and above miss of each stream, until it is no longer said."""

    _said: dict[tuple[StreamKey, str, int | bytes], float] = field(default_factory=dict)
    """By stream, field of `Want`, and item: when it was said last."""

    def add(
        self, key: StreamKey, *, frames: Iterable[int] = (), buckets: Iterable[int] = (),
        ids: Iterable[bytes] = (), sections: Iterable[int] = (),
    ) -> None:  # fmt: skip
        """Say it again to keep it alive."""
        now = monotonic()
        said: dict[str, Iterable[int | bytes]] = {
            "frames": frames, "buckets": buckets, "ids": ids, "sections": sections,
        }  # fmt: skip
        for name, items in said.items():
            self._said |= {(key, name, item): now for item in items}

    def alive(self) -> dict[StreamKey, sync_pb2.Want]:
        """The want of each stream, as it travels."""
        oldest = monotonic() - WANT_AGE
        found: dict[StreamKey, sync_pb2.Want] = {}
        for (key, name, item), at in list(self._said.items()):
            if at < oldest:
                del self._said[key, name, item]
            else:
                want = found.setdefault(key, sync_pb2.Want(stream=to_stream(key)))
                getattr(want, name).append(item)
        return found


class Sync:
    def __init__(
        self,
        pool: Pool,
        keyring: Keyring,
        own: Node,
        *,
        signer: Ed25519PrivateKey,
        admit: Admit,
        cut: Callable[[UUID], Awaitable[None]],
        nats_url: str,
        services: Sequence[str],
        wake: Callable[[], None],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """
        Args:
            own: this node; its parent is not known here.
            signer: its key.
            cut: closes a child's account in NATS.
            services: the services of this node: of every node below, the same are expected.
            nats_url: what children are told of this node's NATS; empty if there is none.
            wake: called after a commit that wrote to the outbox.
        """
        self._pool, self._keyring, self.own = pool, keyring, own
        self._cut = cut
        self._admit, self._nats_url, self.committed, self.clock = admit, nats_url, wake, clock
        self._signer = signer
        self.services = services
        self.shown = NOTHING
        """What the view in force shows here and above: kept up to date by `views.Views`."""
        self.wants = Wants()
        self.stored: list[Callable[[set[str]], None]] = []
        """Called with the services of which frames were stored, after each commit."""
        self.wanted: Callable[[sync_pb2.Want], None] = lambda want: None
        """Called with what a child misses of what travels down."""

    def transaction(self) -> AbstractAsyncContextManager[Store]:
        """All or nothing."""
        return Database(self._pool, lambda conn: Store(conn, self._keyring)).transaction()

    @asynccontextmanager
    async def look(self) -> AsyncIterator[Store]:
        """For a single statement, which needs no transaction."""
        async with self._pool.acquire() as conn:
            yield Store(conn, self._keyring)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Store]:
        """What is read in it is all of one moment."""
        async with (
            self._pool.acquire() as conn,
            conn.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield Store(conn, self._keyring)

    # -- joining

    async def placed(self) -> Node:
        """This node, with its parent if it has been admitted."""
        async with self.transaction() as store:
            uplink = await store.uplink.get()
        return replace(self.own, parent=uplink["parent"]) if uplink else self.own

    async def invite(self, code: str, valid: timedelta | None, *, call: Call) -> Invited:
        """A new invitation; its token is kept nowhere in clear."""
        check_code(code, below=self.own.organization_code)
        duration = INVITATION_VALID if valid is None else valid
        if not timedelta(0) < duration <= INVITATION_LONGEST:
            raise DurationOutOfRange()
        token = invitation_text(secrets.token_urlsafe(24), self.own.public_key)
        invited = Invited(token, code, self.clock() + duration)
        async with self.transaction() as store:
            if earlier := await store.calls.earlier(call, Invited):
                return earlier
            await store.invitations.add(
                Invitation(
                    token_hash=_hash(invited.token), organization_code=code,
                    expire_time=invited.expire_time,
                )
            )  # fmt: skip
            await store.calls.answer(call, invited)
        return invited

    async def enroll(self, token: str, node: Node, nats_user_key: str) -> Any | None:
        """The credentials of a child that shows an invitation; None until it is confirmed."""
        check_enrollment(node, nats_user_key)
        if self._shown(node) is None:
            right = "made by the node itself, of these keys 由节点自己签发"
            raise EnrollmentInvalid(field="certificate", field_name="certificate", right=right)
        async with self.transaction() as store:
            invitation = await store.invitations.lock(_hash(token))
            if invitation is None or not invitation.admits(node, at=self.clock()):
                raise InvitationInvalid()
            await store.invitations.use(invitation.token_hash, node.id)
            fresh = invitation.node is None
            if not await store.enrollments.add(node, nats_user_key, fresh=fresh):
                raise InvitationInvalid()
            row = await store.enrollments.lock(node.id)
            if row is None or row["link_token"] is None:
                return None
            return {"link_token": store.enrollments.token(row), "user_jwt": row["user_jwt"],
                    "nats_url": self._nats_url if row["user_jwt"] else "",
                    "link_certificate": tls.for_child(self._signer, node.public_key)}  # fmt: skip

    async def enrollments(self) -> Sequence[Any]:
        """The enrolments that wait for a confirmation."""
        async with self.transaction() as store:
            return await store.enrollments.waiting()

    async def confirm(self, node: UUID, compared: str) -> Node:
        """Admit a child whose fingerprint was compared; again does no harm."""
        async with self.transaction() as store:
            row = await store.enrollments.lock(node)
            if row is None or row["revoke_time"] is not None:
                raise EnrollmentNotFound(node=f"nodes/{node}")
            if fingerprint(row["public_key"]) != compared.strip().lower():
                raise FingerprintDifferent()
            child = Node(
                id=node, parent=self.own.id, organization_code=row["organization_code"],
                display_name=row["display_name"], level=row["level"],
                public_key=row["public_key"], certificate=row["certificate"],
            )  # fmt: skip
            child = replace(child, certificate=self.certify(child))
            if row["link_token"] is not None:
                return child
            token = secrets.token_urlsafe(24)
            user_jwt = await self._admit(node, row["nats_user_key"])
            await store.enrollments.admit(
                node, token=token, token_hash=_hash(token), user_jwt=user_jwt
            )
            if not await store.nodes.knows(node, origin=self.own.id):
                change = joined(child, at=self.clock())
                await store.nodes.add(change, child, origin=self.own.id)
                await store.outbox.put(change)
        self.committed()
        return child

    async def revoke(self, node: UUID) -> None:
        """Cut a child off, or refuse one that waits; again does no harm."""
        async with self.transaction() as store:
            if not await store.enrollments.revoke(node):
                raise ChildUnknown(node=f"nodes/{node}")
        await self._cut(node)

    def certify(self, child: Node) -> bytes:
        """The certificate of a child, made of its own of itself; empty if that is none."""
        key = self._shown(child)
        if key is None:
            return b""
        return trust.certify(self._signer, replace(key, parent=self.own.id), at=self.clock())

    def _shown(self, child: Node) -> NodeKey | None:
        """What a child certifies of its keys, which shows that it holds them; None if its
        certificate is not its own, or says something else than the child."""
        with suppress(trust.NotSigned):
            key = trust.certified(child.certificate, child.public_key, at=self.clock())
            said = key.node, key.parent, key.organization_code, key.level
            if said == (child.id, None, child.organization_code, child.level):
                return key
        return None

    async def child(self, token: str) -> str | None:
        """The name of the child that a link token belongs to."""
        async with self.look() as store:
            node = await store.enrollments.by_token(_hash(token))
        return f"nodes/{node}" if node else None

    async def child_key(self, child: UUID) -> bytes | None:
        """The public key of a child that is admitted."""
        async with self.look() as store:
            return await store.enrollments.key(child)

    # -- frames

    async def cursor(self, key: StreamKey) -> Cursor:
        """How far an own log is framed."""
        async with self.look() as store:
            return await store.streams.cursor(key)

    async def append(
        self, stream: StreamKey, cursor: Cursor, read: log_pb2.ReadLogResponse, *,
        key: Ed25519PrivateKey, view: UUID | None = None,
    ) -> Cursor | None:  # fmt: skip
        """Make frames of what was read of an own log behind a cursor; the new cursor.

        None, and nothing is made, if the stream does not stand there any more.  Its number alone
        does not tell: frames that came back from the parent may end at the same one.

        The frames are committed before they are sent: what was made is sent, also after a crash.

        Args:
            view: the one by which sections besides `public` were asked for.
        """
        async with self.transaction() as store:
            row = await store.streams.lock(stream, via=None)
            if Cursor(row["number"], row["run"]) != cursor:
                return None
            number, hash_ = row["frame"], row["hash"]
            for part in frames.split(read.entries):
                frame = frames.make(to_stream(stream), number + 1, hash_, part, key)
                await store.streams.advance(
                    frame, stream, run=read.run, verified=True,
                    view=view if frames.has_others(frame) else None,
                )  # fmt: skip
                number, hash_, cursor = frame.number, frame.hash, Cursor(frame.last, read.run)
            await store.streams.hear([(stream, read.head, timedelta(0))], via=None)
        if read.entries:
            self.tell({stream.service})
        return cursor

    async def push(
        self, child: UUID, pushed: Sequence[frame_pb2.Frame], heads: Sequence[sync_pb2.StreamHead]
    ) -> tuple[list[Stream], dict[StreamKey, str]]:
        """Store what follows of each stream; how far each stream of the child goes.

        Frames that are known are passed over, and frames after a hole: the receipt says where to
        go on.  Also the streams of which a frame was refused, with the reason.
        """
        refused: dict[StreamKey, str] = {}
        async with self.transaction() as store:
            nodes = tree(self.own.id, await store.nodes.list())
            held: dict[StreamKey, Any] = {}
            for frame in pushed:
                try:
                    await self._store_frame(store, child, nodes, held, frame)
                except (FrameRejected, OriginForeign) as refusal:
                    key = key_of(frame.stream)
                    refused[key] = refusal.reason  # the other streams go on
                    if isinstance(refusal, FrameRejected):
                        await store.streams.refuse(key, refusal.reason)
                    facts = {"child": str(child), "reason": refusal.reason}
                    logger.error("frame refused", extra=facts)
            told = {key_of(head.stream): head for head in heads}
            known = {
                key: head
                for key, head in told.items()
                if key.channel != DOWN and _below(key.origin, child, self.own.id, nodes)
            }
            await store.streams.hear(
                [(key, head.head, to_age(head.heard_age)) for key, head in known.items()],
                via=child,
            )
            streams = [stream for stream in await store.streams.list() if stream.via == child]
            for at, stream in enumerate(streams):
                if head := known.get(stream.key):
                    rewound = await self._is_rewound(store, child, stream, head)
                    if rewound != stream.rewound:
                        await store.streams.rewind(stream.key, rewound)
                        streams[at] = replace(stream, rewound=rewound)
        if pushed:
            self.tell({frame.stream.service for frame in pushed})
        return streams, refused

    async def _is_rewound(
        self, store: Store, child: UUID, stream: Stream, head: sync_pb2.StreamHead
    ) -> bool:
        """Whether what the child has of a stream is not, or not all of, what is stored here."""
        if head.rewound or not head.hash:
            return stream.rewound or head.rewound
        if head.frame == stream.frame:
            return head.hash != stream.hash
        if head.frame > stream.frame:
            return stream.rewound
        if stream.key.origin == child:
            return True
        held = await store.frames.hash(stream.key, head.frame)
        return held is not None and held != head.hash

    async def receive(
        self, child: UUID, request: sync_pb2.PushFramesRequest
    ) -> sync_pb2.PushFramesResponse:
        """A push of a child, however it came: stored, and answered with receipts and wants."""
        streams, refused = await self.push(child, request.frames, request.heads)
        alive = self.wants.alive()
        return sync_pb2.PushFramesResponse(
            receipts=[
                *(to_receipt(stream) for stream in streams if stream.key not in refused),
                *(
                    sync_pb2.Receipt(stream=to_stream(key), refused=reason)
                    for key, reason in refused.items()
                ),
            ],
            wants=[alive[stream.key] for stream in streams if stream.key in alive],
        )

    async def _store_frame(
        self, store: Store, child: UUID, nodes: Mapping[UUID, Node], held: dict[StreamKey, Any],
        frame: frame_pb2.Frame,
    ) -> None:  # fmt: skip
        """
        Args:
            held: the rows of streams that this push has locked, as they stand now.
        """
        key = key_of(frame.stream)
        if key.channel == DOWN or not _below(key.origin, child, self.own.id, nodes):
            raise OriginForeign(origin=f"nodes/{key.origin}", child=f"nodes/{child}")
        row = held.get(key) or await store.streams.lock(key, via=child)
        held[key] = row
        if frame.number > row["frame"] + 1:
            return
        origin = nodes.get(key.origin)
        try:
            frames.check(frame, origin.public_key if origin else None)
        except frames.FrameBroken as broken:
            raise FrameRejected(number=frame.number, part=str(broken)) from None
        verified, shown = origin is not None, self.shown
        refusal = row["refusal"]
        if refusal != SECTION_ALTERED or frames.has_others(frame):
            wrong = self._sift(frame, shown)
            if wrong or refusal:
                refusal = SECTION_ALTERED if wrong else ""
                await store.streams.refuse(key, refusal, wrong)
        view = shown.id if frames.has_others(frame) else None
        if frame.number == row["frame"] + 1 and frame.previous_hash == row["hash"]:
            await store.streams.advance(frame, key, verified=verified, view=view)
            held[key] = {"frame": frame.number, "hash": frame.hash, "refusal": refusal}
        elif frame.number == row["frame"] + 1:
            await store.streams.rewind(key, True)
        else:
            await self.refill(store, key, row, frame, verified=verified, view=view)

    def _sift(self, frame: frame_pb2.Frame, shown: Shown) -> int:
        """Keep of a frame the sections that the view shows here, as its origin signed them; how
        many rows are not."""
        try:
            wrong = frames.strip(frame, shown.here)
        except frames.FrameBroken:
            wrong = 1  # Nothing but `public` is left of it.
        if wrong:
            facts = {"origin": str(UUID(bytes=frame.stream.origin)), "rows": wrong}
            logger.error("section altered on the way", extra=facts)
        return wrong

    async def refill(
        self, store: Store, key: StreamKey, row: Any, frame: frame_pb2.Frame, *, verified: bool,
        view: UUID | None = None,
    ) -> None:  # fmt: skip
        """A frame at or before the cursor: known, or gone from storage and sent again."""
        held = await store.frames.hash(key, frame.number)
        if held is None and frame.number == row["frame"]:
            held = row["hash"]
        expected = held or await store.frames.follower(key, frame.number)
        if expected is not None and expected != frame.hash:
            await store.streams.rewind(key, True)
        elif await store.frames.hash(key, frame.number) is None:
            await store.streams.store(frame, key, verified=verified, view=view)

    async def read(
        self, reader: str, cursors: Mapping[StreamKey, int]
    ) -> tuple[list[frame_pb2.Frame], list[StreamKey]]:
        """Frames of other nodes for a service of this one, and the streams that have a hole.

        Only frames whose signature was checked with the key of their origin.
        """
        found: list[frame_pb2.Frame] = []
        gaps: list[StreamKey] = []
        async with self.transaction() as store:
            await store.frames.settle(reader, cursors.items())
            nodes = tree(self.own.id, await store.nodes.list())
            keys = {node.id: node.public_key for node in nodes.values()}
            above = trust.chained(await store.uplink.chain(), at=self.clock())
            keys |= {key.node: key.public_key for key in above if key.node != self.own.id}
            for stream in sorted(await store.streams.list(), key=_urgent_first):
                foreign = stream.key.service == reader and stream.via is not None
                if not foreign or stream.key.origin not in keys:
                    continue
                after = cursors.get(stream.key, 0)
                if stream.frame <= after:
                    continue
                part = await _next(store, stream.key, after, keys[stream.key.origin])
                found += part
                if not part:
                    missing = await store.frames.missing(stream.key, after, stream.frame)
                    self.wants.add(stream.key, frames=missing)
                    gaps.append(stream.key)
                if sum(frame.ByteSize() for frame in found) > READ_BYTES:
                    break
        return found, gaps

    async def next_push(
        self, cursors: Mapping[StreamKey, int], again: Mapping[StreamKey, set[int]],
        resting: Collection[StreamKey] = (), *, most: int = PUSH_BYTES,
    ) -> tuple[list[frame_pb2.Frame], list[StreamKey], list[Stream]]:  # fmt: skip
        """What the parent is sent next: what it asked for again, then what follows its receipts.
        Also the streams of which that is no longer kept, and how far every stream goes.

        Args:
            resting: streams that the parent does not take at the moment.
            most: about how many bytes of frames.
        """
        found: list[bytes] = []
        freed: list[StreamKey] = []
        async with self.snapshot() as store:  # no frame beyond the heads that are told
            for key, numbers in again.items():
                found += await store.frames.some(key, numbers)
            streams = await store.streams.list()
            for stream in sorted(streams, key=_urgent_first):
                after = cursors.get(stream.key, 0)
                room = most - sum(map(len, found))
                settled = stream.frame <= after or stream.key in resting
                if settled or room <= 0 or stream.key.channel == DOWN:
                    continue
                rows = await store.frames.after(stream.key, after, most=room)
                whole = [row for at, row in enumerate(rows) if row["number"] == after + 1 + at]
                found += [row["body"] for row in whole]
                if not whole and (
                    stream.via is None or await store.frames.freed(stream.key, after + 1)
                ):
                    freed.append(stream.key)
                elif not whole:
                    missing = await store.frames.missing(stream.key, after, stream.frame)
                    self.wants.add(stream.key, frames=missing)
        fit = fitting(found, most)
        for frame in fit:
            with suppress(frames.FrameBroken):
                frames.strip(frame, self.shown.above)  # what is stored here may be more
        return fit, freed, streams

    async def lost(self, key: StreamKey) -> None:
        """An own log does not continue what was framed of it: show it, here and above."""
        async with self.transaction() as store:
            await store.streams.lock(key, via=None)
            await store.streams.rewind(key, True)

    # -- what a stream goes on with when its frames cannot

    async def check_below(self, key: StreamKey, child: UUID) -> None:
        """Raises OriginForeign if a stream is none that a child may ask about: it lies below it, or
        travels down to it."""
        if key.channel == DOWN:
            stream = await self.stream(key)
            fits = stream.via is not None or key.origin == self.own.id
        else:
            fits = _below(key.origin, child, self.own.id, await self.nodes())
        if not fits:
            raise OriginForeign(origin=f"nodes/{key.origin}", child=f"nodes/{child}")

    async def stream(self, key: StreamKey) -> Stream:
        """How far a stream is known and stored; at 0 if it is not."""
        for stream in await self.streams():
            if stream.key == key:
                return stream
        return Stream(key=key, frame=0, hash=frames.START, number=0, head=0,
                      heard_age=timedelta(0), rewound=False, via=None)  # fmt: skip

    async def freed(self, key: StreamKey, frame: int) -> bool:
        """Whether a frame and all before it are gone."""
        async with self.transaction() as store:
            return await store.frames.freed(key, frame)

    async def hash_at(self, key: StreamKey, frame: int) -> bytes | None:
        """The hash of a frame that is or was here; None if it is not known any more."""
        stream = await self.stream(key)
        if frame in (0, stream.frame):
            return stream.hash if frame else frames.START
        async with self.look() as store:
            held = await store.frames.hash(key, frame)
            return held or await store.frames.follower(key, frame)

    async def stand(self, key: StreamKey, head: log_pb2.SnapshotHead) -> bytes | None:
        """Put a snapshot one frame back, if that frame is here: it may be the certificate that
        proves the snapshot.  The hash there; None if it is not known."""
        async with self.transaction() as store:
            last = await store.frames.one(key, head.frame)
        if last is None or last.number == 1:
            return await self.hash_at(key, head.frame)
        head.frame, head.number = last.number - 1, last.first - 1
        return last.previous_hash

    async def following(self, key: StreamKey, child: UUID, after: int) -> list[frame_pb2.Frame]:
        """Stored frames of a stream of a child's subtree, without a hole."""
        await self.check_below(key, child)
        async with self.transaction() as store:
            rows = await store.frames.after(key, after, most=READ_BYTES)
        whole = [row for at, row in enumerate(rows) if row["number"] == after + 1 + at]
        return [frame_pb2.Frame.FromString(row["body"]) for row in whole]

    async def kept(self, key: StreamKey) -> AsyncIterator[frame_pb2.Frame]:
        """All frames of a stream that are stored, in order."""
        after = 0
        while True:
            async with self.transaction() as store:
                rows = await store.frames.after(key, after, most=READ_BYTES)
            for row in rows:
                yield frame_pb2.Frame.FromString(row["body"])
            if not rows:
                return
            after = rows[-1]["number"]

    async def adopt(self, key: StreamKey, taken: Sequence[frame_pb2.Frame]) -> int:
        """Own frames that the parent had stored, in place of what was made here instead; the number
        of the last.

        Raises:
            FrameRejected: if one is not this node's own.
        """
        async with self.transaction() as store:
            await store.streams.lock(key, via=None)
            await store.frames.cut(key, taken[0].number)
            await store.arrivals.cut(key, taken[0].number)
            await store.streams.put(
                key, frame=taken[0].number - 1, hash_=taken[0].previous_hash,
                number=taken[0].first - 1, run=UNKNOWN_RUN,
            )  # fmt: skip
            for frame in taken:
                try:
                    frames.check(frame, self.own.public_key)
                except frames.FrameBroken as broken:
                    raise FrameRejected(number=frame.number, part=str(broken)) from None
                with suppress(frames.FrameBroken):
                    frames.strip(frame, self.shown.above)
                view = self.shown.id if frames.has_others(frame) else None
                await store.streams.advance(frame, key, run=UNKNOWN_RUN, verified=True, view=view)
        return taken[-1].number

    async def jump(
        self, key: StreamKey, *, frame: int, hash_: bytes, number: int, via: UUID | None,
        run: bytes = b"", back: bool = False,
    ) -> Stream:  # fmt: skip
        """Let a stream go on behind a snapshot; the frames before are of no use any more.

        Args:
            back: whether the snapshot may stand before what is stored.
        """
        async with self.transaction() as store:
            row = await store.streams.lock(key, via=via)
            if back or frame > row["frame"]:
                await store.frames.cut(key, 0)
                await store.arrivals.jump(key, frame)
                await store.streams.put(key, frame=frame, hash_=hash_, number=number, run=run)
        self.tell({key.service})
        return await self.stream(key)

    async def restart(self, key: StreamKey, *, beyond: int = 0, number: int | None = None) -> None:
        """Let an own stream leave its chain: the parent gets a snapshot.

        Args:
            beyond: the frame that the parent has stored.
            number: the entry after which the log is read on; as it was if None.
        """
        stream = await self.stream(key)
        logger.error("stream restarts", extra={"service": key.service, "frame": stream.frame})
        await self.jump(
            key, frame=max(stream.frame, beyond) + 1, hash_=secrets.token_bytes(32),
            number=stream.number if number is None else number, via=None, run=UNKNOWN_RUN,
        )  # fmt: skip

    async def resume(self, stream: Stream, *, run: bytes) -> None:
        """Read an own log on that has taken back what it had lost, unless the stream has moved."""
        async with self.transaction() as store:
            await store.streams.resume(stream, run=run)

    async def detached(self) -> Mapping[StreamKey, list[str]]:
        """The readers that need frames that are no longer kept, by stream."""
        async with self.transaction() as store:
            return await store.frames.detached()

    async def streams(self) -> list[Stream]:
        """How far every stream is known and stored."""
        async with self.look() as store:
            return await store.streams.list()

    async def free(self, keep: timedelta, detach: timedelta, *, parent: bool) -> int:
        """Forget the frames that no reader and no backup needs; how many."""
        async with self.transaction() as store:
            return await store.frames.free(own=self.own.id, parent=parent, keep=keep, detach=detach)

    def on(self, conn: Connection) -> Store:
        """What is kept, on a connection of the caller's own."""
        return Store(conn, self._keyring)

    async def stream_key(self, origin: UUID, service: str, channel: str) -> StreamKey:
        """The stream that an officer asks about.

        Raises:
            ServiceUnknown, ChannelUnknown, NodeUnknown
        """
        if service not in self.services:
            known = ", ".join(self.services)
            raise ServiceUnknown(service=service[:50], known=known)
        if channel not in TRAVELLING:
            raise ChannelUnknown(channel=repr(channel[:50]), known=", ".join(TRAVELLING))
        if origin != self.own.id and origin not in await self.nodes():
            raise NodeUnknown(node=f"nodes/{origin}")
        return StreamKey(origin, service, channel)

    async def nodes(self) -> dict[UUID, Node]:
        """The nodes below, parents before children."""
        async with self.look() as store:
            return tree(self.own.id, await store.nodes.list())

    async def compare_receipts(
        self, receipts: Sequence[sync_pb2.Receipt]
    ) -> list[sync_pb2.Receipt]:
        """The receipts of own streams of which the parent has stored more than there is here, or
        other: this node was restored from a backup.  It is shown."""
        told = {key_of(receipt.stream): receipt for receipt in receipts if not receipt.refused}
        found = []
        for stream in await self.streams():
            receipt = told.get(stream.key)
            if receipt is None or stream.via is not None:
                continue
            ahead = receipt.frame > stream.frame
            own = stream.hash
            if receipt.frame < stream.frame:
                own = await self.hash_at(stream.key, receipt.frame) or receipt.hash
            if ahead or (receipt.frame and own != receipt.hash):
                found.append(receipt)
                if not stream.rewound:
                    await self.lost(stream.key)
        return found

    def tell(self, services: set[str]) -> None:
        for told in self.stored:
            told(services)


def key_of(stream: frame_pb2.Stream) -> StreamKey:
    """The key of a stream on the wire.

    Raises:
        StreamMalformed: if it can be none.
    """
    named = re.fullmatch("[a-z]{1,32}", stream.service) and stream.channel in TRAVELLING
    if len(stream.origin) != 16 or not named:
        raise StreamMalformed()
    return StreamKey(UUID(bytes=stream.origin), stream.service, stream.channel)


def to_stream(key: StreamKey) -> frame_pb2.Stream:
    """A stream as it travels."""
    return frame_pb2.Stream(origin=key.origin.bytes, service=key.service, channel=key.channel)


def to_receipt(stream: Stream) -> sync_pb2.Receipt:
    """How far a stream is stored, as it travels."""
    return sync_pb2.Receipt(
        stream=to_stream(stream.key), frame=stream.frame, hash=stream.hash, rewound=stream.rewound
    )


def _below(origin: UUID, child: UUID, own: UUID, nodes: Mapping[UUID, Node]) -> bool:
    """Whether a node may come over a child: the child, a node below it, or one not known yet."""
    at: UUID | None = origin if origin != own else None
    while at is not None and at != child:
        if at not in nodes:
            return at == origin  # its record travels in another stream, and may come later
        at = nodes[at].parent
    return at == child


async def _next(
    store: Store, key: StreamKey, after: int, public_key: bytes
) -> list[frame_pb2.Frame]:
    """The stored frames that follow without a hole, each with a checked signature."""
    part: list[frame_pb2.Frame] = []
    for row in await store.frames.after(key, after, most=READ_BYTES // 4):
        frame = frame_pb2.Frame.FromString(row["body"])
        if frame.number != after + 1 + len(part):
            break
        if not row["verified"]:
            try:
                frames.check(frame, public_key)
            except frames.FrameBroken:
                break
            await store.frames.verify(key, frame.number)
        part.append(frame)
    return part


def to_age(duration: Duration) -> timedelta:
    """A duration as it was told: never of the future, and not older than a year."""
    return timedelta(seconds=min(max(duration.seconds, 0), 31_536_000))


def _urgent_first(stream: Stream) -> tuple[bool, str, str]:
    return stream.key.channel != "urgent", str(stream.key.origin), stream.key.service


def fitting(bodies: Sequence[bytes], most: int = PUSH_BYTES) -> list[frame_pb2.Frame]:
    """As many as one push of so many bytes carries, and at least one."""
    size = 0
    found: list[frame_pb2.Frame] = []
    for body in bodies:
        size += len(body)
        if found and size > most:
            break
        found.append(frame_pb2.Frame.FromString(body))
    return found


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
