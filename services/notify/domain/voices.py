"""Voices (职工心声、诉求): what members have to say, and what each level does about it."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum
from uuid import UUID

from kit.errors import FailedPrecondition, InvalidArgument, NotFound
from kit.headers import Header
from kit.ids import time_of
from kit.organizations import Level
from kit.texts import check_characters

MOST_TEXT_CHARACTERS = 10_000
MOST_REASON_CHARACTERS = 500


class VoiceNotFound(NotFound):
    message = "there is no {voice} for you at this node"
    chinese = "本节点没有您可查阅的 {voice}"


class NoNodeAbove(FailedPrecondition):
    message = "there is no node above {node}; answer or close the voice here"
    chinese = "{node} 没有上级节点；请在本级答复或办结"


class VoiceNotHere(FailedPrecondition):
    message = "{voice} was not passed on to this level; it is handled where it stands"
    chinese = "{voice} 尚未转至本级；由目前所在层级处理"


class VoicePassedOn(FailedPrecondition):
    message = "{voice} was passed on from this level already; answer or close it here if need be"
    chinese = "{voice} 本级已上转；如有需要，可在本级答复或办结"


class VoiceAnswered(FailedPrecondition):
    message = "{voice} was answered at this level already; it can only be closed here"
    chinese = "{voice} 本级已答复；本级只能办结"


class VoiceClosed(FailedPrecondition):
    message = "{voice} was closed at this level; nothing more can be done about it here"
    chinese = "{voice} 本级已办结；本级不能再作处理"


class VoiceTextLost(FailedPrecondition):
    message = "the text of {voice} was lost in a restore; ask the member to raise it again"
    chinese = "{voice} 的原文在恢复备份时丢失；请会员重新提出"


class VoiceTextLength(InvalidArgument):
    field = "text"
    message = "a voice has 1 to 10000 characters, not {length}; send a longer one in parts"
    chinese = "诉求应为 1 至 10000 个字，而不是 {length} 个；更长的请分几次提出"


class AnswerTextLength(InvalidArgument):
    field = "text"
    message = "an answer to a member has 1 to 10000 characters, not {length}"
    chinese = "给会员的答复应为 1 至 10000 个字，而不是 {length} 个"


class VoiceReasonLength(InvalidArgument):
    field = "reason"
    message = "a reason that the member is told has 1 to 500 characters, not {length}"
    chinese = "告知会员的理由应为 1 至 500 个字，而不是 {length} 个"


class Action(IntEnum):
    """What a level can do about a voice, in the order in which it may, with the numbers of the
    contract."""

    PASSED_ON = 1
    ANSWERED = 2
    CLOSED = 3


class VoiceState(IntEnum):
    """How a voice stands, with the numbers of the contract."""

    WAITING = 1
    PASSED_ON = 2
    ANSWERED = 3
    CLOSED = 4
    ELSEWHERE = 5


_DONE = {
    Action.PASSED_ON: VoicePassedOn,
    Action.ANSWERED: VoiceAnswered,
    Action.CLOSED: VoiceClosed,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceRaised:
    voice: str
    organization: str
    occur_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceHandled:
    voice: str
    organization: str
    action: Action
    occur_time: datetime


Fact = VoiceRaised | VoiceHandled


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """Who handles a voice: an office, and no person."""

    node: UUID
    organization: UUID
    level: Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one level did."""

    id: UUID
    office: Office
    action: Action
    addressee: UUID | None = None
    """The node to which it was passed on."""
    text: str = ""
    """The answer or the reason; empty where it may not be read."""

    @property
    def handle_time(self) -> datetime:
        return time_of(self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """What one member said, and what was done about it."""

    id: UUID
    header: Header
    organization: UUID
    """Of the member."""
    commitment: str
    """64 hex digits: see `commitment_to`."""
    opening: str = ""
    """32 hex digits; empty where the text may not be read."""
    text: str = ""
    member: UUID | None = None
    """Known where it was raised."""
    steps: tuple[Step, ...] = ()
    """Those of the levels that it came to, from the first on: see `chained`."""

    @property
    def name(self) -> str:
        return f"voices/{self.id}"

    @property
    def raise_time(self) -> datetime:
        return time_of(self.id)

    @property
    def verbatim(self) -> bool:
        """Whether the text is what was raised."""
        return commitment_to(self.opening, self.text) == self.commitment

    @property
    def state(self) -> VoiceState:
        """The furthest of all steps."""
        return _state(self.steps)

    def state_at(self, node: UUID) -> VoiceState:
        """How it stands at the level of a node."""
        reached = {self.header.origin, *(step.addressee for step in self.steps)}
        if node not in reached:
            return VoiceState.ELSEWHERE
        return _state(step for step in self.steps if step.office.node == node)

    def without_texts(self) -> "Voice":
        """The voice as one who may read nothing of it sees it."""
        steps = tuple(replace(step, text="") for step in self.steps)
        return replace(self, text="", opening="", steps=steps)

    def with_texts_of(self, other: "Voice") -> "Voice":
        """This state of the voice, with the texts that another has."""
        texts = {step.id: step.text for step in other.steps}
        steps = tuple(replace(step, text=texts.get(step.id, "")) for step in self.steps)
        return replace(self, text=other.text, opening=other.opening, steps=steps)

    def check(self, action: Action, *, at: UUID) -> None:
        """Whether a node may do this.

        Raises:
            VoiceNotHere: if the voice was not passed on to it.
            VoicePassedOn, VoiceAnswered, VoiceClosed: if it has done this or more.
        """
        state = self.state_at(at)
        if state is VoiceState.ELSEWHERE:
            raise VoiceNotHere(voice=self.name)
        done = state - VoiceState.WAITING
        if done >= action:
            raise _DONE[Action(done)](voice=self.name)

    def pass_on(
        self, *, id: UUID, office: Office, addressee: UUID, reason: str
    ) -> tuple["Voice", Step, VoiceHandled]:
        """The voice, passed on to the level above, that step, and the fact to announce.

        Raises:
            VoiceReasonLength, TextCharacters: if the reason is not right.
            VoiceTextLost: if there is no text to pass on.
            VoiceNotHere and others: see `check`.
        """
        step = Step(
            id=id, office=office, action=Action.PASSED_ON, addressee=addressee,
            text=_reason(reason),
        )  # fmt: skip
        passed = self._with(step)
        if not self.verbatim:
            raise VoiceTextLost(voice=self.name)
        return passed

    def answer(self, *, id: UUID, office: Office, text: str) -> tuple["Voice", Step, VoiceHandled]:
        """The voice, answered, that step, and the fact to announce.

        Raises:
            AnswerTextLength, TextCharacters: if the answer is not right.
            VoiceNotHere and others: see `check`.
        """
        if not text.strip() or len(text) > MOST_TEXT_CHARACTERS:
            raise AnswerTextLength(length=len(text))
        check_characters(text, field="text", lines=True)
        return self._with(Step(id=id, office=office, action=Action.ANSWERED, text=text))

    def close(self, *, id: UUID, office: Office, reason: str) -> tuple["Voice", Step, VoiceHandled]:
        """The voice, closed, that step, and the fact to announce.

        Raises:
            VoiceReasonLength, TextCharacters: if the reason is not right.
            VoiceNotHere, VoiceClosed: see `check`.
        """
        return self._with(Step(id=id, office=office, action=Action.CLOSED, text=_reason(reason)))

    def _with(self, step: Step) -> tuple["Voice", Step, VoiceHandled]:
        self.check(step.action, at=step.office.node)
        fact = VoiceHandled(
            voice=self.name, organization=f"organizations/{step.office.organization}",
            action=step.action, occur_time=step.handle_time,
        )  # fmt: skip
        return replace(self, steps=chained(self.header.origin, [*self.steps, step])), step, fact


def raise_voice(
    *, id: UUID, header: Header, organization: UUID, member: UUID, text: str, opening: str
) -> tuple[Voice, VoiceRaised]:
    """A voice as a member raises it, and the fact to announce.

    Args:
        opening: 32 hex digits that nobody can guess.

    Raises:
        VoiceTextLength, TextCharacters: if the text is not right.
    """
    if not text.strip() or len(text) > MOST_TEXT_CHARACTERS:
        raise VoiceTextLength(length=len(text))
    check_characters(text, field="text", lines=True)
    voice = Voice(
        id=id, header=header, organization=organization, member=member, text=text,
        opening=opening, commitment=commitment_to(opening, text),
    )  # fmt: skip
    fact = VoiceRaised(
        voice=voice.name, organization=f"organizations/{organization}", occur_time=voice.raise_time
    )
    return voice, fact


def commitment_to(opening: str, text: str) -> str:
    """What binds a record to a text that it does not show: 64 hex digits.

    >>> commitment_to("00", "涨工资") == commitment_to("00", "涨工资 ")
    False
    """
    return hashlib.sha256(bytes.fromhex(opening) + text.encode()).hexdigest()


def chained(origin: UUID, steps: Iterable[Step]) -> tuple[Step, ...]:
    """The steps of the levels that a voice came to, in order.

    A level has a say when the one below has passed the voice on to it; what others say is not
    heard, whoever they are.

    Args:
        origin: the node where it was raised.
    """
    left, found = list(steps), list[Step]()
    node: UUID | None = origin
    while node is not None:
        own = sorted((step for step in left if step.office.node == node), key=_rank)
        left = [step for step in left if step.office.node != node]
        found += own
        node = next((step.addressee for step in own if step.action is Action.PASSED_ON), None)
    return tuple(found)


def _rank(step: Step) -> tuple[int, UUID]:
    return step.action, step.id


def _state(steps: Iterable[Step]) -> VoiceState:
    return VoiceState(max((step.action for step in steps), default=0) + VoiceState.WAITING)


def _reason(reason: str) -> str:
    told = reason.strip()
    if not 1 <= len(told) <= MOST_REASON_CHARACTERS:
        raise VoiceReasonLength(length=len(told))
    check_characters(told, field="reason", lines=True)
    return told
