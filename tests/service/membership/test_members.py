"""Members and organisations: who finds whom, and copies of what other nodes own."""

import os
from datetime import UTC, datetime
from uuid import UUID, uuid4

import grpc
import pytest

from kit.records import group_hash, record_hash
from services.membership.subscriber import KINDS
from smartunion.event.v1.log_pb2 import Certificate
from smartunion.membership.v1 import membership_pb2 as pb
from smartunion.membership.v1.records_pb2 import PublicState
from tests.service.desk import HOME, Desk


async def test_a_member_is_found_by_the_whole_id_number_however_it_is_typed(
    membership: Desk,
) -> None:
    approved = await membership.approve(await membership.apply(1))
    number = membership.id_number(1)
    wide = "".join(chr(ord(digit) + 0xFEE0) for digit in number)
    for typed in (number, f" {number[:6]} {number[6:]}", wide, number.lower()):
        found = await membership.ask(pb.SearchMembersRequest(id_number=typed))
        assert [member.name for member in found.members] == [approved.member]
    nobody = await membership.ask(pb.SearchMembersRequest(id_number=membership.id_number(2)))
    assert not nobody.members
    told = await membership.refusal(pb.SearchMembersRequest(id_number="1"))
    assert (told.reason, told.field) == ("ID_NUMBER_LENGTH", "id_number")


async def test_a_section_that_its_origin_made_wrong_is_shown_as_none(membership: Desk) -> None:
    name = (await membership.approve(await membership.apply(1))).member
    member = UUID(name.partition("/")[2])
    await membership.pool.execute("DELETE FROM people WHERE id = $1", member)  # as of a copy
    for wrong in (b"no proto at all, but long", b"\x0a\x10" + bytes(16) + b"\x12\x03abc"):
        await membership.pool.execute(
            "UPDATE members SET personal = $1 WHERE id = $2", wrong, member
        )
        assert not (await membership.ask(pb.GetMemberRequest(name=name))).HasField("person")


async def test_members_are_listed_in_order_of_admission_page_by_page(membership: Desk) -> None:
    names = [(await membership.approve(await membership.apply(n))).member for n in range(5)]
    seen, token = [], ""
    while True:
        request = pb.ListMembersRequest(parent=membership.county, page_size=2, page_token=token)
        page = await membership.ask(request)
        seen += [member.name for member in page.members]
        if not (token := page.next_page_token):
            break
    assert seen == names
    told = await membership.refusal(pb.ListMembersRequest(parent=membership.county, page_token="x"))
    assert told.reason == "PAGE_TOKEN_FOREIGN"


async def test_who_is_not_here_is_not_found(membership: Desk) -> None:
    told = await membership.refusal(pb.GetMemberRequest(name=f"members/{uuid4()}"))
    assert (told.code, told.reason) == (grpc.StatusCode.NOT_FOUND, "MEMBER_NOT_FOUND")
    told = await membership.refusal(pb.GetMemberRequest(name="members/x"))
    assert told.reason == "NAME_MALFORMED"


async def copy_in(desk: Desk, kind: str, id: UUID, origin: UUID, *, epoch: int, code: str) -> None:
    """What kit.copies writes for a record of a node below."""
    organization = await desk.pool.fetchval("SELECT id FROM organizations WHERE code = $1", code)
    public = PublicState(salt=os.urandom(16), organization=organization.bytes, state=1)
    section = public.SerializeToString(deterministic=True)
    hash_ = record_hash(kind, id, epoch, 1, {"public": group_hash(section)})
    declared = next(one for one in KINDS if one.name == kind)
    await desk.pool.execute(
        f"INSERT INTO {declared.table} VALUES ($1, $2, $3, 1, $4, $5, $6, $7)",
        origin, id, epoch, hash_, section, *declared.parse(section),
    )  # fmt: skip


async def test_a_copy_says_where_it_comes_from_and_shows_no_person(membership: Desk) -> None:
    member, application, origin = uuid4(), uuid4(), uuid4()
    await copy_in(membership, "members", member, origin, epoch=1, code=membership.code)
    await copy_in(membership, "applications", application, origin, epoch=1, code=membership.code)
    certificate = Certificate(certify_time=datetime(2026, 11, 22, tzinfo=UTC))
    await membership.pool.execute(
        "INSERT INTO proofs (origin, channel, certificate) VALUES ($1, 'records', $2)",
        origin, certificate.SerializeToString(),
    )  # fmt: skip
    for request in (
        pb.GetMemberRequest(name=f"members/{member}"),
        pb.GetApplicationRequest(name=f"applications/{application}"),
    ):
        found = await membership.ask(request)
        assert not found.HasField("person")
        assert found.provenance == pb.Provenance(
            origin=f"nodes/{origin}", copy=True, certify_time=certificate.certify_time
        )
    listed = await membership.ask(pb.ListMembersRequest(parent=membership.county))
    assert [one.name for one in listed.members] == [f"members/{member}"]


async def test_a_copy_cannot_be_decided_here(membership: Desk) -> None:
    application, origin = uuid4(), uuid4()
    await copy_in(membership, "applications", application, origin, epoch=1, code=membership.code)
    for request in (
        pb.ApproveApplicationRequest(name=f"applications/{application}"),
        pb.RejectApplicationRequest(name=f"applications/{application}", reason="材料不全"),
    ):
        told = await membership.refusal(request)
        assert told.code is grpc.StatusCode.FAILED_PRECONDITION
        assert told.reason == "OWNED_ELSEWHERE"
        assert told.metadata["node"] == f"nodes/{origin}"


async def test_the_latest_owner_of_a_record_counts(membership: Desk) -> None:
    member, old, new = uuid4(), uuid4(), uuid4()
    await copy_in(membership, "members", member, old, epoch=1, code=membership.code)
    await copy_in(membership, "members", member, new, epoch=2, code=membership.code)
    found = await membership.ask(pb.GetMemberRequest(name=f"members/{member}"))
    assert found.provenance.origin == f"nodes/{new}"
    listed = await membership.ask(pb.ListMembersRequest(parent=membership.county))
    assert [one.provenance.origin for one in listed.members] == [f"nodes/{new}"]


async def test_an_organisation_goes_by_its_id_and_by_its_code(membership: Desk) -> None:
    by_code = await membership.ask(pb.GetOrganizationRequest(name="organizations/5101"))
    assert (by_code.display_name, by_code.level) == ("成都市总工会", pb.Organization.CITY)
    assert by_code == await membership.ask(pb.GetOrganizationRequest(name=by_code.name))
    above = await membership.ask(pb.GetOrganizationRequest(name=by_code.parent))
    assert above.code == "51"
    top = await membership.ask(pb.GetOrganizationRequest(name=above.parent))
    assert (top.display_name, top.parent) == ("中华全国总工会", "")


@pytest.mark.parametrize("subtree", [False, True])
async def test_organisations_are_listed_by_code_and_each_once(
    membership: Desk, subtree: bool
) -> None:
    seen, token = [], ""
    while True:
        request = pb.ListOrganizationsRequest(
            parent="organizations/5101", subtree=subtree, page_size=7 if not subtree else 90,
            page_token=token,
        )  # fmt: skip
        page = await membership.ask(request)
        seen += [organization.code for organization in page.organizations]
        if not (token := page.next_page_token):
            break
    assert seen == sorted(set(seen))
    assert all(code.startswith("5101") and code != "5101" for code in seen)
    assert {len(code) for code in seen} == ({6, 9} if subtree else {6})
    told = await membership.refusal(
        pb.ListOrganizationsRequest(parent=HOME, page_token=token or page.next_page_token or "x")
    )
    assert told.reason == "PAGE_TOKEN_FOREIGN"


async def test_the_node_holds_only_what_is_above_and_below_it(membership: Desk) -> None:
    codes = [row["code"] for row in await membership.pool.fetch("SELECT code FROM organizations")]
    assert all(code == "0" or code.startswith("51") for code in codes)
    assert len(codes) > 3_000
