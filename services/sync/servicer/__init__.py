"""The doors of sync for calls: from proto to a use case and back."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp


def time_of(asked: Timestamp) -> datetime:
    """A time in a request, whatever its number: before 1970 and after 2100 are as bad as these."""
    return datetime.fromtimestamp(min(max(asked.seconds, 0), 4_102_444_800), UTC)
