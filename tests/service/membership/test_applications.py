"""Applications to join a union, from the officer's desk to the log."""

import asyncio
from uuid import UUID, uuid4

import grpc
import pytest

from smartunion.membership.v1 import membership_pb2 as pb
from tests.builders import an_id_number
from tests.eventually import eventually
from tests.offices import DEPUTY
from tests.service.desk import HOME, Desk


async def test_an_approved_applicant_is_a_member_from_this_day_on(membership: Desk) -> None:
    application = await membership.apply(1)
    assert application.state == pb.Application.PENDING
    number = membership.id_number(1)
    assert application.person.id_number == f"{number[:6]}********{number[14:]}"
    assert application.person.phone == "138****0000"

    approved = await membership.approve(application)
    assert (approved.state, approved.decider, approved.version) == (
        pb.Application.APPROVED, DEPUTY, 2,
    )  # fmt: skip
    assert approved == await membership.ask(pb.GetApplicationRequest(name=application.name))

    member = await membership.ask(pb.GetMemberRequest(name=approved.member))
    assert member.state == pb.Member.ACTIVE and member.version == 1
    assert member.person == application.person
    assert member.organization == application.organization
    assert len(member.approval_date) == 10
    assert member.provenance.origin == f"nodes/{membership.settings.node}"
    assert not member.provenance.copy and not member.provenance.HasField("certify_time")


async def test_every_change_is_announced_once_and_in_order(membership: Desk) -> None:
    approved = await membership.approve(await membership.apply(1))
    ids = [UUID(name.partition("/")[2]) for name in (approved.name, approved.member)]

    async def announced() -> None:
        rows = await membership.pool.fetch(
            "SELECT event_type FROM entries WHERE id = ANY ($1) ORDER BY number", ids
        )
        assert [row["event_type"].rpartition(".")[2] for row in rows] == [
            "ApplicationCreated", "ApplicationApproved", "MemberAdmitted",
        ]  # fmt: skip

    await eventually(announced)


async def test_a_rejected_applicant_is_told_why_and_may_apply_again(membership: Desk) -> None:
    application = await membership.apply(1)
    rejected = await membership.ask(
        pb.RejectApplicationRequest(name=application.name, reason=" 材料不全 ")
    )
    assert (rejected.state, rejected.reject_reason) == (pb.Application.REJECTED, "材料不全")
    assert (await membership.apply(1)).state == pb.Application.PENDING


@pytest.mark.parametrize("reason", ["", "  ", "因" * 501])
async def test_a_rejection_needs_a_reason_of_reasonable_length(
    membership: Desk, reason: str
) -> None:
    application = await membership.apply(1)
    told = await membership.refusal(
        pb.RejectApplicationRequest(name=application.name, reason=reason)
    )
    assert (told.reason, told.field) == ("REJECT_REASON_LENGTH", "reason")


async def test_a_decided_application_cannot_be_decided_again(membership: Desk) -> None:
    application = await membership.apply(1)
    await membership.approve(application)
    for request in (
        pb.ApproveApplicationRequest(name=application.name),
        pb.RejectApplicationRequest(name=application.name, reason="材料不全"),
    ):
        told = await membership.refusal(request)
        assert told.code is grpc.StatusCode.FAILED_PRECONDITION
        assert told.reason == "ALREADY_DECIDED"
        assert told.metadata == {"application": application.name, "state": "APPROVED"}
        assert "待审" in told.chinese


async def test_an_application_that_lost_its_person_can_only_be_rejected(membership: Desk) -> None:
    application = await membership.apply(1)
    record = UUID(application.name.removeprefix("applications/"))
    await membership.pool.execute("DELETE FROM people WHERE id = $1", record)
    told = await membership.refusal(pb.ApproveApplicationRequest(name=application.name))
    assert told.reason == "APPLICANT_LOST"
    await membership.ask(pb.RejectApplicationRequest(name=application.name, reason="资料缺失"))


async def test_a_member_cannot_apply_again_and_an_applicant_not_twice(membership: Desk) -> None:
    application = await membership.apply(1)
    assert (await membership.refusal(membership.an_application(1))).reason == "APPLICATION_PENDING"
    await membership.approve(application)
    told = await membership.refusal(membership.an_application(1, parent=membership.county))
    assert told.reason == "ALREADY_A_MEMBER"
    assert told.code is grpc.StatusCode.ALREADY_EXISTS


async def test_of_many_who_submit_the_same_person_at_once_one_succeeds(membership: Desk) -> None:
    answers = await asyncio.gather(*(membership.apply(1) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(answer, pb.Application) for answer in answers) == 1
    assert len([answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]) == 7


@pytest.mark.parametrize(
    ("person", "reason", "field"),
    [
        ({"full_name": "  "}, "FULL_NAME_LENGTH", "full_name"),
        ({"full_name": "张\0三"}, "FULL_NAME_CHARACTERS", "full_name"),
        ({"id_number": ""}, "ID_NUMBER_LENGTH", "id_number"),
        ({"id_number": "510104800101001"}, "ID_NUMBER_FIRST_GENERATION", "id_number"),
        ({"id_number": an_id_number(1)[:-1] + "?"}, "ID_NUMBER_CHARACTERS", "id_number"),
        ({"id_number": "510104299901010013"}, "ID_NUMBER_BIRTH_DATE", "id_number"),
        ({"id_number": an_id_number(1)[:-2] + "99"}, "ID_NUMBER_CHECK_DIGIT", "id_number"),
        ({"phone": "0288765432"}, "PHONE_MALFORMED", "phone"),
    ],
)
async def test_what_is_wrong_with_a_person_is_said_without_quoting_it(
    membership: Desk, person: dict[str, str], reason: str, field: str
) -> None:
    told = await membership.refusal(membership.an_application(1, **person))
    assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert told.field == f"application.person.{field}"
    for number in filter(None, (person.get("id_number"), person.get("phone"))):
        assert number not in f"{told.text}{told.chinese}{told.metadata}"


async def test_a_repeat_gets_the_first_answer(membership: Desk) -> None:
    request = membership.an_application(1)
    first = await membership.ask(request)
    decision = pb.ApproveApplicationRequest(name=first.name, request_id=str(uuid4()))
    answers = await asyncio.gather(*(membership.ask(decision, officer=DEPUTY) for _ in range(4)))
    assert all(answer == answers[0] for answer in answers)
    assert await membership.ask(request) == first
    found = await membership.ask(pb.ListMembersRequest(parent=membership.county))
    assert [member.name for member in found.members] == [answers[0].member]


async def test_a_request_id_with_other_content_is_refused(membership: Desk) -> None:
    request = membership.an_application(1)
    await membership.ask(request)
    told = await membership.refusal(membership.an_application(2, request_id=request.request_id))
    assert (told.reason, told.field) == ("REQUEST_ID_REUSED", "request_id")
    found = await membership.ask(pb.ListApplicationsRequest(parent=membership.county))
    assert len(found.applications) == 1


async def test_request_ids_of_two_officers_do_not_meet(membership: Desk) -> None:
    one, other = membership.an_application(1), membership.an_application(2)
    other.request_id = one.request_id
    first = await membership.ask(one, officer="officers/li-na")
    await membership.appoint("officers/wang-wu", membership.street, "MEMBERSHIP")
    second = await membership.ask(other, officer="officers/wang-wu")
    assert first.name != second.name


async def test_a_request_id_is_a_uuid(membership: Desk) -> None:
    told = await membership.refusal(membership.an_application(1, request_id="nonsense"))
    assert told.reason == "REQUEST_ID_MALFORMED"


async def test_applications_are_listed_oldest_first_page_by_page(membership: Desk) -> None:
    made = [(await membership.apply(number)).name for number in range(5)]
    await membership.approve(await membership.ask(pb.GetApplicationRequest(name=made[0])))
    seen, token = [], ""
    while True:
        page = await membership.ask(
            pb.ListApplicationsRequest(parent=membership.county, page_size=2, page_token=token)
        )
        seen += [application.name for application in page.applications]
        if not (token := page.next_page_token):
            break
    assert seen == made
    waiting = pb.ListApplicationsRequest(parent=membership.county, state=pb.Application.PENDING)
    assert [one.name for one in (await membership.ask(waiting)).applications] == made[1:]


async def test_a_page_token_of_another_list_is_refused(membership: Desk) -> None:
    for number in range(2):
        await membership.apply(number)
    page = await membership.ask(pb.ListApplicationsRequest(parent=membership.county, page_size=1))
    told = await membership.refusal(
        pb.ListApplicationsRequest(
            parent=membership.street, page_size=1, page_token=page.next_page_token
        )
    )
    assert (told.reason, told.field) == ("PAGE_TOKEN_FOREIGN", "page_token")
    told = await membership.refusal(
        pb.ListApplicationsRequest(parent=membership.county, page_size=-1)
    )
    assert told.reason == "PAGE_SIZE_OUT_OF_RANGE"


async def test_bad_names_are_refused_and_unknown_ones_not_found(membership: Desk) -> None:
    told = await membership.refusal(pb.GetApplicationRequest(name="members/1"))
    assert (told.reason, told.field) == ("NAME_MALFORMED", "name")
    told = await membership.refusal(pb.ApproveApplicationRequest(name=f"applications/{uuid4()}"))
    assert (told.code, told.reason) == (grpc.StatusCode.NOT_FOUND, "APPLICATION_NOT_FOUND")
    told = await membership.refusal(membership.an_application(1, parent="organizations/chengdu"))
    assert (told.reason, told.field) == ("ORGANIZATION_NAME_MALFORMED", "parent")
    told = await membership.refusal(membership.an_application(1, parent="organizations/44"))
    assert told.reason == "ORGANIZATION_NOT_FOUND"


async def test_nobody_joins_an_organisation_above_the_node(membership: Desk) -> None:
    told = await membership.refusal(membership.an_application(1, parent="organizations/0"))
    assert (told.code, told.reason) == (
        grpc.StatusCode.PERMISSION_DENIED, "OUTSIDE_SCOPE",
    )  # fmt: skip


async def test_nobody_joins_what_another_node_hosts(alone: Desk) -> None:
    child = uuid4()
    await alone.pool.execute(
        "UPDATE organizations SET host = $1 WHERE code = $2", child, alone.code[:4]
    )
    told = await alone.refusal(alone.an_application(1))
    assert told.reason == "OWNED_ELSEWHERE"
    assert told.metadata["node"] == f"nodes/{child}"
    assert (await alone.apply(1, parent=HOME)).version == 1


async def test_who_does_not_show_a_token_is_turned_away(membership: Desk) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await membership.stub.GetMember(pb.GetMemberRequest(name=f"members/{UUID(int=1)}"))
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
