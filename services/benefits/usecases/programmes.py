"""Programmes: made at one node, seen at all below it."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from kit.authority import scope
from kit.headers import new_header
from kit.ids import uuid7
from kit.keys import NodeKeys
from kit.rpc import Call, Page
from services.benefits import events
from services.benefits.domain import programmes as domain
from services.benefits.domain.programmes import (
    Draft,
    Programme,
    ProgrammeNotFound,
    Share,
    ShareNodeUnknown,
)
from services.benefits.usecases import Means

Shown = tuple[Programme, int]
"""A programme, and what is left of it here."""


class Programmes:
    def __init__(self, means: Means, keys: NodeKeys) -> None:
        self._means, self._keys = means, keys

    async def get(self, programme: UUID) -> "Shown | Draft":
        try:
            found = await self._means.reads.programmes.get(programme, scope=scope.get())
        except ProgrammeNotFound:
            return await self._means.reads.drafts.get(programme, scope=scope.get())
        return (await self._shown([found]))[0]

    async def page_of_drafts(self, *, page: Page) -> tuple[list[Draft], str | None]:
        """Those of the caller's organisations, the newest first, and the key of the next page."""
        before, limit = page.before(), page.size + 1
        found = [
            draft
            for path in scope.get().places()
            for draft in await self._means.reads.drafts.page(path, before=before, limit=limit)
        ]
        found.sort(key=lambda draft: draft.programme.id, reverse=True)
        return page.cut(found, key=lambda draft: str(draft.programme.id))

    async def page(self, *, page: Page) -> tuple[list[Shown], str | None]:
        """Those that concern the caller's organisations, the newest first, and the key of the
        next page."""
        found = await self._means.reads.programmes.page(
            paths=scope.get().places(), below=True, before=page.before(), limit=page.size + 1
        )
        shown, key = page.cut(found)
        return await self._shown(shown), key

    async def of_member(self, member: UUID, *, page: Page) -> tuple[list[Shown], str | None]:
        """Those of which a member can claim here, now or later, and the key of the next page."""
        enrolled = await self._means.reads.roll.member(member)
        at, last, shown = self._means.clock(), page.before(), list[Programme]()
        while True:
            found = await self._means.reads.programmes.page(
                paths=[enrolled.path], below=False, before=last, limit=page.size + 1
            )
            for one in found[: page.size]:
                if len(shown) == page.size:
                    return await self._shown(shown), str(shown[-1].id)
                if one.share_of(self._means.node) and at < one.claim_end_time:
                    shown.append(one)
            if len(found) <= page.size:
                return await self._shown(shown), None
            last = found[page.size - 1].id

    async def create(
        self, parent: str, *, title: str, face_value_fen: int, shares: Sequence[Share],
        claim_start_time: datetime, claim_end_time: datetime, use_by_time: datetime, call: Call,
    ) -> Draft:  # fmt: skip
        at = self._means.clock()
        async with self._means.database.transaction() as store:
            organization = await store.organizations.of_new(parent, scope.get())
            if earlier := await store.calls.earlier(call, Draft):
                return earlier
            organization.check_writable(home=self._means.home.path, node=self._means.node)
            programme = domain.create(
                id=uuid7(), header=new_header(self._means.node), organization=organization.id,
                title=title, face_value_fen=face_value_fen, shares=shares,
                claim_start_time=claim_start_time, claim_end_time=claim_end_time,
                use_by_time=use_by_time,
            )  # fmt: skip
            self._check_nodes(programme, at)
            draft = Draft(programme=programme, creator=call.caller)
            await store.drafts.add(draft, events.section_of_programme(programme))
            await store.calls.answer(call, draft)
        return draft

    async def open(self, name: UUID, *, call: Call) -> Shown:
        """Settle a draft: it is announced, and never changed again."""
        async with self._means.database.transaction() as store:
            draft = await store.drafts.lock(name, scope=scope.get())
            if earlier := await store.calls.earlier(call, Draft):
                return (await self._shown([earlier.programme]))[0]
            opened, fact = draft.open(by=call.caller, at=self._means.clock())
            scope.get().check_second(draft.name, filer=draft.creator)
            change = events.of_programme(opened.programme, fact)
            await store.drafts.save_opening(opened)
            await store.programmes.add(opened.programme, change)
            await store.outbox.put(change)
            await store.calls.answer(call, opened)
        self._means.committed()
        return opened.programme, opened.programme.share_of(self._means.node)

    def _check_nodes(self, programme: Programme, at: datetime) -> None:
        """Whether shares go to this node and to those below alone, as far as they are known."""
        keys = self._keys.trusted(at=at)
        for share in programme.shares:
            known = keys.get(share.node)
            below = known is not None and keys[self._means.node].covers(known.organization_code)
            if share.node != self._means.node and self._means.node in keys and not below:
                raise ShareNodeUnknown(node=f"nodes/{share.node}")

    async def _shown(self, programmes: list[Programme]) -> list[Shown]:
        remaining = await self._means.reads.stocks.remaining(programmes)
        return [(one, remaining[one.id]) for one in programmes]
