"""Voices and notices between three levels: who reads what, and what comes back."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import grpc
import pytest

from kit import frames
from kit.records import CERTIFICATE
from kit.wire import CHANNEL_OPTIONS
from node.databases import as_owner
from node.proxy import Proxy
from smartunion.event.v1 import log_pb2
from smartunion.membership.v1 import membership_pb2
from smartunion.membership.v1.membership_pb2_grpc import MembershipServiceStub
from smartunion.notify.v1 import notify_pb2 as pb
from smartunion.sync.v1 import frame_pb2, sync_pb2
from tests.builders import a_roster
from tests.eventually import eventually
from tests.federation import nodes
from tests.federation.nodes import Node, plain
from tests.service.desk import Desk
from tests.service.notify.counter import Counter

HOME = "organizations/510104"
ROWS = 10_000
"""Of a roster, several frames of them."""
WORDS = "  三个月没发工资！\n请向上反映。 "


@dataclass
class Levels:
    """A province, a city below it, a county below that, and how their people call notify.

    The county has membership too, and reaches the city through a line that can be cut.
    """

    nodes: tuple[Node, Node, Node]
    line: Proxy
    province: Counter
    city: Counter
    county: Counter


@pytest.fixture(scope="module")
async def levels(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Levels]:
    folder = tmp_path_factory.mktemp("levels")
    province, city, county = made = (
        await nodes.make(postgres, folder / "51", "51", "province", services=("notify",)),
        await nodes.make(postgres, folder / "5101", "5101", "city", services=("notify",)),
        await nodes.make(
            postgres, folder / "510104", "510104", "county", services=("notify", "membership")
        ),
    )
    async with AsyncExitStack() as stack:
        line = await stack.enter_async_context(Proxy(city.addresses["sync"]))
        county.through = line.address
        await nodes.start_tree((province, None), (city, province), (county, city))
        counters = [await stack.enter_async_context(calling(node)) for node in made]
        yield Levels(made, line, *counters)
    for node in made:
        await node.stop()


def calling(node: Node) -> Any:
    """How people call notify of a node."""
    settings = node.settings_of("notify")

    class Calling(AsyncExitStack):
        async def __aenter__(self) -> Any:
            await super().__aenter__()
            channel = await self.enter_async_context(
                grpc.aio.insecure_channel(settings.listen, options=CHANNEL_OPTIONS)
            )
            await channel.channel_ready()
            pool = await self.enter_async_context(
                asyncpg.create_pool(as_owner(settings.database_url), min_size=1, max_size=2)
            )
            return Counter(settings, channel, pool, "510104", "510105")

    return Calling()


async def seen(counter: Counter, voice: str, check: Callable[[pb.Voice], bool]) -> pb.Voice:
    """A voice as a level sees it, once it looks so."""

    async def look() -> pb.Voice:
        found: pb.Voice = await counter.ask(pb.GetVoiceRequest(name=voice))
        assert check(found), found
        return found

    return await eventually(look)


async def passed_on(counter: Counter, voice: str, reason: str) -> pb.Voice:
    """The voice, passed on as soon as the key of the level above is known."""

    async def attempt() -> pb.Voice:
        answer: pb.Voice = await counter.ask(pb.PassOnVoiceRequest(name=voice, reason=reason))
        return answer

    return await eventually(attempt)


async def test_a_voice_is_read_as_far_as_it_was_passed_on_and_the_answer_comes_down(
    levels: Levels,
) -> None:
    county, city, province = levels.county, levels.city, levels.province
    member = await county.member()
    voice = (await county.raise_(WORDS, by=member)).name
    for above in (city, province):
        known = await seen(above, voice, lambda found: True)
        assert (known.text, known.verbatim, known.member) == ("", False, "")
        assert (known.state, known.state_here) == (pb.Voice.WAITING, pb.Voice.ELSEWHERE)
        told = await above.refusal(pb.AnswerVoiceRequest(name=voice, text="好"))
        assert (told.code, told.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION, "VOICE_NOT_HERE",
        )  # fmt: skip

    await passed_on(county, voice, "县里无权处理")
    here = await seen(city, voice, lambda found: found.state_here == pb.Voice.WAITING)
    assert (here.text, here.verbatim, here.member) == (WORDS, True, "")
    assert [(step.level, step.text) for step in here.steps] == [("county", "县里无权处理")]
    beyond = await seen(province, voice, lambda found: found.state == pb.Voice.PASSED_ON)
    assert (beyond.text, beyond.state_here) == ("", pb.Voice.ELSEWHERE)
    assert [step.text for step in beyond.steps] == [""]

    await passed_on(city, voice, "请省里协调")
    top = await seen(province, voice, lambda found: found.state_here == pb.Voice.WAITING)
    assert (top.text, top.verbatim) == (WORDS, True)
    assert [(step.level, step.text) for step in top.steps] == [
        ("county", ""), ("city", "请省里协调"),
    ]  # fmt: skip
    told = await province.refusal(pb.PassOnVoiceRequest(name=voice, reason="再上报"))
    assert (told.code, told.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_NODE_ABOVE")
    await province.answer(voice, "已责令补发，月底到账。")

    async def answered() -> None:
        found = [one for one in await county.inbox(member) if one.voice == voice]
        assert [one.text for one in found] == [
            "已责令补发，月底到账。", "请省里协调", "县里无权处理",
        ]  # fmt: skip
        mine = await county.ask(pb.GetMyVoiceRequest(name=voice), by=member)
        assert mine.state == pb.Voice.ANSWERED
        assert [step.level for step in mine.steps] == ["county", "city", "province"]

    await eventually(answered)
    between = await seen(city, voice, lambda found: found.state == pb.Voice.ANSWERED)
    assert [step.text for step in between.steps] == ["县里无权处理", "请省里协调", ""]
    back = await seen(county, voice, lambda found: found.state == pb.Voice.ANSWERED)
    assert back.steps[-1].text == "已责令补发，月底到账。"


async def test_what_an_erased_member_said_is_gone_as_far_up_as_it_was_passed_on(
    levels: Levels,
) -> None:
    county, city, province = levels.county, levels.city, levels.province
    async with at_desk(levels.nodes[2]) as desk:
        member = (await desk.approve(await desk.apply(9_000, parent=HOME))).member

        async def raised() -> str:
            return (await county.raise_(WORDS, by=member)).name

        voice = await eventually(raised)
        await passed_on(county, voice, "县里无权处理")
        await seen(city, voice, lambda found: found.text == WORDS)
        await passed_on(city, voice, "请省里协调")
        await seen(province, voice, lambda found: found.text == WORDS)
        await province.answer(voice, "已责令补发。")
        for above in (city, county):
            await seen(above, voice, lambda found: found.state == pb.Voice.ANSWERED)
        assert await texts(levels, voice) == [3, 2, 2]
        await desk.ask(membership_pb2.EndMembershipRequest(name=member))
        await desk.ask(membership_pb2.EraseMemberRequest(name=member, ground="PURPOSE_ENDED"))
    for level in (county, city, province):
        found = await seen(level, voice, lambda found: not found.text)
        assert (found.state, found.member) == (pb.Voice.ANSWERED, "")
        assert [step.level for step in found.steps] == ["county", "city", "province"]

    async def forgotten() -> None:
        assert await texts(levels, voice) == [0, 0, 0]

    await eventually(forgotten)


async def texts(levels: Levels, voice: str) -> list[int]:
    """How many texts about a voice can still be read at each level, from the county up."""
    found = []
    for counter in (levels.county, levels.city, levels.province):
        seen = await counter.ask(pb.GetVoiceRequest(name=voice))
        kept = await counter.pool.fetchval(
            """
            SELECT count(*) FROM handling_texts JOIN handlings ON id = handling WHERE voice = $1
            """,
            UUID(voice.partition("/")[2]),
        )
        readable = sum(1 for step in seen.steps if step.text)
        assert bool(kept) <= bool(readable)
        found.append(readable)
    return found


async def closed_at(node: Node) -> dict[str, tuple[int, int]]:
    """Of the voices that each level handled, how many it closed without an answer, as a node
    shows it."""
    async with node.sync_stub() as stub:
        answer = await stub.GetNetwork(
            sync_pb2.GetNetworkRequest(), metadata=node.token(), timeout=60
        )
    found = {(one.level, one.name): one.value for one in answer.levels}
    return {
        level: (found.get((level, "voices_closed_unanswered_here"), 0),
                found.get((level, "voices_handled_here"), 0))
        for level in ("province", "city", "county")
    }  # fmt: skip


async def test_the_top_sees_at_which_level_voices_are_closed_unanswered(levels: Levels) -> None:
    top = levels.nodes[0]
    before = await closed_at(top)
    voices = [(await levels.county.raise_()).name for _ in range(4)]
    await levels.county.close(voices[0])
    await levels.county.answer(voices[1])
    await levels.county.answer(voices[2])
    await levels.county.close(voices[2])
    await passed_on(levels.county, voices[3], "请市里协调")
    await seen(levels.city, voices[3], lambda found: found.state_here == pb.Voice.WAITING)
    await levels.city.close(voices[3])

    async def counted() -> None:
        after = await closed_at(top)
        more = {
            level: tuple(now - then for now, then in zip(after[level], before[level], strict=True))
            for level in before
        }
        assert more == {"county": (1, 4), "city": (1, 1), "province": (0, 0)}

    await eventually(counted)


async def test_a_notice_from_the_top_is_read_at_the_bottom_and_its_readers_add_up(
    levels: Levels,
) -> None:
    notice = await levels.province.post(parent="organizations/51", title="全省通知")
    name = notice.name.replace("notices/", "messages/")
    for counter, readers in ((levels.county, 2), (levels.city, 1)):
        members = [await counter.member() for _ in range(readers)]

        async def found(counter: Counter = counter, member: str = members[0]) -> None:
            assert "全省通知" in await counter.titles(member)

        await eventually(found)
        for member in members:
            await counter.ask(pb.MarkReadRequest(name=name), by=member)

    async def counted() -> None:
        for counter, expected in ((levels.county, 2), (levels.city, 3), (levels.province, 3)):
            found = await counter.ask(pb.GetNoticeRequest(name=notice.name))
            assert found.readers == expected

    await eventually(counted)


async def test_a_voice_overtakes_ten_thousand_rows_of_a_roster_that_wait(levels: Levels) -> None:
    _, city, county = levels.nodes
    await levels.line.cut()
    earlier = await stored(county, county, "membership", "records")
    async with at_desk(county) as desk:
        roster = await desk.bring(a_roster(desk.member_rows(range(ROWS))), parent=HOME)
    assert roster.admitted_rows == ROWS
    voice = UUID((await levels.county.raise_()).name.removeprefix("voices/"))

    async def queued() -> None:
        made = await stored(county, county, "membership", "records")
        assert len(made.keys() - earlier) == ROWS
        assert voice in await stored(county, county, "notify", "urgent")
        assert not (await stored(city, county, "membership", "records")).keys() - earlier

    await eventually(queued)
    await levels.line.heal()
    known = await seen(levels.city, f"voices/{voice}", lambda found: True)
    assert known.state == pb.Voice.WAITING

    async def arrived() -> dict[UUID, datetime]:
        rows = await stored(city, county, "membership", "records")
        assert len(rows.keys() - earlier) == ROWS
        return {id_: time for id_, time in rows.items() if id_ not in earlier}

    rows = await eventually(arrived)
    times = await stored(city, county, "notify", "urgent")
    late = sum(time > times[voice] for time in rows.values())
    assert late == ROWS, f"{ROWS - late} rows came before the voice"


@asynccontextmanager
async def at_desk(node: Node) -> AsyncIterator[Desk]:
    """Where an officer of a node brings rosters."""
    settings = node.settings_of("membership")
    async with (
        grpc.aio.insecure_channel(settings.listen, options=CHANNEL_OPTIONS) as channel,
        asyncpg.create_pool(as_owner(settings.database_url), min_size=1, max_size=1) as pool,
    ):
        await channel.channel_ready()
        yield Desk(settings, MembershipServiceStub(channel), pool, node.code, 0, channel)


async def stored(node: Node, origin: Node, service: str, channel: str) -> dict[UUID, datetime]:
    """The records that the frames of a stream bring, and when a node stored each frame."""
    conn = await plain(node.databases["sync"])
    rows = await conn.fetch(
        """
        SELECT body, store_time FROM frames
         WHERE origin = $1 AND service = $2 AND channel = $3 ORDER BY number
        """,
        origin.id, service, channel,
    )  # fmt: skip
    await conn.close()
    return {
        line.id: row["store_time"]
        for row in rows
        for line in frames.lines(frame_pb2.Frame.FromString(row["body"]))
        if line.kind != CERTIFICATE
    }


async def test_everything_is_proved_above_and_below(levels: Levels) -> None:
    province, city, county = levels.nodes

    async def proved() -> None:
        for origin in (city, county):
            streams = (await province.network())[origin.code].streams
            found = {one.proof.channel: one.proof for one in streams if one.service == "notify"}
            assert {"urgent", "records"} <= set(found)
            for proof in found.values():
                assert log_pb2.Verdict.Name(proof.verdict) == "COMPLETE", proof

    await eventually(proved)
