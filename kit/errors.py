"""Refusals: the answers of "no" that a caller can understand and act on.

Each kind mirrors one google.rpc.Code without importing gRPC, so domain code can raise it and stay
pure; `kit.status` turns it into a google.rpc.Status (AIP-193).  Any other exception that leaves a
service is a bug, and its caller learns only INTERNAL.

    Refusal
      + InvalidArgument      the request itself is wrong, whatever the state; names the field
      + NotFound             the named resource does not exist
      + AlreadyExists        the resource to create is there already
      + FailedPrecondition   the state forbids it; repeating the call will not help
      + ResourceExhausted    a limit is used up
      + PermissionDenied     the caller may not
      + Unauthenticated      it is not known who calls
      + Unavailable          passes by itself; repeat the call
"""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import ClassVar

BEIJING = timezone(timedelta(hours=8))
"""The time of all of China; people's days are its days."""


class Refusal(Exception):
    """A business answer of "no".

    A subclass is one reason; its keyword arguments are the facts.  The texts are built from the
    facts alone, so all that a person reads is also in `ErrorInfo.metadata`.  A time is told to the
    second: among the facts and in English in UTC, in Chinese in Beijing's.
    """

    code: ClassVar[int]
    """The number of the google.rpc.Code."""
    message: ClassVar[str]
    """What is wrong and what is right, in English."""
    chinese: ClassVar[str]
    """The same in Chinese (zh-CN)."""
    field: str = ""
    """The path of the request's field that is wrong; empty if it is none in particular."""

    def __init__(self, *, field: str = "", **facts: object) -> None:
        self.facts = {name: _told(fact) for name, fact in facts.items()}
        self._chinese_facts = {name: _told_in_chinese(fact) for name, fact in facts.items()}
        self.field = field or type(self).field
        super().__init__(self.message.format(**self.facts))

    @property
    def reason(self) -> str:
        """The class name in UPPER_SNAKE_CASE: `AlreadyDecided` is `ALREADY_DECIDED`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).upper()

    @property
    def chinese_text(self) -> str:
        """The message in Chinese."""
        return self.chinese.format(**self._chinese_facts)

    @property
    def retry_delay(self) -> float | None:
        """Seconds after which the same call may be served: the fact `seconds`; None if it is not
        a matter of time."""
        return float(self.facts["seconds"]) if "seconds" in self.facts else None


def _told(fact: object) -> str:
    """As RFC 3339 writes it, if it is a time."""
    if isinstance(fact, datetime):
        return f"{fact.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='seconds')}Z"
    return str(fact)


def _told_in_chinese(fact: object) -> str:
    if isinstance(fact, datetime):
        with suppress(OverflowError):  # the last hours of the year 9999 are none in Beijing
            at = fact.astimezone(BEIJING)
            return f"北京时间{at.year}年{at.month}月{at.day}日{at:%H:%M:%S}"
    return _told(fact)


class InvalidArgument(Refusal):
    code = 3


class NotFound(Refusal):
    code = 5


class AlreadyExists(Refusal):
    code = 6


class PermissionDenied(Refusal):
    code = 7


class ResourceExhausted(Refusal):
    code = 8


class FailedPrecondition(Refusal):
    code = 9


class Unavailable(Refusal):
    code = 14


class Unauthenticated(Refusal):
    code = 16
