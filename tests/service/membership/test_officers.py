"""Officers: who may do what, where and until when, as the callers of membership see it."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest

from kit.authority import PERMISSIONS, Role
from kit.status import refused
from smartunion.event.v1 import access_pb2
from smartunion.membership.v1 import membership_pb2 as pb
from tests import offices
from tests.eventually import eventually
from tests.offices import DEPUTY
from tests.service.conftest import serving
from tests.service.desk import HOME, OFFICER, Desk

METHODS = "smartunion.membership.v1.MembershipService"


def somebody() -> str:
    """An officer whom no other test knows."""
    return f"officers/{uuid4()}"


async def explained(
    desk: Desk, method: str, organization: str, *, by: str = OFFICER
) -> access_pb2.Explanation:
    return await offices.explained(
        desk.settings.listen, desk.as_officer(by), f"{METHODS}.{method}", organization
    )


async def test_an_officer_acts_in_the_organisation_of_the_office_and_below(
    membership: Desk,
) -> None:
    county, second = somebody(), somebody()
    for who in (county, second):
        await membership.appoint(who, membership.county, "MEMBERSHIP")
    application = await membership.ask(membership.an_application(1), officer=second)
    request = pb.ApproveApplicationRequest(name=application.name, request_id=str(uuid4()))
    approved = await membership.ask(request, officer=county)
    assert (approved.filer, approved.decider) == (second, county)
    found = await membership.ask(pb.GetMemberRequest(name=approved.member), officer=county)
    assert found.person.full_name == "张三"


async def test_an_office_of_another_street_is_none_here(membership: Desk) -> None:
    member = (await membership.approve(await membership.apply(1))).member
    sibling = somebody()
    other = await membership.pool.fetchval(
        "SELECT code FROM organizations WHERE level = 5 AND left(code, 6) <> $1 LIMIT 1",
        membership.code[:6],
    )
    await membership.appoint(sibling, f"organizations/{other}", "CHAIR")
    told = await membership.refusal(pb.GetMemberRequest(name=member), officer=sibling)
    assert (told.code, told.reason) == (grpc.StatusCode.PERMISSION_DENIED, "OUTSIDE_SCOPE")
    assert membership.code not in told.text + str(told.metadata)
    request = pb.SearchMembersRequest(id_number=membership.id_number(1))
    assert not (await membership.ask(request, officer=sibling)).members
    assert (await membership.ask(request)).members


async def test_a_list_shows_what_the_office_covers_and_no_more(membership: Desk) -> None:
    await membership.approve(await membership.apply(1))
    await membership.approve(await membership.apply(2, parent=membership.county))
    street = somebody()
    await membership.appoint(street, membership.street, "MEMBERSHIP")
    request = pb.ListMembersRequest(parent=membership.county)
    assert len((await membership.ask(request)).members) == 2
    assert len((await membership.ask(request, officer=street)).members) == 1
    assert len((await membership.ask(pb.ListMembersRequest(parent="organizations/0"),
                                     officer=street)).members) == 1  # fmt: skip


async def test_a_role_permits_what_it_permits(membership: Desk) -> None:
    auditor, operator = somebody(), somebody()
    await membership.appoint(auditor, membership.street, "AUDITOR")
    await membership.appoint(operator, HOME, "NODE_OPERATOR")
    application = await membership.apply(1)
    await membership.ask(pb.GetApplicationRequest(name=application.name), officer=auditor)
    for who in (auditor, operator):
        told = await membership.refusal(
            pb.ApproveApplicationRequest(name=application.name), officer=who
        )
        assert (told.reason, told.metadata["permission"]) == ("NO_OFFICE", "application.decide")
    told = await membership.refusal(pb.GetApplicationRequest(name=application.name),
                                    officer=operator)  # fmt: skip
    assert told.reason == "NO_OFFICE"


async def test_an_office_ends_with_its_term(membership: Desk) -> None:
    proxy, term = somebody(), timedelta(seconds=2)
    ends = datetime.now(UTC) + term
    office = await membership.appoint(proxy, membership.street, "PROXY", end_time=ends)
    request = membership.an_application(1, request_id="")
    await membership.ask(request, officer=proxy)

    async def ended() -> None:
        told = await membership.refusal(request, officer=proxy)
        assert told.reason == "NO_OFFICE"

    await eventually(ended)
    assert datetime.now(UTC) >= ends
    found = await explained(membership, "CreateApplication", membership.street, by=proxy)
    assert (found.finding, found.office) == (access_pb2.Explanation.ENDED, office.name)


async def test_an_office_does_not_count_before_it_begins(membership: Desk) -> None:
    later = somebody()
    begins = datetime.now(UTC) + timedelta(days=3)
    await membership.appoint(later, membership.street, begin_time=begins)
    told = await membership.refusal(pb.ListMembersRequest(parent=membership.street), officer=later)
    assert told.reason == "NO_OFFICE"
    found = await explained(membership, "ListMembers", membership.street, by=later)
    assert found.finding == access_pb2.Explanation.NOT_BEGUN
    assert found.begin_time.ToDatetime(UTC) == begins


async def test_who_is_dismissed_acts_no_more(membership: Desk) -> None:
    chair = somebody()
    office = await membership.appoint(chair, membership.street)
    request = pb.ListMembersRequest(parent=membership.street)
    await membership.ask(request, officer=chair)
    dismissed = await membership.dismiss(office)
    assert dismissed.dismisser == OFFICER and dismissed.HasField("end_time")
    assert (await membership.refusal(request, officer=chair)).reason == "NO_OFFICE"
    told = await membership.refusal(pb.DismissOfficerRequest(name=office.name))
    assert told.reason == "OFFICE_ENDED"


async def test_a_call_that_lasts_ends_with_the_office(membership: Desk) -> None:
    watcher = somebody()
    office = await membership.appoint(watcher, membership.street)
    roster = await membership.announce(b"x")
    stream = membership.stub.WatchRoster(
        pb.WatchRosterRequest(name=roster.name), metadata=membership.as_officer(watcher)
    )
    seen = aiter(stream)
    assert (await anext(seen)).state == pb.Roster.UPLOADING
    await membership.dismiss(office)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        async with asyncio.timeout(10):
            await anext(seen)
    assert refused(error.value).reason == "OUTSIDE_SCOPE"


async def test_a_chair_appoints_within_the_own_subtree_alone(membership: Desk) -> None:
    chair, other = somebody(), somebody()
    await membership.appoint(chair, membership.street)

    def request(parent: str) -> pb.AppointOfficerRequest:
        office = pb.Office(holder=other, role=pb.Office.CHAIR)
        return pb.AppointOfficerRequest(parent=parent, office=office)

    for above in (membership.county, HOME):
        told = await membership.refusal(request(above), officer=chair)
        assert told.reason == "OUTSIDE_SCOPE"
    made = await membership.ask(request(membership.street), officer=chair)
    assert made.appointer == chair
    told = await membership.refusal(pb.DismissOfficerRequest(name=(await home_office(membership))),
                                    officer=chair)  # fmt: skip
    assert told.reason == "OUTSIDE_SCOPE"


async def home_office(desk: Desk) -> str:
    found = await desk.ask(pb.ListOfficersRequest(parent=HOME, page_size=1))
    return str(found.offices[0].name)


@pytest.mark.parametrize(
    ("office", "reason"),
    [
        ({"holder": "members/x"}, "HOLDER_MALFORMED"),
        ({"holder": "officers/"}, "HOLDER_MALFORMED"),
        ({"holder": "officers/张三"}, "HOLDER_MALFORMED"),
        ({"holder": "officers/a@b"}, "HOLDER_MALFORMED"),  # no token could ever name them
        ({"holder": "officers/" + "a" * 65}, "HOLDER_MALFORMED"),
        ({"role": 0}, "ENUM_NUMBER_UNKNOWN"),
        ({"role": 99}, "ENUM_NUMBER_UNKNOWN"),
        ({"role": pb.Office.PROXY}, "PROXY_UNLIMITED"),
        ({"role": pb.Office.PROXY, "end_time": datetime.now(UTC) + timedelta(days=400)},
         "PROXY_UNLIMITED"),
        ({"begin_time": datetime.now(UTC) - timedelta(days=1)}, "TERM_PASSED"),
        ({"end_time": datetime.now(UTC) - timedelta(days=1)}, "TERM_EMPTY"),
    ],
)  # fmt: skip
async def test_a_wrong_office_is_told_what_is_wrong(
    membership: Desk, office: dict[str, Any], reason: str
) -> None:
    known = {"holder": somebody(), "role": pb.Office.CHAIR}
    request = pb.AppointOfficerRequest(
        parent=membership.street, office=pb.Office(**{**known, **office})
    )
    assert (await membership.refusal(request)).reason == reason


async def test_the_same_office_is_held_once(membership: Desk) -> None:
    holder = somebody()
    office = await membership.appoint(holder, membership.street, "RIGHTS")
    again = pb.AppointOfficerRequest(
        parent=membership.street, office=pb.Office(holder=holder, role=pb.Office.RIGHTS)
    )
    told = await membership.refusal(again)
    assert (told.reason, told.metadata["office"]) == ("OFFICE_HELD", office.name)
    await membership.dismiss(office)
    await membership.ask(again)
    listed = pb.ListOfficersRequest(parent=membership.street)
    assert len((await membership.ask(listed)).offices) == 1
    listed.show_ended = True
    assert len((await membership.ask(listed)).offices) == 2


async def test_a_repeated_appointment_is_one(membership: Desk) -> None:
    request = pb.AppointOfficerRequest(
        parent=membership.street, office=pb.Office(holder=somebody(), role=pb.Office.RIGHTS),
        request_id=str(uuid4()),
    )  # fmt: skip
    assert await membership.ask(request) == await membership.ask(request)


async def test_an_officer_learns_why_and_by_which_office(membership: Desk) -> None:
    ends = datetime.now(UTC) + timedelta(days=30)
    chair, nobody = somebody(), somebody()
    office = await membership.appoint(chair, membership.street, end_time=ends)
    finding = access_pb2.Explanation
    found = await explained(membership, "GetMember", membership.street, by=chair)
    assert (found.finding, found.office, found.role) == (finding.ALLOWED, office.name, "CHAIR")
    assert found.end_time.ToDatetime(UTC) == ends
    found = await explained(membership, "GetMember", membership.county, by=chair)
    assert found.finding == finding.ELSEWHERE and "CHAIR" in found.roles
    found = await explained(membership, "GetMember", membership.street, by=nobody)
    assert (found.finding, found.office) == (finding.NO_OFFICE, "")
    assert "AUDITOR" in found.message and "AUDITOR" in found.chinese_message
    auditor = somebody()
    await membership.appoint(auditor, membership.street, "AUDITOR")
    found = await explained(membership, "ApproveApplication", membership.street, by=auditor)
    assert found.finding == finding.NOT_PERMITTED
    found = await explained(membership, "GetMember", membership.street, by=f"members/{uuid4()}")
    assert found.finding == finding.NO_OFFICE
    for stranger in ("merchants/x", "persons/x"):
        found = await explained(membership, "GetMember", membership.street, by=stranger)
        assert found.finding == finding.NOT_FOR_CALLER
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await explained(membership, "Nothing", "")
    assert refused(error.value).reason == "METHOD_UNKNOWN"


async def test_where_there_is_no_chair_the_node_names_the_first(unserved: Desk) -> None:
    async with serving(unserved.settings):
        found = (await unserved.ask(pb.ListOfficersRequest(parent=HOME))).offices
        assert [(one.holder, one.role) for one in found] == [
            (OFFICER, pb.Office.CHAIR), (OFFICER, pb.Office.NODE_OPERATOR),
            (DEPUTY, pb.Office.MEMBERSHIP), (DEPUTY, pb.Office.BENEFITS),  # in development
        ]  # fmt: skip
        await unserved.appoint("officers/zhao", HOME)
        await unserved.dismiss(found[0])
    async with serving(unserved.settings):  # There is one, and it is no business of a setting.
        told = await unserved.refusal(pb.ListOfficersRequest(parent=HOME))
        assert told.reason == "NO_OFFICE"


def test_every_role_may_read_the_tree() -> None:
    assert all("organization.read" in PERMISSIONS[role] for role in Role)


async def test_a_list_over_two_offices_is_one_list(membership: Desk) -> None:
    streets = await membership.pool.fetch(
        "SELECT code FROM organizations WHERE left(code, 6) = $1 AND level = 5 ORDER BY code",
        membership.code[:6],
    )
    names = [f"organizations/{row['code']}" for row in streets]
    both = somebody()
    made = []
    for number in range(6):
        made.append((await membership.apply(number, parent=names[number % 3])).name)
    await membership.appoint(both, names[0], "MEMBERSHIP")
    await membership.appoint(both, names[1], "MEMBERSHIP")
    request, seen = pb.ListApplicationsRequest(parent=membership.county, page_size=3), []
    while True:
        page = await membership.ask(request, officer=both)
        seen += [one.name for one in page.applications]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert seen == [name for number, name in enumerate(made) if number % 3 < 2]
