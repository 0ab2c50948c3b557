"""What officers do at a node in the story, each through the public API alone."""

import hashlib
from collections.abc import AsyncIterator
from uuid import uuid4

import grpc

from kit.errors import FailedPrecondition
from node.network import Node
from node.people import Person
from smartunion.membership.v1 import membership_pb2 as pb

IMPORT = 60.0
"""Seconds to upload and check a roster, and as many to import it."""
CHUNK = 256 * 1024
PAGE = 1000


class NoStreet(FailedPrecondition):
    message = "there is no 街道 below {name}"
    chinese = "{name} 之下没有街道"


class NotChecked(FailedPrecondition):
    message = "{roster} is {state}: {refusal}"
    chinese = "{roster} 的状态是 {state}：{refusal}"


class NotApproved(FailedPrecondition):
    message = "{application} is not approved"
    chinese = "{application} 未获批准"


async def organizations(node: Node) -> int:
    """How many organisations the node holds below its own, and its own."""
    request = pb.ListOrganizationsRequest(
        parent=f"organizations/{node.seat.code}", subtree=True, page_size=PAGE
    )
    count = 1
    while True:
        page = await node.membership.ListOrganizations(request, **node.call)
        count += len(page.organizations)
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return count


async def a_street(node: Node) -> pb.Organization:
    """The first 街道 below a node."""
    request = pb.ListOrganizationsRequest(
        parent=f"organizations/{node.seat.code}", subtree=True, page_size=PAGE
    )
    page = await node.membership.ListOrganizations(request, **node.call)
    for organization in page.organizations:
        street = organization.level == pb.Organization.TOWNSHIP
        if street and "街道" in organization.display_name:
            return organization
    raise NoStreet(name=node.seat.name)


async def imported(
    node: Node, content: bytes, *, within: float = IMPORT
) -> AsyncIterator[pb.Roster]:
    """Upload a roster, and have another officer commit it; the progress of its import.

    Raises:
        NotChecked: if the file is refused as a whole.
    """
    request = pb.CreateRosterRequest(
        parent=f"organizations/{node.seat.code}",
        roster=pb.Roster(
            file_name="花名册.csv",
            size_bytes=len(content),
            sha256=hashlib.sha256(content).digest(),
        ),
        request_id=str(uuid4()),
    )
    created = await node.membership.CreateRoster(request, **node.call)

    async def chunks() -> AsyncIterator[pb.UploadRosterRequest]:
        for at in range(0, len(content), CHUNK):
            yield pb.UploadRosterRequest(
                name=created.name, offset=at, content=content[at : at + CHUNK]
            )

    await node.membership.UploadRoster(chunks(), metadata=node.metadata, timeout=within)
    watching = pb.WatchRosterRequest(name=created.name)
    async for found in node.membership.WatchRoster(
        watching, metadata=node.metadata, timeout=within
    ):
        checked = found
    if checked.state != pb.Roster.PREVIEWED:
        state, refusal = pb.Roster.State.Name(checked.state), checked.refuse_message
        raise NotChecked(roster=checked.name, state=state, refusal=refusal)
    await node.membership.CommitRoster(
        pb.CommitRosterRequest(name=created.name, request_id=str(uuid4())), **node.second
    )
    async for found in node.membership.WatchRoster(
        watching, metadata=node.metadata, timeout=within
    ):
        yield found


async def admitted(node: Node, organization: str, person: Person) -> str:
    """Have a person apply and be approved; the name of the member."""
    application = pb.Application(
        person=pb.Person(full_name=person.full_name, id_number=person.id_number, phone=person.phone)
    )
    created = await node.membership.CreateApplication(
        pb.CreateApplicationRequest(
            parent=organization, application=application, request_id=str(uuid4())
        ),
        **node.call,
    )
    approved = await node.membership.ApproveApplication(
        pb.ApproveApplicationRequest(name=created.name, request_id=str(uuid4())), **node.second
    )
    if approved.state != pb.Application.APPROVED:
        raise NotApproved(application=created.name)
    return approved.member


async def member_at(node: Node, name: str) -> pb.Member | None:
    """A member as a node reads it; None if it does not know it."""
    try:
        return await node.membership.GetMember(pb.GetMemberRequest(name=name), **node.call)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return None
        raise


async def members(node: Node) -> dict[str, pb.Member]:
    """Every member that a node reads, by name."""
    request = pb.ListMembersRequest(parent=f"organizations/{node.seat.code}", page_size=PAGE)
    found: dict[str, pb.Member] = {}
    while True:
        page = await node.membership.ListMembers(request, **node.call)
        found |= {member.name: member for member in page.members}
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found


def state(member: pb.Member) -> tuple[str, int, int]:
    """What a copy has in common with the owner's record."""
    return member.organization, member.state, member.version
