"""A whole node, and officers of every kind at every method: who is let in, and who is not."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from kit import db
from kit.authority import Role, is_within
from kit.copies import Copies
from kit.frames import Line
from kit.gate import rule_of
from kit.ids import uuid7
from kit.organizations import organization_id
from kit.records import group_hash, record_hash
from kit.status import Refused, refused
from kit.wire import CHANNEL_OPTIONS
from node import ports
from node.databases import as_owner
from node.issuer import DevelopmentIssuer
from services.benefits import __main__ as benefits
from services.benefits.config import Settings as BenefitsSettings
from services.membership import __main__ as membership
from services.membership.config import Settings
from services.membership.subscriber import KINDS
from services.notify import __main__ as notify
from services.notify.config import Settings as NotifySettings
from services.sync import __main__ as sync
from services.sync.config import Settings as SyncSettings
from services.sync.domain.streams import StreamMalformed
from services.sync.usecases.messages import key_of
from smartunion.benefits.v1 import benefits_pb2, benefits_pb2_grpc
from smartunion.event.v1 import access_pb2, access_pb2_grpc
from smartunion.membership.v1 import (
    identity_pb2,
    identity_pb2_grpc,
    membership_pb2,
    membership_pb2_grpc,
    privacy_pb2,
    privacy_pb2_grpc,
)
from smartunion.membership.v1.records_pb2 import PublicOffice
from smartunion.notify.v1 import notify_pb2, notify_pb2_grpc
from smartunion.sync.v1 import directive_pb2, directive_pb2_grpc, frame_pb2, sync_pb2, sync_pb2_grpc
from tests import offices
from tests.builders import an_id_number, sha256
from tests.callers import calling_as
from tests.eventually import eventually
from tests.offices import DEPUTY
from tests.roles import on
from tests.service.changes import NOT_ALONE, Changes
from tests.service.conftest import make_settings

SERVED: dict[str, list[tuple[Any, Any]]] = {
    "membership": [
        (membership_pb2, membership_pb2_grpc),
        (identity_pb2, identity_pb2_grpc),
        (privacy_pb2, privacy_pb2_grpc),
    ],
    "benefits": [(benefits_pb2, benefits_pb2_grpc)],
    "notify": [(notify_pb2, notify_pb2_grpc)],
    "sync": [(sync_pb2, sync_pb2_grpc), (directive_pb2, directive_pb2_grpc)],
}
STREET, LOOK_ALIKE, SIBLING = "510104017", "51010401", "510108"
"""The path of a record in the street begins with that of the look-alike, which is not above it."""
CHAIR = "officers/li-na"
STRANGERS = {"sibling": SIBLING, "look-alike": LOOK_ALIKE}
COUNTY = "officers/county"
SECOND = "officers/county-2"
"""Two decide: of the county as of the node."""


def methods(
    *accesses: access_pb2.Access,
) -> Iterator[tuple[str, MethodDescriptor]]:
    """Every method that is open to officers, or to others, with the service that serves it."""
    for service, modules in SERVED.items():
        for module, _ in modules:
            for described in module.DESCRIPTOR.services_by_name.values():
                for method in described.methods:
                    access = rule_of(described.full_name, method.name).access
                    if access in (accesses or (access_pb2.OFFICER,)):
                        yield service, method


METHODS = list(methods())
PEOPLE = (access_pb2.OFFICER, access_pb2.MEMBER, access_pb2.MERCHANT, access_pb2.PERSON)
READING = ("Download", "Export", "Get", "List", "Search", "Verify", "Watch")


@dataclass
class Node:
    """A node whose four services run."""

    settings: dict[str, Any]
    channels: dict[str, grpc.aio.Channel]
    pools: "dict[str, asyncpg.Pool[Any]]"
    records: dict[str, str] = field(default_factory=dict)
    """The names of what its chair has made in the street."""

    def metadata(self, caller: str) -> tuple[tuple[str, str], ...]:
        settings = self.settings["membership"]
        return calling_as(caller, settings.secrets, settings.node)

    async def ask(self, request: Any, *, by: str = CHAIR) -> Any:
        """The answer to a request, whose name says what is asked; the first of a stream."""
        name = type(request).__name__.removesuffix("Request")
        for service, modules in SERVED.items():
            for module, stubs in modules:
                for described in module.DESCRIPTOR.services_by_name.values():
                    if name in described.methods_by_name:
                        stub = getattr(stubs, f"{described.name}Stub")(self.channels[service])
                        metadata = self.metadata(by) if by else ()
                        return await answered(
                            getattr(stub, name), described.methods_by_name[name], request, metadata
                        )
        raise LookupError(name)

    async def refusal(self, request: Any, *, by: str) -> Refused | None:
        """Why a request is refused; None if it is not."""
        try:
            await self.ask(request, by=by)
        except grpc.aio.AioRpcError as error:
            return refused(error)
        return None

    async def appoint(self, holder: str, code: str, *roles: Role) -> None:
        """At all four services, as if membership had announced it."""
        for pool in self.pools.values():
            async with pool.acquire() as conn:
                node = self.settings["membership"].node
                await offices.appoint(conn, node, holder, code, *roles)


async def answered(call: Any, method: MethodDescriptor, request: Any, metadata: Any) -> Any:
    if method.client_streaming:
        return await call(iter([request]), metadata=metadata, timeout=20)
    if not method.server_streaming:
        return await call(request, metadata=metadata, timeout=20)
    stream = call(request, metadata=metadata, timeout=20)
    try:
        return await anext(aiter(stream))
    finally:
        stream.cancel()


@pytest.fixture(scope="module")
async def node(
    postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Node]:
    folder = tmp_path_factory.mktemp("whole")
    first = await make_settings(postgres, template, folder)
    addresses = {name: f"127.0.0.1:{ports.free()}" for name in SERVED}
    urls = {"membership": first.database_url}
    conn = await asyncpg.connect(postgres)
    for name in ("benefits", "notify", "sync"):
        urls[name] = on(postgres, f"{name}_{uuid4().hex}")
        await conn.execute(f"CREATE DATABASE {urls[name].rpartition('/')[2]} TEMPLATE {template}")
    await conn.close()
    kinds: dict[str, Any] = {
        "membership": Settings, "benefits": BenefitsSettings, "notify": NotifySettings,
        "sync": SyncSettings,
    }  # fmt: skip
    same = first.model_dump(exclude={"first_officer", "privacy_texts"}) | {"peers": addresses}
    settings = {
        name: kind(**same | {"database_url": urls[name], "listen": addresses[name]})
        for name, kind in kinds.items()
    }
    settings["membership"] = settings["membership"].model_copy(
        update={"first_officer": CHAIR.removeprefix("officers/")}
    )
    async with AsyncExitStack() as stack:
        stop = asyncio.Event()
        served = [
            asyncio.create_task(module.serve(settings[name], stop))
            for name, module in (
                ("membership", membership), ("benefits", benefits), ("notify", notify),
                ("sync", sync),
            )
        ]  # fmt: skip
        channels = {
            name: await stack.enter_async_context(
                grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
            )
            for name, address in addresses.items()
        }
        pools = {
            name: await stack.enter_async_context(
                asyncpg.create_pool(as_owner(url), min_size=1, max_size=1)
            )
            for name, url in urls.items()
        }
        node = Node(settings, channels, pools)
        try:
            await people(node)
            yield node
        finally:
            stop.set()
            await asyncio.gather(*served)


async def people(node: Node) -> None:
    """Records of the street, and officers who have nothing to do with it."""
    for request in (sync_pb2.GetNodeRequest(), notify_pb2.ListNoticesRequest(
        parent=f"organizations/{STREET}"), benefits_pb2.ListProgrammesRequest(),
        membership_pb2.GetOrganizationRequest(name="organizations/51"),
    ):  # fmt: skip
        await eventually(lambda request=request: node.ask(request))  # type: ignore[misc]
    await record(node)
    for pool in node.pools.values():
        for code, path in ((LOOK_ALIKE, f"0.51.5101.510104.{LOOK_ALIKE}"), ("5", "0.5")):
            await pool.execute(
                """
                INSERT INTO organizations (id, code, display_name, level, path)
                VALUES ($1, $2, $2, 5, $3)
                """,
                organization_id(code), code, path,
            )  # fmt: skip
        await pool.execute(  # sync holds but what is above; it would not know these offices at all
            """
            INSERT INTO organizations (id, code, display_name, level, path)
            VALUES ($1, $2, $2, 4, $3) ON CONFLICT DO NOTHING
            """,
            organization_id(SIBLING), SIBLING, f"0.51.5101.{SIBLING}",
        )  # fmt: skip
    everything = tuple(Role)
    for name, code in STRANGERS.items():
        await node.appoint(f"officers/{name}", code, *everything)
    await node.appoint("officers/look-alike", "5", *everything)
    await node.appoint(COUNTY, "510104", *everything)
    await node.appoint(SECOND, "510104", *everything)
    for name in (*STRANGERS, "county", "county-2"):

        async def known(by: str = f"officers/{name}") -> None:
            for service, described in (
                ("membership", "smartunion.membership.v1.MembershipService.GetMember"),
                ("benefits", "smartunion.benefits.v1.BenefitsService.GetCard"),
                ("notify", "smartunion.notify.v1.NotifyService.GetVoice"),
                ("sync", "smartunion.sync.v1.SyncService.GetNode"),
            ):
                found = await offices.explained(
                    node.settings[service].listen, node.metadata(by), described,
                    "organizations/51",
                )  # fmt: skip
                assert found.finding == access_pb2.Explanation.ELSEWHERE

        await eventually(known)


async def record(node: Node) -> None:
    made, street = node.records, f"organizations/{STREET}"

    def applying(number: int) -> membership_pb2.CreateApplicationRequest:
        person = membership_pb2.Person(full_name="张三", id_number=an_id_number(number))
        application = membership_pb2.Application(person=person)
        return membership_pb2.CreateApplicationRequest(parent=street, application=application)

    made["applications"] = (await node.ask(applying(1))).name
    approved = (await node.ask(applying(2))).name
    request = membership_pb2.ApproveApplicationRequest(name=approved)
    made["members"] = (await node.ask(request, by=DEPUTY)).member
    made["rosters"] = (
        await node.ask(
            membership_pb2.CreateRosterRequest(
                parent=street,
                roster=membership_pb2.Roster(file_name="a", size_bytes=9, sha256=sha256(b"")),
            )
        )
    ).name
    office = membership_pb2.Office(holder="officers/x", role="AUDITOR")
    appointing = membership_pb2.AppointOfficerRequest(parent=street, office=office)
    made["offices"] = (await node.ask(appointing)).name
    made["programmes"] = (await node.ask(a_programme(node, street))).name
    made["notices"] = (await node.ask(a_notice(street))).name

    async def carded() -> None:
        found = await node.ask(benefits_pb2.ListCardsRequest(parent=street))
        assert len(found.cards) == 1
        made["cards"] = found.cards[0].name

    async def raised() -> None:
        request = notify_pb2.RaiseVoiceRequest(text="食堂太贵。")
        made["voices"] = (await node.ask(request, by=made["members"])).name

    await eventually(carded)
    await eventually(raised)
    leaving = (await node.ask(applying(4))).name
    request = membership_pb2.ApproveApplicationRequest(name=leaving)
    made["leaving"] = (await node.ask(request, by=DEPUTY)).member


def a_programme(node: Node, parent: str) -> Any:
    now = datetime.now(UTC)
    return benefits_pb2.CreateProgrammeRequest(
        parent=parent,
        programme=benefits_pb2.Programme(
            title="夏日送清凉", face_value_fen=100, claim_start_time=now,
            claim_end_time=now + timedelta(days=1), use_by_time=now + timedelta(days=2),
            shares=[
                benefits_pb2.Share(node=f"nodes/{node.settings['membership'].node}", stock=1)
            ],
        ),
    )  # fmt: skip


def a_notice(parent: str) -> Any:
    notice = notify_pb2.Notice(
        title="放假", text="放假一天。", expire_time=datetime.now(UTC) + timedelta(days=1)
    )
    return notify_pb2.CreateNoticeRequest(parent=parent, notice=notice)


COLLECTIONS = {
    "GetApplication": "applications", "ApproveApplication": "applications",
    "RejectApplication": "applications", "GetMember": "members", "UploadRoster": "rosters",
    "GetRoster": "rosters", "WatchRoster": "rosters", "ListRosterRows": "rosters",
    "CommitRoster": "rosters", "DiscardRoster": "rosters", "DownloadRosterResult": "rosters",
    "DismissOfficer": "offices", "UnbindIdentity": "members", "IssueCard": "members",
    "RevokeCard": "cards", "GetCard": "cards", "GetProgramme": "programmes",
    "OpenProgramme": "programmes", "GetNotice": "notices",
    "GetVoice": "voices", "PassOnVoice": "voices", "AnswerVoice": "voices",
    "CloseVoice": "voices", "EndMembership": "leaving", "RevealPerson": "members",
}  # fmt: skip
"""Whose name a request bears; the parent of the others is the street."""
SHOWING = ("SearchMembers", "ListProgrammes")
"""What asks for no organisation, and shows of all that there is what the caller may see."""


def a_request(node: Node, method: MethodDescriptor) -> Any:
    """One that is about a record of the street, or about the node."""
    street = f"organizations/{STREET}"
    office = membership_pb2.Office(holder="officers/y", role="AUDITOR")
    whole: dict[str, Any] = {
        "CreateProgramme": a_programme(node, street),
        "CreateNotice": a_notice(street),
        "AppointOfficer": membership_pb2.AppointOfficerRequest(parent=street, office=office),
        "SearchMembers": membership_pb2.SearchMembersRequest(id_number=an_id_number(2)),
        "EraseMember": membership_pb2.EraseMemberRequest(
            name=node.records["leaving"], ground="PURPOSE_ENDED"
        ),
    }
    if method.name in whole:
        return whole[method.name]
    request: Any = GetMessageClass(method.input_type)()
    if method.name == "CreateApplication":
        request.application.person.full_name = "李四"
        request.application.person.id_number = an_id_number(3)
    fields = method.input_type.fields_by_name
    if method.name in COLLECTIONS:
        place = next(name for name in ("name", "parent", "member") if name in fields)
        setattr(request, place, node.records[COLLECTIONS[method.name]])
    elif method.name == "GetOrganization":
        request.name = street
    elif "parent" in fields and fields["parent"].type == 9 and "directive" not in method.full_name:
        request.parent = street
    return request


def rule(method: MethodDescriptor) -> Any:
    return rule_of(method.containing_service.full_name, method.name)


@pytest.mark.parametrize(("service", "method"), METHODS, ids=[one.name for _, one in METHODS])
async def test_nobody_is_let_in_without_an_office_that_covers_what_it_is_about(
    node: Node, service: str, method: MethodDescriptor
) -> None:
    request = a_request(node, method)
    told = await node.refusal(request, by="")
    assert told and told.code is grpc.StatusCode.UNAUTHENTICATED
    for by, reason in (
        ("officers/nobody", "NO_OFFICE"), (node.records["members"], "NO_OFFICE"),
        ("merchants/x", "ACCESS_DENIED"), ("persons/x", "ACCESS_DENIED"),
        ("services/sync", "ACCESS_DENIED"),
    ):  # fmt: skip
        told = await node.refusal(request, by=by)
        assert told, f"{by} is let in"
        assert (told.code, told.reason) == (grpc.StatusCode.PERMISSION_DENIED, reason)
    for stranger in STRANGERS:
        by = f"officers/{stranger}"
        if method.name in SHOWING:
            assert not (await node.ask(request, by=by)).ListFields()
        elif rule(method).place != access_pb2.ANYWHERE:
            told = await node.refusal(request, by=by)
            assert told, f"{by} is let in"
            assert (told.code, told.reason) == (
                grpc.StatusCode.PERMISSION_DENIED, "OUTSIDE_SCOPE",
            )  # fmt: skip
    if rule(method).place == access_pb2.HOME:
        told = await node.refusal(request, by=COUNTY)
        assert told and told.reason == "OUTSIDE_SCOPE"


@pytest.mark.parametrize(("service", "method"), METHODS, ids=[one.name for _, one in METHODS])
async def test_the_right_officer_is_let_in(
    node: Node, service: str, method: MethodDescriptor
) -> None:
    by = CHAIR if rule(method).place == access_pb2.HOME else COUNTY
    told = await node.refusal(a_request(node, method), by=by)
    assert told is None or told.code is not grpc.StatusCode.PERMISSION_DENIED, told


AT_EACH: dict[str, Any] = {
    "membership": membership_pb2.ListMembersRequest(parent="organizations/51"),
    "benefits": benefits_pb2.ListCardsRequest(parent="organizations/51"),
    "notify": notify_pb2.ListNoticesRequest(parent="organizations/51"),
    "sync": sync_pb2.GetNetworkRequest(),
}


async def test_who_serves_owns_nothing_and_every_key_is_behind_a_wall(node: Node) -> None:
    for name, settings in node.settings.items():
        async with db.connect(settings.database_url) as pool:  # or WallMissing
            rights = await pool.fetch(
                """
                SELECT table_name, privilege_type FROM information_schema.table_privileges
                 WHERE grantee = current_user
                   AND (table_name LIKE 'audit%' OR privilege_type NOT IN
                        ('SELECT', 'INSERT', 'UPDATE', 'DELETE'))
                """
            )
            for table in ("audit", "audit_heads"):
                assert {one for found, one in rights if found == table} == {"SELECT", "INSERT"}
            assert not {one for _, one in rights} - {"SELECT", "INSERT", "UPDATE", "DELETE"}, name
            assert await pool.fetchval("SELECT row_security_active('data_keys')"), name
            assert not await pool.fetch("SELECT FROM data_keys"), name
            with db.reaching(db.everything):
                assert len(await pool.fetch("SELECT FROM data_keys")) >= 2, name


async def test_who_is_appointed_acts_at_every_service_until_dismissed(node: Node) -> None:
    chair = f"officers/{uuid4()}"
    office = membership_pb2.Office(holder=chair, role="CHAIR")
    made = await node.ask(
        membership_pb2.AppointOfficerRequest(parent="organizations/51", office=office)
    )

    async def everywhere() -> None:
        for request in AT_EACH.values():
            await node.ask(request, by=chair)

    async def nowhere() -> None:
        for service, request in AT_EACH.items():
            told = await node.refusal(request, by=chair)
            assert told and told.reason == "NO_OFFICE", service

    await eventually(everywhere, within=5)
    await node.ask(membership_pb2.DismissOfficerRequest(name=made.name))
    await eventually(nowhere, within=5)


async def test_a_person_is_the_member_they_are_bound_to_at_every_service_until_unbound(
    node: Node,
) -> None:
    person, (bind, _) = "persons/13912345678", await Changes(node).BindIdentity()
    other, mine = "persons/13987654321", notify_pb2.ListMyMessagesRequest()
    for stranger in (person, other):
        told = await node.refusal(mine, by=stranger)
        assert told and told.reason == "ACCESS_DENIED"
    bound = await node.ask(bind, by=person)

    async def everywhere() -> None:
        await node.ask(mine, by=person)
        await node.ask(benefits_pb2.ListMyCouponsRequest(), by=person)

    await eventually(everywhere)
    told = await node.refusal(mine, by=other)
    assert told and told.reason == "ACCESS_DENIED"
    office = membership_pb2.Office(holder=bound.member, role="CHAIR")
    made = await node.ask(
        membership_pb2.AppointOfficerRequest(parent="organizations/51", office=office)
    )

    async def chairs() -> None:
        for request in AT_EACH.values():
            await node.ask(request, by=person)

    await eventually(chairs)
    explained = await offices.explained(
        node.settings["notify"].listen, node.metadata(person),
        "smartunion.notify.v1.NotifyService.ListNotices", "organizations/51",
    )  # fmt: skip
    assert (explained.finding, explained.office) == (access_pb2.Explanation.ALLOWED, made.name)
    await node.ask(membership_pb2.DismissOfficerRequest(name=made.name))
    await node.ask(identity_pb2.UnbindIdentityRequest(member=bound.member))

    async def nowhere() -> None:
        for request in (mine, *AT_EACH.values()):
            told = await node.refusal(request, by=person)
            assert told and told.reason == "ACCESS_DENIED"

    await eventually(nowhere)
    for pool in node.pools.values():  # nor was it ever written down whom the issuer means
        assert not await holding(pool, "13912345678")


async def holding(pool: Any, text: str) -> list[str]:
    """The tables of a database in which a text stands."""
    tables = await pool.fetch(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    )
    return [
        name for (name,) in tables
        if await pool.fetchval(f"SELECT count(*) FROM {name} row WHERE row::text LIKE '%{text}%'")
    ]  # fmt: skip


async def test_what_decides_who_may_asks_for_a_login_of_the_last_minutes(node: Node) -> None:
    settings, office = node.settings["membership"], node.records["offices"]
    issuer = DevelopmentIssuer(settings.secrets, settings.node)
    stub = membership_pb2_grpc.MembershipServiceStub(node.channels["membership"])
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    for token in (issuer.token(CHAIR), issuer.token(CHAIR, at=hour_ago, step_up=True)):
        metadata = (("authorization", f"Bearer {token}"),)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.DismissOfficer(
                membership_pb2.DismissOfficerRequest(name=office), metadata=metadata
            )
        told = refused(error.value)
        assert told.code is grpc.StatusCode.UNAUTHENTICATED
        assert told.reason == "INSUFFICIENT_USER_AUTHENTICATION"
        assert (told.metadata["max_age"], told.metadata["acr_values"]) == ("600", "")
        method = "smartunion.membership.v1.MembershipService.DismissOfficer"
        said = await offices.explained(settings.listen, metadata, method, "organizations/51")
        assert said.step_up and said.finding == access_pb2.Explanation.ALLOWED


async def test_what_a_restored_membership_no_longer_knows_is_taken_away_elsewhere(
    node: Node,
) -> None:
    lost = f"officers/{uuid4()}"
    office = membership_pb2.Office(holder=lost, role="CHAIR")
    made = await node.ask(
        membership_pb2.AppointOfficerRequest(parent="organizations/51", office=office)
    )

    async def known() -> None:
        await node.ask(AT_EACH["benefits"], by=lost)

    await eventually(known)
    pool, reader = node.pools["membership"], node.pools["benefits"]
    await pool.execute("DELETE FROM offices WHERE id = $1", made.name.partition("/")[2])
    await pool.execute("DELETE FROM entries WHERE channel = 'local'")
    await reader.execute("UPDATE followed SET number = 0, run = '' WHERE channel = 'local'")

    async def forgotten() -> None:
        told = await node.refusal(AT_EACH["benefits"], by=lost)
        assert told and told.reason == "NO_OFFICE"

    await eventually(forgotten)
    await node.ask(AT_EACH["benefits"])


async def test_who_holds_an_office_never_leaves_the_node(node: Node) -> None:
    written = "SELECT head FROM logs WHERE channel = 'local'"
    assert await node.pools["membership"].fetchval(written) > 0

    async def framed() -> None:
        rows = await node.pools["sync"].fetch("SELECT DISTINCT channel FROM frames")
        assert {row["channel"] for row in rows} >= {"records", "down"}
        assert "local" not in {row["channel"] for row in rows}

    await eventually(framed)


async def test_no_other_node_can_give_an_office_here(node: Node) -> None:
    child, id_ = uuid7(), uuid7()
    section = PublicOffice(
        salt=bytes(16), holder="officers/spy", organization=organization_id("51").bytes,
        role=Role.CHAIR,
    )  # fmt: skip
    public = section.SerializeToString(deterministic=True)
    hash_ = record_hash("offices", id_, 1, 1, {"public": group_hash(public)})
    line, pool = Line(1, "offices", id_, 1, 1, hash_, public), node.pools["membership"]
    own, sync = node.settings["membership"].node, node.channels["sync"]
    copies = Copies(pool, own, "membership", KINDS, sync, ())
    async with pool.acquire() as conn, conn.transaction():
        await copies.apply(conn, child, "records", [line])
    assert not await pool.fetchval("SELECT count(*) FROM offices WHERE origin = $1", child)
    assert await pool.fetchval("SELECT count(*) FROM parked WHERE origin = $1", child)
    with pytest.raises(StreamMalformed):  # nor on the channel that does not travel
        key_of(frame_pb2.Stream(origin=child.bytes, service="membership", channel="local"))


CHANGING = [
    (service, method) for service, method in methods(*PEOPLE) if not method.name.startswith(READING)
]


@pytest.mark.parametrize(("service", "method"), CHANGING, ids=[one.name for _, one in CHANGING])
async def test_whoever_changes_something_leaves_one_row(
    node: Node, service: str, method: MethodDescriptor
) -> None:
    """For a new method: say in changes.py how it is called well."""
    pool, make = node.pools[service], Changes(node).of(method.name)
    if make is None:
        told = await node.refusal(a_request(node, method), by=CHAIR)
        refused_alone = NOT_ALONE.get(method.name)
        assert told and refused_alone, "changes.py does not say how to call it"
        assert not await recorded(pool, method)
        return
    request, by = await make()
    if "request_id" in method.input_type.fields_by_name:
        request.request_id = str(uuid4())
    before = len(await recorded(pool, method))
    answer = await node.ask(request, by=by or CHAIR)
    row, *others = (await recorded(pool, method))[before:]
    assert not others
    person = by.startswith("persons/")  # which nobody knows by what the issuer calls them
    assert row["caller"] != by if person else row["caller"] == (by or CHAIR)
    officer = not by or by.startswith("officers/")
    assert row["office"].startswith("offices/") == officer
    assert row["path"].startswith("0.51") == officer
    if name := getattr(answer, "name", ""):
        assert name in row["names"] or name.startswith("nodes/")
    if request_id := getattr(request, "request_id", ""):
        assert str(row["request_id"]) == request_id
        await node.ask(request, by=by or CHAIR)
        assert len(await recorded(pool, method)) == before + 1


async def entries(node: Node, *, by: str, **asked: Any) -> list[access_pb2.AuditEntry]:
    """All that ListAuditEntries of membership shows, two at a time."""
    stub = access_pb2_grpc.AccessServiceStub(node.channels["membership"])
    request = access_pb2.ListAuditEntriesRequest(
        **{"parent": f"organizations/{STREET}", "page_size": 2, **asked}
    )
    found: list[access_pb2.AuditEntry] = []
    while True:
        answer = await stub.ListAuditEntries(request, metadata=node.metadata(by))
        found += answer.entries
        request.page_token = answer.next_page_token
        if not request.page_token:
            return found


async def test_an_auditor_reads_who_did_what_within_their_scope_and_nothing_else(
    node: Node,
) -> None:
    office = membership_pb2.Office(holder=f"officers/{uuid4()}", role="AUDITOR")
    await node.ask(membership_pb2.AppointOfficerRequest(parent="organizations/51", office=office))
    request = (await Changes(node).ApproveApplication())[0]
    answer = await node.ask(request, by=COUNTY)

    async def shown() -> None:
        found = await entries(node, by=COUNTY, resource=answer.member)
        assert [entry.caller for entry in found] == [COUNTY]
        entry = found[0]
        assert entry.method == "smartunion.membership.v1.MembershipService.ApproveApplication"
        assert entry.path == f"0.51.5101.510104.{STREET}"
        assert set(entry.resources) == {request.name, answer.member}

    await eventually(shown)
    by_county = await entries(node, by=COUNTY, caller=COUNTY)
    everybody = await entries(node, by=COUNTY, parent="organizations/51")
    above = [one.path for one in await entries(node, by=CHAIR, parent="organizations/51")]
    assert "0.51" in above
    assert all(is_within(entry.path, "0.51.5101.510104") for entry in everybody)
    assert {entry.caller for entry in by_county} == {COUNTY} < {e.caller for e in everybody}
    numbers = [entry.number for entry in everybody]
    assert numbers == sorted(set(numbers), reverse=True)
    assert len(everybody) == len(await entries(node, by=COUNTY, page_size=1_000))
    assert everybody == await entries(node, by=COUNTY)  # all of them are about the street
    for stranger in STRANGERS:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await entries(node, by=f"officers/{stranger}")
        assert refused(error.value).reason == "OUTSIDE_SCOPE"
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await entries(node, by=COUNTY, page_token="forged")
    assert refused(error.value).reason == "PAGE_TOKEN_FOREIGN"


async def test_what_members_did_themselves_is_for_the_organisation_of_the_node(
    node: Node,
) -> None:
    stub = access_pb2_grpc.AccessServiceStub(node.channels["notify"])
    await node.ask(notify_pb2.RaiseVoiceRequest(text="食堂太贵。"), by=node.records["members"])

    async def seen(by: str) -> int:
        request = access_pb2.ListAuditEntriesRequest(
            parent="organizations/51", caller=node.records["members"]
        )
        return len((await stub.ListAuditEntries(request, metadata=node.metadata(by))).entries)

    async def by_chair() -> None:
        assert await seen(CHAIR)

    await eventually(by_chair)
    assert await seen(COUNTY) == 0


async def recorded(pool: Any, method: MethodDescriptor) -> list[Any]:
    """The rows of a method, numbered or not, in order of time."""
    columns = "caller, method, office, path, names, request_id, time"
    return list(
        await pool.fetch(
            f"""
            SELECT {columns} FROM audit WHERE method = $1 UNION ALL
            SELECT {columns} FROM audit_waiting WHERE method = $1 ORDER BY time
            """,
            method.full_name,
        )
    )
