"""Directives: issued here, received from above, reported on, and counted from here down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kit.ids import uuid7
from kit.rpc import Call, Page
from services.sync import events
from services.sync.domain import directives
from services.sync.domain.directives import Directive, Progress, Report, State
from services.sync.domain.nodes import Node, tree
from services.sync.domain.records import Held
from services.sync.store import Store
from services.sync.usecases import Means


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What an officer asks to issue."""

    title: str
    text: str
    subtree: str
    levels: Sequence[str]
    due_time: datetime
    parent: UUID | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A directive, and what became of it from this node down."""

    directive: Directive
    progress: Progress
    parts: Mapping[UUID, Progress]
    report: Report | None
    """Of this node."""


class Directives:
    def __init__(self, means: Means) -> None:
        self._means, self._own = means, means.own

    async def create(self, draft: Draft, *, call: Call) -> Overview:
        at = self._means.clock()
        async with self._means.transaction() as store:
            directive = await store.calls.earlier(call, Directive)
            if directive is None:
                below = await self._below(store)
                directive = directives.issue(
                    id=uuid7(), own=self._own, below=below, title=draft.title, text=draft.text,
                    subtree=draft.subtree, levels=draft.levels, due_time=draft.due_time,
                    parent=draft.parent, at=at,
                )  # fmt: skip
                if draft.parent is not None:
                    await self._move(
                        store, draft.parent, State.BROKEN_DOWN, field="directive.parent"
                    )
                change = events.issued(directive)
                await store.directives.add(directive, change)
                await store.outbox.put(change)
                await store.calls.answer(call, directive)
        self._means.committed()
        return await self.get(directive.id)

    async def get(self, directive: UUID) -> Overview:
        """With the parts.  Raises DirectiveNotFound."""
        async with self._means.transaction() as store:
            found = await store.directives.get(directive)
            [overview] = await self._overviews(store, [found])
        return overview

    async def page(self, page: Page) -> tuple[list[Overview], str | None]:
        """Newest first, and the key of the next page."""
        async with self._means.transaction() as store:
            found = await store.directives.page(page.before(), page.size + 1)
            shown, key = page.cut(found)
            overviews = await self._overviews(store, shown)
        return overviews, key

    async def reports(
        self, directive: UUID, page: Page
    ) -> tuple[list[tuple[Node, Report | None]], str | None]:
        """The nodes from here down that are addressed, by their codes, and the key of the next
        page."""
        async with self._means.transaction() as store:
            found = await store.directives.get(directive)
            below = await self._below(store)
            reports = (await store.directive_reports.of([directive]))[directive]
        nodes = [node for node in (self._own, *below.values()) if node.id in found.expected]
        rest = sorted((node for node in nodes if _place(node) > page.key), key=_place)
        shown, key = page.cut(rest, key=_place)
        return [(node, reports.get(node.id)) for node in shown], key

    async def report(
        self, directive: UUID, state: State, *, reason: str = "", call: Call
    ) -> Overview:
        """Report where this node stands.

        Raises:
            DirectiveNotFound, NotAddressed, DirectiveSettled
        """
        if state is State.REFUSED:
            directives.check_text(reason, most=directives.MOST_REASON, field="reason", lines=True)
        async with self._means.transaction() as store:
            if await store.calls.earlier(call, Report) is None:
                report = await self._move(store, directive, state, reason=reason)
                await store.calls.answer(call, report)
        self._means.committed()
        return await self.get(directive)

    async def receive(self) -> None:
        """Report that what was addressed to this node has reached it."""
        async with self._means.transaction() as store:
            found = await store.directives.unreported(self._own.id)
            for directive in found:
                await self._put(store, directive.id, None, State.RECEIVED, "")
        if found:
            self._means.committed()

    async def _move(
        self, store: Store, directive: UUID, state: State, *, reason: str = "", field: str = "name"
    ) -> Report:
        found = await store.directives.lock(directive)
        if self._own.id not in found.expected:
            raise directives.NotAddressed(field=field, directive=found.name)
        held = await store.directive_reports.lock(directive, self._own.id)
        if state is State.READ and held and held[0].state >= state:
            return held[0]  # looking again at what is settled is no mistake
        return await self._put(store, directive, held, state, reason)

    async def _put(
        self, store: Store, directive: UUID, held: tuple[Report, Held] | None,
        state: State, reason: str,
    ) -> Report:  # fmt: skip
        at = self._means.clock()
        if held is None:
            report = Report(
                directive=directive, node=self._own.id, state=state, report_time=at, reason=reason
            )
        else:
            report = held[0].moved(state, at=at, reason=reason)
        change = events.reported(report, held[1] if held else None)
        if await store.directive_reports.put(report, change):
            await store.outbox.put(change)
        return report

    async def _overviews(self, store: Store, found: Sequence[Directive]) -> list[Overview]:
        at, below = self._means.clock(), await self._below(store)
        parts = directives.parts(self._own.id, below)
        known = await store.directive_reports.of([directive.id for directive in found])
        return [
            Overview(
                directive=directive,
                progress=directives.progress(
                    directive, known[directive.id], (self._own.id, *below), at=at
                ),
                parts={
                    part: directives.progress(directive, known[directive.id], nodes, at=at)
                    for part, nodes in parts.items()
                },
                report=known[directive.id].get(self._own.id),
            )
            for directive in found
        ]

    async def _below(self, store: Store) -> dict[UUID, Node]:
        return tree(self._own.id, await store.nodes.list())


def _place(node: Node) -> str:
    """In order of code."""
    return f"{node.organization_code} {node.id}"
