"""smartunion.benefits.v1: from proto to a use case and back."""

from datetime import UTC, datetime
from uuid import UUID

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from kit.errors import InvalidArgument
from kit.headers import Header
from kit.rpc import Context, call_of, caller, page_of, uuid_in
from services.benefits.domain.cards import Card
from services.benefits.domain.coupons import Coupon
from services.benefits.domain.programmes import Draft, Programme, Share
from services.benefits.domain.verification import Verdict
from services.benefits.usecases.cards import Cards
from services.benefits.usecases.claims import Claims
from services.benefits.usecases.coupons import Coupons
from services.benefits.usecases.programmes import Programmes
from services.benefits.usecases.verification import Verification
from smartunion.benefits.v1 import benefits_pb2 as pb
from smartunion.benefits.v1 import benefits_pb2_grpc


class TimeMissing(InvalidArgument):
    message = "set a time between the years 1 and 9999, such as 2026-12-01T00:00:00Z"
    chinese = "请填写公元 1 年至 9999 年之间的时间，例如 2026-12-01T00:00:00Z"


class BenefitsServicer(benefits_pb2_grpc.BenefitsServiceServicer):
    """What officers do, and what is open to all."""

    def __init__(
        self, cards: Cards, verification: Verification, programmes: Programmes, coupons: Coupons
    ) -> None:
        self._cards = cards
        self._verification = verification
        self._programmes = programmes
        self._coupons = coupons

    async def IssueCard(self, request: pb.IssueCardRequest, context: Context) -> pb.Card:
        member = uuid_in(request.member, "members", field="member")
        return _card(await self._cards.issue(member, call=call_of(request, request.request_id)))

    async def RevokeCard(self, request: pb.RevokeCardRequest, context: Context) -> pb.Card:
        card = await self._cards.revoke(
            uuid_in(request.name, "cards"),
            reason=request.reason,
            call=call_of(request, request.request_id),
        )
        return _card(card)

    async def GetCard(self, request: pb.GetCardRequest, context: Context) -> pb.Card:
        return _card(await self._cards.get(uuid_in(request.name, "cards")))

    async def ListCards(
        self, request: pb.ListCardsRequest, context: Context
    ) -> pb.ListCardsResponse:
        page = page_of(request)
        found, key = await self._cards.page(request.parent, page=page)
        return pb.ListCardsResponse(cards=map(_card, found), next_page_token=page.token(key))

    async def VerifyCard(
        self, request: pb.VerifyCardRequest, context: Context
    ) -> pb.CardVerification:
        return _verification(await self._verification.verify(request.text))

    async def GetTrustBundle(
        self, request: pb.GetTrustBundleRequest, context: Context
    ) -> pb.TrustBundle:
        bundle = await self._verification.bundle()
        return pb.TrustBundle(
            root=bundle.root,
            certificates=bundle.certificates,
            status_lists=bundle.status_lists,
            make_time=bundle.make_time,
        )

    async def CreateProgramme(
        self, request: pb.CreateProgrammeRequest, context: Context
    ) -> pb.Programme:
        asked = request.programme
        shares = [
            Share(node=uuid_in(share.node, "nodes", field="programme.shares"), stock=share.stock)
            for share in asked.shares
        ]
        created = await self._programmes.create(
            request.parent,
            title=asked.title,
            face_value_fen=asked.face_value_fen,
            shares=shares,
            claim_start_time=time_in(asked, "claim_start_time"),
            claim_end_time=time_in(asked, "claim_end_time"),
            use_by_time=time_in(asked, "use_by_time"),
            call=call_of(request, request.request_id),
        )
        return _draft(created)

    async def OpenProgramme(
        self, request: pb.OpenProgrammeRequest, context: Context
    ) -> pb.Programme:
        name = uuid_in(request.name, "programmes")
        call = call_of(request, request.request_id)
        return _programme(*await self._programmes.open(name, call=call))

    async def GetProgramme(self, request: pb.GetProgrammeRequest, context: Context) -> pb.Programme:
        found = await self._programmes.get(uuid_in(request.name, "programmes"))
        return _draft(found) if isinstance(found, Draft) else _programme(*found)

    async def ListProgrammes(
        self, request: pb.ListProgrammesRequest, context: Context
    ) -> pb.ListProgrammesResponse:
        page = page_of(request)
        if request.drafts:
            drafts, key = await self._programmes.page_of_drafts(page=page)
            shown = [_draft(one) for one in drafts]
        else:
            found, key = await self._programmes.page(page=page)
            shown = [_programme(*one) for one in found]
        return pb.ListProgrammesResponse(programmes=shown, next_page_token=page.token(key))

    async def RedeemCoupon(self, request: pb.RedeemCouponRequest, context: Context) -> pb.Coupon:
        call = call_of(request, request.request_id)
        return _coupon(*await self._coupons.redeem(request.code, call=call))


class MyCouponServicer(benefits_pb2_grpc.MyCouponServiceServicer):
    """What members do with programmes and their own coupons."""

    def __init__(self, programmes: Programmes, claims: Claims, coupons: Coupons) -> None:
        self._programmes, self._claims, self._coupons = programmes, claims, coupons

    async def ListMyProgrammes(
        self, request: pb.ListMyProgrammesRequest, context: Context
    ) -> pb.ListMyProgrammesResponse:
        page = page_of(request)
        found, key = await self._programmes.of_member(_me(), page=page)
        return pb.ListMyProgrammesResponse(
            programmes=[_programme(*one) for one in found], next_page_token=page.token(key)
        )

    async def ClaimCoupon(self, request: pb.ClaimCouponRequest, context: Context) -> pb.MyCoupon:
        claimed = await self._claims.claim(
            uuid_in(request.programme, "programmes", field="programme"),
            member=_me(),
            call=call_of(request, request.request_id),
        )
        return self._my_coupon(*claimed)

    async def ListMyCoupons(
        self, request: pb.ListMyCouponsRequest, context: Context
    ) -> pb.ListMyCouponsResponse:
        page = page_of(request)
        found, key = await self._coupons.page(_me(), page=page)
        return pb.ListMyCouponsResponse(
            coupons=[self._my_coupon(*one) for one in found], next_page_token=page.token(key)
        )

    def _my_coupon(self, coupon: Coupon, programme: Programme) -> pb.MyCoupon:
        return pb.MyCoupon(coupon=_coupon(coupon, programme), code=self._coupons.code_of(coupon.id))


class MyCardServicer(benefits_pb2_grpc.MyCardServiceServicer):
    """What members do with their own card."""

    def __init__(self, cards: Cards) -> None:
        self._cards = cards

    async def GetMyCard(self, request: pb.GetMyCardRequest, context: Context) -> pb.MyCard:
        card, text, expire_time = await self._cards.mine(_me())
        return pb.MyCard(card=_card(card), text=text, expire_time=expire_time)


def time_in(message: Message, field: str) -> datetime:
    """A time of a request.  Raises TimeMissing."""
    timestamp: Timestamp = getattr(message, field)
    try:
        if message.HasField(field):
            return timestamp.ToDatetime(UTC)
    except (ValueError, OverflowError):
        pass
    raise TimeMissing(field=f"programme.{field}")


def _me() -> UUID:
    """The member who calls."""
    return uuid_in(caller.get(), "members", field="authorization")


def _provenance(header: Header) -> pb.Provenance:
    return pb.Provenance(
        origin=f"nodes/{header.origin}", copy=header.copy, certify_time=header.certify_time
    )


def _verification(verdict: Verdict) -> pb.CardVerification:
    found = pb.CardVerification(
        finding=verdict.finding.name,
        message=verdict.message,
        chinese_message=verdict.chinese_message,
    )
    if token := verdict.token:
        found.card, found.node = f"cards/{token.card}", f"nodes/{token.node}"
        found.organization_code = token.code
        found.sign_time.FromDatetime(token.sign_time)
        found.expire_time.FromDatetime(token.expire_time)
    return found


def _card(card: Card) -> pb.Card:
    return pb.Card(
        name=card.name,
        member=f"members/{card.member}",
        organization=f"organizations/{card.organization}",
        state=card.state.name,
        issue_time=card.issue_time,
        revoke_time=card.revoke_time,
        revoke_reason=card.revoke_reason,
        version=card.header.version,
        provenance=_provenance(card.header),
    )


def _programme(programme: Programme, remaining: int) -> pb.Programme:
    return pb.Programme(
        name=programme.name,
        organization=f"organizations/{programme.organization}",
        title=programme.title,
        face_value_fen=programme.face_value_fen,
        shares=[pb.Share(node=f"nodes/{one.node}", stock=one.stock) for one in programme.shares],
        claim_start_time=programme.claim_start_time,
        claim_end_time=programme.claim_end_time,
        use_by_time=programme.use_by_time,
        stock=programme.stock,
        remaining_here=remaining,
        version=programme.header.version,
        provenance=_provenance(programme.header),
        state=pb.Programme.OPEN,
    )


def _draft(draft: Draft) -> pb.Programme:
    shown = _programme(draft.programme, 0)
    shown.state, shown.creator = pb.Programme.DRAFT, draft.creator
    return shown


def _coupon(coupon: Coupon, programme: Programme) -> pb.Coupon:
    return pb.Coupon(
        name=coupon.name,
        programme=programme.name,
        title=programme.title,
        face_value_fen=programme.face_value_fen,
        state=coupon.state.name,
        claim_time=coupon.claim_time,
        redeem_time=coupon.redeem_time,
        use_by_time=programme.use_by_time,
    )
