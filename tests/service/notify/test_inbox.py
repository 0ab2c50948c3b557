"""Notices, and the inboxes in which members find them."""

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest

from kit.ids import first_uuid7, time_of
from kit.organizations import organization_id
from services.membership.config import Settings as MembershipSettings
from services.notify.domain.notices import count_id
from smartunion.notify.v1 import notify_pb2 as pb
from smartunion.notify.v1.records_pb2 import PublicNotice, PublicReadCount
from tests.callers import OF_A_NODE
from tests.eventually import eventually
from tests.service.desk import Desk
from tests.service.notify.conftest import calling, make_settings, serving
from tests.service.notify.counter import HOME, Counter, in_days


async def test_a_notice_reaches_the_members_of_its_subtree_and_nobody_else(
    notify: Counter,
) -> None:
    here, beside = await notify.member(), await notify.member(notify.other_code)
    for title, parent in (
        ("省", HOME), ("县", notify.county), ("街道", notify.street), ("邻", notify.other_street),
    ):  # fmt: skip
        await notify.post(title=title, parent=parent)
    assert (await notify.titles(here))[:3] == ["街道", "县", "省"]
    assert (await notify.titles(beside))[:3] == ["邻", "县", "省"]
    await notify.pool.execute("DELETE FROM notices WHERE organization = $1", organization_id("51"))


async def test_a_notice_costs_one_row_however_many_are_addressed(notify: Counter) -> None:
    for _ in range(5):
        await notify.member()
    notice = await notify.post()
    tables = await notify.pool.fetch("SELECT table_name FROM information_schema.tables")
    assert not any("messages" in row["table_name"] for row in tables)
    found = await notify.pool.fetchval(
        "SELECT count(*) FROM notices WHERE id = $1", UUID(notice.name.removeprefix("notices/"))
    )
    assert found == 1
    assert await notify.pool.fetchval("SELECT count(*) FROM reads WHERE message = $1",
                                      UUID(notice.name.removeprefix("notices/"))) == 0  # fmt: skip


async def test_a_notice_can_be_read_again_by_officers(notify: Counter) -> None:
    notice = await notify.post(title="  体检  ")
    assert (notice.title, notice.text) == ("体检", "放假五天。\n请注意安全。")
    assert notice.origin == f"nodes/{notify.settings.node}" and not notice.copy
    assert await notify.ask(pb.GetNoticeRequest(name=notice.name)) == notice
    listed = await notify.ask(pb.ListNoticesRequest(parent=notify.county))
    assert listed.notices[0] == notice
    assert not (await notify.ask(pb.ListNoticesRequest(parent=notify.other_street))).notices
    told = await notify.refusal(pb.GetNoticeRequest(name=f"notices/{uuid4()}"))
    assert (told.code, told.reason) == (grpc.StatusCode.NOT_FOUND, "NOTICE_NOT_FOUND")


async def test_a_notice_is_announced_once(notify: Counter) -> None:
    request = notify.a_notice()
    first = await notify.ask(request)
    assert await notify.ask(request) == first

    async def announced() -> None:
        rows = await notify.pool.fetch(
            "SELECT event_type FROM entries WHERE id = $1",
            UUID(first.name.removeprefix("notices/")),
        )
        assert [row["event_type"] for row in rows] == ["smartunion.notify.v1.NoticeCreated"]

    await eventually(announced)
    request.notice.title = "另一个"
    assert (await notify.refusal(request)).reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    ("notice", "reason", "field"),
    [
        ({"title": " "}, "NOTICE_TITLE_LENGTH", "notice.title"),
        ({"title": "题" * 101}, "NOTICE_TITLE_LENGTH", "notice.title"),
        ({"title": "两\n行"}, "TEXT_CHARACTERS", "notice.title"),
        ({"text": " \n"}, "NOTICE_TEXT_LENGTH", "notice.text"),
        ({"text": "a" * 100_000}, "NOTICE_TEXT_LENGTH", "notice.text"),
        ({"text": "空\0"}, "TEXT_CHARACTERS", "notice.text"),
        ({"expire_time": None}, "EXPIRE_TIME_OUT_OF_RANGE", "notice.expire_time"),
        ({"expire_time": in_days(-1)}, "EXPIRE_TIME_OUT_OF_RANGE", "notice.expire_time"),
        ({"expire_time": in_days(367)}, "EXPIRE_TIME_OUT_OF_RANGE", "notice.expire_time"),
        ({"parent": "organizations/51xx"}, "ORGANIZATION_NAME_MALFORMED", "parent"),
        ({"request_id": "1"}, "REQUEST_ID_MALFORMED", "request_id"),
    ],
)
async def test_what_is_wrong_with_a_notice_is_said(
    notify: Counter, notice: dict[str, Any], reason: str, field: str
) -> None:
    told = await notify.refusal(notify.a_notice(**notice))
    assert (told.code, told.reason, told.field) == (
        grpc.StatusCode.INVALID_ARGUMENT, reason, field,
    )  # fmt: skip


async def test_a_notice_of_20000_characters_is_taken_and_listed_fifty_times(
    notify: Counter,
) -> None:
    member = await notify.member()
    for _ in range(50):
        await notify.post(text="字" * 20_000)
    assert len(await notify.inbox(member, page_size=50)) == 50
    told = await notify.refusal(pb.ListMyMessagesRequest(page_size=51), by=member)
    assert told.reason == "PAGE_SIZE_OUT_OF_RANGE"


async def test_no_notice_is_addressed_above_the_node(notify: Counter) -> None:
    told = await notify.refusal(notify.a_notice(parent="organizations/0"))
    assert told.reason == "OUTSIDE_SCOPE"
    told = await notify.refusal(notify.a_notice(parent="organizations/44"))
    assert told.reason == "ORGANIZATION_NOT_FOUND"


async def test_an_expired_notice_leaves_the_inbox_and_stays_for_officers(notify: Counter) -> None:
    member, notice = await notify.member(), await notify.post()
    assert await notify.titles(member)
    await notify.pool.execute(
        "UPDATE notices SET expire_seconds = 1 WHERE id = $1",
        UUID(notice.name.removeprefix("notices/")),
    )
    assert not [one for one in await notify.inbox(member) if one.name.endswith(notice.name[8:])]
    assert await notify.ask(pb.GetNoticeRequest(name=notice.name)) == notice


async def test_pages_show_every_message_once_newest_first(notify: Counter) -> None:
    member = await notify.member()
    for title in "一二三四五":
        await notify.post(title=title)
    shown, token = list[str](), ""
    while len(shown) < 5:
        page = await notify.ask(pb.ListMyMessagesRequest(page_size=2, page_token=token), by=member)
        shown += [message.title for message in page.messages]
        token = page.next_page_token
    assert shown[:5] == list("五四三二一")
    told = await notify.refusal(pb.ListMyMessagesRequest(page_token="x"), by=member)
    assert told.reason == "PAGE_TOKEN_FOREIGN"


async def test_every_new_member_is_welcomed_without_a_write(notify: Counter) -> None:
    member = await notify.member()
    await notify.post()
    newest, welcome = (await notify.inbox(member))[:2]
    assert (newest.kind, welcome.kind) == (pb.Message.NOTICE, pb.Message.WELCOME)
    assert welcome.unread and "工会" in welcome.title
    assert welcome.create_time.ToDatetime() == time_of(UUID(member[8:])).replace(tzinfo=None)
    assert not await notify.pool.fetchval("SELECT true FROM reads WHERE member = $1",
                                          UUID(member[8:]))  # fmt: skip


async def test_the_nearest_welcome_that_held_at_the_admission_counts(notify: Counter) -> None:
    old = await notify.member()
    at = time_of(UUID(old[8:])) + timedelta(milliseconds=1)
    await notify.pool.execute(
        """
        INSERT INTO welcomes SELECT id, $2, '街道欢迎您', '您好', 'test'
          FROM organizations WHERE code = $1
        """,
        notify.code, at,
    )  # fmt: skip

    async def welcome(member: str) -> str:
        kind = pb.Message.WELCOME
        return next(one.title for one in await notify.inbox(member) if one.kind == kind)

    new = await notify.member(member=f"members/{first_uuid7(at + timedelta(seconds=1))}")
    assert [await welcome(member) for member in (old, new)] == ["欢迎加入工会", "街道欢迎您"]


async def test_what_is_read_stays_read_for_its_reader_alone(notify: Counter) -> None:
    reader, other = await notify.member(), await notify.member()
    notice = await notify.post()
    name = notice.name.replace("notices/", "messages/")
    for _ in range(2):
        message = await notify.ask(pb.MarkReadRequest(name=name), by=reader)
        assert (message.name, message.unread) == (name, False)
    assert not (await notify.inbox(reader))[0].unread
    assert (await notify.inbox(other))[0].unread


async def test_nobody_marks_what_is_not_in_their_inbox(notify: Counter) -> None:
    member = await notify.member()
    beside = await notify.post(parent=notify.other_street)
    for name in (beside.name.replace("notices/", "messages/"), f"messages/{uuid4()}"):
        told = await notify.refusal(pb.MarkReadRequest(name=name), by=member)
        assert (told.code, told.reason) == (grpc.StatusCode.NOT_FOUND, "MESSAGE_NOT_FOUND")
    other = await notify.member()
    welcome = f"messages/{other[8:]}"
    assert (await notify.refusal(pb.MarkReadRequest(name=welcome), by=member)).reason == (
        "MESSAGE_NOT_FOUND"
    )
    told = await notify.refusal(pb.MarkReadRequest(name=beside.name), by=member)
    assert (told.reason, told.field) == ("NAME_MALFORMED", "name")


async def test_an_inbox_is_open_to_active_members_of_this_node_alone(notify: Counter) -> None:
    left = await notify.member()
    await notify.member(member=left, active=False)
    for name in (left, f"members/{uuid4()}"):
        told = await notify.refusal(pb.ListMyMessagesRequest(), by=name)
        assert (told.code, told.reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_A_MEMBER")
    for name in ("officers/li-na", "merchants/x", "services/sync"):
        told = await notify.refusal(pb.ListMyMessagesRequest(), by=name)
        assert told.reason == "ACCESS_DENIED"
    told = await notify.refusal(notify.a_notice(), by=await notify.member())
    assert told.reason == "NO_OFFICE"


async def test_readers_are_counted_here_and_below_and_add_up(notify: Counter) -> None:
    notice = await notify.post()
    name, id_ = notice.name.replace("notices/", "messages/"), UUID(notice.name[8:])
    readers = [await notify.member() for _ in range(3)]
    for reader in [*readers, readers[0]]:
        await notify.ask(pb.MarkReadRequest(name=name), by=reader)
    for below in (4, 0):
        section = PublicReadCount(
            notice=id_.bytes, notice_origin=notify.settings.node.bytes, readers=below
        )
        await notify.copy("read_counts", section, origin=uuid4())

    async def counted() -> None:
        found = await notify.ask(pb.GetNoticeRequest(name=notice.name))
        assert found.readers == 7

    await eventually(counted)

    async def announced() -> None:
        rows = await notify.pool.fetch(
            "SELECT public, event_type FROM entries WHERE id = $1",
            count_id(id_, notify.settings.node),
        )
        assert {row["event_type"] for row in rows} == {"smartunion.notify.v1.MessageRead"}
        for reader in readers:
            assert not [row for row in rows if UUID(reader[8:]).bytes in row["public"]]

    await eventually(announced)


async def test_a_notice_from_above_is_found_here_and_its_readers_counted_here(
    notify: Counter,
) -> None:
    member, nation = await notify.member(), uuid4()
    section = PublicNotice(
        organization=organization_id("0").bytes, expire_seconds=in_days(9).seconds,
        title="全国通知", text="正文",
    )  # fmt: skip
    id_ = await notify.copy("notices", section, origin=nation)
    assert (await notify.inbox(member))[0].title == "全国通知"
    await notify.ask(pb.MarkReadRequest(name=f"messages/{id_}"), by=member)

    async def counted() -> None:
        found = await notify.ask(pb.GetNoticeRequest(name=f"notices/{id_}"))
        assert (found.readers, found.copy, found.origin) == (1, True, f"nodes/{nation}")

    await eventually(counted)
    row = await notify.pool.fetchrow(
        "SELECT notice_origin, readers FROM read_counts WHERE notice = $1", id_
    )
    assert row is not None and tuple(row) == (nation, 1)
    await notify.pool.execute("DELETE FROM notices WHERE id = $1", id_)


async def test_who_is_approved_at_membership_finds_a_welcome_and_the_notices(
    membership: Desk,
    shared: MembershipSettings,
    postgres: str,
    notify_template: str,
    tmp_path: Path,
) -> None:
    alone = await make_settings(postgres, notify_template, tmp_path)
    peers = {**alone.peers, "membership": shared.listen}
    same = shared.model_dump(include=OF_A_NODE)
    settings = alone.model_copy(update={**same, "peers": peers})
    async with calling(settings) as counter, serving(settings):
        approved = await membership.approve(await membership.apply(1))
        notice = await eventually(partial(counter.post, parent=membership.street))

        async def welcomed() -> None:
            found = await counter.inbox(approved.member)
            assert [one.title for one in found] == [notice.title, "欢迎加入工会"]

        await eventually(welcomed)
