"""Voices and notices between three levels: who reads what, and what comes back."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc
import pytest

from kit.headers import Header
from kit.ids import uuid7
from kit.log import Outbox
from kit.rpc import CHANNEL_OPTIONS
from services.notify import events
from services.notify.domain.notices import ReadCount, count_id
from smartunion.event.v1 import log_pb2
from smartunion.notify.v1 import notify_pb2 as pb
from smartunion.sync.v1 import sync_pb2
from tests.eventually import eventually
from tests.federation import nodes
from tests.federation.nodes import Node
from tests.service.notify.counter import Counter

WAITING = 6_000
"""Records, several frames of them."""
WORDS = "  三个月没发工资！\n请向上反映。 "


@dataclass
class Levels:
    """A province, a city below it, a county below that, and how their people call notify."""

    nodes: tuple[Node, Node, Node]
    province: Counter
    city: Counter
    county: Counter


@pytest.fixture(scope="module")
async def levels(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Levels]:
    folder, made, above = tmp_path_factory.mktemp("levels"), list[Node](), None
    for code, level in (("51", "province"), ("5101", "city"), ("510104", "county")):
        node = await nodes.make(postgres, folder / level, code, level, service="notify")
        if above is not None:
            await nodes.join(node, above)
        await node.start()
        if above is not None:
            await nodes.confirm(node, above)
        made.append(node)
        above = node
    async with AsyncExitStack() as stack:
        counters = [await stack.enter_async_context(calling(node)) for node in made]
        yield Levels((made[0], made[1], made[2]), *counters)
    for node in made:
        await node.stop()


def calling(node: Node) -> Any:
    """How people call notify of a node."""
    settings = node.notify_settings()

    class Calling(AsyncExitStack):
        async def __aenter__(self) -> Any:
            await super().__aenter__()
            channel = await self.enter_async_context(
                grpc.aio.insecure_channel(settings.listen, options=CHANNEL_OPTIONS)
            )
            await channel.channel_ready()
            pool = await self.enter_async_context(
                asyncpg.create_pool(settings.database_url, min_size=1, max_size=2)
            )
            return Counter(settings, channel, pool, "510104", "510105")

    return Calling()


async def seen(counter: Counter, voice: str, check: Callable[[pb.Voice], bool]) -> pb.Voice:
    """A voice as a level sees it, once it looks so."""

    async def look() -> pb.Voice:
        found: pb.Voice = await counter.ask(pb.GetVoiceRequest(name=voice))
        assert check(found), found
        return found

    return await eventually(look, within=20)


async def passed_on(counter: Counter, voice: str, reason: str) -> pb.Voice:
    """The voice, passed on as soon as the key of the level above is known."""

    async def attempt() -> pb.Voice:
        answer: pb.Voice = await counter.ask(pb.PassOnVoiceRequest(name=voice, reason=reason))
        return answer

    return await eventually(attempt, within=20)


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

    await eventually(answered, within=20)
    between = await seen(city, voice, lambda found: found.state == pb.Voice.ANSWERED)
    assert [step.text for step in between.steps] == ["县里无权处理", "请省里协调", ""]
    back = await seen(county, voice, lambda found: found.state == pb.Voice.ANSWERED)
    assert back.steps[-1].text == "已责令补发，月底到账。"


async def closed_at(node: Node) -> dict[str, tuple[int, int]]:
    """Of the voices that each level handled, how many it closed without an answer, as a node
    shows it."""
    async with node.sync_stub() as stub:
        answer = await stub.GetNetwork(
            sync_pb2.GetNetworkRequest(), metadata=node.token(), timeout=5
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

    await eventually(counted, within=20)


async def test_a_notice_from_the_top_is_read_at_the_bottom_and_its_readers_add_up(
    levels: Levels,
) -> None:
    notice = await levels.province.post(parent="organizations/51", title="全省通知")
    name = notice.name.replace("notices/", "messages/")
    for counter, readers in ((levels.county, 2), (levels.city, 1)):
        members = [await counter.member() for _ in range(readers)]

        async def found(counter: Counter = counter, member: str = members[0]) -> None:
            assert "全省通知" in await counter.titles(member)

        await eventually(found, within=20)
        for member in members:
            await counter.ask(pb.MarkReadRequest(name=name), by=member)

    async def counted() -> None:
        for counter, expected in ((levels.county, 2), (levels.city, 3), (levels.province, 3)):
            found = await counter.ask(pb.GetNoticeRequest(name=notice.name))
            assert found.readers == expected

    await eventually(counted, within=20)


async def test_a_voice_overtakes_thousands_of_records_that_wait(levels: Levels) -> None:
    county, city = levels.county, levels.city
    await levels.nodes[2].stop("sync")
    node, at = levels.nodes[2].id, datetime.now(UTC)
    changes = []
    for _ in range(WAITING):
        notice = uuid7()
        count, fact = ReadCount(
            id=count_id(notice, node), header=Header(origin=node, salt=uuid4().hex),
            notice=notice, notice_origin=node, readers=0,
        ).count(1, at=at)  # fmt: skip
        changes.append(events.count_change(count, fact))
    async with county.pool.acquire() as conn, conn.transaction():
        await conn.copy_records_to_table(
            "read_counts",
            records=[
                (node, one.id, 1, 1, one.hash, one.public, *events.READ_COUNTS.parse(one.public))
                for one in changes
            ],
        )
        await Outbox(conn).put(*changes)
    voice = (await county.raise_()).name
    await levels.nodes[2].start("sync")

    async def arrived() -> None:
        assert await city.pool.fetchval(
            "SELECT count(*) FROM read_counts WHERE origin = $1", node
        ) >= WAITING  # fmt: skip

    await eventually(arrived, within=60)
    order = await city.pool.fetchval(
        """
        SELECT (SELECT xmin FROM voices WHERE id = $1)::text::bigint
               < (SELECT max(xmin::text::bigint) FROM read_counts WHERE origin = $2)
        """,
        UUID(voice[7:]), node,
    )  # fmt: skip
    assert order, "the voice came after all the records"


async def test_everything_is_proved_above_and_below(levels: Levels) -> None:
    province, city, county = levels.nodes

    async def proved() -> None:
        for origin in (city, county):
            streams = (await province.network())[origin.code].streams
            found = {one.proof.channel: one.proof for one in streams if one.service == "notify"}
            assert {"urgent", "records"} <= set(found)
            for proof in found.values():
                assert log_pb2.Verdict.Name(proof.verdict) == "COMPLETE", proof

    await eventually(proved, within=30)
