"""Officers at work through the public API, and the ledger of what they were answered.

A call whose answer did not come is repeated with the same request_id.  Only an answer counts: a row
once it is listed with its result, an approval once it is answered.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from typing import Any
from uuid import uuid4

import grpc

from kit.rpc import CHANNEL_OPTIONS
from node.network import Node
from node.people import Crowd, Person, roster
from smartunion.membership.v1 import membership_pb2 as pb
from smartunion.membership.v1 import membership_pb2_grpc
from tests.faults.checker import Record
from tests.faults.schedules import CITY, Plan

REPEATED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
PAGE = 1_000
CHUNK = 16 * 1024


class RowsLost(AssertionError):
    """Rows that were counted as done have no result, or another one than before."""


@dataclass
class Ledger:
    """What was answered, in the order of the answers.  It outlives every victim."""

    members: dict[str, str] = field(default_factory=dict)
    """The organisation of each member."""
    approvals: list[tuple[pb.ApproveApplicationRequest, str]] = field(default_factory=list)
    """Each, and the member that came of it."""
    rows: dict[str, dict[int, str]] = field(default_factory=dict)
    """The member of each line of each roster."""
    repeats: int = 0
    """Calls that were made again."""
    persons: list[str] = field(default_factory=list)
    """ID numbers of people who were brought."""
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    note: Callable[..., None] = lambda *_, **__: None
    """Keeps the history of a run."""

    def admit(self, member: str, organization: str) -> None:
        self.members[member] = organization
        moved, self.moved = self.moved, asyncio.Event()
        moved.set()

    async def reach(self, count: int) -> None:
        """Wait until so many members were acknowledged."""
        while len(self.members) < count:
            await self.moved.wait()

    def list_rows(self, found: pb.Roster, rows: list[pb.RosterRow]) -> None:
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
                self.admit(row.record, found.organization)


class Officer:
    """Calls membership of one node, and repeats what was not answered."""

    def __init__(self, node: Node, ledger: Ledger) -> None:
        self.node, self._ledger = node, ledger
        address = node.facts["grpc"]["membership"]
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self.stub: Any = membership_pb2_grpc.MembershipServiceStub(self._channel)
        self._metadata = node.metadata

    async def close(self) -> None:
        await self._channel.close()

    async def ask(self, request: Any) -> Any:
        """The answer to a request, whose name says what is asked."""
        method = getattr(self.stub, type(request).__name__.removesuffix("Request"))
        return await self.persist(lambda: method(request, metadata=self._metadata, timeout=5))

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
                    self._ledger.note("not answered", code=error.code().name)
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

    async def members(self) -> list[Record]:
        """Every member that the node lists, as often as it lists them."""
        request = pb.ListMembersRequest(
            parent=f"organizations/{self.node.seat.code}", page_size=PAGE
        )
        found: list[Record] = []
        while True:
            page = await self.ask(request)
            found += [record(member) for member in page.members]
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return found

    async def rows(self, roster: str) -> list[pb.RosterRow]:
        request = pb.ListRosterRowsRequest(parent=roster, page_size=PAGE)
        found: list[pb.RosterRow] = []
        while True:
            page = await self.ask(request)
            found += page.rows
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return found

    async def admit(self, street: str, person: Person) -> None:
        """Have a person apply, and approve it."""
        applied = await self.ask(
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
        approval = pb.ApproveApplicationRequest(name=applied.name, request_id=str(uuid4()))
        answer = await self.ask(approval)
        self._ledger.note("approved", application=applied.name, member=answer.member)
        self._ledger.approvals.append((approval, answer.member))
        self._ledger.admit(answer.member, answer.organization)

    async def bring(self, content: bytes) -> None:
        """Import a roster, and note its rows as they are counted as done."""
        created = await self.ask(
            pb.CreateRosterRequest(
                parent=f"organizations/{CITY}",
                roster=pb.Roster(
                    file_name="花名册.csv", size_bytes=len(content), sha256=sha256(content).digest()
                ),
                request_id=str(uuid4()),
            )
        )
        await self.persist(lambda: self._upload(created.name, content))
        await self.persist(lambda: self._follow(created.name))

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

    async def _follow(self, name: str) -> None:
        watch = self.stub.WatchRoster(
            pb.WatchRosterRequest(name=name), metadata=self._metadata, timeout=10
        )
        async for found in watch:
            if found.done_rows:
                self._ledger.list_rows(found, await self.rows(name))
            if found.state == pb.Roster.DONE:
                assert found.done_rows == found.total_rows, found
                return
            assert found.state == pb.Roster.IMPORTING, found.refuse_message


class Load:
    """Two officers bring rosters, two approve people, all at once."""

    def __init__(self, plan: Plan, officer: Officer, crowd: Crowd, ledger: Ledger) -> None:
        self._officer, self._ledger = officer, ledger
        rosters = [crowd.people(size, CITY) for size in plan.rosters]
        self._rosters, self._sizes = deque(enumerate(rosters)), plan.rosters
        singles = crowd.people(plan.singles, CITY)
        self._singles, self._count = deque(enumerate(singles)), plan.singles
        for people in (*rosters, singles):
            ledger.persons += [person.id_number for person in people]
        self._limit, self._opened = 0.0, asyncio.Event()
        self.seconds = 0.0

    def allow(self, share: float) -> None:
        """Begin nothing beyond this share of the load: what strikes next finds something to do."""
        self._limit = share
        opened, self._opened = self._opened, asyncio.Event()
        opened.set()

    async def _allowed(self, share: float) -> None:
        while share > self._limit:
            await self._opened.wait()

    async def run(self) -> None:
        """Until everything is acknowledged."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._import())
            group.create_task(self._import())
            group.create_task(self._approve())
            group.create_task(self._approve())
        self.seconds = round(time.monotonic() - began, 1)

    async def _import(self) -> None:
        while self._rosters:
            place, people = self._rosters.popleft()
            await self._allowed(sum(self._sizes[:place]) / sum(self._sizes))
            approval = f"成工发〔2025〕{len(people)}号"
            await self._officer.bring(roster(people, approval=approval, approved=date(2025, 3, 8)))

    async def _approve(self) -> None:
        street = "organizations/510104"
        while self._singles:
            place, person = self._singles.popleft()
            await self._allowed(place / self._count)
            await self._officer.admit(street, person)


def record(member: pb.Member) -> Record:
    return Record(member.name, member.organization, member.state, member.version)
