"""smartunion.membership.v1: from proto to a use case and back."""

from collections.abc import AsyncIterator
from datetime import datetime

from google.protobuf.message import Message

from kit.authority import Role
from kit.headers import Header
from kit.offices import time_in
from kit.organizations import Organization
from kit.rpc import Context, call_of, caller, check_enum, page_of, uuid_in
from services.membership.domain.bindings import Binding
from services.membership.domain.consents import Consent, PrivacyText
from services.membership.domain.identity import Person
from services.membership.domain.members import Application, Ground, Member
from services.membership.domain.officers import Office, TermUnreadable
from services.membership.domain.rosters import Roster
from services.membership.domain.rows import RowResult
from services.membership.usecases.bindings import Bindings
from services.membership.usecases.members import Applications, Members
from services.membership.usecases.officers import Officers
from services.membership.usecases.organizations import Organizations
from services.membership.usecases.privacy import Access, MyData, Reveals
from services.membership.usecases.rosters import Rosters, Upload
from smartunion.membership.v1 import (
    identity_pb2,
    identity_pb2_grpc,
    membership_pb2_grpc,
    privacy_pb2_grpc,
)
from smartunion.membership.v1 import membership_pb2 as pb
from smartunion.membership.v1 import privacy_pb2 as privacy


class MembershipServicer(membership_pb2_grpc.MembershipServiceServicer):
    def __init__(
        self,
        organizations: Organizations,
        applications: Applications,
        members: Members,
        reveals: Reveals,
        officers: Officers,
        rosters: Rosters,
    ) -> None:
        self._organizations = organizations
        self._applications = applications
        self._members = members
        self._reveals = reveals
        self._officers = officers
        self._rosters = rosters

    async def GetOrganization(
        self, request: pb.GetOrganizationRequest, context: Context
    ) -> pb.Organization:
        return _organization(await self._organizations.get(request.name))

    async def ListOrganizations(
        self, request: pb.ListOrganizationsRequest, context: Context
    ) -> pb.ListOrganizationsResponse:
        page = page_of(request)
        found, key = await self._organizations.page(
            request.parent, subtree=request.subtree, page=page
        )
        return pb.ListOrganizationsResponse(
            organizations=map(_organization, found), next_page_token=page.token(key)
        )

    async def CreateApplication(
        self, request: pb.CreateApplicationRequest, context: Context
    ) -> pb.Application:
        person = request.application.person
        application = await self._applications.create(
            request.parent,
            full_name=person.full_name,
            id_number=person.id_number,
            phone=person.phone,
            call=call_of(request, request.request_id),
        )
        return _application(application)

    async def GetApplication(
        self, request: pb.GetApplicationRequest, context: Context
    ) -> pb.Application:
        return _application(await self._applications.get(uuid_in(request.name, "applications")))

    async def ListApplications(
        self, request: pb.ListApplicationsRequest, context: Context
    ) -> pb.ListApplicationsResponse:
        check_enum(request.state, pb.Application.State.values(), field="state")
        page = page_of(request)
        found, key = await self._applications.page(request.parent, state=request.state, page=page)
        return pb.ListApplicationsResponse(
            applications=map(_application, found), next_page_token=page.token(key)
        )

    async def ApproveApplication(
        self, request: pb.ApproveApplicationRequest, context: Context
    ) -> pb.Application:
        application = await self._applications.approve(
            uuid_in(request.name, "applications"), call=call_of(request, request.request_id)
        )
        return _application(application)

    async def RejectApplication(
        self, request: pb.RejectApplicationRequest, context: Context
    ) -> pb.Application:
        application = await self._applications.reject(
            uuid_in(request.name, "applications"),
            reason=request.reason,
            call=call_of(request, request.request_id),
        )
        return _application(application)

    async def GetMember(self, request: pb.GetMemberRequest, context: Context) -> pb.Member:
        return _member(await self._members.get(uuid_in(request.name, "members")))

    async def ListMembers(
        self, request: pb.ListMembersRequest, context: Context
    ) -> pb.ListMembersResponse:
        page = page_of(request)
        found, key = await self._members.page(request.parent, page=page)
        return pb.ListMembersResponse(members=map(_member, found), next_page_token=page.token(key))

    async def SearchMembers(
        self, request: pb.SearchMembersRequest, context: Context
    ) -> pb.SearchMembersResponse:
        found = await self._members.search(request.id_number)
        return pb.SearchMembersResponse(members=map(_member, found))

    async def EndMembership(self, request: pb.EndMembershipRequest, context: Context) -> pb.Member:
        member = await self._members.end(
            uuid_in(request.name, "members"), call=call_of(request, request.request_id)
        )
        return _member(member)

    async def EraseMember(self, request: pb.EraseMemberRequest, context: Context) -> pb.Member:
        check_enum(request.ground, Ground, field="ground")
        member = await self._members.erase(
            uuid_in(request.name, "members"),
            ground=Ground(request.ground),
            call=call_of(request, request.request_id),
        )
        return _member(member)

    async def RevealPerson(self, request: pb.RevealPersonRequest, context: Context) -> pb.Person:
        person = await self._reveals.person(
            request.name, purpose=request.purpose, call=call_of(request, request.request_id)
        )
        return _person(person)

    async def AppointOfficer(
        self, request: pb.AppointOfficerRequest, context: Context
    ) -> pb.Office:
        asked = request.office
        check_enum(asked.role, Role, field="office.role")
        office = await self._officers.appoint(
            request.parent,
            holder=asked.holder,
            role=Role(asked.role),
            begin_time=_time(asked, "begin_time"),
            end_time=_time(asked, "end_time"),
            call=call_of(request, request.request_id),
        )
        return _office(office)

    async def DismissOfficer(
        self, request: pb.DismissOfficerRequest, context: Context
    ) -> pb.Office:
        office = await self._officers.dismiss(
            uuid_in(request.name, "offices"), call=call_of(request, request.request_id)
        )
        return _office(office)

    async def ListOfficers(
        self, request: pb.ListOfficersRequest, context: Context
    ) -> pb.ListOfficersResponse:
        page = page_of(request)
        found, key = await self._officers.page(
            request.parent, show_ended=request.show_ended, page=page
        )
        return pb.ListOfficersResponse(offices=map(_office, found), next_page_token=page.token(key))

    async def CreateRoster(self, request: pb.CreateRosterRequest, context: Context) -> pb.Roster:
        roster = await self._rosters.create(
            request.parent,
            file_name=request.roster.file_name,
            size_bytes=request.roster.size_bytes,
            sha256=request.roster.sha256,
            call=call_of(request, request.request_id),
        )
        return _roster(roster)

    async def UploadRoster(
        self, request_iterator: AsyncIterator[pb.UploadRosterRequest], context: Context
    ) -> pb.Roster:
        upload = Upload(self._rosters)
        async for request in request_iterator:
            await upload.receive(request.name, request.offset, request.content)
        return _roster(await upload.received())

    async def GetRoster(self, request: pb.GetRosterRequest, context: Context) -> pb.Roster:
        return _roster(await self._rosters.get(uuid_in(request.name, "rosters")))

    async def WatchRoster(
        self, request: pb.WatchRosterRequest, context: Context
    ) -> AsyncIterator[pb.Roster]:
        async for roster in self._rosters.watch(uuid_in(request.name, "rosters")):
            yield _roster(roster)

    async def CommitRoster(self, request: pb.CommitRosterRequest, context: Context) -> pb.Roster:
        roster = await self._rosters.commit(
            uuid_in(request.name, "rosters"), call=call_of(request, request.request_id)
        )
        return _roster(roster)

    async def DiscardRoster(self, request: pb.DiscardRosterRequest, context: Context) -> pb.Roster:
        roster = await self._rosters.discard(
            uuid_in(request.name, "rosters"), call=call_of(request, request.request_id)
        )
        return _roster(roster)

    async def DownloadRosterResult(
        self, request: pb.DownloadRosterResultRequest, context: Context
    ) -> AsyncIterator[pb.DownloadRosterResultResponse]:
        async for content in self._rosters.result(uuid_in(request.name, "rosters")):
            yield pb.DownloadRosterResultResponse(content=content)

    async def ListRosterRows(
        self, request: pb.ListRosterRowsRequest, context: Context
    ) -> pb.ListRosterRowsResponse:
        check_enum(request.outcome, pb.RosterRow.Outcome.values(), field="outcome")
        page = page_of(request)
        found, key = await self._rosters.page_of_rows(
            uuid_in(request.parent, "rosters", field="parent"), outcome=request.outcome, page=page
        )
        return pb.ListRosterRowsResponse(rows=map(_row, found), next_page_token=page.token(key))


class IdentityServicer(identity_pb2_grpc.IdentityServiceServicer):
    def __init__(self, applications: Applications, bindings: Bindings) -> None:
        self._applications, self._bindings = applications, bindings

    async def CreateMyApplication(
        self, request: identity_pb2.CreateMyApplicationRequest, context: Context
    ) -> pb.Application:
        person = request.person
        application = await self._applications.create_mine(
            request.parent, full_name=person.full_name, id_number=person.id_number,
            phone=person.phone, call=call_of(request, request.request_id),
        )  # fmt: skip
        return _application(application)

    async def GetMyApplication(
        self, request: identity_pb2.GetMyApplicationRequest, context: Context
    ) -> pb.Application:
        name = uuid_in(request.name, "applications")
        return _application(await self._applications.get_mine(name, caller=caller.get()))

    async def WithdrawMyApplication(
        self, request: identity_pb2.WithdrawMyApplicationRequest, context: Context
    ) -> pb.Application:
        withdrawn = await self._applications.withdraw_mine(
            uuid_in(request.name, "applications"), call=call_of(request, request.request_id)
        )
        return _application(withdrawn)

    async def BindIdentity(
        self, request: identity_pb2.BindIdentityRequest, context: Context
    ) -> identity_pb2.Binding:
        bound = await self._bindings.bind(
            full_name=request.full_name, id_number=request.id_number,
            call=call_of(request, request.request_id),
        )  # fmt: skip
        return _binding(bound)

    async def UnbindMyIdentity(
        self, request: identity_pb2.UnbindMyIdentityRequest, context: Context
    ) -> identity_pb2.Binding:
        call = call_of(request, request.request_id)
        return _binding(await self._bindings.unbind_mine(call=call))

    async def UnbindIdentity(
        self, request: identity_pb2.UnbindIdentityRequest, context: Context
    ) -> identity_pb2.Binding:
        ended = await self._bindings.unbind(
            uuid_in(request.member, "members", field="member"),
            call=call_of(request, request.request_id),
        )
        return _binding(ended)


def _binding(binding: Binding) -> identity_pb2.Binding:
    return identity_pb2.Binding(
        name=binding.name, member=f"members/{binding.member}", active=binding.active
    )


class MyDataServicer(privacy_pb2_grpc.MyDataServiceServicer):
    def __init__(self, my_data: MyData) -> None:
        self._my_data = my_data

    async def ListMyDataAccesses(
        self, request: privacy.ListMyDataAccessesRequest, context: Context
    ) -> privacy.ListMyDataAccessesResponse:
        page = page_of(request)
        found, key = await self._my_data.page_of_accesses(page)
        return privacy.ListMyDataAccessesResponse(
            accesses=map(_access, found), next_page_token=page.token(key)
        )

    async def ExportMyData(
        self, request: privacy.ExportMyDataRequest, context: Context
    ) -> privacy.MyData:
        found = await self._my_data.export()
        return privacy.MyData(
            export_time=found.time,
            members=map(_member, found.members),
            applications=map(_application, found.applications),
            consents=map(_consent, found.consents),
            texts=map(_text, found.texts),
            accesses=map(_access, found.accesses),
            offices=map(_office, found.offices),
        )

    async def ListPrivacyTexts(
        self, request: privacy.ListPrivacyTextsRequest, context: Context
    ) -> privacy.ListPrivacyTextsResponse:
        return privacy.ListPrivacyTextsResponse(texts=map(_text, self._my_data.texts()))

    async def ListMyConsents(
        self, request: privacy.ListMyConsentsRequest, context: Context
    ) -> privacy.ListMyConsentsResponse:
        page = page_of(request)
        found, key = await self._my_data.page_of_consents(page)
        return privacy.ListMyConsentsResponse(
            consents=map(_consent, found), next_page_token=page.token(key)
        )

    async def GiveConsent(
        self, request: privacy.GiveConsentRequest, context: Context
    ) -> privacy.Consent:
        consent = await self._my_data.give(
            request.use, request.effective_date, call=call_of(request, request.request_id)
        )
        return _consent(consent)

    async def WithdrawConsent(
        self, request: privacy.WithdrawConsentRequest, context: Context
    ) -> privacy.WithdrawConsentResponse:
        consent, others = await self._my_data.withdraw(
            request.use, call=call_of(request, request.request_id)
        )
        return privacy.WithdrawConsentResponse(consent=_consent(consent), others=map(_text, others))


def _organization(organization: Organization) -> pb.Organization:
    return pb.Organization(
        name=organization.name,
        display_name=organization.display_name,
        code=organization.code,
        level=organization.level.name,
        parent=f"organizations/{organization.parent}" if organization.parent else "",
    )


def _person(person: Person) -> pb.Person:
    return pb.Person(full_name=person.full_name, id_number=person.id_number, phone=person.phone)


def _provenance(header: Header) -> pb.Provenance:
    return pb.Provenance(
        origin=f"nodes/{header.origin}", copy=header.copy, certify_time=header.certify_time
    )


def _application(application: Application) -> pb.Application:
    return pb.Application(
        name=application.name,
        organization=f"organizations/{application.organization}",
        person=_person(application.person) if application.person else None,
        state=application.state.name,
        create_time=application.create_time,
        filer=application.filer,
        decide_time=application.decide_time,
        decider=application.decider,
        member=f"members/{application.member}" if application.member else "",
        reject_reason=application.reject_reason,
        erase_time=application.erase_time,
        version=application.header.version,
        provenance=_provenance(application.header),
    )


def _member(member: Member) -> pb.Member:
    return pb.Member(
        name=member.name,
        organization=f"organizations/{member.organization}",
        person=_person(member.person) if member.person else None,
        state=member.state.name,
        approval_date=member.approval_date.isoformat() if member.approval_date else "",
        approval_number=member.approval_number,
        erase_time=member.erase_time,
        erase_ground=member.erase_ground.name if member.erase_ground else None,
        version=member.header.version,
        provenance=_provenance(member.header),
    )


def _office(office: Office) -> pb.Office:
    return pb.Office(
        name=office.name,
        holder=office.holder,
        organization=f"organizations/{office.organization}",
        role=office.role.name,
        begin_time=office.begin_time,
        end_time=office.end_time,
        appointer=office.appointer,
        dismisser=office.dismisser,
    )


def _time(message: Message, field: str) -> datetime | None:
    """A time of an office that may be absent.  Raises TermUnreadable."""
    try:
        return time_in(message, field)
    except (ValueError, OverflowError):
        raise TermUnreadable(field=f"office.{field}") from None


def _roster(roster: Roster) -> pb.Roster:
    return pb.Roster(
        name=roster.name,
        organization=f"organizations/{roster.organization}",
        file_name=roster.file_name,
        size_bytes=roster.size_bytes,
        sha256=bytes.fromhex(roster.sha256),
        state=roster.state.name,
        received_bytes=roster.received_bytes,
        total_rows=roster.total_rows,
        done_rows=roster.done_rows,
        admitted_rows=roster.admitted_rows,
        applied_rows=roster.applied_rows,
        unchanged_rows=roster.unchanged_rows,
        refused_rows=roster.refused_rows,
        skipped_rows=roster.skipped_rows,
        sheet=roster.sheet,
        unread_sheets=roster.unread_sheets,
        refuse_reason=roster.refuse_reason,
        refuse_message=roster.refuse_message,
        creator=roster.creator,
        committer=roster.committer,
    )


def _row(row: RowResult) -> pb.RosterRow:
    return pb.RosterRow(
        line=row.line,
        outcome=row.outcome.name,
        record=row.record,
        reason=row.reason,
        column=row.header,
        message=row.message,
        chinese_message=row.chinese_message,
    )


def _access(access: Access) -> privacy.DataAccess:
    row, office = access
    return privacy.DataAccess(
        reveal_time=row.time,
        officer=row.caller,
        office=row.office,
        role=office.role.name if office else None,
        organization=f"organizations/{office.organization}" if office else "",
        purpose=row.purpose,
        resource=row.names[0],
    )


def _text(text: PrivacyText) -> privacy.PrivacyText:
    return privacy.PrivacyText(
        use=text.use,
        effective_date=text.effective_date.isoformat(),
        basis=text.basis.name,
        title=text.title,
        text=text.text,
    )


def _consent(consent: Consent) -> privacy.Consent:
    return privacy.Consent(
        use=consent.use,
        effective_date=consent.effective_date.isoformat(),
        basis=consent.basis.name,
        step=consent.step.name,
        record_time=consent.time,
        recorder=consent.recorder,
    )
