"""Membership and benefits together: who is approved there has a card here, by the log alone."""

from pathlib import Path

from smartunion.benefits.v1 import benefits_pb2 as pb
from tests.callers import OF_A_NODE
from tests.eventually import eventually
from tests.service.benefits.conftest import calling, make_settings, serving
from tests.service.benefits.counter import Counter
from tests.service.desk import Desk


async def test_who_is_approved_shows_a_card_seconds_later(
    postgres: str, benefits_template: str, membership: Desk, tmp_path: Path
) -> None:
    own = await make_settings(postgres, benefits_template, tmp_path)
    same = membership.settings.model_dump(include=OF_A_NODE)
    peers = own.peers | {"membership": membership.settings.listen}
    settings = own.model_copy(update={**same, "peers": peers})
    approved = await membership.approve(await membership.apply(1))
    waiting = await membership.apply(2)
    async with serving(settings), calling(settings) as counter:
        shown = await eventually(lambda: mine(counter, approved.member))
        assert shown.card.organization == approved.organization
        late = await membership.approve(waiting)
        await eventually(lambda: mine(counter, late.member))


async def mine(counter: Counter, member: str) -> pb.MyCard:
    answer: pb.MyCard = await counter.ask(pb.GetMyCardRequest(), by=member)
    return answer
