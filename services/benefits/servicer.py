"""smartunion.benefits.v1: from proto to a use case and back."""

from uuid import UUID

from kit.headers import Header
from kit.rpc import Context, call_of, caller, page_of, uuid_in
from services.benefits.domain.cards import Card
from services.benefits.domain.verification import Verdict
from services.benefits.usecases.cards import Cards
from services.benefits.usecases.verification import Verification
from smartunion.benefits.v1 import benefits_pb2 as pb
from smartunion.benefits.v1 import benefits_pb2_grpc


class BenefitsServicer(benefits_pb2_grpc.BenefitsServiceServicer):
    """What officers do, and what is open to all."""

    def __init__(self, cards: Cards, verification: Verification) -> None:
        self._cards = cards
        self._verification = verification

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


class MyCardServicer(benefits_pb2_grpc.MyCardServiceServicer):
    """What members do with their own card."""

    def __init__(self, cards: Cards) -> None:
        self._cards = cards

    async def GetMyCard(self, request: pb.GetMyCardRequest, context: Context) -> pb.MyCard:
        card, text, expire_time = await self._cards.mine(_me())
        return pb.MyCard(card=_card(card), text=text, expire_time=expire_time)


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
