"""Officers and readers at work through the public API, and the ledger of what they were answered.

A call whose answer did not come is repeated with the same request_id.  Only an answer counts: a row
once it is listed with its result, an approval once it is answered.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from datetime import date
from hashlib import sha256
from typing import Any
from uuid import uuid4

import grpc

from kit.wire import CHANNEL_OPTIONS
from node.network import Node
from node.people import Crowd, Person, roster
from node.supervisor import DEPUTY
from smartunion.membership.v1 import membership_pb2 as pb
from smartunion.membership.v1 import membership_pb2_grpc
from tests.faults.checker import Record
from tests.faults.schedules import Work

REPEATED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
DECIDING = (pb.ApproveApplicationRequest, pb.CommitRosterRequest)
PAGE = 1_000
CHUNK = 16 * 1024
LOOK = 0.5
"""Seconds between two looks of a reader."""


class RowsLost(AssertionError):
    """Rows that were counted as done have no result, or another one than before."""


@dataclass
class Ledger:
    """What was answered, in the order of the answers.  It outlives every victim."""

    admitted: Counter[str] = field(default_factory=Counter)
    """Members by city."""
    done: int = 0
    """Rows with a result, applications, and decisions."""
    approvals: list[tuple[str, pb.ApproveApplicationRequest, str]] = field(default_factory=list)
    """Each with its city, and the member that came of it."""
    rows: dict[str, dict[int, str]] = field(default_factory=dict)
    """The member of each line of each roster."""
    repeats: int = 0
    """Calls that were made again."""
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    note: Callable[..., None] = lambda *_, **__: None
    """Keeps the history of a run."""

    def write(self, writer: str, *records: Record) -> None:
        """The states of records that an officer was answered at once; one thing is done."""
        for record in records:
            self.note("written", writer=writer, record=astuple(record))
            self.admitted[writer.partition("/")[0]] += record.name.startswith("members/")
        self.done += 1
        moved, self.moved = self.moved, asyncio.Event()
        moved.set()

    async def reach(self, count: int) -> None:
        """Wait until so much is done."""
        while self.done < count:
            await self.moved.wait()

    def list_rows(self, writer: str, found: pb.Roster, rows: list[pb.RosterRow]) -> None:
        """Rows of a roster as they are listed after `found` was shown.

        Raises:
            RowsLost: if fewer are listed than were counted, or one is not what it was.
        """
        held = self.rows.setdefault(found.name, {})
        listed = {row.line: row.record for row in rows}
        if len(listed) < found.done_rows:
            raise RowsLost(f"{found.done_rows:,} rows are done, {len(listed):,} have a result")
        wrong = [line for line, record in held.items() if listed.get(line) != record]
        if wrong:
            raise RowsLost(f"the result of {len(wrong):,} rows has changed: lines {wrong[:5]}")
        self.note("listed", roster=found.name, done=found.done_rows, rows=len(rows))
        for row in rows:
            if row.line not in held:
                if row.outcome != pb.RosterRow.ADMITTED:
                    raise AssertionError(f"line {row.line}: {row.reason} {row.message}")
                held[row.line] = row.record
                admitted = Record(row.record, found.organization, pb.Member.ACTIVE, 1)
                self.write(writer, admitted)


class Officer:
    """Calls membership of one node, and repeats what was not answered."""

    def __init__(self, node: Node, ledger: Ledger) -> None:
        self.node, self._ledger = node, ledger
        address = node.facts["grpc"]["membership"]
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self.stub: Any = membership_pb2_grpc.MembershipServiceStub(self._channel)
        self._metadata = node.metadata
        self._second = node.calling_as(DEPUTY)["metadata"]

    async def close(self) -> None:
        await self._channel.close()

    async def ask(self, request: Any) -> Any:
        """The answer to a request, whose name says what is asked."""
        method = getattr(self.stub, type(request).__name__.removesuffix("Request"))
        second = isinstance(request, DECIDING)  # who files does not decide
        metadata = self._second if second else self._metadata
        return await self.persist(lambda: method(request, metadata=metadata, timeout=5))

    async def persist(self, attempt: Callable[[], Any]) -> Any:
        """The result of the first attempt that is answered."""
        away = False
        while True:
            try:
                return await attempt()
            except grpc.aio.AioRpcError as error:
                if error.code() not in REPEATED:
                    raise
                if not away:
                    self._ledger.note(
                        "not answered", node=self.node.seat.code, code=error.code().name
                    )
                away = True
                self._ledger.repeats += 1
                await asyncio.sleep(0.1)

    async def member(self, name: str) -> pb.Member | None:
        """What the node says of one member; None if it does not know it."""
        try:
            answer: pb.Member = await self.ask(pb.GetMemberRequest(name=name))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise
        return answer

    async def streets(self) -> list[str]:
        """The names of the streets of the node's organisation, in order of code."""
        request = pb.ListOrganizationsRequest(
            parent=f"organizations/{self.node.seat.code}", subtree=True, page_size=PAGE
        )
        return [
            organization.name
            async for page in self._pages(request)
            for organization in page.organizations
            if organization.level == pb.Organization.TOWNSHIP
        ]

    async def records(self, street: str) -> list[Record]:
        """The members and applications of a street that the node lists, as often as it does."""
        members = pb.ListMembersRequest(parent=street, page_size=PAGE)
        applications = pb.ListApplicationsRequest(parent=street, page_size=PAGE)
        return [
            *[record(member) async for page in self._pages(members) for member in page.members],
            *[
                record(application)
                async for page in self._pages(applications)
                for application in page.applications
            ],
        ]

    async def _pages(self, request: Any) -> AsyncIterator[Any]:
        while True:
            page = await self.ask(request)
            yield page
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return

    async def rows(self, roster: str) -> list[pb.RosterRow]:
        request = pb.ListRosterRowsRequest(parent=roster, page_size=PAGE)
        return [row async for page in self._pages(request) for row in page.rows]

    async def apply(self, writer: str, street: str, person: Person) -> pb.Application:
        """Have a person apply."""
        applied: pb.Application = await self.ask(
            pb.CreateApplicationRequest(
                parent=street,
                application=pb.Application(
                    person=pb.Person(
                        full_name=person.full_name, id_number=person.id_number, phone=person.phone
                    )
                ),
                request_id=str(uuid4()),
            )
        )
        self._ledger.write(writer, record(applied))
        return applied

    async def admit(self, writer: str, street: str, person: Person) -> None:
        """Have a person apply, and approve it."""
        applied = await self.apply(writer, street, person)
        approval = pb.ApproveApplicationRequest(name=applied.name, request_id=str(uuid4()))
        answer = await self.ask(approval)
        self._ledger.approvals.append((self.node.seat.code, approval, answer.member))
        member = Record(answer.member, answer.organization, pb.Member.ACTIVE, 1)
        self._ledger.write(writer, record(answer), member)

    async def turn_down(self, writer: str, street: str, person: Person) -> None:
        """Have a person apply, and reject it."""
        applied = await self.apply(writer, street, person)
        rejection = pb.RejectApplicationRequest(
            name=applied.name, reason="材料不全", request_id=str(uuid4())
        )
        self._ledger.write(writer, record(await self.ask(rejection)))

    async def bring(self, writer: str, street: str, content: bytes) -> None:
        """Import a roster, and note its rows as they are counted as done."""
        created = await self.ask(
            pb.CreateRosterRequest(
                parent=street,
                roster=pb.Roster(
                    file_name="花名册.csv", size_bytes=len(content), sha256=sha256(content).digest()
                ),
                request_id=str(uuid4()),
            )
        )
        await self.persist(lambda: self._upload(created.name, content))
        await self.persist(lambda: self._checked(created.name))
        await self.ask(pb.CommitRosterRequest(name=created.name, request_id=str(uuid4())))
        await self.persist(lambda: self._follow(writer, created.name))

    async def _upload(self, name: str, content: bytes) -> None:
        """Go on where the upload ended."""
        begun = await self.ask(pb.GetRosterRequest(name=name))
        if begun.state != pb.Roster.UPLOADING:
            return

        async def parts() -> AsyncIterator[pb.UploadRosterRequest]:
            for at in range(begun.received_bytes, len(content), CHUNK):
                part = content[at : at + CHUNK]
                yield pb.UploadRosterRequest(name=name, offset=at, content=part)

        await self.stub.UploadRoster(parts(), metadata=self._metadata, timeout=10)

    def _watch(self, name: str) -> AsyncIterator[pb.Roster]:
        request = pb.WatchRosterRequest(name=name)
        watch: AsyncIterator[pb.Roster] = self.stub.WatchRoster(
            request, metadata=self._metadata, timeout=10
        )
        return watch

    async def _checked(self, name: str) -> None:
        found = [found async for found in self._watch(name)][-1]
        assert found.state == pb.Roster.PREVIEWED, found.refuse_message

    async def _follow(self, writer: str, name: str) -> None:
        async for found in self._watch(name):
            if found.done_rows:
                self._ledger.list_rows(writer, found, await self.rows(name))
            if found.state == pb.Roster.DONE:
                assert found.done_rows == found.total_rows, found
                return
            assert found.state == pb.Roster.IMPORTING, found.refuse_message


class Load:
    """In one city, two officers bring rosters and two decide on people, all at once."""

    def __init__(
        self, work: Work, officer: Officer, street: str, crowd: Crowd, ledger: Ledger
    ) -> None:
        self._officer, self._street, self._ledger = officer, street, ledger
        self._city = city = officer.node.seat.code
        rosters = [crowd.people(size, city) for size in work.rosters]
        self._rosters, self._sizes = deque(enumerate(rosters)), work.rosters
        singles = crowd.people(work.singles, city)
        self._singles, self._count = deque(enumerate(singles)), work.singles
        self._last = crowd.person(city)
        self.persons = [p.id_number for people in (*rosters, singles) for p in people]
        """ID numbers of the people who are brought."""
        self._limit, self._opened = 0.0, asyncio.Event()

    def allow(self, share: float) -> None:
        """Begin nothing beyond this share of the load: what strikes next finds something to do."""
        self._limit = share
        opened, self._opened = self._opened, asyncio.Event()
        opened.set()

    async def _allowed(self, share: float) -> None:
        while share > self._limit:
            await self._opened.wait()

    async def run(self) -> None:
        """Until everything is acknowledged.

        The last word is an admission: it is written after all else, in the same log; so a node that
        counts it at a certificate has come by everything that was written here.
        """
        async with asyncio.TaskGroup() as group:
            for number in (1, 2):
                group.create_task(self._import(f"{self._city}/rosters {number}"))
                group.create_task(self._decide(f"{self._city}/applications {number}"))
        await self._officer.admit(f"{self._city}/last", self._street, self._last)

    async def _import(self, writer: str) -> None:
        while self._rosters:
            place, people = self._rosters.popleft()
            await self._allowed(sum(self._sizes[:place]) / sum(self._sizes))
            approval = f"成工发〔2025〕{len(people)}号"
            content = roster(people, approval=approval, approved=date(2025, 3, 8))
            await self._officer.bring(writer, self._street, content)

    async def _decide(self, writer: str) -> None:
        while self._singles:
            place, person = self._singles.popleft()
            await self._allowed(place / self._count)
            decide = self._officer.turn_down if place % 4 == 3 else self._officer.admit
            await decide(writer, self._street, person)


class Reader:
    """Looks at a node again and again, and notes what it sees change there."""

    def __init__(self, officer: Officer, streets: Sequence[str], note: Callable[..., None]) -> None:
        self._officer, self._streets, self._note = officer, streets, note
        self._seen: dict[str, Record] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            for street in self._streets:
                self._look(street, {r.name: r for r in await self._officer.records(street)})
            await asyncio.sleep(LOOK)

    def _look(self, street: str, shown: Mapping[str, Record]) -> None:
        gone = [
            replace(record, version=0)
            for record in self._seen.values()
            if record.organization == street and record.name not in shown and record.version
        ]
        for record in (*shown.values(), *gone):
            if self._seen.get(record.name) != record:
                self._note("seen", node=self._officer.node.seat.code, record=astuple(record))
                self._seen[record.name] = record


def record(shown: pb.Member | pb.Application) -> Record:
    return Record(shown.name, shown.organization, shown.state, shown.version)
