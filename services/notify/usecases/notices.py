"""Notices, as officers post and read them."""

from uuid import UUID

from kit.authority import scope
from kit.headers import new_header
from kit.ids import uuid7
from kit.organizations import OrganizationAbove
from kit.rpc import Call, Page
from services.notify import events
from services.notify.domain.notices import Notice, post
from services.notify.usecases import Means


class Notices:
    def __init__(self, means: Means) -> None:
        self._means = means

    async def get(self, notice: UUID) -> Notice:
        return await self._means.reads.notices.get(notice, scope=scope.get())

    async def page(self, parent: str, *, page: Page) -> tuple[list[Notice], str | None]:
        """Those to `parent` and all below, newest first, and the key of the next page."""
        reads = self._means.reads
        within = await reads.organizations.within(parent, scope.get())
        return await page.across(
            within,
            lambda path: reads.notices.page(path, before=page.before(), limit=page.size + 1),
            newest=True,
        )

    async def create(
        self, parent: str, *, title: str, text: str, expire_seconds: int, call: Call
    ) -> Notice:
        """Post a notice, also to organisations that a node below hosts: it travels there.

        Raises:
            OrganizationNotFound, OrganizationAbove: if it is not this node's to address.
        """
        async with self._means.database.transaction() as store:
            addressed = await store.organizations.of_new(parent, scope.get())
            if earlier := await store.calls.earlier(call, Notice):
                return earlier
            if not addressed.is_within(self._means.home.path):
                raise OrganizationAbove(organization=addressed.name)
            notice, fact = post(
                id=uuid7(), header=new_header(self._means.node), organization=addressed.id,
                title=title, text=text, expire_seconds=expire_seconds, at=self._means.clock(),
            )  # fmt: skip
            change = events.notice_change(notice, fact)
            await store.notices.add(notice, change)
            await store.outbox.put(change)
            await store.calls.answer(call, notice)
        self._means.committed()
        return notice
