"""Rosters: from a spreadsheet to members, whatever the spreadsheet looks like."""

import asyncio
from uuid import uuid4

import grpc
import pytest

from kit.status import refused
from node import ports
from smartunion.membership.v1 import membership_pb2 as pb
from tests.builders import HEADER, a_roster, sha256
from tests.offices import DEPUTY
from tests.service.conftest import serving
from tests.service.desk import Desk, upload_parts

UPLOADING, PREVIEWED = pb.Roster.UPLOADING, pb.Roster.PREVIEWED
DONE, REFUSED = pb.Roster.DONE, pb.Roster.REFUSED


def outcomes(roster: pb.Roster) -> tuple[int, int, int, int]:
    return (
        roster.admitted_rows, roster.applied_rows, roster.unchanged_rows, roster.refused_rows,
    )  # fmt: skip


async def test_who_was_approved_is_a_member_and_who_was_not_applies(membership: Desk) -> None:
    content = a_roster(membership.member_rows(range(3)) + membership.applicant_rows([3]))
    roster = await membership.bring(content)
    assert (roster.state, roster.total_rows, roster.done_rows) == (DONE, 4, 4)
    assert outcomes(roster) == (3, 1, 0, 0)

    rows = await membership.rows(roster)
    assert [row.line for row in rows] == [2, 3, 4, 5]
    member = await membership.ask(pb.GetMemberRequest(name=rows[0].record))
    assert (member.approval_date, member.person.full_name[:2]) == ("2025-03-08", "张三")
    assert member.approval_number.startswith("川工发")
    application = await membership.ask(pb.GetApplicationRequest(name=rows[3].record))
    assert application.state == pb.Application.PENDING
    found = await membership.ask(pb.ListMembersRequest(parent=membership.county))
    assert len(found.members) == 3


async def test_the_same_file_twice_changes_nothing(membership: Desk) -> None:
    content = a_roster(membership.member_rows(range(3)) + membership.applicant_rows([3]))
    first = await membership.bring(content)
    second = await membership.bring(content)
    assert outcomes(second) == (0, 0, 4, 0)
    named = [[row.record for row in await membership.rows(roster)] for roster in (first, second)]
    assert named[0] == named[1]


async def test_ten_thousand_rows_are_imported_and_followed(membership: Desk) -> None:
    content = a_roster(membership.member_rows(range(10_000)))
    roster = await membership.announce(content)
    watching = asyncio.create_task(membership.ended(roster))
    await membership.upload(roster, content, part=100_000)
    assert outcomes(await watching) == (10_000, 0, 0, 0)
    assert outcomes(await membership.commit(roster)) == (10_000, 0, 0, 0)


async def test_a_watcher_sees_whole_batches_from_upload_to_end(membership: Desk) -> None:
    content = a_roster(membership.member_rows(range(2_500)))
    roster = await membership.announce(content)
    stream = membership.watch(roster)
    assert (await anext(stream)).state == UPLOADING
    await membership.upload(roster, content)
    checked = [one async for one in stream]
    commit = pb.CommitRosterRequest(name=roster.name)
    await membership.ask(commit, officer=DEPUTY)
    imported = [one async for one in membership.watch(roster)]
    for seen, end in ((checked, PREVIEWED), (imported, DONE)):
        assert {one.done_rows for one in seen} <= {0, 1_000, 2_000, 2_500}
        assert [one.done_rows for one in seen] == sorted(one.done_rows for one in seen)
        assert (seen[-1].state, seen[-1].done_rows) == (end, 2_500)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\x03\x04\x14\x00\x06\x00xl/workbook.xml", "WORKBOOK_DAMAGED"),
        (b"\xff\xfe\xd3Y\r\x00\n\x00", "NOT_CSV"),
        (b"\xff\xff\xff\xff", "NOT_TEXT"),
        ("工号,部门\r\n1,2\r\n".encode(), "HEADER_MISSING"),
        ("姓名,部门\r\n张三,2\r\n".encode("gb18030"), "HEADER_MISSING"),
        (b"\r\n", "HEADER_MISSING"),
        (f"{HEADER}\r\n,,,,\r\n\r\n".encode(), "NO_ROWS"),
        (HEADER.encode(), "NO_ROWS"),
    ],
)
async def test_a_file_that_is_no_roster_is_refused_as_a_whole(
    membership: Desk, content: bytes, reason: str
) -> None:
    roster = await membership.bring(content)
    assert (roster.state, roster.refuse_reason, roster.done_rows) == (REFUSED, reason, 0)
    english, chinese = roster.refuse_message.split("\n")
    assert english.isascii() or "姓名" in english
    assert not chinese.isascii()
    assert not await membership.pool.fetchval(
        "SELECT count(*) FROM roster_chunks WHERE roster = $1", roster.name.partition("/")[2]
    )


async def test_a_missing_header_says_what_is_needed(membership: Desk) -> None:
    roster = await membership.bring("姓名,部门\n张三,2\n".encode())
    assert roster.refuse_message.endswith("缺少：身份证号")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
async def test_every_way_a_spreadsheet_saves_text_is_understood(
    membership: Desk, encoding: str, delimiter: str
) -> None:
    header = HEADER.replace("身份证号", "公民身份号码（必填）*")
    text = a_roster(membership.member_rows(range(2)), header=header).decode()
    roster = await membership.bring(
        f"某某工会花名册\r\n{text}".replace(",", delimiter).encode(encoding)
    )
    assert outcomes(roster) == (2, 0, 0, 0)


async def test_every_row_that_is_wrong_says_which_column_and_what_is_right(
    membership: Desk,
) -> None:
    good, other = membership.id_number(0), membership.id_number(1)
    bad = [
        (f",{good},,,", "FULL_NAME_LENGTH", "姓名"),
        ("张三,510104800101001,,,", "ID_NUMBER_FIRST_GENERATION", "身份证号"),
        ("张三,5.10104E+17,,,", "ID_NUMBER_ROUNDED", "身份证号"),
        (f"张三,{good[:-1]}?,,,", "ID_NUMBER_CHARACTERS", "身份证号"),
        (f"张三,{good},12345,,", "PHONE_MALFORMED", "手机号"),
        (f"张三,{good},,2025-03-08,", "APPROVAL_NUMBER_MISSING", "批准文号"),
        (f"张三,{good},,,川工发1号", "APPROVAL_DATE_MISSING", "批准日期"),
        (f"张三,{good},,2025-02-30,川工发1号", "DATE_MALFORMED", "批准日期"),
        (f"张三,{good},,2999-01-01,川工发1号", "DATE_IN_FUTURE", "批准日期"),
        (f'"张三,{good},,,', "ROW_MALFORMED", ""),
        (f"张三,{good},,2025-03-08,川工发1号", "", ""),
        (f"张三,{good},,2025-03-08,川工发1号", "DUPLICATE_ROW", "身份证号"),
        (f"李四,{other},,,", "", ""),
    ]
    roster = await membership.bring(a_roster(row for row, _, _ in bad))
    assert roster.state == DONE
    rows = await membership.rows(roster)
    assert [(row.reason, row.column) for row in rows] == [bad[1:] for bad in bad]
    assert "line 12" in rows[11].message and "第 12 行" in rows[11].chinese_message
    text = str(rows)
    for number in (good, other, "510104800101001", "5.10104E+17", "12345", "张三", "李四"):
        assert number not in text
    only = await membership.rows(roster, outcome=pb.RosterRow.REFUSED)
    assert len(only) == roster.refused_rows == 11


async def test_what_a_person_is_already_decides_about_the_row(membership: Desk) -> None:
    elsewhere = await membership.bring(
        a_roster(membership.member_rows([0])), parent=membership.county
    )
    assert elsewhere.admitted_rows == 1
    await membership.apply(1)
    await membership.apply(2)
    rows = (
        membership.member_rows([0]) + membership.applicant_rows([1]) + membership.member_rows([2])
    )
    roster = await membership.bring(a_roster(rows))
    results = await membership.rows(roster)
    assert [(row.outcome, row.reason) for row in results] == [
        (pb.RosterRow.REFUSED, "ALREADY_A_MEMBER"),
        (pb.RosterRow.UNCHANGED, ""),
        (pb.RosterRow.REFUSED, "APPLICATION_PENDING"),
    ]


async def test_a_row_may_name_an_organisation_below(membership: Desk) -> None:
    rows = [
        f"{row},{code}"
        for row, code in zip(
            membership.member_rows(range(4)), [membership.code, "", "5101", "999"], strict=True
        )
    ]
    roster = await membership.bring(
        a_roster(rows, header=f"{HEADER},工会代码"), parent=membership.county
    )
    results = await membership.rows(roster)
    assert [row.reason for row in results] == [
        "", "", "ORGANIZATION_CODE_UNKNOWN", "ORGANIZATION_CODE_UNKNOWN",
    ]  # fmt: skip
    member = await membership.ask(pb.GetMemberRequest(name=results[0].record))
    street = await membership.ask(pb.GetOrganizationRequest(name=membership.street))
    assert member.organization == street.name


async def test_an_upload_goes_on_where_the_line_was_cut(membership: Desk) -> None:
    content = a_roster(membership.member_rows(range(50)))
    roster = await membership.announce(content)
    await membership.upload(roster, content[:1_000], part=300)
    held = await membership.ask(pb.GetRosterRequest(name=roster.name))
    assert (held.state, held.received_bytes) == (UPLOADING, 1_000)
    # The client is not sure what arrived: it goes back a little, and nothing is taken twice.
    await membership.upload(roster, content, offset=700, part=512)
    again = await membership.upload(roster, content)
    assert again.received_bytes == len(content)
    assert outcomes(await membership.commit(roster)) == (50, 0, 0, 0)


async def test_a_hole_in_an_upload_is_refused_with_the_place_to_go_on(membership: Desk) -> None:
    content = a_roster(membership.member_rows(range(50)))
    roster = await membership.announce(content)
    await membership.upload(roster, content[:100])
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await membership.upload(roster, content, offset=101)
    told = refused(error.value)
    assert (told.reason, told.field) == ("OFFSET_BEYOND_RECEIVED", "offset")
    assert told.metadata["received_bytes"] == "100"


async def test_more_bytes_than_announced_are_refused(membership: Desk) -> None:
    content = a_roster(membership.member_rows(range(5)))
    roster = await membership.announce(content)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await membership.upload(roster, content + b"x")
    assert refused(error.value).reason == "ROSTER_TOO_LONG"
    held = await membership.ask(pb.GetRosterRequest(name=roster.name))
    assert (held.state, held.received_bytes) == (UPLOADING, 0)


async def test_other_bytes_than_announced_import_nothing(membership: Desk) -> None:
    content = a_roster(membership.member_rows(range(5)))
    roster = await membership.announce(content)
    ended = await membership.upload(roster, content[:-3] + b"x\r\n")
    assert (ended.state, ended.refuse_reason) == (REFUSED, "CHECKSUM_DIFFERENT")
    found = await membership.ask(pb.ListMembersRequest(parent=membership.county))
    assert not found.members


async def test_an_upload_is_of_one_roster(membership: Desk) -> None:
    content = a_roster(membership.member_rows(range(5)))
    one, other = await membership.announce(content), await membership.announce(content)
    parts = [*upload_parts(one, content[:10]), *upload_parts(other, content, offset=10)]
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await membership.stub.UploadRoster(iter(parts), metadata=membership.as_officer())
    assert refused(error.value).reason == "ROSTER_NAME_CHANGED"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"file_name": ""}, "FILE_NAME_LENGTH"),
        ({"size_bytes": 0}, "ROSTER_SIZE"),
        ({"size_bytes": 2**28 + 1}, "ROSTER_SIZE"),
        ({"sha256": b"short"}, "CHECKSUM_LENGTH"),
    ],
)
async def test_a_roster_is_announced_with_name_size_and_checksum(
    membership: Desk, wrong: dict[str, str], reason: str
) -> None:
    right = {"file_name": "a.csv", "size_bytes": 1, "sha256": sha256(b"x")}
    roster = pb.Roster(**{**right, **wrong})  # type: ignore[arg-type]
    told = await membership.refusal(pb.CreateRosterRequest(parent=membership.street, roster=roster))
    assert (told.reason, told.field.partition(".")[0]) == (reason, "roster")


async def test_a_repeated_announcement_gives_the_same_roster(membership: Desk) -> None:
    request = pb.CreateRosterRequest(
        parent=membership.street, request_id=str(uuid4()),
        roster=pb.Roster(file_name="a.csv", size_bytes=1, sha256=sha256(b"x")),
    )  # fmt: skip
    assert await membership.ask(request) == await membership.ask(request)


async def test_what_was_received_is_sealed_at_rest_and_deleted_in_the_end(alone: Desk) -> None:
    content = a_roster(alone.member_rows(range(5)))
    roster = await alone.announce(content)
    await alone.upload(roster, content[:-1])
    kept = await alone.pool.fetchval("SELECT content FROM roster_chunks")
    assert alone.id_number(0).encode() not in kept
    await alone.upload(roster, content, offset=len(content) - 1)
    assert (await alone.ended(roster)).state == PREVIEWED
    assert await alone.count("roster_chunks") > 0
    assert (await alone.commit(roster)).state == DONE
    assert await alone.count("roster_chunks") == 0


async def test_two_replicas_share_the_imports_and_do_none_twice(unserved: Desk) -> None:
    other = unserved.settings.model_copy(update={"listen": f"127.0.0.1:{ports.free()}"})
    contents = [a_roster(unserved.member_rows(range(start, start + 1_500))) for start in (0, 1_500)]
    async with serving(unserved.settings), serving(other):
        for content in contents:
            assert outcomes(await unserved.bring(content)) == (1_500, 0, 0, 0)
    assert await unserved.count("members") == 3_000
