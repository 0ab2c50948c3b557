"""Views: made at the top, handed down, and held to by every node: what is stored here of other
nodes' sections is what the view in force shows at this level, and so is what the parent is sent."""

from contextlib import suppress
from datetime import datetime
from uuid import UUID

from kit import frames, trust
from kit.ids import uuid7
from kit.records import SECTIONS
from kit.rpc import Call, Page
from kit.trust import NodeKey
from services.sync import events
from services.sync.domain import views
from services.sync.domain.views import NOTHING, Shown, View
from services.sync.store import Store
from services.sync.usecases import Means
from services.sync.usecases.pushes import SECTION_ALTERED
from smartunion.sync.v1 import frame_pb2

PART = 50
"""Frames that are looked through in one transaction."""


class Views:
    def __init__(self, means: Means) -> None:
        self._means, self._own = means, means.own

    async def create(
        self, rules: list[tuple[str, str]], effective_time: datetime | None, *, call: Call
    ) -> View:
        """The next version of the table.

        Raises:
            ViewFromAbove: if this node has a parent.
            ViewRulesInvalid, ViewLevelUnknown, EffectiveTimeOutOfRange
        """
        async with self._means.transaction() as store:
            if earlier := await store.calls.earlier(call, View):
                return earlier
            if await store.uplink.get() is not None:
                raise views.ViewFromAbove()
            await store.views.lock()
            number = len(await store.views.of(self._own.id)) + 1
            view = views.draw_up(
                id=uuid7(), origin=self._own.id, rules=rules, sections=SECTIONS, number=number,
                effective_time=effective_time, at=self._means.clock(),
            )  # fmt: skip
            change = events.drawn_up(view)
            await store.views.add(view, change)
            await store.outbox.put(change)
            await store.calls.answer(call, view)
        self._means.committed()
        return view

    async def page(self, page: Page) -> tuple[list[View], str | None]:
        """Newest first, and the key of the next page."""
        async with self._means.transaction() as store:
            top, _ = await self._above(store)
            found = await store.views.of(top)
        before = page.before()
        newest = [view for view in reversed(found) if view.id < before]
        return page.cut(newest[: page.size + 1], key=lambda view: str(view.id))

    async def reports(self) -> dict[UUID, UUID]:
        """The view to which each node holds, as it says itself."""
        async with self._means.look() as store:
            return await store.view_reports.all()

    async def refresh(self) -> None:
        """Take up the view that is in force now, and delete from frames what it does not show."""
        await self.take_up()
        while await self._narrow(self._means.shown):
            pass

    async def take_up(self) -> None:
        """From now on, hold to the view that is in force now."""
        async with self._means.transaction() as store:
            top, parent = await self._above(store)
            view = views.in_force(await store.views.of(top), at=self._means.clock())
            held = await store.view_reports.lock(self._own.id)
            if view and view.id not in (self._means.shown.id, held and held[0]):
                await store.streams.forgive(SECTION_ALTERED)  # it may not come any more
        shown = NOTHING
        if view is not None:
            above = view.at(parent.level) if parent else frozenset()
            shown = Shown(view, view.at(self._own.level), above)
        self._means.shown = shown

    async def _above(self, store: Store) -> tuple[UUID, NodeKey | None]:
        """The node at the top, and the parent of this one, as the chain of certificates has it."""
        chain = await store.uplink.chain()
        keys = {key.node: key for key in trust.chained(chain, at=self._means.clock())}
        own = keys.get(self._own.id)
        tops = [key.node for key in keys.values() if key.parent is None]
        if own is None or own.parent is None or not tops:
            return self._own.id, None
        return tops[0], keys.get(own.parent)

    async def _narrow(self, shown: Shown) -> bool:
        """Some of the frames whose sections were left by another view; whether there were any."""
        async with self._means.transaction() as store:
            rows = await store.sections.older(shown.id, PART)
            for row in rows:
                frame = frame_pb2.Frame.FromString(row["body"])
                own = row["origin"] == self._own.id
                with suppress(frames.FrameBroken):
                    frames.strip(frame, shown.above if own else shown.here)
                left = shown.id if frames.has_others(frame) else None
                await store.sections.leave(row, frame.SerializeToString(), left)
        return bool(rows)

    async def report(self) -> None:
        """Say, here and above, that this node holds to the view in force."""
        view = self._means.shown.view
        if view is None:
            return
        async with self._means.transaction() as store:
            held = await store.view_reports.lock(self._own.id)
            if held is not None and held[0] == view.id:
                return
            if await store.sections.left(view.id):
                return  # frames are narrowed still
            change = events.held_to(
                self._own.id, view, held[1] if held else None, at=self._means.clock()
            )
            if await store.view_reports.put(self._own.id, change):
                await store.outbox.put(change)
        self._means.committed()
