"""Bindings: a person becomes known as a member, and ceases to be."""

from datetime import datetime
from uuid import UUID

from kit.authority import scope
from kit.db import everything, reaching
from kit.headers import new_header
from kit.ids import uuid7
from kit.rpc import Call, uuid_in
from services.membership import events
from services.membership.domain import bindings as domain
from services.membership.domain.bindings import Binding, IdentityUnproven, NotBound, PersonBound
from services.membership.domain.identity import beijing_date, full_name_of, id_number_of
from services.membership.store import Store
from services.membership.usecases import Means


class Bindings:
    def __init__(self, means: Means) -> None:
        self._means = means

    async def bind(self, *, full_name: str, id_number: str, call: Call) -> Binding:
        """Bind who calls.  A failure is committed, so that it counts, and says nothing of why."""
        at, person = self._means.clock(), uuid_in(call.caller, "persons")
        name = full_name_of(full_name)
        number = id_number_of(id_number, today=beijing_date(at))
        # Whose data it is, is found out here: it is compared, and nobody is shown it.
        with reaching(everything):
            return await self._bound(person, name, number, at, call)

    async def _bound(
        self, person: UUID, name: str, number: str, at: datetime, call: Call
    ) -> Binding:
        async with self._means.database.transaction() as store:
            await store.bindings.lock()
            attempts = await store.bindings.attempts(person, number, at=at)
            path = self._means.home.path
            member = domain.named(await store.members.with_id_number(number, path=path), name)
            held = await store.bindings.of_person(person)
            if held and member and held.member == member.id:
                return held
            if held:
                raise PersonBound(member=f"members/{held.member}")
            domain.check_attempts(*attempts)
            if member and not await store.bindings.of_member(member.id):
                held = await self._bind(store, person, member.id, call)
            else:
                await store.bindings.add_attempt(person, number, at=at)
        if not held:
            raise IdentityUnproven()
        self._means.committed()
        return held

    async def _bind(self, store: Store, person: UUID, member: UUID, call: Call) -> Binding:
        binding, fact = domain.bind(
            id=uuid7(), header=new_header(self._means.node), person=person, member=member,
            at=self._means.clock(),
        )  # fmt: skip
        change = events.binding_change(binding, fact)
        await store.bindings.add(binding, change)
        await store.outbox.put(change)
        if call.act:
            call.act.touch(binding.name, fact.member)
        return binding

    async def unbind_mine(self, *, call: Call) -> Binding:
        """End the binding of who calls."""
        person = uuid_in(call.caller, "persons")
        async with self._means.database.transaction() as store:
            if earlier := await store.calls.earlier(call, Binding):
                return earlier
            await store.bindings.lock()
            ended = await self._end(store, await store.bindings.of_person(person), call)
        self._means.committed()
        return ended

    async def unbind(self, member: UUID, *, call: Call) -> Binding:
        """End the binding of a member."""
        async with self._means.database.transaction() as store:
            await store.members.get(member, scope=scope.get())
            if earlier := await store.calls.earlier(call, Binding):
                return earlier
            await store.bindings.lock()
            ended = await self._end(store, await store.bindings.of_member(member), call)
        self._means.committed()
        return ended

    async def _end(self, store: Store, binding: Binding | None, call: Call) -> Binding:
        if binding is None:
            raise NotBound()
        await store.officers.lock_appointing()
        await store.officers.check_none(f"members/{binding.member}", at=self._means.clock())
        ended = await end_binding(store, binding, at=self._means.clock())
        await store.calls.answer(call, ended)
        if call.act:
            call.act.touch(f"members/{ended.member}")
        return ended


async def end_binding(store: Store, binding: Binding, *, at: datetime) -> Binding:
    """Let a binding count no more."""
    ended, fact = binding.end(at=at)
    change = events.binding_change(ended, fact)
    await store.bindings.save_end(ended, change)
    await store.outbox.put(change)
    return ended
