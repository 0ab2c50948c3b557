"""The inbox of the member who calls."""

from dataclasses import replace
from uuid import UUID

from kit.roll import Enrolled
from kit.rpc import Page, caller, uuid_in
from services.notify.domain.inbox import Message, MessageNotFound
from services.notify.usecases import Means, before


class Inboxes:
    def __init__(self, means: Means) -> None:
        self._means, self._reads = means, means.reads

    async def page(self, page: Page) -> tuple[list[Message], str | None]:
        """The caller's messages, newest first, and the key of the next page."""
        member = await member_who_calls(self._means)
        found = await self._reads.inbox.page(
            member, at=self._means.clock(), before=before(page), limit=page.size + 1
        )
        shown = found[: page.size]
        return shown, str(shown[-1].id) if len(found) > page.size else None

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
            await self._reads.inbox.mark(member.id, message)
        return replace(found[0], unread=False)


async def member_who_calls(means: Means) -> Enrolled:
    """Raises NotAMember unless an active member of this node calls."""
    return await means.reads.roll.member(uuid_in(caller.get(), "members"))
