"""A person of the issuer becomes known as the member that they are."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest

from kit.status import Refused, refused
from services.membership.domain.bindings import MOST_OF_NUMBER, MOST_OF_PERSON
from smartunion.membership.v1 import identity_pb2 as pb
from smartunion.membership.v1 import identity_pb2_grpc, membership_pb2
from tests.service.desk import Desk

NAME = "张三"


def a_person() -> str:
    """One whom the issuer has just made up."""
    return f"persons/{uuid4().int}"


async def ask(desk: Desk, request: Any, *, by: str) -> Any:
    stub = identity_pb2_grpc.IdentityServiceStub(desk.channel)
    method = getattr(stub, type(request).__name__.removesuffix("Request"))
    return await method(request, metadata=desk.as_officer(by))


async def refusal(desk: Desk, request: Any, *, by: str) -> Refused:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await ask(desk, request, by=by)
    return refused(error.value)


def binding(desk: Desk, number: int, name: str = NAME) -> pb.BindIdentityRequest:
    return pb.BindIdentityRequest(
        full_name=name, id_number=desk.id_number(number), request_id=str(uuid4())
    )


async def a_member(desk: Desk, number: int) -> str:
    return (await desk.approve(await desk.apply(number))).member


async def test_a_person_is_bound_once_however_often_they_ask(membership: Desk) -> None:
    member, person = await a_member(membership, 1), a_person()
    first = await ask(membership, binding(membership, 1), by=person)
    assert (first.member, first.active) == (member, True)
    assert await ask(membership, binding(membership, 1), by=person) == first
    await a_member(membership, 2)
    told = await refusal(membership, binding(membership, 2), by=person)
    assert (told.reason, told.metadata["member"]) == ("PERSON_BOUND", member)


async def test_a_member_is_bound_to_one_person_until_unbound(membership: Desk) -> None:
    member, old, new = await a_member(membership, 1), a_person(), a_person()
    await ask(membership, binding(membership, 1), by=old)
    told = await refusal(membership, binding(membership, 1), by=new)
    assert told.reason == "IDENTITY_UNPROVEN"
    ended = await ask(membership, pb.UnbindIdentityRequest(member=member), by="officers/li-na")
    assert not ended.active
    bound = await ask(membership, binding(membership, 1), by=new)
    assert bound.member == member and bound.name != ended.name
    request = pb.UnbindMyIdentityRequest(request_id=str(uuid4()))
    mine = await ask(membership, request, by=new)
    assert (mine.name, mine.active) == (bound.name, False)
    assert await ask(membership, request, by=new) == mine
    told = await refusal(membership, pb.UnbindMyIdentityRequest(), by=new)
    assert told.reason == "NOT_BOUND"


async def test_who_is_a_member_is_not_found_out_by_trying(membership: Desk) -> None:
    """A wrong name, somebody unknown, an applicant, a member bound to another: one answer."""
    await a_member(membership, 1)
    await membership.apply(2)
    await a_member(membership, 3)
    await ask(membership, binding(membership, 3), by=a_person())
    told = [
        await refusal(membership, request, by=a_person())
        for request in (
            binding(membership, 1, "李四"), binding(membership, 2), binding(membership, 3),
            binding(membership, 4),
        )
    ]  # fmt: skip
    assert {one.reason for one in told} == {"IDENTITY_UNPROVEN"}
    assert all(one == told[0] for one in told)


async def test_failures_are_counted_and_leave_a_row_without_saying_whom_they_meant(
    membership: Desk,
) -> None:
    await a_member(membership, 1)
    person = a_person()
    for _ in range(MOST_OF_PERSON):
        told = await refusal(membership, binding(membership, 1, "李四"), by=person)
        assert told.reason == "IDENTITY_UNPROVEN"
    told = await refusal(membership, binding(membership, 1), by=person)  # right, and too late
    assert (told.code, told.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_ATTEMPTS",
    )  # fmt: skip
    assert told.retry_delay
    for _ in range(MOST_OF_NUMBER - MOST_OF_PERSON):
        await refusal(membership, binding(membership, 1, "王五"), by=a_person())
    told = await refusal(membership, binding(membership, 1), by=a_person())
    assert told.reason == "TOO_MANY_ATTEMPTS"
    rows = await membership.pool.fetch(
        """
        SELECT caller, names FROM audit WHERE method LIKE '%BindIdentity' UNION ALL
        SELECT caller, names FROM audit_waiting WHERE method LIKE '%BindIdentity'
        """
    )
    callers = [row["caller"] for row in rows if not row["names"]]
    mine = max(callers, key=callers.count)
    assert callers.count(mine) == MOST_OF_PERSON and mine.startswith("persons/")
    number, subject = membership.id_number(1), person.partition("/")[2]
    assert not any(secret in str(rows) for secret in (number, subject, "李四"))


async def test_an_office_is_held_by_members_of_this_node_alone(membership: Desk) -> None:
    member, person = await a_member(membership, 1), a_person()
    await ask(membership, binding(membership, 1), by=person)
    asked = membership_pb2.ListMembersRequest(parent=membership.county)
    told = await membership.refusal(asked, officer=person)
    assert (told.reason, told.metadata["caller"]) == ("NO_OFFICE", member)
    office = await membership.appoint(member, membership.county)
    assert office.holder == member
    found = await membership.ask(asked, officer=person)
    assert member in [one.name for one in found.members]
    unbound = await a_member(membership, 2)
    for holder in (unbound, f"members/{uuid4()}", "persons/x", "officers/13800000000"):
        appointing = membership_pb2.AppointOfficerRequest(
            parent=membership.county,
            office=membership_pb2.Office(holder=holder, role="CHAIR"),
        )
        told = await membership.refusal(appointing)
        assert told.reason == "HOLDER_MALFORMED"


async def test_who_holds_an_office_stays_who_they_are(membership: Desk) -> None:
    """Else whoever knows name and ID number could be bound in their place, and act for them."""
    member, person = await a_member(membership, 1), a_person()
    await ask(membership, binding(membership, 1), by=person)
    office = await membership.appoint(member, membership.county)
    for request, by in (
        (pb.UnbindIdentityRequest(member=member), "officers/li-na"),
        (pb.UnbindMyIdentityRequest(), person),
    ):
        told = await refusal(membership, request, by=by)
        assert (told.reason, told.metadata["office"]) == ("STILL_IN_OFFICE", office.name)
    await membership.dismiss(office)
    assert not (await ask(membership, pb.UnbindMyIdentityRequest(), by=person)).active


async def test_an_office_that_was_dismissed_before_its_time_keeps_nobody(
    membership: Desk,
) -> None:
    member, person = await a_member(membership, 1), a_person()
    await ask(membership, binding(membership, 1), by=person)
    later = datetime.now(UTC) + timedelta(days=30)
    office = await membership.appoint(member, membership.county, begin_time=later)
    await membership.dismiss(office)
    told = await membership.refusal(membership_pb2.DismissOfficerRequest(name=office.name))
    assert told.reason == "OFFICE_ENDED"
    again = await membership.appoint(member, membership.county)
    await membership.dismiss(again)
    assert not (await ask(membership, pb.UnbindMyIdentityRequest(), by=person)).active


async def test_a_binding_is_repeated_also_when_others_have_tried(membership: Desk) -> None:
    member, person = await a_member(membership, 1), a_person()
    first = await ask(membership, binding(membership, 1), by=person)
    for _ in range(MOST_OF_NUMBER):
        await refusal(membership, binding(membership, 1, "李四"), by=a_person())
    assert await ask(membership, binding(membership, 1), by=person) == first
    assert first.member == member


def applying(desk: Desk, number: int, *, request_id: str = "") -> pb.CreateMyApplicationRequest:
    person = membership_pb2.Person(full_name=NAME, id_number=desk.id_number(number))
    return pb.CreateMyApplicationRequest(
        parent=desk.street, person=person, request_id=request_id or str(uuid4())
    )


async def test_a_person_applies_is_approved_and_becomes_the_member(membership: Desk) -> None:
    person = a_person()
    mine = await ask(membership, applying(membership, 1), by=person)
    assert mine.state == membership_pb2.Application.PENDING
    assert mine.filer.startswith("persons/") and person.partition("/")[2] not in mine.filer
    assert await ask(membership, applying(membership, 1), by=person) == mine
    told = await refusal(membership, applying(membership, 2), by=person)
    assert (told.reason, told.metadata["application"]) == ("APPLICATION_WAITS", mine.name)
    looking = pb.GetMyApplicationRequest(name=mine.name)
    assert await ask(membership, looking, by=person) == mine
    assert (await refusal(membership, looking, by=a_person())).reason == "APPLICATION_NOT_FOUND"
    approving = membership_pb2.ApproveApplicationRequest(name=mine.name)
    approved = await membership.ask(approving)  # any officer: none of them has filed it
    assert (await ask(membership, looking, by=person)).member == approved.member
    assert (await ask(membership, binding(membership, 1), by=person)).member == approved.member


async def test_who_is_known_is_not_found_out_by_applying(membership: Desk) -> None:
    await a_member(membership, 1)
    await membership.apply(2)
    person = a_person()
    told = [await refusal(membership, applying(membership, number), by=person) for number in (1, 2)]
    assert {one.reason for one in told} == {"KNOWN_ALREADY"} and told[0] == told[1]
    for _ in range(MOST_OF_PERSON - 2):
        await refusal(membership, applying(membership, 1), by=person)
    told = [await refusal(membership, applying(membership, 3), by=person)]
    assert told[0].reason == "TOO_MANY_ATTEMPTS"
