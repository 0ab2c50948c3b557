"""What a level makes of the voices and the steps that come to it from other nodes."""

from dataclasses import dataclass, field
from uuid import UUID, uuid4

from kit.envelopes import seal_key_of, seal_to
from kit.ids import uuid7
from kit.organizations import organization_id
from services.notify.domain.voices import Action, commitment_to
from services.notify.store.figures import figures
from smartunion.notify.v1 import notify_pb2 as pb
from smartunion.notify.v1.records_pb2 import PublicHandling, PublicVoice, VoiceText
from tests.service.notify.counter import Counter

OPENING = bytes(range(16))


@dataclass
class Below:
    """A node below, and the voices that it sends up."""

    counter: Counter
    node: UUID = field(default_factory=uuid4)

    @property
    def above(self) -> UUID:
        """The node to which it passes on."""
        return self.counter.settings.node

    async def raise_(self, text: str = "涨工资") -> str:
        section = PublicVoice(
            organization=organization_id(self.counter.code).bytes,
            commitment=bytes.fromhex(commitment_to(OPENING.hex(), text)),
        )
        return f"voices/{await self.counter.copy('voices', section, origin=self.node)}"

    async def handle(
        self, voice: str, action: Action, *, by: UUID | None = None, to: UUID | None = None,
        sealed: bytes = b"", kind: str = "handlings", raised_at: UUID | None = None,
        id_: UUID | None = None,
    ) -> None:  # fmt: skip
        section = PublicHandling(
            voice=UUID(voice[7:]).bytes, voice_origin=(raised_at or self.node).bytes,
            organization=organization_id("5101").bytes, level=3, action=action,
            addressee=to.bytes if to else b"", sealed_text=sealed,
        )  # fmt: skip
        await self.counter.copy(kind, section, origin=by or self.node, id_=id_)

    async def pass_on(self, voice: str, text: str, *, sealed: bytes = b"") -> None:
        plain = VoiceText(opening=OPENING, text=text, reason="请协调").SerializeToString()
        key = seal_key_of(self.counter.settings.secret("node.key"))
        envelope = seal_to(key, plain, f"{voice}/{self.above}")
        await self.handle(voice, Action.PASSED_ON, to=self.above, sealed=sealed or envelope)


async def test_what_was_passed_on_is_read_and_known_to_be_verbatim(notify: Counter) -> None:
    below = Below(notify)
    voice = await below.raise_("工资没发")
    await below.pass_on(voice, "工资没发")
    found = await notify.ask(pb.GetVoiceRequest(name=voice))
    assert (found.text, found.verbatim, found.copy) == ("工资没发", True, True)
    assert (found.steps[0].text, found.state_here) == ("请协调", pb.Voice.WAITING)
    waiting = await notify.ask(
        pb.ListVoicesRequest(parent=notify.street, state_here=pb.Voice.WAITING)
    )
    assert [one.name for one in waiting.voices] == [voice]


async def test_words_that_were_changed_on_the_way_are_known_not_to_be_verbatim(
    notify: Counter,
) -> None:
    below = Below(notify)
    voice = await below.raise_("工资没发")
    await below.pass_on(voice, "工资已发")
    found = await notify.ask(pb.GetVoiceRequest(name=voice))
    assert (found.text, found.verbatim) == ("工资已发", False)


async def test_what_cannot_be_opened_is_empty_and_breaks_nothing(notify: Counter) -> None:
    below = Below(notify)
    voice = await below.raise_()
    foreign = seal_to(seal_key_of(bytes(32)), b"x", f"{voice}/{below.above}")
    await below.pass_on(voice, "", sealed=foreign)
    found = await notify.ask(pb.GetVoiceRequest(name=voice))
    assert (found.text, found.verbatim, found.state_here) == ("", False, pb.Voice.WAITING)

    member = await notify.member()
    mine = (await notify.raise_(by=member)).name
    await below.handle(mine, Action.ANSWERED, kind="replies", raised_at=notify.settings.node,
                       sealed=b"broken")  # fmt: skip
    found = await notify.ask(pb.GetMyVoiceRequest(name=mine), by=member)
    assert not found.steps  # It was never passed on there.
    assert not [one.text for one in await notify.inbox(member) if one.voice == mine and one.text]


async def test_a_node_has_no_say_in_what_did_not_come_to_it(notify: Counter) -> None:
    below, beside = Below(notify), Below(notify)
    voice = await below.raise_()
    await beside.handle(voice, Action.PASSED_ON, to=below.above, raised_at=below.node)
    await beside.handle(voice, Action.PASSED_ON, to=beside.node, raised_at=below.node)
    await beside.handle(voice, Action.CLOSED, raised_at=below.node)
    found = await notify.ask(pb.GetVoiceRequest(name=voice))
    assert not found.steps and found.state == pb.Voice.WAITING
    assert found.state_here == pb.Voice.ELSEWHERE
    for state, listed in ((pb.Voice.WAITING, []), (pb.Voice.ELSEWHERE, [voice])):
        request = pb.ListVoicesRequest(parent=notify.street, state_here=state)
        assert [one.name for one in (await notify.ask(request)).voices] == listed
    counted = await figures(notify.pool, notify.settings.node)
    assert (below.node, "voices_waiting", 1) in counted


async def test_figures_add_up_and_say_where_voices_were_closed_unanswered(
    notify: Counter,
) -> None:
    county, city, top = Below(notify), Below(notify), notify.settings.node
    voices = [await county.raise_() for _ in range(5)]
    for voice in voices[1:4]:
        await county.handle(voice, Action.PASSED_ON, to=city.node)
    await city.handle(voices[1], Action.ANSWERED, raised_at=county.node)
    await county.handle(voices[1], Action.CLOSED)
    await city.handle(voices[2], Action.CLOSED, raised_at=county.node)
    await county.handle(voices[4], Action.CLOSED)
    await city.handle(voices[0], Action.CLOSED, raised_at=county.node)  # It never came there.
    found = {(origin, name): value for origin, name, value in await figures(notify.pool, top)}

    def of(below: Below) -> list[int]:
        names = ("raised", "waiting", "answered", "closed_unanswered", "closed_unanswered_here")
        return [found.get((below.node, f"voices_{name}"), 0) for name in names]

    assert of(county) == [5, 2, 1, 2, 1]
    assert of(city) == [0, 0, 0, 0, 1]


async def test_figures_count_what_levels_above_have_done(notify: Counter) -> None:
    node, above = notify.settings.node, uuid4()
    names = ("voices_answered", "voices_waiting")

    async def counted() -> list[int]:
        found = await figures(notify.pool, node)
        return [next(v for o, n, v in found if (o, n) == (node, name)) for name in names]

    voice = (await notify.raise_()).name
    answered, waiting = await counted()
    passed_on = Below(notify, node=node)
    await passed_on.handle(voice, Action.PASSED_ON, to=above, id_=uuid7())
    await passed_on.handle(voice, Action.ANSWERED, by=above, kind="replies")
    assert await counted() == [answered + 1, waiting - 1]
