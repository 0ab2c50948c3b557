"""Identifiers that are made here, without asking anyone."""

import re
import secrets
import threading
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_lock = threading.Lock()
_last = 0


def uuid7() -> UUID:
    """A fresh UUIDv7, greater than every one this process made before.

    48 bits of Unix milliseconds, then 12 bits that count within one millisecond (and borrow
    from the next one when they run out, or when the clock goes back), then 62 random bits.

    >>> uuid7().version
    7

    Source: RFC 9562, sections 5.7 and 6.2 (method 1).
    """
    global _last
    with _lock:
        _last = max(time.time_ns() // 1_000_000 << 12, _last + 1)
        millis, count = divmod(_last, 1 << 12)
    return UUID(int=millis << 80 | 7 << 76 | count << 64 | 2 << 62 | secrets.randbits(62))


def utc_now() -> datetime:
    """The time, by this machine's clock."""
    return datetime.now(UTC)


def time_of(made: UUID) -> datetime:
    """When a UUIDv7 was made, by the clock of its maker, to the millisecond.

    Of any other UUID, and of a time that no calendar has, it is the beginning of 1970: an id that
    others made must not break what is shown.

    >>> time_of(UUID("01890a5d-ac96-774b-bcce-b302099a8057")).isoformat(timespec="seconds")
    '2023-06-30T03:34:18+00:00'
    """
    try:
        return EPOCH + timedelta(milliseconds=made.int >> 80 if made.version == 7 else 0)
    except OverflowError:
        return EPOCH


def first_uuid7(at: datetime) -> UUID:
    """The smallest UUIDv7 of a millisecond: those made before it are smaller.

    >>> first_uuid7(EPOCH).hex
    '00000000000070008000000000000000'
    """
    millis = (at - EPOCH) // timedelta(milliseconds=1)
    return UUID(int=millis << 80 | 7 << 76 | 2 << 62)


def uuid_of(text: str) -> UUID:
    """The UUID in its one usual form; the library's own parser takes any number of dashes.

    >>> uuid_of("01890A5D-ac96-774b-bcce-b302099a8057").version
    7

    Raises:
        ValueError: if it has another form.
    """
    if not _UUID.fullmatch(text):
        raise ValueError("no UUID")
    return UUID(text)
