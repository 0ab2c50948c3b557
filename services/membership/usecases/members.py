"""Applications and the members that come of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from kit.authority import scope
from kit.headers import new_header, new_salt
from kit.ids import uuid7
from kit.rpc import Call, Page, uuid_in
from services.membership import events
from services.membership.domain import members as domain
from services.membership.domain.bindings import check_attempts
from services.membership.domain.consents import CONTACT, Step, withdraw
from services.membership.domain.identity import Person, beijing_date, id_number_of, person_of
from services.membership.domain.members import (
    AlreadyAMember,
    Application,
    ApplicationNotFound,
    ApplicationPending,
    ApplicationState,
    ApplicationWaits,
    Ground,
    KnownAlready,
    Member,
    MemberState,
)
from services.membership.store import Reads, Store
from services.membership.store.members import salt_of, sealed_reason
from services.membership.usecases import Means
from services.membership.usecases.bindings import end_binding


class Applications:
    def __init__(self, means: Means) -> None:
        self._means = means

    async def get(self, application: UUID) -> Application:
        return await self._means.reads.applications.get(application, scope=scope.get())

    async def page(
        self, parent: str, *, state: int, page: Page
    ) -> tuple[list[Application], str | None]:
        """Those to `parent` and all below, oldest first, and the key of the next page."""
        reads = self._means.reads
        within = await reads.organizations.within(parent, scope.get())
        return await page.across(
            within,
            lambda path: reads.applications.page(
                path, state=state, after=page.after(), limit=page.size + 1
            ),
        )

    async def create(
        self, parent: str, *, full_name: str, id_number: str, phone: str, call: Call
    ) -> Application:
        at = self._means.clock()
        person = person_of(
            full_name=full_name, id_number=id_number, phone=phone, today=beijing_date(at),
            path="application.person.",
        )  # fmt: skip
        async with self._means.database.transaction() as store:
            organization = await store.organizations.of_new(parent, scope.get())
            if earlier := await store.calls.earlier(call, Application):
                held = await store.applications.get(earlier.id, scope=scope.get())
                return replace(earlier, person=held.person)
            organization.check_writable(home=self._means.home.path, node=self._means.node)
            application = await self._file(store, organization.id, person, call, at)
            await store.calls.answer(call, _told(application))
        self._means.committed()
        return application

    async def create_mine(
        self, parent: str, *, full_name: str, id_number: str, phone: str, call: Call
    ) -> Application:
        """The application of who calls.  That the ID number is known is committed as a failed
        attempt to be somebody, so that nobody tries them one after the other."""
        at, caller = self._means.clock(), uuid_in(call.caller, "persons")
        person = person_of(
            full_name=full_name, id_number=id_number, phone=phone, today=beijing_date(at),
            path="person.",
        )  # fmt: skip
        async with self._means.database.transaction() as store:
            organization = await store.organizations.parent(parent)
            organization.check_writable(home=self._means.home.path, node=self._means.node)
            await store.bindings.lock()
            attempts = await store.bindings.attempts(caller, person.id_number, at=at)
            check_attempts(*attempts)
            if waiting := await store.applications.waiting_of(call.caller):
                if (waiting.organization, waiting.person) == (organization.id, person):
                    return waiting
                raise ApplicationWaits(application=waiting.name)
            known = await store.people.has_standing(person.id_number)
            if not known:
                try:
                    application = await self._file(store, organization.id, person, call, at)
                except (AlreadyAMember, ApplicationPending):  # since a moment ago
                    known = True
            if known:
                await store.bindings.add_attempt(caller, person.id_number, at=at)
        if known:
            raise KnownAlready()
        self._means.committed()
        return application

    async def get_mine(self, name: UUID, *, caller: str) -> Application:
        """One that who calls has filed."""
        return await self._mine(self._means.reads, name, caller=caller)

    async def _mine(self, held: Store | Reads, name: UUID, *, caller: str) -> Application:
        found = await held.applications.get(name, scope=None)
        if found.filer != caller:
            raise ApplicationNotFound(application=found.name)
        return found

    async def withdraw_mine(self, name: UUID, *, call: Call) -> Application:
        """Withdraw one that who calls has filed, and destroy the key of the person; again does no
        harm.  It counts as a failed attempt to be somebody: or numbers could be tried, and those
        that nobody has be withdrawn."""
        at, caller = self._means.clock(), uuid_in(call.caller, "persons")
        async with self._means.database.transaction() as store:
            await store.applications.lock(name, scope=None)
            # Again: what stands beside the row was read before it was waited for.
            application = await self._mine(store, name, caller=call.caller)
            if earlier := await store.calls.earlier(call, Application):
                return earlier
            if application.state is not ApplicationState.WITHDRAWN:
                application, fact = application.withdraw(at=at)
                change = events.change(application, fact)
                given = await store.consents.lock_latest([name], CONTACT)
                if given and given.step is Step.GIVEN:
                    ended = withdraw(CONTACT, latest=given, person=name, by=call.caller, at=at)
                    await store.consents.add_all([ended])
                await store.applications.save_decision(application, change)
                gone = await store.people.erase_withdrawn(self._means.node, name, at=at)
                await store.roster_rows.forget(*gone, ended=True)
                await store.bindings.add_attempt(caller, application.name, at=at)
                await store.outbox.put(change)
            await store.calls.answer(call, application)
        self._means.committed()
        return application

    async def _file(
        self, store: Store, organization: UUID, person: Person, call: Call, at: datetime
    ) -> Application:
        application, fact = domain.apply(
            id=uuid7(), header=new_header(self._means.node), organization=organization,
            person=person, by=call.caller, at=at,
        )  # fmt: skip
        change = events.change(application, fact)
        await store.people.add_applicant(application)
        await store.applications.add(application, change)
        entered = self._means.texts.entered(
            [(application.id, person)], by=call.caller, at=at, today=beijing_date(at)
        )
        await store.consents.add_all(entered)
        await store.outbox.put(change)
        if call.act:
            call.act.touch(application.name)
        return application

    async def approve(self, name: UUID, *, call: Call) -> Application:
        async with self._means.database.transaction() as store:
            application = await store.applications.lock(name, scope=scope.get())
            if earlier := await store.calls.earlier(call, Application):
                return replace(earlier, person=application.person)
            approved, member, decision, admission = application.approve(
                by=call.caller, at=self._means.clock(), member=uuid7(), salt=new_salt(),
                personal_salt=salt_of(await store.people.sealer_of(name)),
            )  # fmt: skip
            filer = await self._filer(store, application, call)
            scope.get().check_second(application.name, filer=filer)
            decided, admitted = events.change(approved, decision), events.change(member, admission)
            await store.applications.save_decision(approved, decided)
            await store.people.admit(application, member)
            await store.members.add(member, admitted)
            await store.outbox.put(decided, admitted)
            await store.calls.answer(call, _told(approved))
        self._means.committed()
        return approved

    async def _filer(self, store: Store, application: Application, call: Call) -> str:
        """Who filed, as four eyes know them: who applied before they were a member is that one."""
        filer, _, person = application.filer.partition("/")
        caller, _, member = call.caller.partition("/")
        if (filer, caller) != ("persons", "members"):
            return application.filer
        one = await store.bindings.were_one(UUID(person), UUID(member))
        return call.caller if one else application.filer

    async def reject(self, name: UUID, *, reason: str, call: Call) -> Application:
        async with self._means.database.transaction() as store:
            application = await store.applications.lock(name, scope=scope.get())
            if earlier := await store.calls.earlier(call, Application):
                return replace(
                    earlier, person=application.person, reject_reason=application.reject_reason
                )
            rejected, fact = application.reject(
                by=call.caller, at=self._means.clock(), reason=reason
            )
            change = events.change(rejected, fact)
            sealed = sealed_reason(await store.people.sealer_of(name), rejected)
            await store.applications.save_decision(rejected, change, reason=sealed)
            await store.outbox.put(change)
            await store.calls.answer(call, _told(rejected))
        self._means.committed()
        return rejected


def _told(application: Application) -> Application:
    """An application as it is kept for repeats: nothing personal."""
    return replace(application, person=None, reject_reason="")


class Members:
    def __init__(self, means: Means) -> None:
        self._means = means

    async def reveal(self, kind: str, ids: Sequence[UUID]) -> Mapping[UUID, Mapping[str, bytes]]:
        """The sections of own records besides `public`, made of what is sealed: of who is erased,
        none can be."""
        if kind != events.MEMBERS.name:
            return {}
        found = await self._means.reads.members.own(ids)
        return {member.id: events.sections_of(member) for member in found}

    async def get(self, member: UUID) -> Member:
        return await self._means.reads.members.get(member, scope=scope.get())

    async def page(self, parent: str, *, page: Page) -> tuple[list[Member], str | None]:
        """Those of `parent` and all below, in order of admission, and the key of the next page."""
        reads = self._means.reads
        within = await reads.organizations.within(parent, scope.get())
        return await page.across(
            within,
            lambda path: reads.members.page(path, after=page.after(), limit=page.size + 1),
        )

    async def end(self, name: UUID, *, call: Call) -> Member:
        async with self._means.database.transaction() as store:
            member = await store.members.lock(name, scope=scope.get())
            if earlier := await store.calls.earlier(call, Member):
                return replace(earlier, person=member.person)
            left, fact = member.leave(at=self._means.clock())
            await store.officers.lock_appointing()
            await store.officers.check_none(member.name, at=self._means.clock())
            change = events.change(left, fact)
            await store.members.save_state(left, change)
            await store.outbox.put(change)
            await store.calls.answer(call, replace(left, person=None, personal_salt=""))
        self._means.committed()
        return left

    async def erase(self, name: UUID, *, ground: Ground, call: Call) -> Member:
        """Destroy the key of the person, who is nobody's login any more; again does no harm."""
        async with self._means.database.transaction() as store:
            member = await store.members.lock(name, scope=scope.get())
            if earlier := await store.calls.earlier(call, Member):
                return earlier
            if member.state is not MemberState.ERASED:
                at = self._means.clock()
                member, fact = member.erase(ground=ground, at=at)
                change = events.change(member, fact)
                await store.members.save_state(member, change)
                await store.roster_rows.forget(*await store.people.erase(self._means.node, name))
                await store.bindings.lock()
                if binding := await store.bindings.of_member(name):
                    await end_binding(store, binding, at=at)
                await store.outbox.put(change)
            await store.calls.answer(call, member)
        self._means.committed()
        return member

    async def search(self, id_number: str) -> list[Member]:
        """Those of this node that hold the ID number, as far as the caller may read them."""
        number = id_number_of(id_number, today=beijing_date(self._means.clock()))
        members = self._means.reads.members
        return [
            one
            for path in scope.get().places()
            for one in await members.with_id_number(number, path=path)
        ]
