"""Streams: the logs of services of nodes, as they travel in frames."""

from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from kit.errors import InvalidArgument, NotFound, PermissionDenied


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
