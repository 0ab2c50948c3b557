"""One good request for each method by which people change something at a node that stands alone."""

from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import grpc

from smartunion.benefits.v1 import benefits_pb2
from smartunion.membership.v1 import identity_pb2, membership_pb2, privacy_pb2
from smartunion.notify.v1 import notify_pb2
from smartunion.sync.v1 import directive_pb2, sync_pb2
from tests.builders import a_member_row, a_roster, an_id_number, sha256
from tests.eventually import eventually
from tests.federation.test_enrollment import request as enrolling
from tests.offices import DEPUTY

STREET = "organizations/510104017"
NUMBERS = count(1_000)
Asked = tuple[Any, str]
"""A request, and who makes it; empty: the chair."""


class Changes:
    """Makes the requests, and first what they are about."""

    def __init__(self, node: Any) -> None:
        self._node, self._ask, self._member = node, node.ask, node.records["members"]

    def of(self, method: str) -> Callable[[], Coroutine[Any, Any, Asked]] | None:
        """What makes the request of a method; None if nobody has said how."""
        found: Callable[[], Coroutine[Any, Any, Asked]] | None = getattr(self, method, None)
        return found

    # -- membership

    async def CreateApplication(self) -> Asked:  # noqa: N802
        person = membership_pb2.Person(full_name="王五", id_number=an_id_number(next(NUMBERS)))
        application = membership_pb2.Application(person=person)
        return (
            membership_pb2.CreateApplicationRequest(parent=STREET, application=application), ""
        )  # fmt: skip

    async def ApproveApplication(self) -> Asked:  # noqa: N802
        made = await self._ask((await self.CreateApplication())[0])
        return membership_pb2.ApproveApplicationRequest(name=made.name), DEPUTY

    async def RejectApplication(self) -> Asked:  # noqa: N802
        made = await self._ask((await self.CreateApplication())[0])
        return membership_pb2.RejectApplicationRequest(name=made.name, reason="重复"), ""

    async def EndMembership(self) -> Asked:  # noqa: N802
        request, by = await self.ApproveApplication()
        application = await self._ask(request, by=by)
        return membership_pb2.EndMembershipRequest(name=application.member), ""

    async def EraseMember(self) -> Asked:  # noqa: N802
        left = await self._ask((await self.EndMembership())[0])
        return membership_pb2.EraseMemberRequest(name=left.name, ground="PURPOSE_ENDED"), ""

    async def RevealPerson(self) -> Asked:  # noqa: N802
        return membership_pb2.RevealPersonRequest(name=self._member, purpose="核对银行卡"), ""

    async def GiveConsent(self) -> Asked:  # noqa: N802
        texts = (await self._ask(privacy_pb2.ListPrivacyTextsRequest(), by="")).texts
        text = next(one for one in texts if one.basis == privacy_pb2.PrivacyText.CONSENT)
        return (
            privacy_pb2.GiveConsentRequest(use=text.use, effective_date=text.effective_date),
            self._member,
        )

    async def WithdrawConsent(self) -> Asked:  # noqa: N802
        request, by = await self.GiveConsent()
        with suppress(grpc.aio.AioRpcError):  # it was given before
            await self._ask(request, by=by)
        return privacy_pb2.WithdrawConsentRequest(use=request.use), by

    async def AppointOfficer(self) -> Asked:  # noqa: N802
        office = membership_pb2.Office(holder=f"officers/{uuid4()}", role="AUDITOR")
        return membership_pb2.AppointOfficerRequest(parent=STREET, office=office), ""

    async def DismissOfficer(self) -> Asked:  # noqa: N802
        made = await self._ask((await self.AppointOfficer())[0])
        return membership_pb2.DismissOfficerRequest(name=made.name), ""

    async def CreateMyApplication(self) -> Asked:  # noqa: N802
        number = next(NUMBERS)
        person = membership_pb2.Person(full_name="赵六", id_number=an_id_number(number))
        request = identity_pb2.CreateMyApplicationRequest(parent=STREET, person=person)
        return request, f"persons/{number}"

    async def WithdrawMyApplication(self) -> Asked:  # noqa: N802
        request, by = await self.CreateMyApplication()
        made = await self._ask(request, by=by)
        return identity_pb2.WithdrawMyApplicationRequest(name=made.name), by

    async def BindIdentity(self) -> Asked:  # noqa: N802
        number = next(NUMBERS)
        person = membership_pb2.Person(full_name="赵六", id_number=an_id_number(number))
        application = membership_pb2.Application(person=person)
        made = await self._ask(
            membership_pb2.CreateApplicationRequest(parent=STREET, application=application)
        )
        await self._ask(membership_pb2.ApproveApplicationRequest(name=made.name), by=DEPUTY)
        request = identity_pb2.BindIdentityRequest(
            full_name=person.full_name, id_number=person.id_number
        )
        return request, f"persons/{number}"

    async def UnbindMyIdentity(self) -> Asked:  # noqa: N802
        request, by = await self.BindIdentity()
        await self._ask(request, by=by)
        return identity_pb2.UnbindMyIdentityRequest(), by

    async def UnbindIdentity(self) -> Asked:  # noqa: N802
        request, by = await self.BindIdentity()
        bound = await self._ask(request, by=by)
        return identity_pb2.UnbindIdentityRequest(member=bound.member), ""

    async def CreateRoster(self) -> Asked:  # noqa: N802
        content = self._content()
        roster = membership_pb2.Roster(
            file_name="a.csv", size_bytes=len(content), sha256=sha256(content)
        )
        return membership_pb2.CreateRosterRequest(parent=STREET, roster=roster), ""

    async def UploadRoster(self) -> Asked:  # noqa: N802
        made = await self._ask((await self.CreateRoster())[0])
        return membership_pb2.UploadRosterRequest(name=made.name, content=self._content()), ""

    async def CommitRoster(self) -> Asked:  # noqa: N802
        name = (await self._ask((await self.UploadRoster())[0])).name

        async def previewed() -> None:
            found = await self._ask(membership_pb2.GetRosterRequest(name=name))
            assert found.state == membership_pb2.Roster.PREVIEWED

        await eventually(previewed)
        return membership_pb2.CommitRosterRequest(name=name), DEPUTY

    async def DiscardRoster(self) -> Asked:  # noqa: N802
        made = await self._ask((await self.CreateRoster())[0])
        return membership_pb2.DiscardRosterRequest(name=made.name), ""

    def _content(self) -> bytes:
        return a_roster([a_member_row(900)])

    # -- benefits

    async def CreateProgramme(self) -> Asked:  # noqa: N802
        now, node = datetime.now(UTC), self._node.settings["membership"].node
        programme = benefits_pb2.Programme(
            title="夏日送清凉", face_value_fen=100, claim_start_time=now,
            claim_end_time=now + timedelta(days=1), use_by_time=now + timedelta(days=2),
            shares=[benefits_pb2.Share(node=f"nodes/{node}", stock=1)],
        )  # fmt: skip
        return benefits_pb2.CreateProgrammeRequest(parent=STREET, programme=programme), ""

    async def OpenProgramme(self) -> Asked:  # noqa: N802
        made = await self._ask((await self.CreateProgramme())[0])
        return benefits_pb2.OpenProgrammeRequest(name=made.name), DEPUTY

    async def RevokeCard(self) -> Asked:  # noqa: N802
        cards = (await self._ask(benefits_pb2.ListCardsRequest(parent=STREET))).cards
        mine = [card for card in cards if card.member == self._member]
        active = [card.name for card in mine if card.state == benefits_pb2.Card.ACTIVE]
        if not active:
            issued = await self._ask(benefits_pb2.IssueCardRequest(member=self._member))
            active = [issued.name]
        return benefits_pb2.RevokeCardRequest(name=active[0], reason="遗失"), ""

    async def IssueCard(self) -> Asked:  # noqa: N802
        await self._ask((await self.RevokeCard())[0])
        return benefits_pb2.IssueCardRequest(member=self._member), ""

    async def ClaimCoupon(self) -> Asked:  # noqa: N802
        request, by = await self.OpenProgramme()
        made = await self._ask(request, by=by)
        return benefits_pb2.ClaimCouponRequest(programme=made.name), self._member

    async def RedeemCoupon(self) -> Asked:  # noqa: N802
        request, by = await self.ClaimCoupon()
        claimed = await self._ask(request, by=by)
        return benefits_pb2.RedeemCouponRequest(code=claimed.code), "merchants/shop-7"

    # -- notify

    async def CreateNotice(self) -> Asked:  # noqa: N802
        notice = notify_pb2.Notice(
            title="放假", text="放假一天。", expire_time=datetime.now(UTC) + timedelta(days=1)
        )
        return notify_pb2.CreateNoticeRequest(parent=STREET, notice=notice), ""

    async def RaiseVoice(self) -> Asked:  # noqa: N802
        return notify_pb2.RaiseVoiceRequest(text="食堂太贵。"), self._member

    async def AnswerVoice(self) -> Asked:  # noqa: N802
        made = await self._ask((await self.RaiseVoice())[0], by=self._member)
        return notify_pb2.AnswerVoiceRequest(name=made.name, text="已降价。"), ""

    async def CloseVoice(self) -> Asked:  # noqa: N802
        made = await self._ask((await self.RaiseVoice())[0], by=self._member)
        return notify_pb2.CloseVoiceRequest(name=made.name, reason="已解决"), ""

    async def MarkRead(self) -> Asked:  # noqa: N802
        await self._ask((await self.CreateNotice())[0])
        found = await self._ask(notify_pb2.ListMyMessagesRequest(), by=self._member)
        unread = [message.name for message in found.messages if message.unread]
        return notify_pb2.MarkReadRequest(name=unread[0]), self._member

    # -- sync

    async def CreateInvitation(self) -> Asked:  # noqa: N802
        return sync_pb2.CreateInvitationRequest(organization_code="5107"), ""

    async def ConfirmEnrollment(self) -> Asked:  # noqa: N802
        invited = await self._ask((await self.CreateInvitation())[0])
        asked = enrolling(invited.token)
        await self._ask(asked, by="")
        waiting = (await self._ask(sync_pb2.ListEnrollmentsRequest())).enrollments
        node = next(one.node for one in waiting if one.node.name == asked.node.name)
        return (
            sync_pb2.ConfirmEnrollmentRequest(name=node.name, fingerprint=node.fingerprint), ""
        )  # fmt: skip

    async def RevokeEnrollment(self) -> Asked:  # noqa: N802
        asked, by = await self.ConfirmEnrollment()
        await self._ask(asked)
        return sync_pb2.RevokeEnrollmentRequest(name=asked.name), by

    async def CreateView(self) -> Asked:  # noqa: N802
        rule = sync_pb2.View.Rule(section="members/personal", level="province")
        return sync_pb2.CreateViewRequest(view=sync_pb2.View(rules=[rule])), ""

    async def CreateDirective(self) -> Asked:  # noqa: N802
        await self._ask((await self.ConfirmEnrollment())[0])
        directive = directive_pb2.Directive(
            title="夏送清凉", text="请于七月前完成走访。", levels=["city"],
            due_time=datetime.now(UTC) + timedelta(days=30),
        )  # fmt: skip
        return directive_pb2.CreateDirectiveRequest(directive=directive), ""

    async def ReadDirective(self) -> Asked:  # noqa: N802
        return directive_pb2.ReadDirectiveRequest(name=await self._addressed()), ""

    async def CompleteDirective(self) -> Asked:  # noqa: N802
        return directive_pb2.CompleteDirectiveRequest(name=await self._addressed()), ""

    async def RefuseDirective(self) -> Asked:  # noqa: N802
        name = await self._addressed()
        return directive_pb2.RefuseDirectiveRequest(name=name, reason="已办理"), ""

    async def _addressed(self) -> str:
        """A directive to this node, as if one above had issued it."""
        made = await self._ask((await self.CreateDirective())[0])
        await self._node.pools["sync"].execute(
            "UPDATE directives SET expected = $2 WHERE id = $1",
            UUID(made.name.partition("/")[2]), self._node.settings["membership"].node.bytes,
        )  # fmt: skip
        return str(made.name)

    async def RevokeSubscriber(self) -> Asked:  # noqa: N802
        id_ = await self._node.pools["sync"].fetchval(
            """
            INSERT INTO subscribers VALUES
                (gen_random_uuid(), '报表', $1, '{}', '{}', '', '', now(), NULL) RETURNING id
            """,
            uuid4().hex,
        )  # fmt: skip
        return sync_pb2.RevokeSubscriberRequest(name=f"subscribers/{id_}"), ""


NOT_ALONE = {"PassOnVoice": "NO_NODE_ABOVE", "CreateSubscriber": "NATS_FOREIGN"}
"""What a node cannot do that has no node above it and no NATS, with the reason of its refusal."""
