"""The inbox of the member who calls."""

from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

from kit.roll import Enrolled
from kit.rpc import LAST, Page
from services.notify.domain.inbox import InboxTokenForeign, Message, MessageNotFound
from services.notify.store.inbox import EVER
from services.notify.usecases import Means, member_who_calls
from services.notify.usecases.bell import Bell

MOST_AT_ONCE = 200
"""Messages that are told to one who begins to watch, or has been away."""


class Inboxes:
    def __init__(self, means: Means, bell: Bell) -> None:
        self._means, self._reads, self._bell = means, means.reads, bell

    async def page(self, page: Page) -> tuple[list[Message], str | None]:
        """The caller's messages, newest first, and the key of the next page."""
        member = await member_who_calls(self._means)
        found = await self._reads.inbox.page(
            member, at=self._means.clock(), before=page.before(), limit=page.size + 1
        )
        return page.cut(found)

    async def watch(
        self, token: str, *, from_now: bool
    ) -> AsyncIterator[tuple[Message | None, str]]:
        """The caller's unread messages, oldest first, each with the token to go on with.

        A token stands for a horizon of transactions, so nothing is missed that committed late.
        """
        since = await self._horizon_of(token)
        told = set[UUID]()
        member = await member_who_calls(self._means)
        with self._bell.watching(member.id, member.path) as watcher:
            while not self._bell.stopping:
                following = await self._reads.inbox.horizon()
                found = list[Message]()
                if not (from_now and since == EVER):
                    found = await self._unread(member, since)
                fresh = [message for message in found if message.id not in told]
                for message in fresh[:-1]:
                    yield message, token
                if fresh or not token:
                    token = self._token(following)
                    yield (fresh[-1] if fresh else None), token
                told |= {message.id for message in fresh}
                since = following
                await watcher.woken.wait()
                watcher.woken.clear()
                member = await member_who_calls(self._means)
                watcher.path = member.path

    async def _unread(self, member: Enrolled, since: int) -> list[Message]:
        """The newest that came since a horizon, oldest first."""
        found = await self._reads.inbox.page(
            member, at=self._means.clock(), before=LAST, since=since, limit=MOST_AT_ONCE
        )
        return [message for message in reversed(found) if message.unread]

    def _token(self, horizon: int) -> str:
        return f"{self._means.node.hex[-8:]}.{horizon}"

    async def _horizon_of(self, token: str) -> int:
        """Raises InboxTokenForeign if the token is not of this node's database."""
        if not token:
            return EVER
        node, _, number = token.partition(".")
        known = node == self._means.node.hex[-8:] and number.isascii() and number.isdigit()
        if not known or len(number) > 19 or int(number) > await self._reads.inbox.horizon():
            raise InboxTokenForeign()
        return int(number)

    async def mark_read(self, message: UUID) -> Message:
        """The message, read.

        Raises:
            MessageNotFound: unless it is in the caller's inbox.
        """
        member = await member_who_calls(self._means)
        following = UUID(int=min(message.int + 1, 2**128 - 1))
        found = await self._reads.inbox.page(
            member, at=self._means.clock(), before=following, limit=1
        )
        if not found or found[0].id != message:
            raise MessageNotFound(name=f"messages/{message}")
        if found[0].unread:
            async with self._means.database.transaction() as store:
                await store.inbox.mark(member.id, message)
        return replace(found[0], unread=False)
