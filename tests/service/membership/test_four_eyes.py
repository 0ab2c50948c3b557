"""Who files does not decide, and where there are too few to decide, those above do."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import grpc
import pytest

from smartunion.membership.v1 import membership_pb2 as pb
from smartunion.membership.v1.identity_pb2 import UnbindMyIdentityRequest
from tests.builders import a_roster
from tests.offices import DEPUTY
from tests.service.desk import HOME, OFFICER, Desk
from tests.service.membership.test_bindings import a_member, a_person, applying, ask, binding


def deciding(application: pb.Application) -> pb.ApproveApplicationRequest:
    return pb.ApproveApplicationRequest(name=application.name, request_id=str(uuid4()))


async def officers(desk: Desk, organization: str, count: int) -> list[str]:
    """So many more who may decide at an organisation."""
    found = [f"officers/{uuid4()}" for _ in range(count)]
    for holder in found:
        await desk.appoint(holder, organization, "MEMBERSHIP")
    return found


async def test_who_files_an_application_does_not_approve_it(membership: Desk) -> None:
    application = await membership.apply(1)
    assert application.filer == OFFICER
    told = await membership.refusal(deciding(application))
    assert (told.code, told.reason) == (grpc.StatusCode.PERMISSION_DENIED, "FILED_BY_CALLER")
    assert told.metadata["organization"] == HOME and OFFICER in told.text
    approved = await membership.approve(application)
    assert (approved.filer, approved.decider) == (OFFICER, DEPUTY)


async def test_who_files_may_take_it_back(membership: Desk) -> None:
    application = await membership.apply(1)
    request = pb.RejectApplicationRequest(name=application.name, reason="填错了")
    assert (await membership.ask(request)).state == pb.Application.REJECTED


async def test_who_brings_a_roster_files_the_applications_in_it(membership: Desk) -> None:
    roster = await membership.bring(a_roster(membership.applicant_rows([1])))
    row, *_ = await membership.rows(roster)
    application = await membership.ask(pb.GetApplicationRequest(name=row.record))
    assert application.filer == OFFICER
    assert (await membership.refusal(deciding(application))).reason == "FILED_BY_CALLER"
    await membership.approve(application)


async def test_who_brings_a_roster_does_not_commit_it(membership: Desk) -> None:
    """Its rows may say that they were approved before, which makes members."""
    roster = await membership.check(a_roster(membership.member_rows([1])))
    assert (roster.creator, roster.committer) == (OFFICER, "")
    told = await membership.refusal(pb.CommitRosterRequest(name=roster.name))
    assert (told.code, told.reason) == (grpc.StatusCode.PERMISSION_DENIED, "FILED_BY_CALLER")
    assert told.metadata["organization"] == HOME
    done = await membership.commit(roster)
    assert (done.committer, done.admitted_rows) == (DEPUTY, 1)


async def test_who_may_only_enter_brings_a_roster_that_others_commit(membership: Desk) -> None:
    proxy = f"officers/{uuid4()}"
    until = datetime.now(UTC) + timedelta(days=1)
    await membership.appoint(proxy, membership.street, "PROXY", end_time=until)
    roster = await membership.check(a_roster(membership.member_rows([1])))
    request = pb.CommitRosterRequest(name=roster.name)
    assert (await membership.refusal(request, officer=proxy)).reason == "NO_OFFICE"
    (street,) = await officers(membership, membership.street, 1)
    assert (await membership.refusal(request, officer=street)).reason == "DECIDED_ABOVE"
    await officers(membership, membership.street, 1)
    assert (await membership.ask(request, officer=street)).committer == street


async def test_who_filed_before_they_were_a_member_is_the_same(membership: Desk) -> None:
    """An officer who is a member applies with their own login for somebody else."""
    login = a_person()
    made = await ask(membership, applying(membership, 1), by=login)
    member = await a_member(membership, 2)
    await ask(membership, binding(membership, 2), by=login)
    office = await membership.appoint(member, HOME)
    told = await membership.refusal(deciding(made), officer=login)
    assert (told.reason, told.metadata["caller"]) == ("FILED_BY_CALLER", member)
    await membership.dismiss(office)
    await ask(membership, UnbindMyIdentityRequest(), by=login)
    other = a_person()
    await ask(membership, binding(membership, 2), by=other)
    await membership.appoint(member, HOME)
    told = await membership.refusal(deciding(made), officer=other)
    assert told.reason == "FILED_BY_CALLER"
    await membership.approve(made)


async def test_where_fewer_than_two_may_decide_those_above_do(membership: Desk) -> None:
    """One in the street: the county decides, which has two; none of the county: the node's own."""
    (street,) = await officers(membership, membership.street, 1)
    first, second = await membership.apply(1), await membership.apply(2)
    told = await membership.refusal(deciding(first), officer=street)
    assert (told.code, told.reason) == (grpc.StatusCode.PERMISSION_DENIED, "DECIDED_ABOVE")
    assert told.metadata["organization"] == HOME
    one, other = await officers(membership, membership.county, 2)
    told = await membership.refusal(deciding(first), officer=street)
    assert told.metadata["organization"] == membership.county
    await membership.ask(deciding(first), officer=one)
    (another,) = await officers(membership, membership.street, 1)
    await membership.ask(deciding(second), officer=street)  # there are two now
    third = await membership.apply(3)
    for office in (await membership.ask(pb.ListOfficersRequest(parent=membership.street))).offices:
        if office.holder == another:
            await membership.dismiss(office)
    told = await membership.refusal(deciding(third), officer=street)
    assert told.reason == "DECIDED_ABOVE"
    await membership.ask(deciding(third), officer=other)


async def test_who_may_not_approve_is_not_counted(membership: Desk) -> None:
    (street,) = await officers(membership, membership.street, 1)
    await membership.appoint(f"officers/{uuid4()}", membership.street, "AUDITOR")
    await membership.appoint(street, membership.street, "CHAIR")  # two offices, one pair of eyes
    application = await membership.apply(1)
    told = await membership.refusal(deciding(application), officer=street)
    assert told.reason == "DECIDED_ABOVE"


async def test_the_database_holds_nothing_that_one_alone_decided(membership: Desk) -> None:
    application = await membership.apply(1)
    with pytest.raises(asyncpg.CheckViolationError) as error:
        await membership.pool.execute(
            """
            UPDATE submissions SET decide_time = now(), decider = filer, member = application
             WHERE application = $1
            """,
            application.name.partition("/")[2],
        )
    assert error.value.constraint_name == "submissions_four_eyes"
    roster = await membership.check(a_roster(membership.member_rows([2])))
    for committer in ("''", "creator"):
        with pytest.raises(asyncpg.CheckViolationError) as error:
            await membership.pool.execute(
                f"UPDATE rosters SET state = 2, committer = {committer} WHERE id = $1",
                roster.name.partition("/")[2],
            )
        assert error.value.constraint_name == "rosters_four_eyes"
