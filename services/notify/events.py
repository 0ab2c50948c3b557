"""What notify announces, and the section `public` of its records: the only way out."""

from typing import Any, TypeVar
from uuid import UUID

from google.protobuf.message import DecodeError, Message

from kit.log import Change
from kit.records import Kind
from services.notify.domain import notices as domain
from services.notify.domain.notices import Notice, ReadCount
from smartunion.notify.v1 import events_pb2 as pb
from smartunion.notify.v1.records_pb2 import PublicNotice, PublicReadCount

LAST_SECOND = 253402300799
"""Of the year 9999, after which no calendar here goes."""

M = TypeVar("M", bound=Message)


def section_of(kind: type[M], section: bytes) -> M:
    """A section `public` of a kind.  Raises ValueError if it is none."""
    try:
        public = kind.FromString(section)
    except DecodeError:
        raise ValueError(f"no {kind.__name__}") from None
    if len(public.salt) != 16:  # type: ignore[attr-defined]
        raise ValueError("salt")
    return public


def parse_notice(section: bytes) -> tuple[Any, ...]:
    """The columns of a section of `notices`.  Raises ValueError if it is none."""
    public = section_of(PublicNotice, section)
    if not 0 < public.expire_seconds <= LAST_SECOND:
        raise ValueError("expire_seconds")
    return UUID(bytes=public.organization), public.expire_seconds


NOTICES = Kind(
    name="notices",
    table="notices",
    fields={"organization": "uuid", "expire_seconds": "bigint"},
    parse=parse_notice,
    channel="records",
)


def notice_change(notice: Notice, fact: domain.NoticeCreated) -> Change:
    """The line of the log for a notice that is posted."""
    public = PublicNotice(
        salt=bytes.fromhex(notice.header.salt), organization=notice.organization.bytes,
        expire_seconds=int(notice.expire_time.timestamp()), title=notice.title, text=notice.text,
    )  # fmt: skip
    event = pb.NoticeCreated(notice=fact.notice, organization=fact.organization)
    return Change(
        kind=NOTICES, id=notice.id, version=notice.header.version, before=None,
        public=public.SerializeToString(deterministic=True), event=event,
        event_time=fact.occur_time,
    )  # fmt: skip


def parse_read_count(section: bytes) -> tuple[Any, ...]:
    """The columns of a section of `read_counts`.  Raises ValueError if it is none."""
    public = section_of(PublicReadCount, section)
    if public.readers < 0:
        raise ValueError("readers")
    return UUID(bytes=public.notice), UUID(bytes=public.notice_origin), public.readers


READ_COUNTS = Kind(
    name="read_counts",
    table="read_counts",
    fields={"notice": "uuid", "notice_origin": "uuid", "readers": "bigint"},
    parse=parse_read_count,
)


def count_change(count: ReadCount, fact: domain.NoticeRead) -> Change:
    """The line of the log for a count in its new state."""
    public = PublicReadCount(
        salt=bytes.fromhex(count.header.salt), notice=count.notice.bytes,
        notice_origin=count.notice_origin.bytes, readers=count.readers,
    )  # fmt: skip
    return Change(
        kind=READ_COUNTS, id=count.id, version=count.header.version,
        before=bytes.fromhex(count.header.hash) or None,
        public=public.SerializeToString(deterministic=True),
        event=pb.MessageRead(notice=fact.notice, readers=fact.readers),
        event_time=fact.occur_time,
    )  # fmt: skip
