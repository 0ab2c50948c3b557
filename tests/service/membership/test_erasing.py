"""A membership ends, and what is personal of it is erased for ever."""

import asyncio
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc
import pytest
from openpyxl import load_workbook

from kit.db import Database
from kit.records import groups_of, hash_of, record_hash
from kit.sealing import FileKeys, Keyring
from node.databases import as_owner
from services.membership.domain.bindings import MOST_OF_PERSON
from services.membership.domain.consents import Step
from services.membership.events import sections_of
from services.membership.store import Store
from services.membership.store.members import Members
from services.membership.usecases import imports
from smartunion.membership.v1 import identity_pb2
from smartunion.membership.v1 import membership_pb2 as pb
from smartunion.membership.v1.records_pb2 import PersonalMember
from tests.builders import a_roster
from tests.eventually import eventually, waiting
from tests.service.desk import Desk
from tests.service.membership.test_bindings import a_person, applying, ask, binding, refusal

GROUND = pb.Member.CONSENT_WITHDRAWN


async def admitted(desk: Desk, number: int = 1) -> pb.Application:
    return await desk.approve(await desk.apply(number))


async def end(desk: Desk, member: str) -> pb.Member:
    answer: pb.Member = await desk.ask(
        pb.EndMembershipRequest(name=member, request_id=str(uuid4()))
    )
    return answer


async def erase(desk: Desk, member: str, ground: "pb.Member.Ground" = GROUND) -> pb.Member:
    answer: pb.Member = await desk.ask(
        pb.EraseMemberRequest(name=member, ground=ground, request_id=str(uuid4()))
    )
    return answer


def key(name: str) -> UUID:
    return UUID(name.partition("/")[2])


async def kept(desk: Desk, *names: str) -> list[Sequence[Any]]:
    """The rows that hold, or open, what is personal of records."""
    ids = [key(name) for name in names]
    people = await desk.pool.fetch("SELECT * FROM people WHERE id = ANY ($1)", ids)
    keys = await desk.pool.fetch("SELECT * FROM data_keys WHERE id = ANY ($1)", ids)
    return [people, keys]


async def test_who_has_left_is_a_member_no_more_and_may_join_again(membership: Desk) -> None:
    member = (await admitted(membership)).member
    left = await end(membership, member)
    assert (left.state, left.version) == (pb.Member.LEFT, 2)
    assert left.person.full_name == "张三"
    told = await membership.refusal(pb.EndMembershipRequest(name=member))
    assert (told.code, told.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MEMBERSHIP_ENDED")
    listed = await membership.ask(pb.ListMembersRequest(parent=membership.county))
    assert not listed.members
    assert (await admitted(membership)).member != member


@pytest.mark.parametrize("brought", [False, True])
async def test_of_who_is_erased_no_section_can_be_made_for_those_above(
    membership: Desk, brought: bool
) -> None:
    if brought:
        [row] = await membership.rows(
            await membership.bring(a_roster([f"张三,{membership.id_number(1)},,2025-03-08,川1"]))
        )
        member = key(row.record)
    else:
        member = key((await admitted(membership)).member)
    keys = FileKeys(membership.settings.secrets / "data.key")

    async def made() -> dict[str, bytes]:
        keyring = await Keyring.open(membership.pool, keys)
        members = Members(membership.pool, keyring, membership.settings.node)
        [found] = await members.own([member])
        return sections_of(found)

    async def logged() -> bytes | None:
        row = await membership.pool.fetchrow("SELECT * FROM members WHERE id = $1", member)
        assert row is not None
        held = groups_of(row["public"], {"personal": row["personal"]} if row["personal"] else {})
        assert row["hash"] == record_hash("members", member, 1, row["version"], held)
        personal: bytes | None = row["personal"]
        return personal

    section = (await made())["personal"]
    assert "张三".encode() in section and await logged() == hash_of(section)
    salt = PersonalMember.FromString(section).salt.hex()
    for table in ("members", "people", "admissions", "data_keys", "entries"):
        text = await membership.pool.fetch(f"SELECT row::text AS text FROM {table} row")
        assert not any(salt in row["text"] for row in text), "a name is guessed by its hash"
    await end(membership, f"members/{member}")
    assert (await made())["personal"] == section and await logged() == hash_of(section)
    await erase(membership, f"members/{member}")
    assert await made() == {} and await logged() is None
    keyring = await Keyring.open(membership.pool, keys)
    for row in await membership.pool.fetch("SELECT * FROM calls"):
        place = f"calls.answer/{row['caller']}/{row['method']}/{row['request_id']}"
        assert salt not in keyring.node.open(row["answer"], place).decode()


async def test_the_data_of_a_member_is_not_erased_while_it_is_needed(membership: Desk) -> None:
    approved = await admitted(membership)
    told = await membership.refusal(pb.EraseMemberRequest(name=approved.member, ground=GROUND))
    assert (told.code, told.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MEMBERSHIP_LASTS")
    assert all(await kept(membership, approved.member, approved.name))
    await end(membership, approved.member)
    told = await membership.refusal(pb.EraseMemberRequest(name=approved.member))
    assert (told.reason, told.field) == ("ENUM_NUMBER_UNKNOWN", "ground")


async def test_who_is_erased_is_nowhere_and_the_record_stays(membership: Desk) -> None:
    request = membership.an_application(1)
    application = await membership.ask(request)
    approved = await membership.approve(application)
    await end(membership, approved.member)
    assert all(await kept(membership, approved.member, approved.name))
    erased = await erase(membership, approved.member)
    found = await membership.ask(pb.GetMemberRequest(name=approved.member))
    for seen in (erased, found):
        assert (seen.state, seen.version) == (pb.Member.ERASED, 3)
        assert not seen.HasField("person")
        assert seen.erase_time.seconds
        assert seen.erase_ground == GROUND
        assert seen.organization == approved.organization
        assert seen.approval_date
    number = membership.id_number(1)
    assert not (await membership.ask(pb.SearchMembersRequest(id_number=number))).members
    shown = await membership.ask(pb.GetApplicationRequest(name=approved.name))
    assert shown.state == pb.Application.APPROVED
    assert not shown.HasField("person")
    again = await membership.ask(request)  # The call that brought the person, repeated.
    assert again.name == approved.name
    assert not again.HasField("person")
    assert not any(await kept(membership, approved.member, approved.name))
    for answer in await answers(membership):
        assert number not in answer


async def answers(desk: Desk) -> list[str]:
    """All that is kept for repeats, as the node's key opens it."""
    keyring = await Keyring.open(desk.pool, FileKeys(desk.settings.secrets / "data.key"))
    rows = await desk.pool.fetch("SELECT caller, method, request_id, answer FROM calls")
    assert rows
    return [
        keyring.node.open(row["answer"], f"calls.answer/{'/'.join(map(str, row[:3]))}").decode()
        for row in rows
    ]


async def test_who_is_erased_is_shown_by_no_result_of_a_roster(membership: Desk) -> None:
    """Also not by a row that was refused: for the phone number, and as they are a member."""
    refused = f"张三,{membership.id_number(1)},12345,,"
    content = a_roster([refused, *membership.member_rows([1, 2])])
    roster = await membership.bring(content)
    again = await membership.bring(content, parent=membership.county)
    number = membership.id_number(1)
    found = await membership.ask(pb.SearchMembersRequest(id_number=number))
    member = found.members[0].name
    await end(membership, member)
    for one in (roster, again):
        assert await shown(membership, one) == [True, True, True]
    await erase(membership, member)
    for one in (roster, again):
        assert await shown(membership, one) == [False, False, True]


async def test_who_was_turned_down_is_forgotten_when_the_term_has_ended(
    membership: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    roster = await membership.bring(a_roster(membership.applicant_rows([1])))
    [row] = await membership.rows(roster)
    old, new = row.record, (await membership.apply(2)).name
    for name in (old, new):
        reason = "材料不全"
        await membership.ask(pb.RejectApplicationRequest(name=name, reason=reason))
    member = (await admitted(membership, 1)).member  # They applied again.
    await membership.pool.execute(
        "UPDATE submissions SET decide_time = decide_time - interval '181 days'"
        " WHERE application = $1",
        key(old),
    )
    monkeypatch.setattr(imports, "SWEEP", 0.0)

    async def forgotten() -> pb.Application:
        found: pb.Application = await membership.ask(pb.GetApplicationRequest(name=old))
        assert found.HasField("erase_time")
        return found

    found = await eventually(forgotten)
    assert (found.state, found.reject_reason) == (pb.Application.REJECTED, "")
    assert not found.HasField("person") and not any(await kept(membership, old))
    assert await shown(membership, roster) == [False]
    other = await membership.ask(pb.GetApplicationRequest(name=new))
    assert (other.person.full_name, other.reject_reason) == ("张三", "材料不全")
    assert (await membership.ask(pb.GetMemberRequest(name=member))).person.full_name == "张三"


async def withdraw(desk: Desk, name: str, *, by: str) -> pb.Application:
    request = identity_pb2.WithdrawMyApplicationRequest(name=name, request_id=str(uuid4()))
    answer: pb.Application = await ask(desk, request, by=by)
    return answer


async def test_who_withdraws_an_application_is_erased_at_once_and_may_apply_again(
    membership: Desk,
) -> None:
    person, wish = a_person(), applying(membership, 1)
    wish.person.phone = "13800000000"
    mine = await ask(membership, wish, by=person)
    assert all(await kept(membership, mine.name))
    withdrawn = await withdraw(membership, mine.name, by=person)
    assert (withdrawn.state, withdrawn.version) == (pb.Application.WITHDRAWN, 2)
    assert withdrawn.HasField("erase_time") and withdrawn.decider == mine.filer
    assert not any(await kept(membership, mine.name))
    found = await membership.ask(pb.GetApplicationRequest(name=mine.name))
    assert found == await withdraw(membership, mine.name, by=person)  # a double click
    assert not found.HasField("person") and found.state == pb.Application.WITHDRAWN
    steps = await membership.pool.fetch(
        "SELECT step FROM consents WHERE person = $1 AND use = 'contact' ORDER BY id",
        key(mine.name),
    )
    assert [row["step"] for row in steps] == [Step.GIVEN, Step.WITHDRAWN]
    approving = pb.ApproveApplicationRequest(name=mine.name)
    assert (await membership.refusal(approving)).reason == "ALREADY_DECIDED"
    again = await ask(membership, applying(membership, 1), by=person)
    assert again.name != mine.name and again.state == pb.Application.PENDING


async def test_who_was_turned_down_need_not_wait_for_the_end_of_the_term(membership: Desk) -> None:
    person = a_person()
    mine = await ask(membership, applying(membership, 1), by=person)
    rejecting = pb.RejectApplicationRequest(name=mine.name, reason="材料不全")
    rejected = await membership.ask(rejecting)
    withdrawn = await withdraw(membership, mine.name, by=person)
    assert (withdrawn.state, withdrawn.version) == (pb.Application.WITHDRAWN, 3)
    assert (withdrawn.decider, withdrawn.decide_time) == (rejected.decider, rejected.decide_time)
    assert withdrawn.HasField("erase_time") and not withdrawn.reject_reason
    assert not any(await kept(membership, mine.name))
    assert await ask(membership, looking_at(mine), by=person) == withdrawn


async def test_who_withdraws_and_applies_again_finds_out_nobody_by_it(membership: Desk) -> None:
    person = a_person()
    for number in range(MOST_OF_PERSON):
        mine = await ask(membership, applying(membership, number + 1), by=person)
        await withdraw(membership, mine.name, by=person)
    told = await refusal(membership, applying(membership, 1), by=person)
    assert told.reason == "TOO_MANY_ATTEMPTS"


async def test_who_withdraws_stays_in_a_roster_that_is_still_to_be_decided(
    membership: Desk,
) -> None:
    roster = await membership.check(a_roster(membership.applicant_rows([1])))
    person = a_person()
    mine = await ask(membership, applying(membership, 1), by=person)
    await withdraw(membership, mine.name, by=person)
    assert await shown(membership, roster) == [True]


async def test_an_application_is_withdrawn_or_approved_and_never_both(membership: Desk) -> None:
    person = a_person()
    mine = await ask(membership, applying(membership, 1), by=person)
    conn = await asyncpg.connect(as_owner(membership.settings.database_url))
    held = conn.transaction()
    await held.start()
    await conn.execute("SELECT FROM applications WHERE id = $1 FOR UPDATE", key(mine.name))
    first = asyncio.create_task(withdraw(membership, mine.name, by=person))
    await eventually(partial(waiting, conn, 1))
    approving = pb.ApproveApplicationRequest(name=mine.name)
    second = asyncio.create_task(membership.refusal(approving))
    again = asyncio.create_task(withdraw(membership, mine.name, by=person))
    await eventually(partial(waiting, conn, 3))
    await held.commit()
    await conn.close()
    withdrawn = await first
    assert (await second).reason == "ALREADY_DECIDED"
    assert await again == withdrawn, "and all of it, as it stands now"
    assert not any(await kept(membership, mine.name))


async def test_only_who_filed_withdraws_an_application_and_not_once_it_is_approved(
    membership: Desk,
) -> None:
    person = a_person()
    mine = await ask(membership, applying(membership, 1), by=person)
    other = await membership.apply(2)  # by an officer, for somebody
    for name, by in ((mine.name, a_person()), (other.name, person)):
        request = identity_pb2.WithdrawMyApplicationRequest(name=name)
        assert (await refusal(membership, request, by=by)).reason == "APPLICATION_NOT_FOUND"
    await membership.approve(mine)
    request = identity_pb2.WithdrawMyApplicationRequest(name=mine.name)
    assert (await refusal(membership, request, by=person)).reason == "APPLICATION_GRANTED"
    for name in (mine.name, other.name):
        assert all(await kept(membership, name))


@pytest.mark.parametrize("decided", [False, True], ids=["waiting", "turned down"])
async def test_who_has_withdrawn_does_not_come_back_with_a_backup(
    membership: Desk, monkeypatch: pytest.MonkeyPatch, decided: bool
) -> None:
    """The record is taken back from the nodes above; what stays at the node is as it was."""
    person = a_person()
    mine = await ask(membership, applying(membership, 1), by=person)
    if decided:
        await membership.ask(pb.RejectApplicationRequest(name=mine.name, reason="材料不全"))
    rows = await kept(membership, mine.name)
    filed = "SELECT * FROM submissions WHERE application = $1"
    [submission] = await membership.pool.fetch(filed, key(mine.name))
    await withdraw(membership, mine.name, by=person)
    for table, lost in zip(("people", "data_keys"), rows, strict=True):
        await membership.pool.copy_records_to_table(
            table, records=[tuple(row) for row in lost], columns=list(lost[0].keys())
        )
    await membership.pool.execute(
        "UPDATE submissions SET erase_time = NULL, decide_time = $2, decider = $3"
        " WHERE application = $1",
        key(mine.name), submission["decide_time"], submission["decider"],
    )  # fmt: skip
    found = await membership.ask(pb.GetApplicationRequest(name=mine.name))
    assert not found.HasField("person")
    monkeypatch.setattr(imports, "SWEEP", 0.0)

    async def swept() -> None:
        assert not any(await kept(membership, mine.name))

    await eventually(swept)
    found = await withdraw(membership, mine.name, by=person)
    assert found.state == pb.Application.WITHDRAWN and found.HasField("erase_time")
    again = await ask(membership, applying(membership, 1), by=person)
    assert again.state == pb.Application.PENDING


async def test_who_was_turned_down_before_a_restore_may_apply_again(
    membership: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is taken back from the nodes above; when it was decided, they do not know."""
    person = a_person()
    mine = await ask(membership, applying(membership, 1), by=person)
    await membership.ask(pb.RejectApplicationRequest(name=mine.name, reason="材料不全"))
    await membership.pool.execute(
        "UPDATE submissions SET decide_time = NULL, decider = '', reject_reason = NULL"
        " WHERE application = $1",
        key(mine.name),
    )
    await membership.pool.execute(
        "UPDATE people SET standing = 'applicant' WHERE id = $1", key(mine.name)
    )
    monkeypatch.setattr(imports, "SWEEP", 0.0)

    async def closed() -> None:
        found = await ask(membership, looking_at(mine), by=person)
        assert found.state == pb.Application.REJECTED and found.HasField("decide_time")

    await eventually(closed)
    again = await ask(membership, applying(membership, 1), by=person)
    assert again.state == pb.Application.PENDING


def looking_at(application: pb.Application) -> identity_pb2.GetMyApplicationRequest:
    return identity_pb2.GetMyApplicationRequest(name=application.name)


async def shown(desk: Desk, roster: pb.Roster) -> list[bool]:
    """Of each row of the result file, whether it shows a person."""
    sheet = load_workbook(io.BytesIO(await desk.result(roster))).worksheets[0]
    return [bool(row[2].value or row[3].value) for row in sheet.iter_rows(min_row=3)]


async def test_who_holds_an_office_leaves_it_first(membership: Desk) -> None:
    member = (await admitted(membership)).member
    await ask(membership, binding(membership, 1), by=a_person())
    office = await membership.appoint(member, membership.county, "AUDITOR")
    told = await membership.refusal(pb.EndMembershipRequest(name=member))
    assert (told.reason, told.metadata["office"]) == ("STILL_IN_OFFICE", office.name)
    await membership.dismiss(office)
    assert (await end(membership, member)).state == pb.Member.LEFT


async def test_who_is_erased_is_nobodys_login_any_more(membership: Desk) -> None:
    member, person = (await admitted(membership)).member, a_person()
    assert (await ask(membership, binding(membership, 1), by=person)).member == member
    await end(membership, member)
    await erase(membership, member)
    told = await refusal(membership, identity_pb2.UnbindMyIdentityRequest(), by=person)
    assert told.reason == "NOT_BOUND"


async def test_erasing_again_changes_nothing(membership: Desk) -> None:
    member = (await admitted(membership)).member
    await end(membership, member)
    first = await erase(membership, member)
    assert await erase(membership, member, pb.Member.UNLAWFUL) == first
    told = await membership.refusal(pb.EndMembershipRequest(name=member))
    assert told.reason == "MEMBERSHIP_ENDED"


async def test_who_was_erased_joins_again_as_somebody_new(membership: Desk) -> None:
    old = await admitted(membership)
    await end(membership, old.member)
    await erase(membership, old.member)
    new = await admitted(membership)
    assert new.member != old.member
    number = membership.id_number(1)
    found = await membership.ask(pb.SearchMembersRequest(id_number=number))
    assert [one.name for one in found.members] == [new.member]
    assert found.members[0].person.full_name == "张三"
    assert (await erase(membership, old.member)).state == pb.Member.ERASED
    assert all(await kept(membership, new.member, new.name)), "the new one is somebody else"


async def test_that_a_member_is_erased_is_announced_without_a_word_about_them(
    membership: Desk,
) -> None:
    member = (await admitted(membership)).member
    await end(membership, member)
    await erase(membership, member)
    await erase(membership, member)

    async def announced() -> None:
        rows = await membership.pool.fetch(
            "SELECT event_type, version FROM entries WHERE id = $1 ORDER BY number", key(member)
        )
        assert [(row["event_type"].rpartition(".")[2], row["version"]) for row in rows] == [
            ("MemberAdmitted", 1), ("MemberLeft", 2), ("MemberErased", 3),
        ]  # fmt: skip

    await eventually(announced)


async def test_only_a_chair_erases_and_whose_office_is_elsewhere_does_not(
    membership: Desk,
) -> None:
    member = (await admitted(membership)).member
    clerk, stranger = f"officers/{uuid4()}", f"officers/{uuid4()}"
    await membership.appoint(clerk, membership.county, "MEMBERSHIP")
    await membership.appoint(stranger, "organizations/5101", "CHAIR")
    if membership.code.startswith("5101"):
        stranger = f"officers/{uuid4()}"
    ending = pb.EndMembershipRequest(name=member, request_id=str(uuid4()))
    erasing = pb.EraseMemberRequest(name=member, ground=GROUND, request_id=str(uuid4()))
    for request in (ending, erasing):
        told = await membership.refusal(request, officer=stranger)
        assert told.code is grpc.StatusCode.PERMISSION_DENIED
    assert (await membership.ask(ending, officer=clerk)).state == pb.Member.LEFT
    assert (await membership.refusal(erasing, officer=clerk)).reason == "NO_OFFICE"
    assert (await membership.ask(erasing)).state == pb.Member.ERASED


async def test_what_a_backup_brings_back_of_the_erased_is_not_shown_and_erased_again(
    membership: Desk,
) -> None:
    approved = await admitted(membership)
    names = approved.member, approved.name
    await end(membership, approved.member)
    people, keys = await kept(membership, *names)
    await erase(membership, approved.member)
    for table, rows in (("people", people), ("data_keys", keys)):
        await membership.pool.copy_records_to_table(
            table, records=[tuple(row) for row in rows], columns=list(rows[0].keys())
        )
    found = await membership.ask(pb.GetMemberRequest(name=approved.member))
    assert not found.HasField("person")
    shown = await membership.ask(pb.GetApplicationRequest(name=approved.name))
    assert not shown.HasField("person")
    number = membership.id_number(1)
    assert not (await membership.ask(pb.SearchMembersRequest(id_number=number))).members
    keyring = await Keyring.open(
        membership.pool, FileKeys(membership.settings.secrets / "data.key")
    )
    node = membership.settings.node
    async with Database(
        membership.pool, lambda conn: Store(conn, keyring, node)
    ).transaction() as store:
        await store.people.erase(node)  # As the service does when it starts, and every hour.
    assert not any(await kept(membership, *names))


async def test_what_a_backup_brings_back_of_who_is_no_member_is_found(membership: Desk) -> None:
    """A login and an office are in no frame, and so come back as they were."""
    member = (await admitted(membership)).member
    bound = await ask(membership, binding(membership, 1), by=a_person())
    office = await membership.appoint(member, membership.county, "AUDITOR")
    keyring = await Keyring.open(
        membership.pool, FileKeys(membership.settings.secrets / "data.key")
    )
    node, now = membership.settings.node, datetime.now(UTC)
    for state, back in ((pb.Member.ERASED, True), (pb.Member.ACTIVE, False)):
        await membership.pool.execute(
            "UPDATE members SET state = $1 WHERE id = $2", state, key(member)
        )
        async with membership.pool.acquire() as conn, conn.transaction():
            store = Store(conn, keyring, node)
            assert (bound.name in [one.name for one in await store.bindings.of_erased()]) == back
            former = await store.officers.of_former(at=now)
            assert (office.name in [one.name for one in former]) == back
