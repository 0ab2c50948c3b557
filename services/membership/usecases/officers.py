"""Officers: appointed, dismissed, and the first of them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

from kit.authority import Role, scope
from kit.headers import new_header
from kit.ids import uuid7
from kit.offices import Offices
from kit.rpc import Call, Page
from services.membership import events
from services.membership.domain import officers as domain
from services.membership.domain.officers import Office
from services.membership.store import Store
from services.membership.usecases import Means

EVER = datetime.min.replace(tzinfo=UTC)
SERVICE = "services/membership"


class Officers:
    def __init__(self, means: Means, offices: Offices) -> None:
        self._means, self._offices = means, offices

    async def page(
        self, parent: str, *, show_ended: bool, page: Page
    ) -> tuple[list[Office], str | None]:
        """Those of `parent` and all below, oldest first, and the key of the next page."""
        reads = self._means.reads
        within = await reads.organizations.within(parent, scope.get())
        ending_after = EVER if show_ended else self._means.clock()
        return await page.across(
            within,
            lambda path: reads.officers.page(
                path, ending_after=ending_after, after=page.after(), limit=page.size + 1
            ),
        )

    async def appoint(
        self, parent: str, *, holder: str, role: Role, begin_time: datetime | None,
        end_time: datetime | None, call: Call,
    ) -> Office:  # fmt: skip
        async with self._means.database.transaction() as store:
            organization = await store.organizations.of_new(parent, scope.get())
            if earlier := await store.calls.earlier(call, Office):
                return earlier
            organization.check_writable(home=self._means.home.path, node=self._means.node)
            office, fact = domain.appoint(
                id=uuid7(), header=new_header(self._means.node), holder=holder,
                organization=organization.id, role=role, begin_time=begin_time, end_time=end_time,
                by=call.caller, at=self._means.clock(),
            )  # fmt: skip
            await store.officers.lock_appointing()
            await store.officers.check_member(office)
            await store.officers.check_free(office)
            await _add(store, office, fact)
            await store.calls.answer(call, office)
        await self._committed()
        return office

    async def dismiss(self, name: UUID, *, call: Call) -> Office:
        async with self._means.database.transaction() as store:
            office = await store.officers.lock(name, scope=scope.get())
            if earlier := await store.calls.earlier(call, Office):
                return earlier
            dismissed = await end_office(store, office, by=call.caller, at=self._means.clock())
            await store.calls.answer(call, dismissed)
        await self._committed()
        return dismissed

    async def appoint_first(self, first: Mapping[str, Sequence[Role]]) -> None:
        """Where the node's own organisation has no chair, somebody must be able to begin.

        Args:
            first: what subjects become.
        """
        home, at = self._means.home, self._means.clock()
        async with self._means.database.transaction() as store:
            await store.officers.lock_appointing()
            if await store.officers.has_chair(home.id, at=at):
                return
            for subject, role in [(one, role) for one in first for role in first[one]]:
                office, fact = domain.appoint(
                    id=uuid7(), header=new_header(self._means.node),
                    holder=f"officers/{subject}", organization=home.id, role=role,
                    by=SERVICE, at=at,
                )  # fmt: skip
                if await store.officers.is_free(office):
                    await _add(store, office, fact)
        self._means.committed()

    async def _committed(self) -> None:
        """The next call is decided by what was committed, here at once."""
        self._means.committed()
        await self._offices.refresh()


async def end_office(store: Store, office: Office, *, by: str, at: datetime) -> Office:
    """Let an office count no more."""
    dismissed, fact = office.dismiss(by=by, at=at)
    change = events.office_change(dismissed, fact)
    await store.officers.save_end(dismissed, change)
    await store.outbox.put(change)
    return dismissed


async def _add(store: Store, office: Office, fact: domain.OfficerAppointed) -> None:
    change = events.office_change(office, fact)
    await store.officers.add(office, change)
    await store.outbox.put(change)
