"""Organisations are read here; the seed makes them."""

from kit.organizations import Organization, is_code, organization_in
from kit.rpc import Page, PageTokenForeign
from services.membership.usecases import Means


class Organizations:
    def __init__(self, means: Means) -> None:
        self._reads = means.reads

    async def get(self, name: str) -> Organization:
        return await self._reads.organizations.get(organization_in(name), name=name)

    async def page(
        self, parent: str, *, subtree: bool, page: Page
    ) -> tuple[list[Organization], str | None]:
        """Those below `parent` in order of code, and the key of the next page."""
        if page.key and not is_code(page.key):
            raise PageTokenForeign()
        above = await self._reads.organizations.parent(parent)
        if subtree:
            found = await self._reads.organizations.page_of_subtree(
                above.path, after=page.key, limit=page.size + 1
            )
        else:
            found = await self._reads.organizations.page_of_children(
                above.id, after=page.key, limit=page.size + 1
            )
        return page.cut(found, key=lambda one: one.code)
