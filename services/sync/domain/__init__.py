"""The rules of sync.  Pure: no I/O, no clock, no proto."""

import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from typing import NamedTuple
from uuid import UUID

from kit.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied

CONNECTED = timedelta(seconds=5)
"""A node that was heard of within this time counts as connected."""

STALE = timedelta(minutes=3)
"""A certificate is due every minute; a verdict that is older, of a node that is heard, is none."""

INVITATION_VALID = timedelta(days=7)
INVITATION_LONGEST = timedelta(days=90)

LEVELS = ("national", "province", "city", "county", "township", "grassroots", "group")


class OrganizationCodeInvalid(InvalidArgument):
    field = "organization_code"
    message = "a division code has 2, 4, 6 or 9 digits (GB/T 2260), not {code}"
    chinese = "行政区划代码应为 2、4、6 或 9 位数字，而不是 {code}"


class OrganizationNotBelow(InvalidArgument):
    field = "organization_code"
    message = "{code} does not lie below {own}, which this node serves"
    chinese = "{code} 不在本节点所属的 {own} 之下"


class DurationOutOfRange(InvalidArgument):
    field = "valid_duration"
    message = "an invitation is valid for more than 0 seconds and at most 90 days"
    chinese = "邀请的有效期应大于 0 秒且不超过 90 天"


class InvitationInvalid(PermissionDenied):
    field = "token"
    message = "this invitation is unknown, used or expired; ask the parent's operator for a new one"
    chinese = "该邀请不存在、已被使用或已过期；请向上级节点的管理员索取新的邀请"


class EnrollmentInvalid(InvalidArgument):
    message = "{field_name} must be {right}"
    chinese = "{field_name} 应为：{right}"


class EnrollmentNotFound(NotFound):
    field = "name"
    message = "no enrolment of {node} waits for a confirmation"
    chinese = "没有待确认的节点 {node}"


class ChildUnknown(NotFound):
    field = "name"
    message = "{node} has never enrolled at this node"
    chinese = "{node} 从未在本节点登记"


class FingerprintDifferent(FailedPrecondition):
    field = "fingerprint"
    message = "the node that enrolled has another fingerprint; compare it with the child's operator"
    chinese = "申请加入的节点指纹不同；请与下级节点的管理员核对"


class FrameRejected(InvalidArgument):
    field = "frames"
    message = "frame {number} is not what its {part} says"
    chinese = "第 {number} 帧与其 {part} 不符"


class OriginForeign(PermissionDenied):
    field = "frames"
    message = "{origin} does not lie below {child}"
    chinese = "{origin} 不在 {child} 之下"


class StreamMalformed(InvalidArgument):
    field = "stream"
    message = "a stream has an origin of 16 bytes, a service in lower case, a channel that is known"
    chinese = "流应有 16 字节的来源、小写的服务名和已知的通道"


class StreamUnknown(NotFound):
    field = "stream"
    message = "{origin} is not known here, or no record of it was ever read"
    chinese = "本节点不认识 {origin}，或从未读取过其记录"


class ServiceUnknown(InvalidArgument):
    field = "service"
    message = "this node has no service {service}; it has {known}"
    chinese = "本节点没有 {service} 服务；现有服务：{known}"


class PageInvalid(InvalidArgument):
    field = "page_token"
    message = "page_size is 0 to 1000, and page_token is empty or from the same list"
    chinese = "page_size 应为 0 到 1000；page_token 应为空或来自同一列表"


class SnapshotMalformed(InvalidArgument):
    field = "part"
    message = (
        "the first part has the stream, a head of the same origin and channel with a frame, and "
        "that frame's hash of 32 bytes"
    )
    chinese = "第一部分应包含流、与其来源和通道一致且带帧号的 head，以及该帧 32 字节的哈希"


class NodeUnknown(NotFound):
    field = "origin"
    message = "{node} is neither this node nor known to lie below it"
    chinese = "{node} 既不是本节点，也不是已知的下级节点"


class Verdict(IntEnum):
    """As smartunion.event.v1.Verdict; the worst has the highest number."""

    COMPLETE = 1
    COMPLETE_BUT_PARKED = 2
    UNPROVEN = 3
    GAP = 4
    DIFFERENT = 5
    REWOUND = 6


def check_code(code: str, *, below: str) -> None:
    """That `code` is a division code that lies below the division `below`.

    >>> check_code("5101", below="51")

    Raises:
        OrganizationCodeInvalid: if it is no division code.
        OrganizationNotBelow: if it lies elsewhere.
    """
    if not re.fullmatch(r"\d{2}|\d{4}|\d{6}|\d{9}", code, re.ASCII):
        raise OrganizationCodeInvalid(code=code[:30])
    if below != "0" and (code == below or not code.startswith(below)):
        raise OrganizationNotBelow(code=code, own=below)


def fingerprint(public_key: bytes) -> str:
    """What people compare of a key: 16 bytes of its SHA-256, in eight groups.

    >>> fingerprint(bytes(32))
    '6668:7aad:f862:bd77:6c8f:c18b:8e9f:8e20'
    """
    digits = hashlib.sha256(public_key).hexdigest()[:32]
    return ":".join(digits[at : at + 4] for at in range(0, 32, 4))


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One deployment of one level."""

    id: UUID
    parent: UUID | None
    organization_code: str
    display_name: str
    level: str
    public_key: bytes
    certificate: bytes = b""
    """Of its keys: see `kit.trust`."""


@dataclass(frozen=True, slots=True)
class Held:
    """The state of an own record before the next one."""

    version: int
    hash: bytes
    public: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """A one-time right to join."""

    token_hash: bytes
    organization_code: str
    expire_time: datetime
    node: UUID | None = None
    """The node that has shown it first; nobody else may."""

    def admits(self, node: Node, *, at: datetime) -> bool:
        """Whether `node` may enrol with it."""
        return (
            # Once it was shown in time, the operator may take their own.
            (self.node == node.id or (self.node is None and at < self.expire_time))
            and self.organization_code == node.organization_code
        )


def invitation_text(secret: str, public_key: bytes) -> str:
    """The token of an invitation: what admits, and the key by which its parent is known.

    >>> invitation_text("a-secret", bytes(32))
    'a-secret.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
    """
    return f"{secret}.{urlsafe_b64encode(public_key).rstrip(b'=').decode()}"


def key_invited_by(token: str) -> bytes:
    """The key in the token of an invitation; empty if there is none.

    >>> key_invited_by(invitation_text("a-secret", bytes(32))) == bytes(32)
    True
    >>> key_invited_by("a-secret"), key_invited_by("a-secret.AAAA"), key_invited_by("a.b.c")
    (b'', b'', b'')
    """
    try:
        key = urlsafe_b64decode(token.partition(".")[2] + "=")
    except ValueError:
        return b""
    return key if len(key) == 32 else b""


def check_enrollment(node: Node, nats_user_key: str) -> None:
    """That a child has shown all that is needed of it.

    Raises:
        EnrollmentInvalid: naming the field that is wrong.
    """
    checks = {
        "node.name": (node.id != node.parent, "another node's 其他节点"),
        "node.display_name": (
            1 <= len(node.display_name) <= 200 and node.display_name.isprintable(),
            "1 to 200 printable characters 个可打印字符",
        ),
        "node.level": (node.level in LEVELS[1:], ", ".join(LEVELS[1:])),
        "public_key": (len(node.public_key) == 32, "32 bytes 字节"),
        "nats_user_key": (bool(re.fullmatch("U[A-Z2-7]{55}", nats_user_key)), "a NATS user key"),
    }
    for name, (right, what) in checks.items():
        if not right:
            raise EnrollmentInvalid(field=name, field_name=name, right=what)


@dataclass(frozen=True, slots=True)
class StreamKey:
    """Which stream: the log of one channel of one service of one node."""

    origin: UUID
    service: str
    channel: str


UNKNOWN_RUN = bytes(16)
"""The run of an own stream that was taken back: its service is asked to take it back as well."""


class Cursor(NamedTuple):
    """How far an own log is framed."""

    number: int
    """Of the last entry."""
    run: bytes
    """In which it was numbered; UNKNOWN_RUN if the log may not have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """How far a stream is known and stored here."""

    key: StreamKey
    frame: int
    hash: bytes
    number: int
    """The number of the last entry that is stored."""
    head: int
    """The number of the last entry that is known to exist."""
    heard_age: timedelta
    """How long ago the head was heard, by the clocks on the way."""
    rewound: bool
    via: UUID | None
    """The neighbour that brings it, a child or, of what travels down, the parent; None for a stream
    of this node."""
    refusals: int = 0
    """How much of what `via` brought was not what the origin signed."""
    refusal: str = ""
    """Why what it brought last was not taken, or not all of it; empty if it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a service of this node can prove of one stream, as far as sync must know."""

    verdict: Verdict
    applied: int
    counts: Mapping[str, int]
    certify_time: datetime | None
    compare_age: timedelta = timedelta(0)
    """How long ago the last certificate was compared."""


@dataclass(slots=True, kw_only=True)
class NodeState:
    """What is known here of one node, and of the nodes below it."""

    node: Node
    streams: list[tuple[Stream, Proof | None]]
    verdict: Verdict
    heard_age: timedelta | None
    members: int
    lag: int
    certify_time: datetime | None
    subtree: list["NodeState"] = field(default_factory=list)
    """All states from here down, this one first."""

    @property
    def connected(self) -> bool:
        """Whether the node was heard of just now."""
        return self.heard_age is not None and self.heard_age <= CONNECTED

    @property
    def covered(self) -> bool:
        """Whether what is shown of the node is all there is, as of just now."""
        return self.connected and self.lag == 0 and self.verdict is Verdict.COMPLETE


def tree(own: UUID, nodes: Iterable[Node]) -> dict[UUID, Node]:
    """The nodes below `own`, each once, parents before children.

    Who lies nearer to `own` counts: a node cannot claim one that is known above it, nor `own`.
    """
    of: dict[UUID | None, list[Node]] = {}
    for node in sorted(nodes, key=lambda node: (node.organization_code, node.id)):
        of.setdefault(node.parent, []).append(node)
    found: dict[UUID, Node] = {}
    level = of.get(own, [])
    while level:
        fresh = {node.id: node for node in level if node.id not in found and node.id != own}
        found |= fresh
        level = [child for node in fresh.values() for child in of.get(node.id, [])]
    return found


def network(
    own: Node,
    nodes: Mapping[UUID, Node],
    streams: Iterable[Stream],
    proofs: Mapping[StreamKey, Proof],
    services: Sequence[str] = (),
) -> list[NodeState]:
    """The tree from `own` down, parents before children, each with what is proved of it.

    Args:
        nodes: as `tree` gives them.
        services: those of which every node must show its records.
    """
    of: dict[UUID, list[Stream]] = {}
    for stream in streams:
        of.setdefault(stream.key.origin, []).append(stream)
    below: dict[UUID | None, list[Node]] = {}
    for node in nodes.values():
        below.setdefault(node.parent, []).append(node)

    def grow(node: Node) -> list[NodeState]:
        state = _state(node, of.get(node.id, []), proofs, own=node.id == own.id)
        shown = {stream.key.service for stream, _ in state.streams}
        if not shown.issuperset(services):
            state.verdict = max(state.verdict, Verdict.UNPROVEN)
        for child in below.get(node.id, []):
            state.subtree += grow(child)
        state.subtree.insert(0, state)
        return state.subtree

    return grow(own)


def _state(
    node: Node, streams: Sequence[Stream], proofs: Mapping[StreamKey, Proof], *, own: bool
) -> NodeState:
    pairs = [(stream, proofs.get(stream.key)) for stream in streams]
    known = [proof for _, proof in pairs if proof is not None]
    times = [proof.certify_time for proof in known if proof.certify_time is not None]
    ages = [timedelta(0)] if own else [stream.heard_age for stream in streams]
    return NodeState(
        node=node,
        streams=pairs,
        verdict=max((_verdict(*pair) for pair in pairs), default=Verdict.UNPROVEN),
        heard_age=max(ages, default=None),
        members=sum(proof.counts.get("members", 0) for proof in known),
        lag=0 if own else sum(map(_lag, pairs)),
        certify_time=min(times, default=None),
    )


def _lag(pair: tuple[Stream, Proof | None]) -> int:
    stream, proof = pair
    return max(0, stream.head - (proof.applied if proof else 0))


def _verdict(stream: Stream, proof: Proof | None) -> Verdict:
    if stream.rewound:
        return Verdict.REWOUND
    if stream.refusal:
        return Verdict.DIFFERENT
    if proof is None:
        return Verdict.UNPROVEN
    # Heard of, and yet no certificate for so long: whoever should make them stands still.
    stale = stream.heard_age <= CONNECTED and proof.compare_age > STALE
    return max(proof.verdict, Verdict.UNPROVEN) if stale else proof.verdict
