"""An officer's desk: a running service of membership, and how the officers call it."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import grpc
import pytest

from kit.status import Refused, refused
from services.membership.config import Settings
from smartunion.membership.v1 import membership_pb2 as pb
from tests.builders import a_member_row, an_applicant_row, an_id_number, sha256
from tests.callers import calling_as
from tests.offices import DEPUTY

if TYPE_CHECKING:
    from smartunion.membership.v1.membership_pb2_grpc import MembershipServiceAsyncStub

OFFICER = "officers/li-na"
HOME = "organizations/51"


@dataclass
class Desk:
    settings: Settings
    stub: "MembershipServiceAsyncStub"
    pool: "asyncpg.Pool[Any]"
    code: str
    """Of the street whose people come to this desk."""
    first: int
    """The number of the first of its people."""
    channel: grpc.aio.Channel

    @property
    def street(self) -> str:
        return f"organizations/{self.code}"

    @property
    def county(self) -> str:
        return f"organizations/{self.code[:6]}"

    def id_number(self, number: int) -> str:
        """The ID number of one of its people."""
        return an_id_number(self.first + number)

    def as_officer(self, name: str = OFFICER) -> tuple[tuple[str, str], ...]:
        return calling_as(name, self.settings.secrets, self.settings.node)

    async def ask(self, request: Any, *, officer: str = OFFICER) -> Any:
        """The answer to a request, whose name says what is asked."""
        method = type(request).__name__.removesuffix("Request")
        return await getattr(self.stub, method)(request, metadata=self.as_officer(officer))

    async def refusal(self, request: Any, *, officer: str = OFFICER) -> Refused:
        """The refusal of a request that is refused."""
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await self.ask(request, officer=officer)
        return refused(error.value)

    async def appoint(
        self, holder: str, organization: str, role: str = "CHAIR", **office: Any
    ) -> pb.Office:
        """A new office; `office`: its times."""
        answer: pb.Office = await self.ask(
            pb.AppointOfficerRequest(
                parent=organization, request_id=str(uuid4()),
                office=pb.Office(holder=holder, role=role, **office),
            )
        )  # fmt: skip
        return answer

    async def dismiss(self, office: pb.Office) -> pb.Office:
        answer: pb.Office = await self.ask(
            pb.DismissOfficerRequest(name=office.name, request_id=str(uuid4()))
        )
        return answer

    def an_application(
        self, number: int, *, parent: str = "", request_id: str | None = None, **person: str
    ) -> pb.CreateApplicationRequest:
        """The request of one of its people; `person`: what is otherwise."""
        known = {"full_name": "张三", "id_number": self.id_number(number), "phone": "13800000000"}
        return pb.CreateApplicationRequest(
            parent=parent or self.street,
            application=pb.Application(person=pb.Person(**{**known, **person})),
            request_id=str(uuid4()) if request_id is None else request_id,
        )

    async def apply(self, number: int, *, parent: str = "") -> pb.Application:
        """A new application of one of its people."""
        answer: pb.Application = await self.ask(self.an_application(number, parent=parent))
        return answer

    async def approve(self, application: pb.Application) -> pb.Application:
        answer: pb.Application = await self.ask(
            pb.ApproveApplicationRequest(name=application.name, request_id=str(uuid4())),
            officer=DEPUTY,
        )
        return answer

    async def announce(
        self, content: bytes, *, parent: str = "", file_name: str = "花名册"
    ) -> pb.Roster:
        """A roster that waits for its content."""
        roster = pb.Roster(file_name=file_name, size_bytes=len(content), sha256=sha256(content))
        answer: pb.Roster = await self.ask(
            pb.CreateRosterRequest(
                parent=parent or self.street,
                roster=roster,
                request_id=str(uuid4()),
            )
        )
        return answer

    async def upload(
        self, roster: pb.Roster, content: bytes, *, offset: int = 0, part: int = 2**20
    ) -> pb.Roster:
        parts = upload_parts(roster, content, offset=offset, part=part)
        answer: pb.Roster = await self.stub.UploadRoster(
            parts,
            metadata=self.as_officer(),
        )
        return answer

    async def watch(self, roster: pb.Roster) -> AsyncIterator[pb.Roster]:
        """What the watcher of an import sees."""
        request = pb.WatchRosterRequest(name=roster.name)
        async for seen in self.stub.WatchRoster(request, metadata=self.as_officer()):
            yield seen

    async def ended(self, roster: pb.Roster) -> pb.Roster:
        """The roster when its check or its import has ended."""
        async with asyncio.timeout(100):
            return [seen async for seen in self.watch(roster)][-1]

    async def check(self, content: bytes, *, parent: str = "") -> pb.Roster:
        """The roster after its check: nothing is changed yet."""
        roster = await self.announce(content, parent=parent)
        await self.upload(roster, content)
        return await self.ended(roster)

    async def commit(self, roster: pb.Roster) -> pb.Roster:
        """The roster, once it is checked, after its import: another officer commits it."""
        await self.ended(roster)
        request = pb.CommitRosterRequest(name=roster.name, request_id=str(uuid4()))
        await self.ask(request, officer=DEPUTY)
        return await self.ended(roster)

    async def bring(self, content: bytes, *, parent: str = "") -> pb.Roster:
        """The roster after its whole import; or refused as a whole."""
        checked = await self.check(content, parent=parent)
        return await self.commit(checked) if checked.state == pb.Roster.PREVIEWED else checked

    async def result(self, roster: pb.Roster) -> bytes:
        """The result file."""
        request = pb.DownloadRosterResultRequest(name=roster.name)
        parts = self.stub.DownloadRosterResult(request, metadata=self.as_officer())
        return b"".join([part.content async for part in parts])

    def member_rows(self, numbers: Iterable[int]) -> list[str]:
        return [a_member_row(self.first + number) for number in numbers]

    def applicant_rows(self, numbers: Iterable[int]) -> list[str]:
        return [an_applicant_row(self.first + number) for number in numbers]

    async def rows(
        self, roster: pb.Roster, outcome: "pb.RosterRow.Outcome | None" = None
    ) -> list[pb.RosterRow]:
        """The first 1,000 results."""
        request = pb.ListRosterRowsRequest(
            parent=roster.name,
            outcome=outcome,
            page_size=1000,
        )
        return list((await self.ask(request)).rows)

    async def count(self, table: str) -> int:
        found: int = await self.pool.fetchval(f"SELECT count(*) FROM {table}")
        return found


def upload_parts(
    roster: pb.Roster, content: bytes, *, offset: int = 0, part: int = 2**20
) -> Iterator[pb.UploadRosterRequest]:
    for place in range(offset, len(content), part):
        yield pb.UploadRosterRequest(
            name=roster.name, offset=place, content=content[place : place + part]
        )
