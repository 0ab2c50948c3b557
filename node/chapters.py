"""What the network is for: a card, a coupon, a notice, a worker's voice, a directive.

The chapters of the story between the import and the cut, each through the public API alone.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc

from kit.status import Refused, refused
from node import cards, supervisor
from node.network import Network, Node, until
from node.people import Person
from node.report import Report, check
from services.benefits.domain.verification import LIST_AGE
from services.sync.domain.nodes import fingerprint
from smartunion.benefits.v1 import benefits_pb2, benefits_pb2_grpc
from smartunion.event.v1 import access_pb2, access_pb2_grpc
from smartunion.membership.v1 import identity_pb2, identity_pb2_grpc, membership_pb2
from smartunion.notify.v1 import notify_pb2, notify_pb2_grpc
from smartunion.sync.v1 import directive_pb2, directive_pb2_grpc

WITHIN = 30.0
"""Seconds for something to arrive at another node."""

MERCHANT = "merchants/xinhua-bookshop"
OFFICER = "officers/wang-wu"
LOGIN = "persons/248289761001"
"""The worker, as the issuer knows them."""
GET_MEMBER = "smartunion.membership.v1.MembershipService.GetMember"
SAID = "食堂三个月没有换过菜单，夜班师傅吃不上热饭。"
ANSWER = "省总已协调企业，下月起夜班供应热餐。"


def once() -> str:
    """A request_id."""
    return str(uuid4())


@contextmanager
def suppress_code(*codes: grpc.StatusCode) -> Iterator[None]:
    """What is refused so is not here yet."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        if error.code() not in codes:
            raise


async def refusal(call: Any) -> Refused:
    """How a call is refused; with the code OK if it is not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return refused(error)
    return Refused(grpc.StatusCode.OK, "")


class Chapters:
    def __init__(self, network: Network, report: Report) -> None:
        self._report = report
        self._nation, self._province, self._chengdu, self._mianyang = (
            network.nodes[code] for code in ("0", "51", "5101", "5107")
        )

    async def tell(self, worker: str, person: Person) -> None:
        """All chapters, of a member of 成都, and who that is."""
        await self._log_in(worker, person)
        await self._read_the_welcome(LOGIN)
        await self._show_the_card(worker)
        await self._claim_a_coupon(worker)
        await self._post_a_notice(worker)
        await self._raise_a_voice(worker)
        await self._issue_a_directive()
        await self._keep_to_the_own_county(worker)

    async def _log_in(self, worker: str, person: Person) -> None:
        with self._report.step("the worker logs in, and is known as the member") as facts:
            login = self._chengdu.calling_as(LOGIN)
            inbox = notify_pb2_grpc.MyInboxServiceStub(self._chengdu.to["notify"])
            asked = notify_pb2.ListMyMessagesRequest()
            before = await refusal(inbox.ListMyMessages(asked, **login))
            check(before.reason == "ACCESS_DENIED", "the login", f"is known already: {before}")
            known = before.metadata["caller"]
            check("248289761001" not in known, "the login", "shows what its issuer calls it")
            bound = await identity_pb2_grpc.IdentityServiceStub(
                self._chengdu.to["membership"]
            ).BindIdentity(
                identity_pb2.BindIdentityRequest(
                    full_name=person.full_name, id_number=person.id_number, request_id=once()
                ),
                **login,
            )
            check(bound.member == worker, "the login", f"is bound to {bound.member}")
            facts |= {"before": known, "member": bound.member}
            self._report.say(f"{known} is {bound.member} from now on")

    async def _read_the_welcome(self, worker: str) -> None:
        with self._report.step("the worker finds a welcome in the inbox, and reads it") as facts:
            [welcome] = await self._messages(worker, notify_pb2.Message.WELCOME)
            inbox = notify_pb2_grpc.MyInboxServiceStub(self._chengdu.to["notify"])
            read = await inbox.MarkRead(
                notify_pb2.MarkReadRequest(name=welcome.name), **self._chengdu.calling_as(worker)
            )
            check(welcome.unread and not read.unread, "the inbox", "the welcome stays unread")
            facts["title"] = welcome.title
            self._report.say(f"{welcome.title}: {welcome.text.splitlines()[0]}")

    async def _show_the_card(self, worker: str) -> None:
        with self._report.step("a card of 成都 is checked without a network") as facts:
            mine = benefits_pb2_grpc.MyCardServiceStub(self._chengdu.to["benefits"])

            async def issued() -> benefits_pb2.MyCard | None:
                with suppress_code(grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND):
                    return await mine.GetMyCard(
                        benefits_pb2.GetMyCardRequest(), **self._chengdu.calling_as(worker)
                    )
                return None

            card = await until("the worker's card", issued, within=WITHIN)

            async def good() -> Any:
                """With what a merchant of 绵阳 has fetched some day."""
                bundle = await benefits_pb2_grpc.BenefitsServiceStub(
                    self._mianyang.to["benefits"]
                ).GetTrustBundle(benefits_pb2.GetTrustBundleRequest(), timeout=10)
                root, content = fingerprint(bundle.root), bundle.SerializeToString()
                found = [
                    cards.check(text, content, root, at=at, list_age=LIST_AGE).finding.name
                    for text, at in (
                        (card.text, datetime.now(UTC)),
                        (card.text, datetime.now(UTC) + timedelta(days=400)),
                        (_altered(card.text), datetime.now(UTC)),
                    )
                ]
                facts["findings"] = found
                return found if found[0] == "VALID" else None

            found = await until("绵阳 to know the keys and lists of 成都", good, within=WITHIN)
            check(found[1:] == ["EXPIRED", "ALTERED"], "the card", f"is {found}")
            self._report.say(f"{card.text[:24]}… at 绵阳: {', '.join(found)}")

    async def _claim_a_coupon(self, worker: str) -> None:
        with self._report.step(
            "a coupon of the province is claimed at 成都, and redeemed"
        ) as facts:
            programme = await self._programme()
            coupons = benefits_pb2_grpc.MyCouponServiceStub(self._chengdu.to["benefits"])
            as_worker = self._chengdu.calling_as(worker)

            async def arrived() -> bool:
                answer = await coupons.ListMyProgrammes(
                    benefits_pb2.ListMyProgrammesRequest(), **as_worker
                )
                return programme in [one.name for one in answer.programmes]

            await until("the programme at 成都", arrived, within=WITHIN)
            claim = benefits_pb2.ClaimCouponRequest(programme=programme, request_id=once())
            claimed = await coupons.ClaimCoupon(claim, **as_worker)
            shop = benefits_pb2_grpc.BenefitsServiceStub(self._chengdu.to["benefits"])
            as_shop = self._chengdu.calling_as(MERCHANT)
            redeem = benefits_pb2.RedeemCouponRequest(code=claimed.code, request_id=once())
            coupon = await shop.RedeemCoupon(redeem, **as_shop)
            check(coupon.state == benefits_pb2.Coupon.REDEEMED, "the coupon", "is not redeemed")
            again = benefits_pb2.RedeemCouponRequest(code=claimed.code, request_id=once())
            told = await refusal(shop.RedeemCoupon(again, **as_shop))
            check(told.reason == "COUPON_REDEEMED", "the coupon", f"is redeemed twice: {told}")
            facts |= {"programme": programme, "twice": told.reason}
            self._report.say(f"{coupon.title}, {coupon.face_value_fen / 100:.2f} 元, redeemed once")
            self._report.say(f"a second time: {told.reason}, {told.chinese}")

    async def _programme(self) -> str:
        now = datetime.now(UTC)
        desk = benefits_pb2_grpc.BenefitsServiceStub(self._province.to["benefits"])
        made = await desk.CreateProgramme(
            benefits_pb2.CreateProgrammeRequest(
                parent="organizations/51",
                programme=benefits_pb2.Programme(
                    title="职工书屋购书券", face_value_fen=2_000,
                    shares=[
                        benefits_pb2.Share(node=self._chengdu.name, stock=100),
                        benefits_pb2.Share(node=self._mianyang.name, stock=20),
                    ],
                    claim_start_time=now - timedelta(minutes=1),
                    claim_end_time=now + timedelta(days=7), use_by_time=now + timedelta(days=30),
                ),
                request_id=once(),
            ),
            **self._province.call,
        )  # fmt: skip
        opening = benefits_pb2.OpenProgrammeRequest(name=made.name, request_id=once())
        opened = await desk.OpenProgramme(opening, **self._province.second)  # who made it may not
        return opened.name

    async def _post_a_notice(self, worker: str) -> None:
        with self._report.step("a notice of the nation is read by the worker") as facts:
            desk = notify_pb2_grpc.NotifyServiceStub(self._nation.to["notify"])
            notice = await desk.CreateNotice(
                notify_pb2.CreateNoticeRequest(
                    parent="organizations/51",
                    notice=notify_pb2.Notice(
                        title="高温作业保护", text="气温三十七度以上，请减少室外作业。",
                        expire_time=datetime.now(UTC) + timedelta(days=30),
                    ),
                    request_id=once(),
                ),
                **self._nation.call,
            )  # fmt: skip

            async def arrived() -> list[notify_pb2.Message]:
                return await self._messages(worker, notify_pb2.Message.NOTICE)

            [message] = await until("the notice at 成都", arrived, within=WITHIN)
            inbox = notify_pb2_grpc.MyInboxServiceStub(self._chengdu.to["notify"])
            await inbox.MarkRead(
                notify_pb2.MarkReadRequest(name=message.name), **self._chengdu.calling_as(worker)
            )

            async def counted() -> int:
                request = notify_pb2.GetNoticeRequest(name=notice.name)
                return (await desk.GetNotice(request, **self._nation.call)).readers

            facts["readers"] = await until("the reader at the nation", counted, within=WITHIN)
            self._report.say(f"{message.title}: {facts['readers']} reader, the nation sees")

    async def _raise_a_voice(self, worker: str) -> None:
        with self._report.step("a voice of 成都 is passed on, and the province answers") as facts:
            mine = notify_pb2_grpc.MyVoiceServiceStub(self._chengdu.to["notify"])
            as_worker = self._chengdu.calling_as(worker)
            voice = await mine.RaiseVoice(
                notify_pb2.RaiseVoiceRequest(text=SAID, request_id=once()), **as_worker
            )
            await self._desk(self._chengdu).PassOnVoice(
                notify_pb2.PassOnVoiceRequest(
                    name=voice.name, reason="涉及多市企业，请省总统筹。", request_id=once()
                ),
                **self._chengdu.call,
            )  # fmt: skip
            above = await until(
                "the voice at the province",
                lambda: self._voice(self._province, voice.name, steps=1), within=WITHIN,
            )  # fmt: skip
            check(above.text == SAID and above.verbatim, "the voice", "is not verbatim")
            await self._desk(self._province).AnswerVoice(
                notify_pb2.AnswerVoiceRequest(name=voice.name, text=ANSWER, request_id=once()),
                **self._province.call,
            )

            async def answered() -> notify_pb2.Voice | None:
                request = notify_pb2.GetMyVoiceRequest(name=voice.name)
                found = await mine.GetMyVoice(request, **as_worker)
                return found if found.state == notify_pb2.Voice.ANSWERED else None

            found = await until("the answer at 成都", answered, within=WITHIN)
            check(found.steps[-1].text == ANSWER, "the answer", "is another one")
            nation = await until(
                "both steps at the nation",
                lambda: self._voice(self._nation, voice.name, steps=2), within=WITHIN,
            )  # fmt: skip
            check(not nation.text, "the voice", "is read where it was not passed on to")
            facts |= {"voice": voice.name, "steps": [step.level for step in found.steps]}
            self._report.say(f"at the province, verbatim: {above.text}")
            self._report.say(f"the worker reads: {ANSWER}")
            self._report.say("the nation sees both steps, and not what was said")

    async def _issue_a_directive(self) -> None:
        with self._report.step("a directive: one city completes it, the other refuses") as facts:
            desk = directive_pb2_grpc.DirectiveServiceStub(self._province.to["sync"])
            issued = await desk.CreateDirective(
                directive_pb2.CreateDirectiveRequest(
                    directive=directive_pb2.Directive(
                        title="夏送清凉", text="请于七月前完成对户外劳动者的走访。",
                        levels=["city"], due_time=datetime.now(UTC) + timedelta(days=30),
                    ),
                    request_id=once(),
                ),
                **self._province.call,
            )  # fmt: skip
            await asyncio.gather(
                self._report_on(self._chengdu, issued.name, ""),
                self._report_on(self._mianyang, issued.name, "本市无户外作业企业。"),
            )
            request = directive_pb2.GetDirectiveRequest(name=issued.name)

            async def settled() -> directive_pb2.Directive | None:
                found = await desk.GetDirective(request, **self._province.call)
                done = found.progress.completed + found.progress.refused
                return found if done == found.progress.expected else None

            found = await until("both reports at the province", settled, within=WITHIN)
            progress = found.progress
            facts |= {"expected": progress.expected, "completed": progress.completed,
                      "refused": progress.refused}  # fmt: skip
            added_up = sum(part.progress.expected for part in found.parts)
            check(added_up == progress.expected == 2, "the directive", "does not add up")
            self._report.say(
                f"{found.title}: {progress.expected} = {progress.completed} completed"
                f" + {progress.refused} refused"
            )

    async def _keep_to_the_own_county(self, worker: str) -> None:
        with self._report.step("an officer of another county is refused, and learns why") as facts:
            desk = self._chengdu.membership
            asked = membership_pb2.GetMemberRequest(name=worker)
            street = (await desk.GetMember(asked, **self._chengdu.call)).organization
            home = await self._county_of(street)
            counties = await desk.ListOrganizations(
                membership_pb2.ListOrganizationsRequest(parent="organizations/5101"),
                **self._chengdu.call,
            )
            other = next(one for one in counties.organizations if one.name != home)
            await desk.AppointOfficer(
                membership_pb2.AppointOfficerRequest(
                    parent=other.name, request_id=once(),
                    office=membership_pb2.Office(holder=OFFICER, role="CHAIR"),
                ),
                **self._chengdu.calling_as(supervisor.OFFICER, step_up=True),
            )  # fmt: skip
            as_officer = self._chengdu.calling_as(OFFICER)
            told = await refusal(desk.GetMember(asked, **as_officer))
            check(told.reason == "OUTSIDE_SCOPE", "the officer", f"is not refused: {told}")
            access = access_pb2_grpc.AccessServiceStub(self._chengdu.to["membership"])
            explained = await access.ExplainAccess(
                access_pb2.ExplainAccessRequest(method=GET_MEMBER, organization=street),
                **as_officer,
            )
            elsewhere = explained.finding == access_pb2.Explanation.ELSEWHERE
            check(elsewhere, "the explanation", f"is another: {explained}")
            facts |= {"reason": told.reason, "explanation": explained.message}
            self._report.say(
                f"the chair of {other.display_name} asks for the worker: {told.reason}"
            )
            self._report.say(explained.chinese_message)

    async def _county_of(self, street: str) -> str:
        """The organisation above a street."""
        request = membership_pb2.GetOrganizationRequest(name=street)
        found = await self._chengdu.membership.GetOrganization(request, **self._chengdu.call)
        return found.parent

    async def _report_on(self, node: Node, directive: str, reason: str) -> None:
        """Once a directive is there: complete it, or refuse it with a reason."""
        desk = directive_pb2_grpc.DirectiveServiceStub(node.to["sync"])

        async def received() -> bool:
            request = directive_pb2.ListDirectivesRequest()
            listed = await desk.ListDirectives(request, **node.call)
            return directive in [one.name for one in listed.directives]

        await until(f"the directive at {node.seat.name}", received, within=WITHIN)
        if reason:
            refuse = directive_pb2.RefuseDirectiveRequest(
                name=directive, reason=reason, request_id=once()
            )
            await desk.RefuseDirective(refuse, **node.call)
        else:
            done = directive_pb2.CompleteDirectiveRequest(name=directive, request_id=once())
            await desk.CompleteDirective(done, **node.call)

    async def _messages(
        self, worker: str, kind: "notify_pb2.Message.Kind"
    ) -> list[notify_pb2.Message]:
        inbox = notify_pb2_grpc.MyInboxServiceStub(self._chengdu.to["notify"])

        async def found() -> list[notify_pb2.Message]:
            """Nothing while notify has not heard of the member yet."""
            request = notify_pb2.ListMyMessagesRequest()
            with suppress_code(grpc.StatusCode.PERMISSION_DENIED):
                answer = await inbox.ListMyMessages(request, **self._chengdu.calling_as(worker))
                return [message for message in answer.messages if message.kind == kind]
            return []

        return await until("the message in the inbox", found, within=WITHIN)

    async def _voice(self, node: Node, name: str, *, steps: int) -> notify_pb2.Voice | None:
        """The voice as a node shows it, once so many steps of it are known there."""
        with suppress_code(grpc.StatusCode.NOT_FOUND):
            found = await self._desk(node).GetVoice(
                notify_pb2.GetVoiceRequest(name=name), **node.call
            )
            return found if len(found.steps) >= steps else None
        return None

    def _desk(self, node: Node) -> "notify_pb2_grpc.NotifyServiceAsyncStub":
        return notify_pb2_grpc.NotifyServiceStub(node.to["notify"])


def _altered(text: str) -> str:
    """The text with one character changed in its middle."""
    at = len(text) // 2
    return text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]
