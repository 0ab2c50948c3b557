"""The way of a voice: each level goes forward only, and only those to whom it came have a say."""

import os
from collections.abc import Sequence
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import Refusal
from kit.headers import Header
from kit.ids import uuid7
from kit.organizations import Level
from services.notify.domain.voices import (
    Action,
    Office,
    Step,
    Voice,
    VoiceState,
    VoiceTextLost,
    chained,
    commitment_to,
    raise_voice,
)

COUNTY, CITY, PROVINCE, STRANGER = (UUID(int=number) for number in (4, 3, 2, 9))
ABOVE = {COUNTY: CITY, CITY: PROVINCE, PROVINCE: UUID(int=1)}
LEVELS = {COUNTY: Level.COUNTY, CITY: Level.CITY, PROVINCE: Level.PROVINCE}

attempts = st.lists(st.tuples(st.sampled_from([COUNTY, CITY, PROVINCE]), st.sampled_from(Action)))


def office(node: UUID) -> Office:
    return Office(node=node, organization=UUID(int=51), level=LEVELS.get(node, Level.GROUP))


def a_voice(text: str = "涨工资") -> Voice:
    """Raised at the county."""
    voice, _ = raise_voice(
        id=uuid7(), header=Header(origin=COUNTY), organization=UUID(int=51),
        member=UUID(int=8), text=text, opening=os.urandom(16).hex(),
    )  # fmt: skip
    return voice


def handled(voice: Voice, node: UUID, action: Action) -> tuple[Voice, Step]:
    match action:
        case Action.PASSED_ON:
            voice, step, fact = voice.pass_on(
                id=uuid7(), office=office(node), addressee=ABOVE[node], reason="因"
            )
        case Action.ANSWERED:
            voice, step, fact = voice.answer(id=uuid7(), office=office(node), text="好")
        case Action.CLOSED:
            voice, step, fact = voice.close(id=uuid7(), office=office(node), reason="因")
    assert (fact.voice, fact.action) == (voice.name, action)
    return voice, step


def story(tries: Sequence[tuple[UUID, Action]]) -> tuple[Voice, list[Step]]:
    """What becomes of a voice when levels try these, in this order."""
    voice, steps = a_voice(), list[Step]()
    for node, action in tries:
        before = voice.state_at(node)
        try:
            voice, step = handled(voice, node, action)
        except Refusal:
            here = before is not VoiceState.ELSEWHERE
            assert not here or before - VoiceState.WAITING >= action
        else:
            steps.append(step)
            assert voice.state_at(node) == action + VoiceState.WAITING > before
    return voice, steps


@given(attempts)
def test_a_level_only_goes_forward_and_only_when_the_voice_came_to_it(
    tries: list[tuple[UUID, Action]],
) -> None:
    voice, steps = story(tries)
    assert set(voice.steps) == set(steps)
    for node, above in ABOVE.items():
        passed = any(s.office.node == node and s.action is Action.PASSED_ON for s in steps)
        assert (voice.state_at(above) is not VoiceState.ELSEWHERE) == passed
    assert voice.state == max((step.action for step in steps), default=0) + 1


@given(attempts, st.randoms(use_true_random=False))
def test_in_whatever_order_steps_arrive_the_way_is_the_same(
    tries: list[tuple[UUID, Action]], random: object
) -> None:
    voice, steps = story(tries)
    random.shuffle(steps)  # type: ignore[attr-defined]
    assert chained(COUNTY, steps) == voice.steps


@given(attempts)
def test_nobody_to_whom_it_did_not_come_has_a_say(tries: list[tuple[UUID, Action]]) -> None:
    voice, steps = story(tries)
    forged = [
        Step(id=uuid7(), office=office(STRANGER), action=Action.CLOSED),
        Step(id=uuid7(), office=office(STRANGER), action=Action.PASSED_ON, addressee=COUNTY),
    ]
    assert chained(COUNTY, [*forged, *steps]) == voice.steps


def test_a_circle_of_levels_ends() -> None:
    steps = [
        Step(id=uuid7(), office=office(node), action=Action.PASSED_ON, addressee=to)
        for node, to in ((COUNTY, CITY), (CITY, COUNTY))
    ]
    assert len(chained(COUNTY, steps)) == 2


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_text_is_verbatim_or_it_is_not(text: str, other: str) -> None:
    opening = os.urandom(16).hex()
    assert (commitment_to(opening, text) == commitment_to(opening, other)) == (text == other)


def test_a_text_that_a_restore_lost_is_not_passed_on_and_can_still_be_answered() -> None:
    voice = a_voice()
    lost = Voice(
        id=voice.id, header=voice.header, organization=voice.organization,
        commitment=voice.commitment,
    )  # fmt: skip
    assert not lost.verbatim
    with pytest.raises(VoiceTextLost):
        handled(lost, COUNTY, Action.PASSED_ON)
    assert handled(lost, COUNTY, Action.ANSWERED)[0].state is VoiceState.ANSWERED
