"""Whatever a caller sends, it is answered or told what is wrong: nothing breaks."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor

from kit.status import refused
from smartunion.membership.v1 import membership_pb2 as pb
from tests.builders import a_roster, sha256
from tests.service.desk import Desk

BROKEN = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE)
UNARY = [
    method.name
    for method in pb.DESCRIPTOR.services_by_name["MembershipService"].methods
    if not method.client_streaming and not method.server_streaming
]
NASTY = [
    "", "\0", "a\0b", "\x1b", "x" * 10_000, "会" * 10_000, "organizations/\0", "{name}",
    "organizations/" + "9" * 100_000, f"organizations/{UUID(int=1)}" + "-" * 100_000,
    "organizations/not-a-uuid", "members/not-a-uuid", f"applications/{UUID(int=1)}{{", "'; --",
]  # fmt: skip


def spoiled(request: Any, text: str) -> Iterator[Any]:
    """Copies of a request, each with another text field that says `text`."""
    for field in request.DESCRIPTOR.fields:
        if field.is_repeated:
            continue
        if field.type == FieldDescriptor.TYPE_STRING:
            copy = type(request)()
            copy.CopyFrom(request)
            setattr(copy, field.name, text)
            yield copy
        elif field.type == FieldDescriptor.TYPE_MESSAGE and request.HasField(field.name):
            for part in spoiled(getattr(request, field.name), text):
                copy = type(request)()
                copy.CopyFrom(request)
                getattr(copy, field.name).CopyFrom(part)
                yield copy


def a_request(desk: Desk, method: str, application: str, roster: str) -> Any:
    """One that is right."""
    names = {
        "GetOrganization": desk.street, "GetApplication": application, "GetRoster": roster,
        "ApproveApplication": application, "RejectApplication": application,
        "GetMember": f"members/{UUID(int=1)}", "ListRosterRows": roster, "CommitRoster": roster,
        "DiscardRoster": roster, "DismissOfficer": f"offices/{UUID(int=1)}",
        "RevealPerson": application, "EndMembership": f"members/{UUID(int=1)}",
        "EraseMember": f"members/{UUID(int=1)}",
    }  # fmt: skip
    if method == "CreateApplication":
        return desk.an_application(2)
    if method == "SearchMembers":
        return pb.SearchMembersRequest(id_number=desk.id_number(1))
    request = getattr(pb, f"{method}Request")()
    given = {"reason": "材料不全", "purpose": "核对", "ground": pb.Member.PURPOSE_ENDED}
    for field in given.keys() & request.DESCRIPTOR.fields_by_name.keys():
        setattr(request, field, given[field])
    if method == "AppointOfficer":
        request.office.CopyFrom(pb.Office(holder=f"officers/{uuid4()}", role=pb.Office.RIGHTS))
    if method == "CreateRoster":
        request.roster.CopyFrom(pb.Roster(file_name="a", size_bytes=1, sha256=sha256(b"")))
    if "parent" in request.DESCRIPTOR.fields_by_name:
        request.parent = names.get(method, desk.street)
    else:
        request.name = names[method]
    return request


@pytest.mark.parametrize("method", UNARY)
async def test_no_text_breaks_a_method(membership: Desk, method: str) -> None:
    roster = await membership.announce(b"x")
    application = await membership.apply(1)
    right = a_request(membership, method, application.name, roster.name)
    for text in NASTY:
        for request in spoiled(right, text):
            try:
                await membership.ask(request)
            except grpc.aio.AioRpcError as error:
                told = refused(error)
                assert told.code not in BROKEN, (text[:30], told, str(request)[:200])
                assert told.reason and len(told.text) < 500, (text[:30], told)


@pytest.mark.parametrize("text", NASTY)
async def test_no_name_breaks_a_stream(membership: Desk, text: str) -> None:
    metadata = membership.as_officer()
    parts = iter([pb.UploadRosterRequest(name=text, content=b"x")])
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await membership.stub.UploadRoster(parts, metadata=metadata)
    assert refused(error.value).reason == "NAME_MALFORMED"
    with pytest.raises(grpc.aio.AioRpcError) as error:
        async for _ in membership.watch(pb.Roster(name=text)):
            pass
    assert refused(error.value).reason == "NAME_MALFORMED"
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await membership.result(pb.Roster(name=text))
    assert refused(error.value).reason == "NAME_MALFORMED"


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"full_name": "张\x1b三"}, "FULL_NAME_CHARACTERS", "application.person.full_name"),
        ({"parent": "organizations/5101\0"}, "ORGANIZATION_NAME_MALFORMED", "parent"),
        ({"parent": f"organizations/{UUID(int=1)}" + "-" * 100_000},
         "ORGANIZATION_NAME_MALFORMED", "parent"),
    ],
)  # fmt: skip
async def test_a_wrong_text_is_named(
    membership: Desk, change: dict[str, str], reason: str, field: str
) -> None:
    told = await membership.refusal(membership.an_application(1, **change))
    assert (told.reason, told.field) == (reason, field)


@pytest.mark.parametrize("text", ["a\0b", "a\x07b", "a\x85b"])
async def test_a_text_holds_no_control_characters(membership: Desk, text: str) -> None:
    roster = pb.Roster(file_name=text, size_bytes=1, sha256=sha256(b"x"))
    told = await membership.refusal(pb.CreateRosterRequest(parent=membership.street, roster=roster))
    assert (told.reason, told.field) == ("TEXT_CHARACTERS", "roster.file_name")
    name = (await membership.apply(1)).name
    told = await membership.refusal(pb.RejectApplicationRequest(name=name, reason=text))
    assert (told.reason, told.field) == ("TEXT_CHARACTERS", "reason")


async def test_a_reason_may_have_lines(membership: Desk) -> None:
    name = (await membership.apply(1)).name
    rejected = await membership.ask(pb.RejectApplicationRequest(name=name, reason="一\n二\t三"))
    assert rejected.reject_reason == "一\n二\t三"


@pytest.mark.parametrize("number", [-1, 6, 100_000, 2**31 - 1])
async def test_an_unknown_enum_number_is_named(membership: Desk, number: Any) -> None:
    told = await membership.refusal(
        pb.ListApplicationsRequest(parent=membership.street, state=number)
    )
    assert (told.reason, told.field) == ("ENUM_NUMBER_UNKNOWN", "state")
    roster = await membership.announce(b"x")
    told = await membership.refusal(pb.ListRosterRowsRequest(parent=roster.name, outcome=number))
    assert (told.reason, told.field) == ("ENUM_NUMBER_UNKNOWN", "outcome")


def forged(question: str, key: object) -> str:
    return urlsafe_b64encode(json.dumps([question, key]).encode()).decode()


@pytest.mark.parametrize(
    "key",
    [
        2**63,
        str(2**63),
        "9" * 5_000,
        "-1",
        " 1",
        "1_0",
        "a\0b",
        "\ud800",
        ["x"],
        None,
        str(UUID(int=7)),
    ],
)
async def test_a_forged_page_token_is_refused(membership: Desk, key: object) -> None:
    roster = await membership.bring(a_roster(membership.member_rows(range(2))))
    await membership.apply(2)
    await membership.apply(3)
    lists: list[Any] = [
        pb.ListRosterRowsRequest(parent=roster.name, page_size=1),
        pb.ListMembersRequest(parent=membership.county, page_size=1),
        pb.ListApplicationsRequest(parent=membership.county, page_size=1),
        pb.ListOrganizationsRequest(parent=membership.county, page_size=1),
    ]
    for request in lists:
        page = await membership.ask(request)
        question, right = json.loads(urlsafe_b64decode(page.next_page_token))
        if isinstance(key, str) and len(key) == len(right) == 36:
            continue  # An id is a key of this list.
        request.page_token = forged(question, key)
        assert (await membership.refusal(request)).reason == "PAGE_TOKEN_FOREIGN", request


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '["x"]', '{"a": 1, "b": 2}', "12", "\udcff", "1e999"]
)
async def test_a_token_of_another_shape_is_refused(membership: Desk, text: str) -> None:
    token = urlsafe_b64encode(text.encode("utf-8", "surrogateescape")).decode()
    request = pb.ListMembersRequest(parent=membership.street, page_token=token)
    assert (await membership.refusal(request)).reason == "PAGE_TOKEN_FOREIGN"
