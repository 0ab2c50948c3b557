"""A counter (服务窗口): a running service of notify, and how officers and members call it."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from kit.copies import Copies
from kit.frames import Line
from kit.ids import uuid7
from kit.organizations import organization_id
from kit.records import group_hash, record_hash
from kit.roll import Roll
from kit.status import Refused, refused
from services.notify.config import Settings
from services.notify.subscriber import KINDS
from smartunion.event.v1 import log_pb2
from smartunion.membership.v1 import membership_pb2, records_pb2
from smartunion.notify.v1 import notify_pb2 as pb
from smartunion.notify.v1 import notify_pb2_grpc
from tests.callers import calling_as

OFFICER = "officers/li-na"
HOME = "organizations/51"


def in_days(days: float) -> Timestamp:
    """A time from now."""
    found = Timestamp()
    found.FromDatetime(datetime.now(UTC) + timedelta(days=days))
    return found


@dataclass
class Counter:
    settings: Settings
    channel: grpc.aio.Channel
    pool: "asyncpg.Pool[Any]"
    code: str
    """Of the street whose members come to this counter."""
    other_code: str
    """Of another street of the same county."""

    @property
    def street(self) -> str:
        return f"organizations/{self.code}"

    @property
    def other_street(self) -> str:
        return f"organizations/{self.other_code}"

    @property
    def county(self) -> str:
        return f"organizations/{self.code[:6]}"

    def as_(self, name: str) -> tuple[tuple[str, str], ...]:
        return calling_as(name, self.settings.secrets, self.settings.node)

    def stub(self, request: Any) -> Any:
        """Of the service that takes a request; its name says what is asked."""
        method = type(request).__name__.removesuffix("Request")
        for service in pb.DESCRIPTOR.services_by_name.values():
            if method in service.methods_by_name:
                stub = getattr(notify_pb2_grpc, f"{service.name}Stub")(self.channel)
                return getattr(stub, method)
        raise LookupError(method)

    async def ask(self, request: Any, *, by: str = OFFICER) -> Any:
        """The answer to a request."""
        return await self.stub(request)(request, metadata=self.as_(by))

    async def refusal(self, request: Any, *, by: str = OFFICER) -> Refused:
        """The refusal of a request that is refused."""
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await self.ask(request, by=by)
        return refused(error.value)

    async def refusal_of_stranger(self) -> None:
        """Fails unless the service answers somebody whom nobody vouches for."""
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await self.stub(pb.ListMyMessagesRequest())(pb.ListMyMessagesRequest())
        assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED

    async def member(self, code: str = "", *, active: bool = True, member: str = "") -> str:
        """A member of an organisation, as membership announces one; `member`: a known one."""
        id_ = UUID(member.removeprefix("members/")) if member else uuid7()
        states = membership_pb2.Member.State
        section = records_pb2.PublicState(
            salt=bytes(16), organization=organization_id(code or self.code).bytes,
            state=states.Value("ACTIVE" if active else "LEFT"),
        )  # fmt: skip
        entry = log_pb2.Entry(
            kind="members", id=id_.bytes, version=2 if member else 1,
            public=section.SerializeToString(),
        )  # fmt: skip
        async with self.pool.acquire() as conn:
            await Roll(conn).put([entry])
        return f"members/{id_}"

    def a_notice(
        self, *, parent: str = "", request_id: str | None = None, **notice: Any
    ) -> pb.CreateNoticeRequest:
        """The request for a notice to the street; `notice`: what is otherwise."""
        known = {
            "title": "五一放假",
            "text": "放假五天。\n请注意安全。",
            "expire_time": in_days(30),
        }
        return pb.CreateNoticeRequest(
            parent=parent or self.street, notice=pb.Notice(**{**known, **notice}),
            request_id=str(uuid4()) if request_id is None else request_id,
        )  # fmt: skip

    async def post(self, **notice: Any) -> pb.Notice:
        answer: pb.Notice = await self.ask(self.a_notice(**notice))
        return answer

    async def copy(
        self, kind: str, section: Any, *, origin: UUID, id_: UUID | None = None, version: int = 1
    ) -> UUID:
        """A copy of a record of another node, as it is written when its frame is applied."""
        declared = next(one for one in KINDS if one.name == kind)
        copies = Copies(self.pool, self.settings.node, "notify", KINDS, self.channel, ())
        section.salt, record = os.urandom(16), id_ or uuid7()
        public = section.SerializeToString(deterministic=True)
        hash_ = record_hash(kind, record, 1, version, {"public": group_hash(public)})
        line = Line(1, kind, record, 1, version, hash_, public)
        async with self.pool.acquire() as conn, conn.transaction():
            await copies.apply(conn, origin, declared.channel, [line])
            parked = await conn.fetchval("SELECT count(*) FROM parked WHERE id = $1", record)
        assert not parked
        return record

    async def raise_(self, text: str = "食堂太贵。", *, by: str = "") -> pb.Voice:
        """A voice of a member; of a new one if none is given."""
        request = pb.RaiseVoiceRequest(text=text, request_id=str(uuid4()))
        answer: pb.Voice = await self.ask(request, by=by or await self.member())
        return answer

    async def answer(self, voice: str, text: str = "下月起降价。") -> pb.Voice:
        answer: pb.Voice = await self.ask(pb.AnswerVoiceRequest(name=voice, text=text))
        return answer

    async def close(self, voice: str, reason: str = "已解决") -> pb.Voice:
        answer: pb.Voice = await self.ask(pb.CloseVoiceRequest(name=voice, reason=reason))
        return answer

    async def inbox(self, member: str, **request: Any) -> list[pb.Message]:
        """What a member finds, newest first."""
        answer = await self.ask(pb.ListMyMessagesRequest(**request), by=member)
        return list(answer.messages)

    async def titles(self, member: str) -> list[str]:
        """Of the notices that a member finds."""
        return [one.title for one in await self.inbox(member) if one.kind == pb.Message.NOTICE]
