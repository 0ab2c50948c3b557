"""What those who watch ask for, and how far they have come.  Pure: no I/O, no clock, no proto."""

import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kit.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from services.sync.domain.nodes import Node

REASSERTED = "smartunion.event.v1.RecordReasserted"
"""The type of the event of a record that was only asserted again."""

MOST = 100
"""Types, and origins, that a filter may name."""

_TYPE = re.compile(r"[a-z_]\w*(\.\w+)*", re.IGNORECASE | re.ASCII)
_CODE = re.compile(r"\d{2}|\d{4}|\d{6}|\d{9}", re.ASCII)
_TOKEN = struct.Struct(">16sQI")


class EventTypeMalformed(InvalidArgument):
    message = (
        "an event type is a full name such as smartunion.membership.v1.MemberAdmitted, or the "
        "beginning of some with .* at the end, not {type}"
    )
    chinese = (
        "事件类型应为全名，例如 smartunion.membership.v1.MemberAdmitted，"
        "或以 .* 结尾的前缀，而不是 {type}"
    )


class OriginUnknown(InvalidArgument):
    message = "{origin} is neither this node nor one that is known below it"
    chinese = "{origin} 既不是本节点，也不是已知的下级节点"


class SubtreeInvalid(InvalidArgument):
    field = "filter.subtree"
    message = "a subtree is a division code of 2, 4, 6 or 9 digits within {own}, not {code}"
    chinese = "subtree 应为 {own} 之内的 2、4、6 或 9 位行政区划代码，而不是 {code}"


class FilterTooLong(InvalidArgument):
    message = "a filter names at most {most} of them, not {count}; leave it empty for all"
    chinese = "过滤条件最多列出 {most} 项，而不是 {count} 项；留空表示全部"


class ResumeTokenMalformed(InvalidArgument):
    field = "resume_token"
    message = "this is no resume token; give back the last one that came, unchanged"
    chinese = "这不是续传令牌；请原样传回最近收到的令牌"


class StartAmbiguous(InvalidArgument):
    field = "from_beginning"
    message = "a resume_token says where to begin; leave from_beginning out"
    chinese = "resume_token 已指明起点；请不要再设置 from_beginning"


class EventsRewound(FailedPrecondition):
    field = "resume_token"
    message = (
        "this node's record is not the one that the token is of: its database was restored from a "
        "backup, or the token is of another node; begin again with from_beginning, pass over the "
        "event ids that you have, and compare what you hold with the List methods"
    )
    chinese = (
        "续传令牌与本节点的记录不符：数据库已从备份恢复，或令牌来自其他节点；"
        "请用 from_beginning 重新开始，跳过已有的事件 id，并用 List 方法核对"
    )


class EventsTrimmed(FailedPrecondition):
    field = "resume_token"
    message = (
        "events after this token are no longer kept; begin again with from_beginning, which gives "
        "all events after arrival {first}, and read the present records with the List methods"
    )
    chinese = (
        "该令牌之后的部分事件已不再保留；请用 from_beginning 重新开始（给出到达序号 {first} 之后"
        "的全部事件），并用 List 方法读取现有记录"
    )


class EventsMissing(Unavailable):
    message = (
        "frame {frame} of {service}/{channel} of {origin} is gone from storage and was asked for "
        "again from below; repeat the call with the last resume_token"
    )
    chinese = (
        "{origin} 的 {service}/{channel} 第 {frame} 帧已从存储中丢失，正向下级重新索取；"
        "请用最近的续传令牌重试"
    )


class EventsUnreadable(FailedPrecondition):
    message = (
        "this version cannot read frame {frame} of {service}/{channel} of {origin}; update this "
        "node, or watch the other nodes with filter.origins"
    )
    chinese = (
        "当前版本无法读取 {origin} 的 {service}/{channel} 第 {frame} 帧；"
        "请升级本节点，或用 filter.origins 只订阅其他节点"
    )


class TooManyWatchers(ResourceExhausted):
    message = "{most} calls watch here already; end one, or call another replica"
    chinese = "已有 {most} 个调用正在订阅；请结束其中一个，或改用其他副本"


class SubscriberInvalid(InvalidArgument):
    message = "{field_name} must be {right}"
    chinese = "{field_name} 应为：{right}"


class SubscriberNotFound(NotFound):
    field = "name"
    message = "there is no {subscriber}"
    chinese = "没有 {subscriber}"


class NatsForeign(FailedPrecondition):
    message = "this node does not run a NATS that it may admit subscribers to; use WatchEvents"
    chinese = "本节点没有可自行授权的 NATS；请使用 WatchEvents"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events; what is empty leaves all through."""

    types: tuple[str, ...] = ()
    origins: tuple[UUID, ...] = ()
    subtree: str = ""

    def takes(self, type_: str) -> bool:
        """Whether events of a type pass.

        >>> EventFilter(types=("a.b.*",)).takes("a.b.c.Done")
        True
        """
        if not self.types:
            return type_ != REASSERTED
        return any(_covers(pattern, type_) for pattern in self.types)

    def nodes(self, nodes: Iterable[Node]) -> set[UUID] | None:
        """Which of the nodes pass; None if all do, also those that are not known yet."""
        if not self.origins and not self.subtree:
            return None
        return {
            node.id
            for node in nodes
            if node.id in (self.origins or (node.id,))
            and node.organization_code.startswith(self.subtree)
        }

    def subjects(self, nodes: Iterable[Node]) -> list[str]:
        """The subjects of the stream BELOW that it leaves through; none overlaps another."""
        within = self.nodes(nodes)
        origins = ["*"] if within is None else sorted(map(str, within))
        types = [
            f"{type_[:-1]}>" if type_.endswith(".*") else type_
            for type_ in sorted(set(self.types))
            if not any(other != type_ and _covers(other, type_) for other in self.types)
        ]
        found = [f"below.{origin}.{type_}" for origin in origins for type_ in types or [">"]]
        return found or ["below.nobody"]  # no subject at all would let everything through


def _covers(pattern: str, type_: str) -> bool:
    if pattern.endswith(".*"):
        return type_.startswith(pattern[:-1])
    return type_ == pattern


def is_type(name: str) -> bool:
    """Whether it can be the full name of a type.

    >>> is_type("smartunion.sync.v1.NodeJoined"), is_type("smartunion.*")
    (True, False)
    """
    return len(name) <= 200 and _TYPE.fullmatch(name) is not None


def check_filter(asked: EventFilter, own: Node, below: Collection[UUID]) -> None:
    """That a filter can be meant.

    Raises:
        FilterTooLong, EventTypeMalformed, OriginUnknown, SubtreeInvalid: naming the field.
    """
    for name, items in (("types", asked.types), ("origins", asked.origins)):
        if len(items) > MOST:
            raise FilterTooLong(field=f"filter.{name}", most=MOST, count=len(items))
    for at, type_ in enumerate(asked.types):
        if not is_type(type_.removesuffix(".*")):
            raise EventTypeMalformed(field=f"filter.types[{at}]", type=type_[:100])
    for at, origin in enumerate(asked.origins):
        if origin != own.id and origin not in below:
            raise OriginUnknown(field=f"filter.origins[{at}]", origin=f"nodes/{origin}")
    code, home = asked.subtree, own.organization_code
    within = home == "0" or code.startswith(home)
    if code and not (_CODE.fullmatch(code) and within):
        raise SubtreeInvalid(own=home, code=code[:30])


@dataclass(frozen=True, slots=True)
class Position:
    """How far someone has come: through `lines` lines of the frame with an arrival number, and
    through all frames with a lower one."""

    run: UUID
    """The run in which `number` was given."""
    number: int
    lines: int = 2**32 - 1
    """All, unless the frame is not through yet."""

    @property
    def through(self) -> int:
        """The last arrival number that needs not be read again."""
        return self.number if self.lines == 2**32 - 1 else self.number - 1

    def token(self) -> str:
        """The position as a resume token."""
        packed = _TOKEN.pack(self.run.bytes, self.number, self.lines)
        return urlsafe_b64encode(packed).decode().rstrip("=")


def position_of(token: str) -> Position:
    """The position of a resume token.

    >>> position_of(Position(UUID(int=7), 8, 9).token())
    Position(run=UUID('00000000-0000-0000-0000-000000000007'), number=8, lines=9)

    Raises:
        ResumeTokenMalformed: if it is none.
    """
    try:
        run, number, lines = _TOKEN.unpack(urlsafe_b64decode(token + "=="))
    except (ValueError, struct.error):
        raise ResumeTokenMalformed() from None
    if not 0 <= number < 2**62 or (number == 0 and lines != 2**32 - 1):
        raise ResumeTokenMalformed()
    return Position(UUID(bytes=run), number, lines)


def check_continues(position: Position, *, run: UUID, head: int, trimmed: int) -> None:
    """That everything after a position is still here, and the same.

    Args:
        run: the one in which the position's number was given here.

    Raises:
        EventsRewound: if the numbers here are of another life of the database.
        EventsTrimmed: if something after it was freed.
    """
    if position.number > head or (position.number and position.run != run):
        raise EventsRewound()
    if position.through < trimmed:
        raise EventsTrimmed(first=trimmed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscriber:
    """A program that reads the stream BELOW."""

    id: UUID
    display_name: str
    nats_user_key: str
    filter: EventFilter
    user_jwt: str
    create_time: datetime
    revoke_time: datetime | None = None


def check_subscriber(display_name: str, nats_user_key: str) -> None:
    """That a subscriber can be admitted so.

    Raises:
        SubscriberInvalid: naming the field that is wrong.
    """
    if not (1 <= len(display_name) <= 200 and display_name.isprintable()):
        right = "1 to 200 printable characters 个可打印字符"
        raise SubscriberInvalid(field="display_name", field_name="display_name", right=right)
    if not re.fullmatch("U[A-Z2-7]{55}", nats_user_key):
        right = "the public half of a NATS user key NATS 用户公钥"
        raise SubscriberInvalid(field="nats_user_key", field_name="nats_user_key", right=right)
