"""The inbox (收件箱): what a member finds there, wherever it comes from."""

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from uuid import UUID

from kit.errors import InvalidArgument, NotFound
from kit.ids import time_of


class MessageNotFound(NotFound):
    message = "there is no {name} in your inbox; it may have expired"
    chinese = "您的收件箱中没有 {name}；它可能已失效"


class InboxTokenForeign(InvalidArgument):
    field = "resume_token"
    message = "this resume_token was not made here, or before a restore; begin again without one"
    chinese = "该 resume_token 不是本节点签发的，或早于一次恢复；请去掉后重新开始"


class MessageKind(IntEnum):
    """What a message is, with the numbers of the contract."""

    NOTICE = 1
    WELCOME = 2
    VOICE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What one member sees of one thing: messages are derived, and no row is kept of them."""

    id: UUID
    """A UUIDv7: of the notice, of the member who is welcomed, or of what was done about a voice."""
    kind: MessageKind
    title: str
    text: str
    organization: UUID
    """Whose members are addressed, or whose office did something about a voice."""
    expire_time: datetime | None
    unread: bool
    voice: UUID | None = None
    """About which something was done."""

    @property
    def name(self) -> str:
        return f"messages/{self.id}"

    @property
    def create_time(self) -> datetime:
        return time_of(self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Something that has come, and for whom."""

    id: UUID
    path: str
    """Of the organisation whose members are addressed; or empty."""
    member: UUID | None
    """Who alone is addressed; or None."""

    def is_for(self, member: UUID, path: str) -> bool:
        """Whether a member of the organisation at `path` is addressed.

        >>> Arrival(id=UUID(int=1), path="0.51", member=None).is_for(UUID(int=2), "0.51.5101")
        True
        """
        return self.member == member or (self.path != "" and f"{path}.".startswith(f"{self.path}."))


def ancestors(path: str) -> list[str]:
    """The paths of an organisation and of all above it.

    >>> ancestors("0.51.5101")
    ['0', '0.51', '0.51.5101']
    """
    codes = path.split(".")
    return [".".join(codes[:end]) for end in range(1, len(codes) + 1)]
