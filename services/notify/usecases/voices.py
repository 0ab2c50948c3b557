"""Voices: what members say, and what the officers of a level do about it."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from kit.authority import scope
from kit.db import PASSING
from kit.headers import new_header, new_salt
from kit.ids import uuid7
from kit.keys import NodeKeys
from kit.rpc import Call, Page
from kit.trust import NodeKey
from services.notify import events
from services.notify.domain.voices import (
    Action,
    NoNodeAbove,
    Office,
    Step,
    Voice,
    VoiceHandled,
    raise_voice,
)
from services.notify.store import Store
from services.notify.store.voices import VoiceKey, sealed_reply, sealed_voice
from services.notify.usecases import Means, member_who_calls

Handled: TypeAlias = tuple[Voice, Step, VoiceHandled, bytes]
"""What was done, and what is sealed for the addressee if it was passed on."""
EVERY = 5.0
"""Seconds between two looks for what is erased below."""

logger = logging.getLogger(__name__)


class Voices:
    def __init__(self, means: Means, keys: NodeKeys) -> None:
        self._means, self._keys = means, keys
        home = means.home
        self._office = Office(node=means.node, organization=home.id, level=home.level)

    @property
    def node(self) -> UUID:
        """This node."""
        return self._means.node

    async def get(self, voice: UUID) -> Voice:
        return await self._means.reads.voices.get(voice, scope=scope.get())

    async def page(
        self, parent: str, *, state_here: int, page: Page
    ) -> tuple[list[Voice], str | None]:
        """Those of `parent` and all below, oldest first, and the key of the next page."""
        reads = self._means.reads
        within = await reads.organizations.within(parent, scope.get())
        return await page.across(
            within,
            lambda path: reads.voices.page(
                path, state_here=state_here, after=page.after(), limit=page.size + 1
            ),
        )

    async def pass_on(self, name: UUID, *, reason: str, call: Call) -> Voice:
        """To the level above, which alone can open what is sealed for it.

        Raises:
            NoNodeAbove: if there is none.
            KeysAway, KeyUnknown: if its key cannot be had.
        """

        def decide(voice: Voice) -> Handled:
            voice.check(Action.PASSED_ON, at=self.node)
            above = self._above()
            passed, step, fact = voice.pass_on(
                id=uuid7(), office=self._office, addressee=above.node, reason=reason
            )
            return passed, step, fact, sealed_voice(above.seal_key, above.node, voice, step.text)

        return await self._handle(name, call, decide)

    async def answer(self, name: UUID, *, text: str, call: Call) -> Voice:
        def decide(voice: Voice) -> Handled:
            return *voice.answer(id=uuid7(), office=self._office, text=text), b""

        return await self._handle(name, call, decide)

    async def close(self, name: UUID, *, reason: str, call: Call) -> Voice:
        def decide(voice: Voice) -> Handled:
            return *voice.close(id=uuid7(), office=self._office, reason=reason), b""

        return await self._handle(name, call, decide)

    async def _handle(self, name: UUID, call: Call, decide: Callable[[Voice], Handled]) -> Voice:
        """What this level does: a record for the levels above and, if the voice comes from below,
        one for the levels below.

        Raises:
            KeysAway, KeyUnknown: if nothing can be sealed for the node where it was raised.
        """
        async with self._means.database.transaction() as store:
            voice = await store.voices.lock(name, scope=scope.get())
            if earlier := await store.calls.earlier(call, Voice):
                return earlier.with_texts_of(voice)
            handled, step, fact, sealed = decide(voice)
            changes = [events.handling_change(voice, step, fact, salt=new_salt(), sealed=sealed)]
            if voice.header.copy:
                author = self._keys.of(voice.header.origin, at=self._means.clock())
                reply = sealed_reply(author.seal_key, voice.id, step)
                changes.append(events.reply_change(voice, step, salt=new_salt(), sealed=reply))
            for change in changes:
                await store.voices.add_step(voice, step, change)
            await store.voices.keep_text(voice, step)
            await store.outbox.put(*changes)
            await store.calls.answer(call, handled.without_texts())
        self._means.committed()
        return handled

    def _above(self) -> NodeKey:
        own = self._keys.of(self.node, at=self._means.clock())
        if own.parent is None:
            raise NoNodeAbove(node=f"nodes/{self.node}")
        return self._keys.of(own.parent, at=self._means.clock())

    async def raise_(self, text: str, *, call: Call) -> Voice:
        """The voice of the member who calls, to the member's own organisation."""
        member = await member_who_calls(self._means)
        async with self._means.database.transaction() as store:
            if earlier := await store.calls.earlier(call, Voice):
                held = await store.voices.of_member(earlier.id, member.id)
                return earlier.with_texts_of(held)
            voice, fact = raise_voice(
                id=uuid7(), header=new_header(self._means.node), organization=member.organization,
                member=member.id, text=text, opening=new_salt(),
            )  # fmt: skip
            change = events.voice_change(voice, fact)
            await store.voices.add(voice, change)
            await store.outbox.put(change)
            await store.calls.answer(call, voice.without_texts())
        self._means.committed()
        return voice

    async def get_mine(self, name: UUID) -> Voice:
        """Raises VoiceNotFound unless the member who calls has raised it."""
        member = await member_who_calls(self._means)
        return await self._means.reads.voices.of_member(name, member.id)

    async def page_of_mine(self, page: Page) -> tuple[list[Voice], str | None]:
        """Those of the member who calls, newest first, and the key of the next page."""
        member = await member_who_calls(self._means)
        found = await self._means.reads.voices.page_of(
            member.id, before=page.before(), limit=page.size + 1
        )
        return page.cut(found)


async def erase(store: Store, members: Sequence[UUID], *, at: datetime) -> None:
    """Nothing is left of what members said, nor of what they were answered."""
    await _empty(store, await store.voices.forget_members(members), at=at)


async def _empty(store: Store, voices: Sequence[VoiceKey], *, at: datetime) -> None:
    """What this node wrote about voices is erased, also where it was sealed for others: in their
    copies too, as the records have a new state."""
    emptied = [
        events.emptied_change(kind, step, at=at)
        for kind in (events.HANDLINGS, events.REPLIES)
        for step in await store.voices.lock_sealed(kind, voices)
    ]
    await store.voices.forget(voices, emptied)
    if emptied:
        await store.outbox.put(*emptied)


class Forgetting:
    """Erases what is erased below, on the way that a voice was passed on."""

    def __init__(self, means: Means) -> None:
        self._means = means

    async def run(self) -> None:
        """Until cancelled.  What passes by itself is survived by beginning again."""
        while True:
            try:
                if voices := await self._means.reads.voices.erased_below():
                    async with self._means.database.transaction() as store:
                        await _empty(store, voices, at=self._means.clock())
                    self._means.committed()
            except PASSING as error:
                logger.info("forgetting begins again", extra={"error": type(error).__name__})
            await asyncio.sleep(EVERY)
