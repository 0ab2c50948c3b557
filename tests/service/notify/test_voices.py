"""The voice of a member: verbatim, read by those who may, and answered once."""

import asyncio
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest

from kit.authority import Role, Scope
from kit.sealing import FileKeys, Keyring
from services.notify.domain.voices import commitment_to
from services.notify.store.voices import Keys, Voices
from smartunion.notify.v1 import notify_pb2 as pb
from smartunion.notify.v1.records_pb2 import PublicVoice
from tests.eventually import eventually, waiting
from tests.offices import appoint
from tests.service.notify.counter import HOME, OFFICER, Counter

WORDS = "  工资三个月没发！\n\t请工会帮忙 — “谢谢” 👷\r\n"


async def test_a_voice_is_kept_verbatim_and_read_by_its_officers(notify: Counter) -> None:
    member = await notify.member()
    voice = await notify.raise_(WORDS, by=member)
    assert (voice.text, voice.verbatim, voice.member) == (WORDS, True, member)
    assert (voice.state, voice.state_here) == (pb.Voice.WAITING, pb.Voice.WAITING)
    assert voice.origin == f"nodes/{notify.settings.node}" and not voice.copy
    assert await notify.ask(pb.GetVoiceRequest(name=voice.name)) == voice
    assert await notify.ask(pb.GetMyVoiceRequest(name=voice.name), by=member) == voice
    listed = await notify.ask(pb.ListVoicesRequest(parent=notify.street))
    assert [one.name for one in listed.voices] == [voice.name]
    assert not listed.voices[0].text and not listed.voices[0].verbatim
    assert listed.voices[0].organization == voice.organization
    elsewhere = await notify.ask(pb.ListVoicesRequest(parent=notify.other_street))
    assert not elsewhere.voices


async def test_a_voice_that_is_raised_while_its_member_is_erased_says_nothing(
    notify: Counter,
) -> None:
    """Whichever of the two comes first, and whether the member has spoken before."""
    keyring = await Keyring.open(notify.pool, FileKeys(notify.settings.secrets / "data.key"))
    keys = Keys(keyring, b"")
    for spoken in (False, True):
        member = await notify.member()
        if spoken:
            await notify.raise_(by=member)
        async with notify.pool.acquire() as conn, conn.transaction():
            await Voices(conn, keys, notify.settings.node).forget_members([UUID(member[8:])])
            request = pb.RaiseVoiceRequest(text=WORDS)
            raising = asyncio.create_task(notify.refusal(request, by=member))
            await eventually(partial(waiting, conn, 1))
        assert (await raising).reason == "PERSON_ERASED"
        assert await left(notify, member) == (0, 0)


async def test_an_erasing_waits_for_a_voice_that_is_being_raised(notify: Counter) -> None:
    keyring = await Keyring.open(notify.pool, FileKeys(notify.settings.secrets / "data.key"))
    member = await notify.member()
    await notify.raise_(by=member)

    async def erase() -> None:
        async with notify.pool.acquire() as conn, conn.transaction():
            voices = Voices(conn, Keys(keyring, b""), notify.settings.node)
            await voices.forget_members([UUID(member[8:])])

    async with notify.pool.acquire() as conn, conn.transaction():
        await conn.execute("LOCK TABLE raisings IN SHARE MODE")
        raising = asyncio.create_task(notify.raise_(WORDS, by=member))
        await eventually(partial(waiting, conn, 1))
        erasing = asyncio.create_task(erase())
        await eventually(partial(waiting, conn, 2))
    await asyncio.gather(raising, erasing)
    assert await left(notify, member) == (0, 0)


async def left(notify: Counter, member: str) -> tuple[int, int]:
    """What a member said, and the keys that would open it."""
    count = "SELECT count(*) FROM raisings WHERE member = $1"
    keys = "SELECT count(wrapped) FROM data_keys WHERE id = $1"
    of = UUID(member[8:])
    return await notify.pool.fetchval(count, of), await notify.pool.fetchval(keys, of)


async def test_a_method_that_forgets_its_scope_tells_nobody_else_what_a_voice_says(
    notify: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    voice, sibling = await notify.raise_(WORDS, by=await notify.member()), f"officers/{uuid4()}"
    async with notify.pool.acquire() as conn:
        await appoint(conn, notify.settings.node, sibling, notify.other_code, Role.RIGHTS)
    asked = pb.GetVoiceRequest(name=voice.name)

    async def outside() -> None:
        assert (await notify.refusal(asked, by=sibling)).reason == "OUTSIDE_SCOPE"

    await eventually(outside)

    def forget(scope: Scope, path: str | None) -> None:
        scope.decided[""] = ""

    monkeypatch.setattr(Scope, "check", forget)
    assert (await notify.ask(asked)).text == WORDS
    shown = await notify.ask(asked, by=sibling)
    assert shown.name == voice.name and not shown.text


async def test_what_a_voice_says_stands_nowhere_in_clear_text(notify: Counter) -> None:
    secret = f"机密{uuid4().hex}"
    member = await notify.member()
    voice = await notify.raise_(secret, by=member)
    answered = await notify.answer(voice.name, f"答{secret}")
    assert answered.steps[0].text == f"答{secret}"

    async def announced() -> None:
        assert await notify.pool.fetchval(
            "SELECT count(*) FROM entries WHERE id = $1", UUID(voice.name[7:])
        )

    await eventually(announced)
    for table in await notify.pool.fetch(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    ):
        name = table["table_name"]
        for row in await notify.pool.fetch(f'SELECT * FROM "{name}"'):
            for value in row.values():
                assert secret not in str(value), name
                if isinstance(value, bytes):
                    assert secret.encode() not in value, name
                    told = name in ("raisings", "handling_texts", "reads", "roll", "calls")
                    assert told or UUID(member[8:]).bytes not in value, name


async def test_the_record_commits_to_the_text_and_lets_nobody_try_texts(notify: Counter) -> None:
    one, other = [await notify.raise_("涨工资") for _ in range(2)]
    rows = await notify.pool.fetch(
        "SELECT public FROM voices WHERE id = ANY ($1)",
        [UUID(voice.name[7:]) for voice in (one, other)],
    )
    commitments = {PublicVoice.FromString(row["public"]).commitment for row in rows}
    assert len(commitments) == 2
    for row in rows:
        public = PublicVoice.FromString(row["public"])
        for salt in (public.salt, b"", bytes(16)):
            assert commitment_to(salt.hex(), "涨工资") != public.commitment.hex()


async def test_every_step_is_announced_once_and_in_order(notify: Counter) -> None:
    voice = await notify.raise_()
    await notify.answer(voice.name)
    await notify.close(voice.name)

    async def announced() -> None:
        rows = await notify.pool.fetch(
            """
            SELECT event_type FROM entries WHERE channel = 'urgent'
               AND (id = $1 OR id IN (SELECT id FROM handlings WHERE voice = $1)) ORDER BY number
            """,
            UUID(voice.name[7:]),
        )
        assert [row["event_type"].rpartition(".")[2] for row in rows] == [
            "VoiceRaised", "VoiceAnswered", "VoiceClosed",
        ]  # fmt: skip

    await eventually(announced)


async def test_the_member_finds_every_step_in_the_inbox_and_nobody_else_does(
    notify: Counter,
) -> None:
    member, other = await notify.member(), await notify.member()
    voice = await notify.raise_(by=member)
    await notify.answer(voice.name, "已与食堂协商。")
    await notify.close(voice.name, "会员满意")
    found = [one for one in await notify.inbox(member) if one.kind == pb.Message.VOICE]
    assert [one.text for one in found] == ["会员满意", "已与食堂协商。"]
    assert all(one.voice == voice.name and one.unread for one in found)
    assert not [one for one in await notify.inbox(other) if one.kind == pb.Message.VOICE]
    await notify.ask(pb.MarkReadRequest(name=found[0].name), by=member)
    told = await notify.refusal(pb.MarkReadRequest(name=found[0].name), by=other)
    assert told.reason == "MESSAGE_NOT_FOUND"
    mine = await notify.ask(pb.ListMyVoicesRequest(), by=member)
    assert [step.text for step in mine.voices[0].steps] == ["已与食堂协商。", "会员满意"]
    assert (mine.voices[0].text, mine.voices[0].state) == ("食堂太贵。", pb.Voice.CLOSED)


async def test_who_watches_is_told_of_an_answer_at_once(notify: Counter) -> None:
    member = await notify.member()
    voice = await notify.raise_(by=member)
    request = pb.WatchMyInboxRequest(from_now=True)
    call = notify.stub(request)(request, metadata=notify.as_(member))
    async with asyncio.timeout(10):
        await call.read()
        await notify.answer(voice.name, "好的")
        told = await call.read()
    assert told.message.text == "好的"
    call.cancel()


async def test_no_member_reads_the_voice_of_another(notify: Counter) -> None:
    voice = await notify.raise_()
    other = await notify.member()
    told = await notify.refusal(pb.GetMyVoiceRequest(name=voice.name), by=other)
    absent = await notify.refusal(pb.GetMyVoiceRequest(name=f"voices/{uuid4()}"), by=other)
    assert (told.code, told.reason) == (grpc.StatusCode.NOT_FOUND, "VOICE_NOT_FOUND")
    assert told.text.replace(voice.name, "") == absent.text.replace(
        absent.metadata["voice"] if absent.metadata else "", ""
    )
    assert not (await notify.ask(pb.ListMyVoicesRequest(), by=other)).voices
    for request in (pb.GetVoiceRequest(name=voice.name), pb.ListVoicesRequest(parent=HOME)):
        assert (await notify.refusal(request, by=other)).reason == "NO_OFFICE"
    for mine in (pb.RaiseVoiceRequest(text="x"), pb.ListMyVoicesRequest()):
        assert (await notify.refusal(mine)).reason == "ACCESS_DENIED"
        stranger = await notify.refusal(mine, by=f"members/{uuid4()}")
        assert stranger.reason == "NOT_A_MEMBER"


async def test_a_level_goes_forward_only(notify: Counter) -> None:
    voice = (await notify.raise_()).name
    answered = await notify.answer(voice)
    assert (answered.state, answered.state_here) == (pb.Voice.ANSWERED, pb.Voice.ANSWERED)
    for request in (
        pb.AnswerVoiceRequest(name=voice, text="又"),
        pb.PassOnVoiceRequest(name=voice, reason="又"),
    ):
        told = await notify.refusal(request)
        assert (told.code, told.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION, "VOICE_ANSWERED",
        )  # fmt: skip
        assert "已答复" in told.chinese
    await notify.close(voice)
    for late in (
        pb.AnswerVoiceRequest(name=voice, text="又"),
        pb.CloseVoiceRequest(name=voice, reason="又"),
        pb.PassOnVoiceRequest(name=voice, reason="又"),
    ):
        assert (await notify.refusal(late)).reason == "VOICE_CLOSED"


async def test_officers_list_what_waits(notify: Counter) -> None:
    names = [(await notify.raise_()).name for _ in range(4)]
    await notify.answer(names[0])
    await notify.close(names[1])

    async def listed(state: Any, **page: Any) -> list[str]:
        request = pb.ListVoicesRequest(parent=notify.county, state_here=state, **page)
        return [voice.name for voice in (await notify.ask(request)).voices]

    assert await listed(pb.Voice.STATE_UNSPECIFIED) == names
    assert await listed(pb.Voice.WAITING) == names[2:]
    assert await listed(pb.Voice.ANSWERED) == names[:1]
    assert await listed(pb.Voice.CLOSED) == names[1:2]
    assert await listed(pb.Voice.ELSEWHERE) == []
    assert await listed(pb.Voice.WAITING, page_size=1) == names[2:3]
    told = await notify.refusal(pb.ListVoicesRequest(parent=notify.county, state_here=9))  # type: ignore[arg-type]
    assert told.reason == "ENUM_NUMBER_UNKNOWN"


async def test_a_double_click_gets_the_first_answer(notify: Counter) -> None:
    member = await notify.member()
    raising = pb.RaiseVoiceRequest(text="x", request_id=str(uuid4()))
    voices = await asyncio.gather(*(notify.ask(raising, by=member) for _ in range(4)))
    assert len({voice.name for voice in voices}) == 1
    answering = pb.AnswerVoiceRequest(name=voices[0].name, text="好", request_id=str(uuid4()))
    answers = await asyncio.gather(*(notify.ask(answering) for _ in range(4)))
    assert all(answer == answers[0] for answer in answers)
    assert len(answers[0].steps) == 1
    closings = [pb.CloseVoiceRequest(name=voices[0].name, reason="好") for _ in range(4)]
    closed = await asyncio.gather(*map(notify.ask, closings), return_exceptions=True)
    assert sum(isinstance(one, pb.Voice) for one in closed) == 1


@pytest.mark.parametrize(
    ("request_", "reason", "field"),
    [
        (pb.RaiseVoiceRequest(text=""), "VOICE_TEXT_LENGTH", "text"),
        (pb.RaiseVoiceRequest(text=" \n"), "VOICE_TEXT_LENGTH", "text"),
        (pb.RaiseVoiceRequest(text="字" * 10_001), "VOICE_TEXT_LENGTH", "text"),
        (pb.RaiseVoiceRequest(text="\0"), "TEXT_CHARACTERS", "text"),
        (pb.AnswerVoiceRequest(text=""), "ANSWER_TEXT_LENGTH", "text"),
        (pb.AnswerVoiceRequest(text="\x1b"), "TEXT_CHARACTERS", "text"),
        (pb.CloseVoiceRequest(reason=" "), "VOICE_REASON_LENGTH", "reason"),
        (pb.CloseVoiceRequest(reason="因" * 501), "VOICE_REASON_LENGTH", "reason"),
        (pb.CloseVoiceRequest(name="voices/1", reason="因"), "NAME_MALFORMED", "name"),
        (pb.GetVoiceRequest(name=f"voices/{uuid4()}"), "VOICE_NOT_FOUND", ""),
    ],
)
async def test_what_is_wrong_is_said(
    notify: Counter, request_: Any, reason: str, field: str
) -> None:
    raising = isinstance(request_, pb.RaiseVoiceRequest)
    if not raising and not request_.name:
        request_.name = (await notify.raise_()).name
    told = await notify.refusal(request_, by=await notify.member() if raising else OFFICER)
    assert (told.reason, told.field) == (reason, field)


async def test_nothing_but_passing_on_needs_the_keys_of_others(notify: Counter) -> None:
    voice = (await notify.raise_("字" * 10_000)).name
    told = await notify.refusal(pb.PassOnVoiceRequest(name=voice, reason="请省里协调"))
    assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, "KEYS_AWAY")
    assert (await notify.answer(voice)).state == pb.Voice.ANSWERED
