"""Offices at services that are tested without membership beside them."""

from datetime import UTC, datetime
from uuid import UUID

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from kit import local
from kit.authority import Role
from kit.db import Connection, connect
from kit.ids import uuid7
from kit.organizations import organization_id
from kit.server import KIT_MIGRATIONS
from kit.wire import CHANNEL_OPTIONS
from smartunion.event.v1 import access_pb2, access_pb2_grpc, log_pb2
from smartunion.membership.v1.records_pb2 import PublicOffice

ALL = (Role.CHAIR, Role.NODE_OPERATOR)
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


async def appoint(
    conn: Connection, node: UUID, holder: str, code: str, *roles: Role,
    office: UUID | None = None, version: int = 1, until: datetime | None = None,
) -> UUID:  # fmt: skip
    """An office, as membership's log brings it; the last of several."""
    begin = Timestamp()
    begin.FromDatetime(SINCE)
    for role in roles or ALL:
        id_ = office or uuid7()
        public = PublicOffice(
            salt=bytes(16), holder=holder, organization=organization_id(code).bytes, role=role,
            begin_time=begin, end_time=until,
        )  # fmt: skip
        entry = log_pb2.Entry(
            kind="offices", id=id_.bytes, owner_epoch=1, version=version, hash=uuid7().bytes,
            public=public.SerializeToString(),
        )  # fmt: skip
        await local.put(conn, node, [entry])
    return id_


DEPUTY = "officers/deputy"


async def open_at(database_url: str, node: UUID, holder: str, code: str) -> None:
    """A database, which may be empty, in which one officer may do everything at the node, and the
    deputy decides what that one has filed."""
    async with connect(database_url, KIT_MIGRATIONS) as pool, pool.acquire() as conn:
        await appoint(conn, node, holder, code)
        await appoint(conn, node, DEPUTY, code, Role.MEMBERSHIP, Role.BENEFITS)


async def explained(
    address: str, metadata: tuple[tuple[str, str], ...], method: str, organization: str = ""
) -> access_pb2.Explanation:
    """What the service at an address says to who calls with `metadata`."""
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        request = access_pb2.ExplainAccessRequest(method=method, organization=organization)
        stub = access_pb2_grpc.AccessServiceStub(channel)
        return await stub.ExplainAccess(request, metadata=metadata)
