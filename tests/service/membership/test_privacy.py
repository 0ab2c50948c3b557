"""Personal data: who sees it, how much of it, and that the person sees who did."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import grpc
import pytest

from kit.config import CannotServe
from kit.organizations import organization_id
from kit.status import Refused, refused
from kit.wire import CHANNEL_OPTIONS
from services.membership.store.consents import Consents
from services.membership.usecases.privacy import keep_texts, texts_in
from smartunion.event.v1 import access_pb2
from smartunion.event.v1.access_pb2_grpc import AccessServiceStub
from smartunion.membership.v1 import membership_pb2 as pb
from smartunion.membership.v1 import privacy_pb2
from smartunion.membership.v1.privacy_pb2_grpc import MyDataServiceStub
from tests.builders import a_roster
from tests.eventually import eventually, waiting
from tests.service.desk import OFFICER, Desk
from tests.service.membership.test_bindings import a_person, binding
from tests.service.membership.test_bindings import ask as bind
from tests.service.membership.test_members import copy_in
from tests.service.membership.test_nasty import NASTY

if TYPE_CHECKING:
    from smartunion.membership.v1.privacy_pb2_grpc import MyDataServiceAsyncStub

PURPOSE = "核对银行开户信息"


@dataclass
class Mine:
    """The door for members, beside the officers' desk."""

    desk: Desk
    stub: "MyDataServiceAsyncStub"
    channel: grpc.aio.Channel

    async def ask(self, request: Any, *, by: str) -> Any:
        """The answer to a member's request."""
        method = type(request).__name__.removesuffix("Request")
        return await getattr(self.stub, method)(request, metadata=self.desk.as_officer(by))

    async def refusal(self, request: Any, *, by: str) -> Refused:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await self.ask(request, by=by)
        return refused(error.value)

    async def accesses(self, member: str, *, count: int) -> list[privacy_pb2.DataAccess]:
        """All that the member is shown, two at a time, once there are so many."""

        async def all_numbered() -> list[privacy_pb2.DataAccess]:
            found, request = [], privacy_pb2.ListMyDataAccessesRequest(page_size=2)
            while True:
                answer = await self.ask(request, by=member)
                found += answer.accesses
                request.page_token = answer.next_page_token
                if not request.page_token:
                    break
            assert len(found) == count
            return found

        return await eventually(all_numbered)


@pytest.fixture
async def mine(membership: Desk) -> AsyncIterator[Mine]:
    address = membership.settings.listen
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        yield Mine(membership, MyDataServiceStub(channel), channel)


def reveal(name: str, purpose: str = PURPOSE, request_id: str = "") -> pb.RevealPersonRequest:
    return pb.RevealPersonRequest(name=name, purpose=purpose, request_id=request_id)


async def recorded(desk: Desk, name: str) -> list[Any]:
    """The rows of the audit trail that say why somebody's data was revealed, numbered or not."""
    columns = "caller, method, office, path, names, request_id, purpose, time"
    return list(
        await desk.pool.fetch(
            f"""
            SELECT {columns} FROM audit WHERE names[1] = $1 AND purpose <> '' UNION ALL
            SELECT {columns} FROM audit_waiting WHERE names[1] = $1 AND purpose <> ''
             ORDER BY time
            """,
            name,
        )
    )


async def test_every_answer_to_an_officer_hides_the_numbers(membership: Desk) -> None:
    """Also to one who may reveal: nobody sees them by the way."""
    number, phone = membership.id_number(1), "13800000000"
    applied = await membership.apply(1)
    answers = [
        applied,
        await membership.ask(pb.GetApplicationRequest(name=applied.name)),
        await membership.ask(pb.ListApplicationsRequest(parent=membership.street)),
        await membership.approve(applied),
    ]
    member = (await membership.ask(pb.GetApplicationRequest(name=applied.name))).member
    answers += [
        await membership.ask(pb.GetMemberRequest(name=member)),
        await membership.ask(pb.ListMembersRequest(parent=membership.street)),
        await membership.ask(pb.SearchMembersRequest(id_number=number)),
    ]
    for answer in answers:
        content = answer.SerializeToString()
        assert number.encode() not in content and phone.encode() not in content
        assert f"{number[:6]}********{number[14:]}".encode() in content
        assert b"138****0000" in content and "张三".encode() in content


async def test_who_may_reveal_and_says_why_sees_everything_and_it_is_recorded(
    membership: Desk, mine: Mine
) -> None:
    by, request_id = f"officers/{uuid4()}", str(uuid4())
    office = await membership.appoint(by, membership.county, "MEMBERSHIP")
    member = (await membership.approve(await membership.apply(1))).member
    found = await membership.ask(reveal(member, f" {PURPOSE} ", request_id), officer=by)
    assert found == pb.Person(
        full_name="张三", id_number=membership.id_number(1), phone="13800000000"
    )
    [row] = await recorded(membership, member)
    assert (row["caller"], row["office"], row["purpose"]) == (by, office.name, PURPOSE)
    assert row["method"] == "smartunion.membership.v1.MembershipService.RevealPerson"
    assert row["path"].endswith(f".{membership.code}") and str(row["request_id"]) == request_id

    async def shown() -> None:
        asked = access_pb2.ListAuditEntriesRequest(parent=membership.street, resource=member)
        stub = AccessServiceStub(mine.channel)
        entries = await stub.ListAuditEntries(asked, metadata=membership.as_officer())
        assert [(one.caller, one.purpose) for one in entries.entries if one.purpose] == [
            (by, PURPOSE)
        ]

    await eventually(shown)


async def test_a_repeat_is_recorded_once_and_another_reveal_again(membership: Desk) -> None:
    application, request_id = (await membership.apply(1)).name, str(uuid4())
    asked = reveal(application, request_id=request_id)
    first = await membership.ask(asked)
    assert await membership.ask(asked) == first
    assert first.id_number == membership.id_number(1)
    assert len(await recorded(membership, application)) == 1
    for _ in range(2):
        assert await membership.ask(reveal(application)) == first
    assert len(await recorded(membership, application)) == 3
    told = await membership.refusal(reveal(application, "别的用途", request_id))
    assert told.reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    ("purpose", "reason"),
    [
        ("", "PURPOSE_LENGTH"),
        (" 核 ", "PURPOSE_LENGTH"),
        ("核" * 201, "PURPOSE_LENGTH"),
        ("核对\x00", "TEXT_CHARACTERS"),
        ("核对\n银行", "TEXT_CHARACTERS"),
        ("核对 11010519491231002X", "PURPOSE_NAMES_NUMBER"),
        ("致电 138-0000 0000", "PURPOSE_NAMES_NUMBER"),
        ("致电１３８００００００００", "PURPOSE_NAMES_NUMBER"),
    ],
)
async def test_nothing_is_revealed_without_a_purpose_that_everybody_may_read(
    membership: Desk, purpose: str, reason: str
) -> None:
    application = (await membership.apply(1)).name
    told = await membership.refusal(reveal(application, purpose))
    assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert told.field == "purpose" and told.chinese
    assert not await recorded(membership, application)


async def test_nobody_else_sees_anything_and_nothing_is_recorded(membership: Desk) -> None:
    member = (await membership.approve(await membership.apply(1))).member
    other = (await membership.approve(await membership.apply(2))).member
    look_alike = membership.code[:-1]
    await membership.pool.execute(
        "INSERT INTO organizations (id, code, display_name, level, path) SELECT $1, $2, $2, 6, $3",
        organization_id(look_alike), look_alike, f"0.51.{membership.code[:4]}"
        f".{membership.code[:6]}.{look_alike}",
    )  # fmt: skip
    sibling = await membership.pool.fetchval(
        "SELECT code FROM organizations WHERE level = 4 AND code <> $1 LIMIT 1",
        membership.code[:6],
    )
    callers = dict.fromkeys((member, other, "officers/x"), "NO_OFFICE")
    for code in (look_alike, sibling):
        by = f"officers/{uuid4()}"
        await membership.appoint(by, f"organizations/{organization_id(code)}", "CHAIR")
        callers[by] = "OUTSIDE_SCOPE"
    for role in ("AUDITOR", "BENEFITS", "FINANCE", "RIGHTS", "NODE_OPERATOR"):
        by = f"officers/{uuid4()}"
        await membership.appoint(by, membership.street, role)
        callers[by] = "NO_OFFICE"
    for by, reason in callers.items():
        told = await membership.refusal(reveal(member), officer=by)
        assert (told.code, told.reason) == (grpc.StatusCode.PERMISSION_DENIED, reason), by
    assert not await recorded(membership, member)


async def test_a_person_who_is_not_held_here_cannot_be_revealed_here(membership: Desk) -> None:
    member, origin = uuid4(), uuid4()
    await copy_in(membership, "members", member, origin, epoch=1, code=membership.code)
    told = await membership.refusal(reveal(f"members/{member}"))
    assert (told.code, told.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PERSON_NOT_HERE")
    assert told.metadata["node"] == f"nodes/{origin}"
    for wrong in ("", "members/x", "applications/x", "offices/x"):
        assert (await membership.refusal(reveal(wrong))).reason == "NAME_MALFORMED"


async def test_a_member_sees_who_saw_their_data_and_why_and_nobody_elses(
    membership: Desk, mine: Mine
) -> None:
    office = await membership.appoint("officers/county", membership.county, "MEMBERSHIP")
    applied = await membership.apply(1)
    await membership.ask(reveal(applied.name, "核对身份证"))
    member = (await membership.approve(applied)).member
    other = (await membership.approve(await membership.apply(2))).member
    capitals = f"members/{member.partition('/')[2].upper()}"  # the same UUID, in another form
    await membership.ask(reveal(capitals, "办理会员卡"), officer="officers/county")
    await membership.ask(reveal(other, f"如同 {member}"))
    await membership.ask(reveal(other, member))  # names another member, in the words of an officer
    await membership.ask(reveal(member, "补办会员卡"), officer="officers/county")
    await membership.ask(pb.GetMemberRequest(name=member))
    seen = await mine.accesses(member, count=3)
    assert [(one.officer, one.purpose, one.resource) for one in seen] == [
        ("officers/county", "补办会员卡", member),
        ("officers/county", "办理会员卡", member),
        (OFFICER, "核对身份证", applied.name),
    ]
    assert (seen[0].office, seen[0].role) == (office.name, pb.Office.MEMBERSHIP)
    assert seen[0].organization == office.organization
    assert seen[0].reveal_time.seconds > seen[2].reveal_time.seconds - 1
    assert len(await mine.accesses(other, count=2)) == 2


async def test_what_is_for_members_is_for_nobody_else(membership: Desk, mine: Mine) -> None:
    application = (await membership.apply(1)).name.partition("/")[2]
    request = privacy_pb2.ListMyDataAccessesRequest()
    for by, reason in (
        (OFFICER, "ACCESS_DENIED"),
        (f"members/{uuid4()}", "NOT_A_MEMBER"),
        (f"members/{application}", "NOT_A_MEMBER"),
    ):
        told = await mine.refusal(request, by=by)
        assert (told.code, told.reason) == (grpc.StatusCode.PERMISSION_DENIED, reason)
    member = (await membership.approve(await membership.apply(2))).member
    for token in ("forged", "WyIiLCAiMSJd"):
        asked = privacy_pb2.ListMyDataAccessesRequest(page_token=token)
        assert (await mine.refusal(asked, by=member)).reason == "PAGE_TOKEN_FOREIGN"


async def member_of(desk: Desk, number: int, **person: str) -> tuple[str, str]:
    """A new member, and the application that they came by; `person`: what is otherwise."""
    applied = await desk.ask(desk.an_application(number, **person))
    return (await desk.approve(applied)).member, applied.name


async def test_a_member_exports_all_that_is_held_of_them_and_of_nobody_else(
    membership: Desk, mine: Mine
) -> None:
    turned_down = await membership.apply(1)
    await membership.ask(pb.RejectApplicationRequest(name=turned_down.name, reason="缺少照片"))
    member, application = await member_of(membership, 1)
    other, _ = await member_of(membership, 2)
    await membership.ask(reveal(member))
    await membership.ask(reveal(other, "另有用途"))
    for number in (1, 2):
        await bind(membership, binding(membership, number), by=a_person())
    office = await membership.appoint(member, membership.street, "RIGHTS")
    await membership.appoint(other, membership.street, "RIGHTS")
    seen = await mine.accesses(member, count=1)
    data = await mine.ask(privacy_pb2.ExportMyDataRequest(), by=member)
    person = pb.Person(full_name="张三", id_number=membership.id_number(1), phone="13800000000")
    assert [(one.name, one.person) for one in data.members] == [(member, person)]
    assert [(one.name, one.person, one.reject_reason) for one in data.applications] == [
        (turned_down.name, person, "缺少照片"), (application, person, ""),
    ]  # fmt: skip
    assert list(data.accesses) == seen and seen[0].purpose == PURPOSE
    assert list(data.offices) == [office]
    assert len(data.consents) == 4, "what they were told and consented to when they applied, twice"
    assert [text.use for text in data.texts] == ["contact", "membership"] and data.texts[0].text
    content = data.SerializeToString()
    for alien in (membership.id_number(2), other, "另有用途"):
        assert alien.encode() not in content


async def test_who_applies_is_told_on_which_basis_and_it_is_kept(
    membership: Desk, mine: Mine
) -> None:
    texts = (await mine.stub.ListPrivacyTexts(privacy_pb2.ListPrivacyTextsRequest())).texts
    told = {text.use: text for text in texts}
    assert told["membership"].basis == privacy_pb2.PrivacyText.LEGAL_DUTY
    assert told["contact"].basis == privacy_pb2.PrivacyText.CONSENT
    member, _ = await member_of(membership, 1)
    roster = await membership.bring(a_roster(membership.member_rows([2])))
    brought = (await membership.rows(roster))[0].record
    for by, recorder in ((member, OFFICER), (brought, roster.name)):
        lines = (await mine.ask(privacy_pb2.ListMyConsentsRequest(), by=by)).consents
        assert [(line.use, line.effective_date, line.basis, line.step) for line in lines] == [
            (use, told[use].effective_date, told[use].basis, step)
            for use, step in (
                ("contact", privacy_pb2.Consent.GIVEN),  # with the phone number
                ("membership", privacy_pb2.Consent.INFORMED),
            )
        ]
        assert all(line.recorder == recorder and line.record_time.seconds for line in lines)
    preview = await membership.check(a_roster(membership.member_rows([3])))
    count = "SELECT count(*) FROM consents WHERE recorder = $1"
    assert await membership.pool.fetchval(count, preview.name) == 0


async def test_who_takes_the_consent_back_is_held_without_a_phone_number_and_all_else_goes_on(
    membership: Desk, mine: Mine
) -> None:
    number = membership.id_number(1)
    member, application = await member_of(membership, 1)
    other, _ = await member_of(membership, 2)
    answer = await mine.ask(privacy_pb2.WithdrawConsentRequest(use="contact"), by=member)
    assert answer.consent.step == privacy_pb2.Consent.WITHDRAWN
    assert [(text.use, text.basis) for text in answer.others] == [
        ("membership", privacy_pb2.PrivacyText.LEGAL_DUTY)
    ]
    for name in (member, application):
        person = await membership.ask(reveal(name))
        assert person == pb.Person(full_name="张三", id_number=number), "and no phone"
    data = await mine.ask(privacy_pb2.ExportMyDataRequest(), by=member)
    assert {one.person.phone for one in (*data.members, *data.applications)} == {""}
    [found] = (await membership.ask(pb.SearchMembersRequest(id_number=number))).members
    assert (found.name, found.state) == (member, pb.Member.ACTIVE)
    assert (await membership.ask(reveal(other))).phone == "13800000000", "nobody else's"


async def test_a_phone_number_does_not_come_back_with_an_approval_on_its_way(
    membership: Desk, mine: Mine
) -> None:
    """Who has left and applies again withdraws while an officer approves."""
    member, _ = await member_of(membership, 1)
    await membership.ask(pb.EndMembershipRequest(name=member))
    again = await membership.apply(1)
    async with membership.pool.acquire() as conn, conn.transaction():
        await conn.execute("LOCK TABLE members IN SHARE MODE")
        approving = asyncio.create_task(membership.approve(again))
        await eventually(partial(waiting, conn, 1))
        request = privacy_pb2.WithdrawConsentRequest(use="contact")
        withdrawing = asyncio.create_task(mine.ask(request, by=member))
        await eventually(partial(waiting, conn, 2))
    await withdrawing
    assert not (await membership.ask(reveal((await approving).member))).phone


@pytest.mark.parametrize("by_roster", [True, False])
async def test_a_phone_number_does_not_come_back_with_who_comes_again_meanwhile(
    membership: Desk, mine: Mine, by_roster: bool
) -> None:
    """Who has left and comes by a roster or an application withdraws before they are there."""
    member, _ = await member_of(membership, 1)
    await membership.ask(pb.EndMembershipRequest(name=member))
    checked = await membership.check(a_roster(membership.member_rows([1])))

    async def come() -> str:
        if not by_roster:
            return (await membership.apply(1)).name
        return (await membership.rows(await membership.commit(checked)))[0].record

    async with membership.pool.acquire() as conn, conn.transaction():
        await conn.execute("LOCK TABLE members, applications IN SHARE MODE")
        coming = asyncio.create_task(come())
        await eventually(partial(waiting, conn, 1))
        request = privacy_pb2.WithdrawConsentRequest(use="contact")
        withdrawing = asyncio.create_task(mine.ask(request, by=member))
        await eventually(partial(waiting, conn, 2))
    await withdrawing
    assert not (await membership.ask(reveal(await coming))).phone


async def test_consent_is_given_to_the_text_in_force_and_taken_back_and_all_of_it_stays(
    membership: Desk, mine: Mine
) -> None:
    member, _ = await member_of(membership, 1, phone="")
    other, _ = await member_of(membership, 2, phone="")
    give = privacy_pb2.GiveConsentRequest(
        use="contact", effective_date="2026-01-01", request_id=str(uuid4())
    )
    take_back = privacy_pb2.WithdrawConsentRequest(use="contact")
    assert (await mine.refusal(take_back, by=member)).reason == "CONSENT_NOT_GIVEN"
    given = await mine.ask(give, by=member)
    assert (given.step, given.recorder) == (privacy_pb2.Consent.GIVEN, member)
    assert await mine.ask(give, by=member) == given, "a repeat adds nothing"
    give.request_id = ""
    assert (await mine.refusal(give, by=member)).reason == "CONSENT_GIVEN"
    assert (await mine.refusal(take_back, by=other)).reason == "CONSENT_NOT_GIVEN"
    await mine.ask(take_back, by=member)
    assert (await mine.refusal(take_back, by=member)).reason == "CONSENT_NOT_GIVEN"
    await mine.ask(give, by=member)
    steps, request = [], privacy_pb2.ListMyConsentsRequest(page_size=1)
    while True:
        page = await mine.ask(request, by=member)
        steps += [privacy_pb2.Consent.Step.Name(line.step) for line in page.consents]
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert steps == ["GIVEN", "WITHDRAWN", "GIVEN", "INFORMED"]
    for use, day, reason in (
        ("contact", "2025-01-01", "TEXT_OUTDATED"),
        ("contact", "", "TEXT_OUTDATED"),
        ("membership", "2026-01-01", "CONSENT_NOT_ASKED"),
        ("sports", "2026-01-01", "USE_UNKNOWN"),
        *((text, text, "USE_UNKNOWN") for text in NASTY),
        *(("contact", text, "TEXT_OUTDATED") for text in NASTY),
    ):
        told = await mine.refusal(privacy_pb2.WithdrawConsentRequest(use=use), by=other)
        assert told.reason in ("CONSENT_NOT_GIVEN", "USE_UNKNOWN") and len(told.text) < 500
        wrong = privacy_pb2.GiveConsentRequest(use=use, effective_date=day)
        assert (await mine.refusal(wrong, by=other)).reason == reason
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await membership.pool.execute("DELETE FROM consents")


async def test_only_members_consent_and_each_for_themselves(membership: Desk, mine: Mine) -> None:
    for request in (
        privacy_pb2.ExportMyDataRequest(),
        privacy_pb2.ListMyConsentsRequest(),
        privacy_pb2.GiveConsentRequest(use="contact", effective_date="2026-01-01"),
        privacy_pb2.WithdrawConsentRequest(use="contact"),
    ):
        for by, reason in ((OFFICER, "ACCESS_DENIED"), (f"members/{uuid4()}", "NOT_A_MEMBER")):
            told = await mine.refusal(request, by=by)
            assert (told.code, told.reason) == (grpc.StatusCode.PERMISSION_DENIED, reason)


async def test_a_text_that_people_were_told_is_never_edited(
    membership: Desk, tmp_path: Path
) -> None:
    file, today = tmp_path / "privacy.toml", date(2026, 11, 26)
    held = membership.settings.privacy_texts.read_text(encoding="utf-8")
    consents = Consents(membership.pool)

    async def kept(text: str) -> None:
        file.write_text(text, encoding="utf-8")
        await keep_texts(texts_in(file), consents, today=today)

    await kept(held)
    later = held.replace("2026-01-01", "2027-01-01").replace("期限：", "保存期限：")
    await kept(held + later)
    assert set(texts_in(file).on(today).values()) == set(texts_in(file).all[:2])
    assert texts_in(file).on(date(2027, 1, 1))["contact"].effective_date.year == 2027
    for wrong, told in (
        (held.replace("期限：", "保存期限："), "is not what people were told"),
        (held.replace('"legal_duty"', '"because"'), "KeyError"),
        (held.replace("= 2026-01-01", '= "2026-01-01"'), "without quotes"),
        (held.replace("title", "titel"), "TypeError"),
        (later, "no text in force"),
        (held.replace('use = "contact"', 'use = "news"'), "news asks for consent"),
        (held[: held.rindex("[[texts]]")], "no text in force asks for consent to contact"),
        ("[[texts", "TOMLDecodeError"),
    ):
        with pytest.raises(CannotServe, match=told):
            await kept(wrong)


async def test_who_is_erased_is_neither_revealed_nor_exported(membership: Desk, mine: Mine) -> None:
    member, application = await member_of(membership, 1)
    await membership.ask(pb.EndMembershipRequest(name=member))
    data = await mine.ask(privacy_pb2.ExportMyDataRequest(), by=member)
    assert data.members[0].person.full_name == "张三", "who has left still reads what is held"
    await membership.ask(pb.EraseMemberRequest(name=member, ground="PURPOSE_ENDED"))
    for name in (member, application):
        assert (await membership.refusal(reveal(name))).reason == "PERSON_NOT_HERE"
    told = await mine.refusal(privacy_pb2.ExportMyDataRequest(), by=member)
    assert told.reason == "NOT_A_MEMBER"
    lines = "SELECT count(*) FROM consents WHERE person = ANY ($1::text[]::uuid[])"
    ids = [name.partition("/")[2] for name in (member, application)]
    assert await membership.pool.fetchval(lines, ids), "that they were told stays, without a name"
