"""What membership announces, and the sections of its records: the only way out."""

from collections.abc import Container
from functools import partial
from typing import assert_never
from uuid import UUID

from google.protobuf.message import Message

from kit.bindings import BINDINGS
from kit.db import to_uuid
from kit.log import Change
from kit.offices import OFFICES
from kit.records import Kind, hash_of, section_of
from services.membership.domain import bindings, officers
from services.membership.domain import members as domain
from services.membership.domain.bindings import Binding
from services.membership.domain.members import Application, Member
from services.membership.domain.officers import Office
from smartunion.membership.v1 import events_pb2 as pb
from smartunion.membership.v1.records_pb2 import (
    PersonalMember,
    PublicBinding,
    PublicOffice,
    PublicState,
)

OfficeFact = officers.OfficerAppointed | officers.OfficerDismissed
BindingFact = bindings.IdentityBound | bindings.IdentityUnbound


def announce(fact: domain.Fact) -> Message:
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
        case domain.ApplicationWithdrawn(application=application, organization=organization):
            return pb.ApplicationWithdrawn(application=application, organization=organization)
        case domain.MemberAdmitted() | domain.MemberLeft() | domain.MemberErased():
            return _of_members(fact)
        case _:
            assert_never(fact)


def announce_here(fact: OfficeFact | BindingFact) -> Message:
    """The event that carries `fact` to who listens at this node."""
    match fact:
        case officers.OfficerAppointed(office=office, organization=organization):
            return pb.OfficerAppointed(office=office, organization=organization)
        case officers.OfficerDismissed(office=office, organization=organization):
            return pb.OfficerDismissed(office=office, organization=organization)
        case bindings.IdentityBound(binding=binding, member=member):
            return pb.IdentityBound(binding=binding, member=member)
        case bindings.IdentityUnbound(binding=binding, member=member):
            return pb.IdentityUnbound(binding=binding, member=member)
        case _:
            assert_never(fact)


def _of_members(fact: domain.MemberAdmitted | domain.MemberLeft | domain.MemberErased) -> Message:
    facts = {"member": fact.member, "organization": fact.organization}
    match fact:
        case domain.MemberAdmitted():
            return pb.MemberAdmitted(**facts)
        case domain.MemberLeft():
            return pb.MemberLeft(**facts)
        case domain.MemberErased():
            return pb.MemberErased(**facts)
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


PERSONAL = "personal"
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
    sections=(PERSONAL,),
)


def change(record: Application | Member, fact: domain.Fact) -> Change:
    """The line of the log for a record in its new state."""
    header = record.header
    return Change(
        kind=MEMBERS if isinstance(record, Member) else APPLICATIONS,
        id=record.id,
        owner_epoch=header.owner_epoch,
        version=header.version,
        before=bytes.fromhex(header.hash) or None,
        public=public_of(record),
        sections={name: hash_of(one) for name, one in sections_of(record).items()},
        event=announce(fact),
        event_time=fact.occur_time,
    )


def office_change(office: Office, fact: OfficeFact) -> Change:
    """The line of the log for an office in its new state; who holds it stays at the node."""
    header = office.header
    public = PublicOffice(
        salt=bytes.fromhex(header.salt), holder=office.holder,
        organization=office.organization.bytes, role=office.role, begin_time=office.begin_time,
        end_time=office.end_time, appointer=office.appointer, dismisser=office.dismisser,
    )  # fmt: skip
    return Change(
        kind=OFFICES,
        id=office.id,
        owner_epoch=header.owner_epoch,
        version=header.version,
        before=bytes.fromhex(header.hash) or None,
        public=public.SerializeToString(deterministic=True),
        event=announce_here(fact),
        event_time=fact.occur_time,
    )


def binding_change(binding: Binding, fact: BindingFact) -> Change:
    """The line of the log for a binding in its new state; it stays at the node."""
    header = binding.header
    public = PublicBinding(
        salt=bytes.fromhex(header.salt), person=binding.person.bytes, member=binding.member.bytes,
        active=binding.active,
    )  # fmt: skip
    return Change(
        kind=BINDINGS,
        id=binding.id,
        owner_epoch=header.owner_epoch,
        version=header.version,
        before=bytes.fromhex(header.hash) or None,
        public=public.SerializeToString(deterministic=True),
        event=announce_here(fact),
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


def sections_of(record: Application | Member) -> dict[str, bytes]:
    """The sections besides `public`: of a member what those above may be shown.  The same, as long
    as it says the same; the log holds their hashes alone."""
    if not isinstance(record, Member) or record.person is None or record.approval_date is None:
        return {}
    if not record.personal_salt:
        return {}
    personal = PersonalMember(
        salt=bytes.fromhex(record.personal_salt), full_name=record.person.full_name,
        approval_date=record.approval_date.isoformat(), approval_number=record.approval_number,
    )  # fmt: skip
    return {PERSONAL: personal.SerializeToString(deterministic=True)}
