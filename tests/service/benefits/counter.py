"""A union's counter: a running service of benefits, and who comes to it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import asyncpg
import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit.db import Database
from kit.ids import uuid7
from kit.organizations import organization_id
from kit.sealing import FileKeys, Keyring
from kit.status import Refused, refused
from kit.tree import Organizations
from services.benefits.config import Settings
from services.benefits.store import Reads, Store
from services.benefits.subscriber import enrolling
from services.benefits.usecases import Means
from smartunion.benefits.v1 import benefits_pb2 as pb
from smartunion.benefits.v1 import benefits_pb2_grpc
from smartunion.event.v1 import log_pb2
from smartunion.membership.v1 import membership_pb2
from smartunion.membership.v1.records_pb2 import PublicState
from tests.callers import calling_as
from tests.offices import DEPUTY

OFFICER = "officers/li-na"
STREET = "510104017"
"""Of the members who come, unless a test says otherwise."""


@dataclass
class Counter:
    settings: Settings
    pool: "asyncpg.Pool[Any]"
    stubs: dict[str, Any]
    """By the full names of their services."""
    means: Means
    keyring: Keyring

    @classmethod
    async def open(
        cls, settings: Settings, channel: grpc.aio.Channel, pool: "asyncpg.Pool[Any]"
    ) -> "Counter":
        keyring = await Keyring.open(pool, FileKeys(settings.secrets / "data.key"))
        means = Means(
            database=Database(pool, lambda conn: Store(conn, keyring, settings.node)),
            reads=Reads(pool, keyring, settings.node), node=settings.node,
            home=await Organizations(pool).get(organization_id(settings.organization)),
            key=Ed25519PrivateKey.from_private_bytes(settings.secret("node.key")),
            card_valid=timedelta(days=30),
        )  # fmt: skip
        methods = pb.DESCRIPTOR.services_by_name.values()
        stubs = {
            method.name: getattr(benefits_pb2_grpc, f"{service.name}Stub")(channel)
            for service in methods
            for method in service.methods
        }
        return cls(settings, pool, stubs, means, keyring)

    def token(self, name: str) -> tuple[tuple[str, str], ...]:
        return calling_as(name, self.settings.secrets, self.settings.node)

    async def ask(self, request: Any, *, by: "str | UUID" = OFFICER) -> Any:
        """The answer to a request, whose name says what is asked; by a member, or whom it names."""
        method = type(request).__name__.removesuffix("Request")
        name = f"members/{by}" if isinstance(by, UUID) else by
        return await getattr(self.stubs[method], method)(request, metadata=self.token(name))

    async def refusal(self, request: Any, *, by: "str | UUID" = OFFICER) -> Refused:
        """The refusal of a request that is refused."""
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await self.ask(request, by=by)
        return refused(error.value)

    async def announce(
        self,
        members: Iterable[UUID],
        *,
        code: str = STREET,
        version: int = 1,
        left: bool = False,
        erased: bool = False,
    ) -> None:
        """What membership says of members, as it comes by its log."""
        state = membership_pb2.Member.LEFT if left else membership_pb2.Member.ACTIVE
        state = membership_pb2.Member.ERASED if erased else state
        public = PublicState(salt=bytes(16), organization=organization_id(code).bytes, state=state)
        entries = [
            log_pb2.Entry(
                kind="members", id=member.bytes, version=version,
                public=public.SerializeToString(),
            )
            for member in members
        ]  # fmt: skip
        async with self.pool.acquire() as conn, conn.transaction():
            await enrolling(self.means, self.keyring)(conn, entries)

    async def member(self, *, code: str = STREET) -> UUID:
        """A new member of this node."""
        member = uuid7()
        await self.announce([member], code=code)
        return member

    async def card(self, member: UUID) -> pb.MyCard:
        """A member's own card."""
        return cast(pb.MyCard, await self.ask(pb.GetMyCardRequest(), by=member))

    async def revoke(self, card: str, reason: str = "遗失") -> pb.Card:
        request = pb.RevokeCardRequest(name=card, reason=reason, request_id=str(uuid4()))
        return cast(pb.Card, await self.ask(request))

    async def events(self, record: str) -> list[str]:
        """The types of the events of a record, in their order."""
        rows = await self.pool.fetch(
            """
            SELECT event_type FROM (
                SELECT number, event_type, id FROM entries UNION ALL
                SELECT 1000000000 + position, event_type, id FROM outbox) entry
             WHERE id = $1 ORDER BY number
            """,
            UUID(record.rpartition("/")[2]),
        )  # fmt: skip
        return [row["event_type"].rpartition(".")[2] for row in rows]

    async def programme(
        self, stock: int = 10, *, parent: str = "organizations/51", **otherwise: Any
    ) -> pb.Programme:
        """A new programme that is open; `otherwise`: fields that are otherwise."""
        made = await self.ask(self.a_programme(stock, parent=parent, **otherwise))
        return cast(pb.Programme, await self.ask(self.opening(made), by=DEPUTY))

    def opening(self, programme: pb.Programme) -> pb.OpenProgrammeRequest:
        """The request that opens a draft."""
        return pb.OpenProgrammeRequest(name=programme.name, request_id=str(uuid4()))

    def a_programme(
        self, stock: int = 10, *, parent: str = "organizations/51", **otherwise: Any
    ) -> pb.CreateProgrammeRequest:
        """The request of one that is open for an hour."""
        now = self.means.clock()
        fields = {
            "title": "夏日送清凉", "face_value_fen": 2_000,
            "shares": [pb.Share(node=f"nodes/{self.settings.node}", stock=stock)],
            "claim_start_time": now - timedelta(hours=1),
            "claim_end_time": now + timedelta(hours=1),
            "use_by_time": now + timedelta(days=30), **otherwise,
        }  # fmt: skip
        programme = pb.Programme(**fields)
        return pb.CreateProgrammeRequest(
            parent=parent, programme=programme, request_id=str(uuid4())
        )

    async def claim(
        self, programme: pb.Programme, member: UUID, *, request_id: str = ""
    ) -> pb.MyCoupon:
        """A member's coupon."""
        request = pb.ClaimCouponRequest(
            programme=programme.name, request_id=request_id or str(uuid4())
        )
        return cast(pb.MyCoupon, await self.ask(request, by=member))
