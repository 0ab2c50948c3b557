"""Every method of officers is born guarded: one that forgets to ask whose records are answers
nothing, whatever kind of call it is."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import grpc
import pytest

from kit import interceptor
from kit.audit import acting
from kit.authority import Office, Role, scope
from kit.gate import AccessDenied, Doorkeeper, Gate
from kit.identity import Identity
from kit.interceptor import RefusalInterceptor
from kit.limits import Allowances, Limits
from kit.offices import Offices
from kit.status import refused
from kit.wire import CHANNEL_OPTIONS
from smartunion.membership.v1 import membership_pb2 as pb
from smartunion.membership.v1 import membership_pb2_grpc
from smartunion.membership.v1.membership_pb2_grpc import MembershipServiceServicer

PATH = "0.51"
OFFICE = Office(
    id=UUID(int=1), holder="officers/a", role=Role.CHAIR, path=PATH,
    begin_time=datetime(2026, 1, 1, tzinfo=UTC), end_time=None,
)  # fmt: skip


class Open:
    """A gate that knows who calls."""

    def __init__(self, expires: float, answers: float) -> None:
        """`answers`: how many of a stream the caller may have."""
        self.expires, self.answers = expires, answers

    async def admit(
        self, method: str, metadata: dict[str, str | bytes], peer: str, shown: str
    ) -> Identity:
        return Identity("officers/a", issuer="https://login.example.org", expires=self.expires)

    async def confirm(self, method: str, who: Identity) -> None:
        self.answers -= 1
        if self.answers < 0:
            raise AccessDenied(method=method, caller=who.name)


class Held(Offices):
    """One office of one officer, that can be taken away."""

    def __init__(self) -> None:
        super().__init__(None, UUID(int=0))  # type: ignore[arg-type]
        self._held = {"officers/a": [OFFICE]}

    def take_away(self) -> None:
        self._held = {}


class Forgetful(MembershipServiceServicer):
    """Asks nobody."""

    async def GetMember(self, request: Any, context: Any) -> pb.Member:  # noqa: N802
        return pb.Member(name="members/secret")

    async def WatchRoster(self, request: Any, context: Any) -> AsyncIterator[pb.Roster]:  # noqa: N802
        yield pb.Roster(name="rosters/secret")

    async def UploadRoster(self, requests: Any, context: Any) -> pb.Roster:  # noqa: N802
        return pb.Roster(name="rosters/secret")


class Careful(MembershipServiceServicer):
    """Asks, and goes on; after the first message the office is taken away."""

    def __init__(self, held: Held) -> None:
        self._held = held

    async def WatchRoster(self, request: Any, context: Any) -> AsyncIterator[pb.Roster]:  # noqa: N802
        scope.get().check(PATH)
        yield pb.Roster(name="rosters/1")
        self._held.take_away()
        yield pb.Roster(name="rosters/2")


class Lasting(MembershipServiceServicer):
    """Asks, sends one message, and then has nothing to say for ever; or hears for ever."""

    async def WatchRoster(self, request: Any, context: Any) -> AsyncIterator[pb.Roster]:  # noqa: N802
        scope.get().check(PATH)
        yield pb.Roster(name="rosters/1")
        await asyncio.Event().wait()

    async def UploadRoster(self, requests: Any, context: Any) -> pb.Roster:  # noqa: N802
        scope.get().check(PATH)
        async for _ in requests:
            pass
        return pb.Roster(name="rosters/1")


@asynccontextmanager
async def served(
    servicer: MembershipServiceServicer,
    held: Held,
    *,
    expires: float = math.inf,
    answers: float = math.inf,
) -> AsyncIterator[Any]:
    guard = RefusalInterceptor(
        domain="test",
        gate=cast(Any, Open(expires, answers)),
        doorkeeper=Doorkeeper(cast(Any, held), PATH),
        allowances=Allowances(Limits()),
    )
    server = grpc.aio.server(interceptors=[guard])
    membership_pb2_grpc.add_MembershipServiceServicer_to_server(servicer, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        yield membership_pb2_grpc.MembershipServiceStub(channel)
    await server.stop(None)


async def reason_of(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return refused(error.value).reason


async def test_a_method_that_forgets_to_ask_answers_nothing() -> None:
    async with served(cast(Any, Forgetful)(), Held()) as stub:
        assert await reason_of(stub.GetMember(pb.GetMemberRequest())) == "SCOPE_UNDECIDED"
        parts = iter([pb.UploadRosterRequest()])
        assert await reason_of(stub.UploadRoster(parts)) == "SCOPE_UNDECIDED"
        stream = aiter(stub.WatchRoster(pb.WatchRosterRequest()))
        assert await reason_of(anext(stream)) == "SCOPE_UNDECIDED"


async def test_a_stream_ends_with_the_office_by_which_it_began() -> None:
    held = Held()
    async with served(cast(Any, Careful)(held), held) as stub:
        stream = aiter(stub.WatchRoster(pb.WatchRosterRequest()))
        assert (await anext(stream)).name == "rosters/1"
        assert await reason_of(anext(stream)) == "OUTSIDE_SCOPE"


async def test_a_stream_ends_when_the_person_is_that_member_no_more() -> None:
    who = Identity("members/1", person="persons/1")
    bindings: Any = Bound({"persons/1": "members/1"})
    gate = Gate(cast(Any, None), cast(Any, None), cast(Any, None), bindings)
    await gate.confirm("/a.B/C", who)
    await gate.confirm("/a.B/C", Identity("officers/a"))  # whom a token names is who they are
    bindings.of.clear()
    with pytest.raises(AccessDenied):
        await gate.confirm("/a.B/C", who)
    async with served(cast(Any, Talking)(), Held(), answers=1) as stub:
        stream = aiter(stub.WatchRoster(pb.WatchRosterRequest()))
        assert (await anext(stream)).name == "rosters/1"
        assert await reason_of(anext(stream)) == "ACCESS_DENIED"


class Talking(MembershipServiceServicer):
    """Has something to say again and again."""

    async def WatchRoster(self, request: Any, context: Any) -> AsyncIterator[pb.Roster]:  # noqa: N802
        scope.get().check(PATH)
        while True:
            yield pb.Roster(name="rosters/1")


class Bound:
    """Which person is which member."""

    def __init__(self, of: dict[str, str]) -> None:
        self.of = of

    async def member(self, person: str) -> str | None:
        return self.of.get(person)


async def test_what_lasts_ends_soon_after_the_caller_may_call_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also while neither end has anything to say."""
    monkeypatch.setattr(interceptor, "CONFIRM_EVERY", 0.05)
    async with served(cast(Any, Lasting)(), Held(), answers=3) as stub:
        stream = aiter(stub.WatchRoster(pb.WatchRosterRequest()))
        assert (await anext(stream)).name == "rosters/1"
        assert await reason_of(anext(stream)) == "ACCESS_DENIED"
        assert await reason_of(stub.UploadRoster()) == "ACCESS_DENIED"


async def test_a_node_may_call_as_long_as_it_is_a_child() -> None:
    key: list[bytes | None] = [b"key"]

    async def child_key(child: UUID) -> bytes | None:
        return key[0] if child == UUID(int=7) else None

    nothing: Any = None
    gate = Gate(nothing, nothing, nothing, nothing, child_key=child_key)
    who = Identity(f"nodes/{UUID(int=7)}")
    await gate.confirm("/a.B/C", who)
    key[0] = None
    with pytest.raises(AccessDenied):
        await gate.confirm("/a.B/C", who)


async def test_what_lasts_ends_with_the_token_by_which_it_began() -> None:
    """And says where the next one is; what the client sent or got before it, it has."""
    async with served(cast(Any, Lasting)(), Held(), expires=time.time() + 0.5) as stub:
        stream = aiter(stub.WatchRoster(pb.WatchRosterRequest()))
        assert (await anext(stream)).name == "rosters/1"
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await anext(stream)
        told = refused(error.value)
        assert (told.code, told.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")
        assert told.metadata["issuer"] == "https://login.example.org"
        upload = stub.UploadRoster()
        with suppress(asyncio.InvalidStateError):
            await upload.write(pb.UploadRosterRequest())
        assert await reason_of(upload) == "TOKEN_EXPIRED"


class Revealing(MembershipServiceServicer):
    """Answers with a person, and says a purpose; whether that stands in the trail is up to the
    test."""

    def __init__(self, *, recorded: bool, purpose: str = "") -> None:
        self._recorded, self._purpose = recorded, purpose

    def _person(self) -> pb.Person:
        scope.get().check(PATH)
        act = acting.get()
        act.purpose, act.recorded = self._purpose, ("members/1",) if self._recorded else None
        return pb.Person(full_name="张三", id_number="11010519491231002X", phone="13800000000")

    async def RevealPerson(self, request: Any, context: Any) -> pb.Person:  # noqa: N802
        return self._person()

    async def GetMember(self, request: Any, context: Any) -> pb.Member:  # noqa: N802
        return pb.Member(person=self._person())

    async def WatchRoster(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        yield pb.Member(person=self._person())  # What is field 3 there, is a text in a roster.


async def test_nothing_is_clear_unless_the_trail_says_why_by_a_permission_to_reveal() -> None:
    revealing: Any = Revealing
    masked = pb.Person(full_name="张三", id_number="110105********002X", phone="138****0000")
    for servicer in (
        revealing(recorded=False), revealing(recorded=True),
        revealing(recorded=False, purpose="核对"),
    ):  # fmt: skip
        async with served(servicer, Held()) as stub:
            assert await stub.RevealPerson(pb.RevealPersonRequest()) == masked
    async with served(revealing(recorded=True, purpose="核对"), Held()) as stub:
        assert (await stub.RevealPerson(pb.RevealPersonRequest())).id_number == "11010519491231002X"
        assert (await stub.GetMember(pb.GetMemberRequest())).person == masked
        streamed = await anext(aiter(stub.WatchRoster(pb.WatchRosterRequest())))
        assert streamed.file_name.encode() == masked.SerializeToString()
