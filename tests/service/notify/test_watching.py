"""Members who watch their inbox."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest

from kit.ids import uuid7
from kit.status import refused
from smartunion.notify.v1 import notify_pb2 as pb
from tests.service.notify.conftest import calling, make_settings, serving
from tests.service.notify.counter import Counter


@asynccontextmanager
async def watching(counter: Counter, member: str, **request: Any) -> AsyncIterator[Any]:
    """The responses to a member who watches."""
    asked = pb.WatchMyInboxRequest(**request)
    call = counter.stub(asked)(asked, metadata=counter.as_(member))
    try:
        yield call
    finally:
        call.cancel()


async def heard(call: Any) -> pb.WatchMyInboxResponse:
    """The next response that comes."""
    async with asyncio.timeout(10):
        answer = await call.read()
    assert isinstance(answer, pb.WatchMyInboxResponse)
    return answer


async def test_who_watches_is_told_what_is_unread_and_then_what_comes(notify: Counter) -> None:
    member = await notify.member()
    for title in "一二":
        await notify.post(title=title)
    async with watching(notify, member) as call:
        there = [await heard(call) for _ in range(3)]
        kinds = [pb.Message.WELCOME, pb.Message.NOTICE, pb.Message.NOTICE]
        assert [one.message.kind for one in there] == kinds
        assert [bool(one.resume_token) for one in there] == [False, False, True]
        await notify.post(title="邻", parent=notify.other_street)
        await notify.post(title="三", parent=notify.county)
        assert (await heard(call)).message.title == "三"


async def test_what_was_read_is_not_told_again(notify: Counter) -> None:
    member = await notify.member()
    for message in await notify.inbox(member):
        await notify.ask(pb.MarkReadRequest(name=message.name), by=member)
    async with watching(notify, member) as call:
        first = await heard(call)
        assert not first.HasField("message") and first.resume_token


async def test_who_asks_for_news_alone_is_not_told_what_is_there(notify: Counter) -> None:
    member = await notify.member()
    await notify.post(title="旧")
    async with watching(notify, member, from_now=True) as call:
        assert not (await heard(call)).HasField("message")
        await notify.post(title="新")
        assert (await heard(call)).message.title == "新"


async def test_who_goes_on_at_a_token_misses_nothing_that_was_committed_late(
    notify: Counter,
) -> None:
    member = await notify.member()
    early = await notify.post(title="先")
    async with notify.pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()  # A notice from above arrives, and takes its time to commit.
        await conn.execute(
            """
            INSERT INTO notices (origin, id, owner_epoch, version, hash, public, organization,
                                 expire_seconds)
            SELECT gen_random_uuid(), $1, owner_epoch, version, hash, public, organization,
                   expire_seconds FROM notices WHERE id = $2
            """,
            uuid7(), UUID(early.name.removeprefix("notices/")),
        )  # fmt: skip
        async with watching(notify, member, from_now=True) as call:
            await heard(call)
            await notify.post(title="后")
            later = await heard(call)
            assert later.message.title == "后"
        await transaction.commit()
    async with watching(notify, member, resume_token=later.resume_token) as call:
        titles = {(await heard(call)).message.title for _ in range(2)}
    assert titles == {"先", "后"}


async def test_a_foreign_token_is_refused(notify: Counter) -> None:
    member = await notify.member()
    node = notify.settings.node.hex[-8:]
    for token in ("x", "0.5", f"{node}.", f"{node}.-1", f"{node}.{2**62}", f"{node}." + "9" * 30):
        async with watching(notify, member, resume_token=token) as call:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call.read()
            told = refused(error.value)
            assert (told.reason, told.field) == ("INBOX_TOKEN_FOREIGN", "resume_token")


async def test_who_has_left_is_told_no_more(notify: Counter) -> None:
    member = await notify.member()
    async with watching(notify, member, from_now=True) as call:
        await heard(call)
        await notify.member(member=member, active=False)
        await notify.post()
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await heard(call)
        assert refused(error.value).reason == "NOT_A_MEMBER"


async def test_watching_ends_well_when_the_service_stops(
    postgres: str, notify_template: str, tmp_path: Path
) -> None:
    settings = await make_settings(postgres, notify_template, tmp_path)
    async with calling(settings) as counter, serving(settings) as stop:
        member = await counter.member()
        async with watching(counter, member, from_now=True) as call:
            await heard(call)
            for _ in range(2):  # It has nothing to do any more when the end comes.
                await counter.post()
                await heard(call)
            stop.set()
            assert await call.read() is grpc.aio.EOF
            assert await call.code() is grpc.StatusCode.OK
