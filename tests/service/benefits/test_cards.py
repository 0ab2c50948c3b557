"""A member has a card: it comes with the membership, ends with it, and can be replaced."""

import asyncio
from uuid import uuid4

import grpc

from kit.ids import uuid7
from smartunion.benefits.v1 import benefits_pb2 as pb
from tests.service.benefits.counter import STREET, Counter


async def test_who_appears_on_the_roll_has_a_card(counter: Counter) -> None:
    member = await counter.member()
    shown = await counter.card(member)
    card = await counter.ask(pb.GetCardRequest(name=shown.card.name))
    assert card == shown.card
    assert (card.member, card.state, card.version) == (f"members/{member}", pb.Card.ACTIVE, 1)
    assert card.provenance.origin == f"nodes/{counter.settings.node}"
    assert not card.provenance.copy
    assert await counter.events(card.name) == ["CardIssued"]
    assert shown.text.startswith("UC1:") and len(shown.text) <= 366  # QR version 11, level M


async def test_the_same_news_again_issues_no_second_card(counter: Counter) -> None:
    member = await counter.member()
    card = (await counter.card(member)).card
    await counter.announce([member])
    await counter.announce([member], version=2)
    assert (await counter.card(member)).card == card


async def test_a_card_follows_its_holder_to_another_organisation(counter: Counter) -> None:
    member = await counter.member()
    await counter.announce([member], code="510105", version=2)
    card = (await counter.card(member)).card
    assert await counter.events(card.name) == ["CardIssued", "CardMoved"]
    listed = await counter.ask(pb.ListCardsRequest(parent="organizations/510105", page_size=1000))
    assert card in listed.cards
    listed = await counter.ask(pb.ListCardsRequest(parent=f"organizations/{STREET}"))
    assert card not in listed.cards


async def test_a_card_ends_with_the_membership_and_comes_anew_with_it(counter: Counter) -> None:
    member = await counter.member()
    first = (await counter.card(member)).card
    await counter.announce([member], version=2, left=True)
    ended = await counter.ask(pb.GetCardRequest(name=first.name))
    assert (ended.state, ended.revoke_reason) == (pb.Card.REVOKED, "")
    assert ended.HasField("revoke_time")
    refused = await counter.refusal(pb.GetMyCardRequest(), by=member)
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.PERMISSION_DENIED, "NOT_A_MEMBER",
    )  # fmt: skip
    await counter.announce([member], version=3)
    second = (await counter.card(member)).card
    assert second.name != first.name
    assert await counter.events(first.name) == ["CardIssued", "CardRevoked"]


async def test_why_the_card_of_one_who_is_erased_was_revoked_is_erased(counter: Counter) -> None:
    member, other = await counter.member(), await counter.member()
    cards = [(await counter.card(one)).card.name for one in (member, other)]
    request = pb.RevokeCardRequest(name=cards[0], reason="家中失火", request_id=str(uuid4()))
    assert (await counter.ask(request)).revoke_reason == "家中失火"
    assert (await counter.ask(request)).revoke_reason == "家中失火"
    await counter.revoke(cards[1], "遗失")
    await counter.announce([member], version=2, left=True)
    await counter.announce([member], version=3, erased=True)
    seen = [await counter.ask(pb.GetCardRequest(name=card)) for card in cards]
    assert [card.revoke_reason for card in seen] == ["", "遗失"]
    assert [card.state for card in seen] == [pb.Card.REVOKED, pb.Card.REVOKED]
    assert (await counter.ask(request)).revoke_reason == ""
    keys = "SELECT count(wrapped) FROM data_keys WHERE id = $1"
    assert await counter.pool.fetchval(keys, member) == 0


async def test_an_officer_replaces_a_lost_card(counter: Counter) -> None:
    member = await counter.member()
    first = (await counter.card(member)).card
    told = await counter.refusal(pb.IssueCardRequest(member=f"members/{member}"))
    assert (told.reason, told.metadata) == (
        "CARD_ACTIVE", {"member": f"members/{member}", "card": first.name},
    )  # fmt: skip
    revoked = await counter.revoke(first.name, " 遗失 ")
    assert (revoked.state, revoked.revoke_reason) == (pb.Card.REVOKED, "遗失")
    assert (await counter.refusal(pb.GetMyCardRequest(), by=member)).reason == "NO_CARD"
    request = pb.IssueCardRequest(member=f"members/{member}", request_id=str(uuid4()))
    second = await counter.ask(request)
    assert await counter.ask(request) == second
    assert (await counter.card(member)).card == second


async def test_a_card_that_an_officer_took_away_does_not_come_back_by_itself(
    counter: Counter,
) -> None:
    member = await counter.member()
    await counter.revoke((await counter.card(member)).card.name)
    await counter.announce([member], code="510105", version=2)
    assert (await counter.refusal(pb.GetMyCardRequest(), by=member)).reason == "NO_CARD"


async def test_a_card_is_revoked_once_and_with_a_reason(counter: Counter) -> None:
    card = (await counter.card(await counter.member())).card.name
    told = await counter.refusal(pb.RevokeCardRequest(name=card, reason=" "))
    assert (told.reason, told.field) == ("REVOKE_REASON_LENGTH", "reason")
    told = await counter.refusal(pb.RevokeCardRequest(name=card, reason="x" * 501))
    assert (told.metadata, "1 至 500" in told.chinese) == ({"length": "501"}, True)
    request = pb.RevokeCardRequest(name=card, reason="遗失", request_id=str(uuid4()))
    assert await counter.ask(request) == await counter.ask(request)
    told = await counter.refusal(pb.RevokeCardRequest(name=card, reason="遗失"))
    assert (told.code, told.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION, "CARD_ALREADY_REVOKED",
    )  # fmt: skip


async def test_two_officers_and_the_roll_at_once_issue_one_card(counter: Counter) -> None:
    member = await counter.member()
    await counter.revoke((await counter.card(member)).card.name)
    requests = [
        counter.ask(pb.IssueCardRequest(member=f"members/{member}", request_id=str(uuid4())))
        for _ in range(8)
    ]
    answers = await asyncio.gather(
        *requests, counter.announce([member], version=2), return_exceptions=True
    )
    assert sum(isinstance(answer, pb.Card) for answer in answers) == 1
    assert (await counter.card(member)).card in answers


async def test_who_is_no_member_has_no_card_and_no_officer_sees_a_member_s_text(
    counter: Counter,
) -> None:
    stranger = uuid7()
    for request, by in (
        (pb.GetMyCardRequest(), stranger), (pb.IssueCardRequest(member=f"members/{stranger}"), ""),
    ):  # fmt: skip
        told = await counter.refusal(request, by=by or "officers/li-na")
        assert told.reason == "NOT_A_MEMBER" and "在籍会员" in told.chinese
    assert (await counter.refusal(pb.GetMyCardRequest())).reason == "ACCESS_DENIED"
    member = await counter.member()
    assert (await counter.refusal(pb.ListCardsRequest(), by=member)).reason == "NO_OFFICE"
    told = await counter.refusal(pb.GetCardRequest(name=f"cards/{stranger}"))
    assert told.reason == "CARD_NOT_FOUND"


async def test_many_members_get_their_cards_at_once(counter: Counter) -> None:
    members = [uuid7() for _ in range(2_000)]
    await counter.announce(members, code="510107")
    indexes = await counter.pool.fetch("SELECT status_index FROM cards WHERE state = 1")
    assert len({row[0] for row in indexes}) == len(indexes) >= 2_000
    request = pb.ListCardsRequest(parent="organizations/510107", page_size=1_000)
    page = await counter.ask(request)
    seen = {card.member for card in page.cards}
    request.page_token = page.next_page_token
    seen |= {card.member for card in (await counter.ask(request)).cards}
    assert seen == {f"members/{member}" for member in members}
