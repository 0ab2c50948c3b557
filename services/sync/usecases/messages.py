"""Streams and their frames as they travel."""

import re
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from google.protobuf.duration_pb2 import Duration

from kit.records import TRAVELLING
from services.sync.domain.streams import Stream, StreamKey, StreamMalformed
from smartunion.sync.v1 import frame_pb2, sync_pb2

PUSH_BYTES = 768 * 1024
"""About how much one push carries at first; a NATS as it is installed takes messages of 1 MiB."""

READ_BYTES = 4 * 2**20
"""About how much one answer to a reader carries."""


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


def to_head(stream: Stream) -> sync_pb2.StreamHead:
    """How far a stream goes, as it is told to a neighbour."""
    head = sync_pb2.StreamHead(
        stream=to_stream(stream.key), head=stream.head, rewound=stream.rewound,
        frame=stream.frame, hash=stream.hash,
    )  # fmt: skip
    head.heard_age.FromTimedelta(max(stream.heard_age, timedelta(0)))
    return head


def to_age(duration: Duration) -> timedelta:
    """A duration as it was told: never of the future, and not older than a year."""
    return timedelta(seconds=min(max(duration.seconds, 0), 31_536_000))


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
