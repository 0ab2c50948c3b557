"""What membership announces, and the section `public` of its records: the only way out."""

from collections.abc import Container
from functools import partial
from typing import assert_never
from uuid import UUID

from google.protobuf.message import Message

from kit.db import to_uuid
from kit.log import Change
from kit.records import Kind, section_of
from services.membership.domain import members as domain
from services.membership.domain.members import Application, Fact, Member
from smartunion.membership.v1 import events_pb2 as pb
from smartunion.membership.v1.records_pb2 import PublicState


def announce(fact: Fact) -> Message:
    """The event that carries `fact` to whoever listens."""
    match fact:
        case domain.ApplicationCreated(application=application, organization=organization):
            return pb.ApplicationCreated(application=application, organization=organization)
        case domain.ApplicationApproved():
            return pb.ApplicationApproved(
                application=fact.application, organization=fact.organization, member=fact.member
            )
        case domain.ApplicationRejected(application=application, organization=organization):
            return pb.ApplicationRejected(application=application, organization=organization)
        case domain.MemberAdmitted(member=member, organization=organization):
            return pb.MemberAdmitted(member=member, organization=organization)
        case _:
            assert_never(fact)


def parse(section: bytes, states: Container[int]) -> tuple[UUID, int]:
    """The organisation and the state in a section `public`.

    Raises:
        ValueError: if it is none, or of a state that this version of the software does not know.
    """
    public = section_of(PublicState, section)
    state = public.state
    if state not in states:
        raise ValueError("state")
    return to_uuid(public.organization), state


_FIELDS = {"organization": "uuid", "state": "smallint"}
APPLICATIONS = Kind(
    name="applications",
    table="applications",
    fields=_FIELDS,
    parse=partial(parse, states=frozenset(domain.ApplicationState)),
)
MEMBERS = Kind(
    name="members",
    table="members",
    fields=_FIELDS,
    parse=partial(parse, states=frozenset(domain.MemberState)),
)


def change(record: Application | Member, fact: Fact) -> Change:
    """The line of the log for a record in its new state."""
    header = record.header
    return Change(
        kind=MEMBERS if isinstance(record, Member) else APPLICATIONS,
        id=record.id,
        owner_epoch=header.owner_epoch,
        version=header.version,
        before=bytes.fromhex(header.hash) or None,
        public=public_of(record),
        event=announce(fact),
        event_time=fact.occur_time,
    )


def public_of(record: Application | Member) -> bytes:
    """The section `public`: a salt, the organisation, the state, and nothing personal."""
    public = PublicState(
        salt=bytes.fromhex(record.header.salt),
        organization=record.organization.bytes,
        state=record.state,
    )
    return public.SerializeToString(deterministic=True)
