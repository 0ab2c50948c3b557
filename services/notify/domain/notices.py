"""Notices (通知): one text for all members of an organisation and of all below it."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from kit.errors import InvalidArgument, NotFound
from kit.headers import Header
from kit.ids import time_of
from kit.texts import check_characters

MOST_TITLE_CHARACTERS = 100
MOST_TEXT_CHARACTERS = 20_000
LONGEST = timedelta(days=366)
"""How long a notice may stay in inboxes."""


COUNTS = UUID("c032a2d5-9836-57ef-9e67-c8a8d1c32067")
"""The namespace of the ids of read counts: the UUIDv5 of the DNS name
read_counts.smartunion.org."""


class NoticeNotFound(NotFound):
    message = "there is no {notice} at this node; it keeps its own notices and those from above"
    chinese = "本节点没有 {notice}；节点只保存本级和上级的通知"


class NoticeTitleLength(InvalidArgument):
    field = "notice.title"
    message = "the title of a notice has 1 to 100 characters, not {length}"
    chinese = "通知标题应为 1 至 100 个字，而不是 {length} 个"


class NoticeTextLength(InvalidArgument):
    field = "notice.text"
    message = "the text of a notice has 1 to 20000 characters, not {length}"
    chinese = "通知正文应为 1 至 20000 个字，而不是 {length} 个"


class ExpireTimeOutOfRange(InvalidArgument):
    field = "notice.expire_time"
    message = "a notice expires in the future, and at {latest} at the latest"
    chinese = "通知的失效时间应在将来，且不晚于 {latest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeCreated:
    notice: str
    organization: str
    occur_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeRead:
    notice: str
    readers: int
    occur_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCount:
    """How many members of one node have read one notice."""

    id: UUID
    header: Header
    notice: UUID
    notice_origin: UUID
    readers: int

    def count(self, readers: int, *, at: datetime) -> tuple["ReadCount", NoticeRead]:
        """The count as it is now, and the fact to announce."""
        counted = replace(self, readers=readers)
        if self.header.hash:
            counted = replace(counted, header=self.header.next(resource=f"notices/{self.notice}"))
        return counted, NoticeRead(notice=f"notices/{self.notice}", readers=readers, occur_time=at)


def count_id(notice: UUID, node: UUID) -> UUID:
    """The id of the count of one notice at one node: there is one."""
    return uuid5(COUNTS, f"{notice}/{node}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One notice."""

    id: UUID
    header: Header
    organization: UUID
    """Addressed with all below it."""
    title: str
    text: str
    expire_time: datetime
    readers: int = 0
    """Of this node and all below, as far as their counts have arrived."""

    @property
    def name(self) -> str:
        return f"notices/{self.id}"

    @property
    def create_time(self) -> datetime:
        return time_of(self.id)


def post(
    *, id: UUID, header: Header, organization: UUID, title: str, text: str, expire_seconds: int,
    at: datetime,
) -> tuple[Notice, NoticeCreated]:  # fmt: skip
    """A notice, and the fact to announce.

    Args:
        expire_seconds: when it leaves the inboxes, in Unix seconds.

    Raises:
        NoticeTitleLength, NoticeTextLength, TextCharacters: if a text is not right.
        ExpireTimeOutOfRange: unless it expires in the future, and within 366 days.
    """
    title = title.strip()
    if not 1 <= len(title) <= MOST_TITLE_CHARACTERS:
        raise NoticeTitleLength(length=len(title))
    check_characters(title, field="notice.title")
    if not text.strip() or len(text) > MOST_TEXT_CHARACTERS:
        raise NoticeTextLength(length=len(text))
    check_characters(text, field="notice.text", lines=True)
    latest = at.replace(microsecond=0) + LONGEST
    if not at.timestamp() < expire_seconds <= latest.timestamp():
        raise ExpireTimeOutOfRange(latest=latest)
    notice = Notice(
        id=id, header=header, organization=organization, title=title, text=text,
        expire_time=datetime.fromtimestamp(expire_seconds, UTC),
    )  # fmt: skip
    fact = NoticeCreated(
        notice=notice.name, organization=f"organizations/{organization}", occur_time=at
    )
    return notice, fact
