"""What a view shows above is held there, and nothing else; what is altered on the way is named."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import Any
from uuid import uuid4

import grpc
import pytest

from kit import copies, frames
from kit.records import is_held
from kit.wire import CHANNEL_OPTIONS
from services.sync import differences
from smartunion.event.v1 import log_pb2, log_pb2_grpc
from smartunion.membership.v1 import membership_pb2 as pb
from smartunion.membership.v1.membership_pb2_grpc import MembershipServiceStub
from smartunion.sync.v1 import frame_pb2, sync_pb2
from tests.builders import an_id_number
from tests.eventually import eventually
from tests.federation import nodes
from tests.federation.conftest import Line
from tests.federation.nodes import OFFICER, Node, plain
from tests.federation.test_down import link_token
from tests.federation.test_enrollment import reason
from tests.offices import open_at

HOME = "organizations/510104"
NUMBERS = count(500)
SECOND = "officers/wang-fang"
"""Who approves what the other officer has filed."""


@pytest.fixture(scope="module", autouse=True)
def soon() -> Iterator[None]:
    """What is lacking is looked for, and asserted again, sooner than at a real node."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "LOOK_EVERY", 0.5)
        patch.setattr(differences, "REASSERT_EVERY", 1.0)
        yield


@pytest.fixture(scope="module")
async def line(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Line]:
    folder = tmp_path_factory.mktemp("sections")
    nation, province, city = made = [
        await nodes.make(postgres, folder / code, code, level, services=("membership",))
        for code, level in (("0", "national"), ("51", "province"), ("5101", "city"))
    ]
    await open_at(city.databases["membership"], city.id, SECOND, city.code)
    await nodes.start_tree((nation, None), (province, nation), (city, province))
    yield Line(nation, province, city)
    for node in made:
        await node.stop()


async def ask(node: Node, method: str, request: Any, *, by: str = OFFICER) -> Any:
    address = node.addresses["membership"]
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        call = getattr(MembershipServiceStub(channel), method)
        return await call(request, metadata=node.token(by), timeout=60, wait_for_ready=True)


async def admitted(node: Node, full_name: str) -> str:
    """A new member of that name."""
    person = pb.Person(full_name=full_name, id_number=an_id_number(next(NUMBERS)))
    application = pb.Application(person=person)
    made = await ask(
        node, "CreateApplication", pb.CreateApplicationRequest(parent=HOME, application=application)
    )
    approved = await ask(
        node, "ApproveApplication", pb.ApproveApplicationRequest(name=made.name), by=SECOND
    )
    return str(approved.member)


async def reads(node: Node, member: str, full_name: str) -> None:
    """What a node knows of a member: the name, or, if that is empty, no person; never a number."""

    async def check() -> None:
        found = await ask(node, "GetMember", pb.GetMemberRequest(name=member))
        assert found.provenance.copy
        assert found.person.full_name == full_name
        assert (found.person.id_number, found.person.phone) == ("", "")
        assert bool(found.approval_date) == bool(full_name)

    await eventually(check)


async def view(node: Node, **levels: str) -> sync_pb2.View:
    """Make one: the highest level that holds the section `personal` of a kind."""
    rules = [
        sync_pb2.View.Rule(section=f"{kind}/personal", level=level)
        for kind, level in levels.items()
    ]
    async with node.sync_stub() as stub:
        request = sync_pb2.CreateViewRequest(
            view=sync_pb2.View(rules=rules), request_id=str(uuid4())
        )
        made = await stub.CreateView(request, metadata=node.token(), timeout=60)
        assert await stub.CreateView(request, metadata=node.token(), timeout=60) == made
    return made


async def held_to(line: Line, made: sync_pb2.View) -> None:
    """The nation shows that every node holds to a view, and that all is complete."""

    async def check() -> None:
        network = await line.nation.network()
        assert {code: node.view for code, node in network.items()} == {
            "0": made.name, "51": made.name, "5101": made.name,
        }  # fmt: skip
        assert [log_pb2.Verdict.Name(node.verdict) for node in network.values()] == [
            "COMPLETE", "COMPLETE", "COMPLETE",
        ]  # fmt: skip

    await eventually(check)


async def bytes_in(node: Node, name: str) -> list[str]:
    """Where the databases of a node hold a name: every column of every table, frames unpacked, but
    for the list of all divisions."""
    found = []
    for service in (*node.services, "sync"):
        conn = await plain(node.databases[service])
        for table in await conn.fetch(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace ="
            " 'public'::regnamespace AND relname <> 'organizations'"
        ):
            for row in await conn.fetch(f'SELECT * FROM "{table[0]}"'):
                if any(name.encode() in part for part in _plain(row)):
                    found.append(f"{service}.{table[0]}")
        await conn.close()
    return sorted(set(found))


def _plain(row: Any) -> Iterator[bytes]:
    for column, value in row.items():
        if column == "body":
            frame = frame_pb2.Frame.FromString(value)
            yield frames._unpack(frame.skeleton)
            yield from (frames._unpack(section.body) for section in frame.sections)
        elif isinstance(value, bytes):
            yield value
        else:
            yield str(value).encode()


async def test_a_view_opens_names_to_the_levels_above_and_closes_them_again(line: Line) -> None:
    early = await admitted(line.city, "赫连勃勃")
    for node in (line.province, line.nation):
        await reads(node, early, "")
        assert await bytes_in(node, "赫连勃勃") == []

    await held_to(line, await view(line.nation, members="national"))
    late = await admitted(line.city, "尉迟敬德")
    for node in (line.province, line.nation):
        await reads(node, early, "赫连勃勃")  # from before: asserted again
        await reads(node, late, "尉迟敬德")
        assert (await bytes_in(node, "尉迟敬德")) == ["membership.members", "sync.frames"]

    narrowed = await view(line.nation, members="province")
    await held_to(line, narrowed)
    for member, name in ((early, "赫连勃勃"), (late, "尉迟敬德")):
        await reads(line.nation, member, "")
        await reads(line.province, member, name)
        assert await bytes_in(line.nation, name) == []
    recounted = await admitted(line.city, "长孙无忌")
    await reads(line.province, recounted, "长孙无忌")
    await reads(line.nation, recounted, "")

    closed = await view(line.nation)
    await held_to(line, closed)
    for member, name in ((early, "赫连勃勃"), (late, "尉迟敬德"), (recounted, "长孙无忌")):
        for node in (line.province, line.nation):
            await reads(node, member, "")
            assert await bytes_in(node, name) == []
        assert await bytes_in(line.city, name) == []  # sealed, and no frame has it any more
        own = await ask(line.city, "GetMember", pb.GetMemberRequest(name=member))
        assert own.person.full_name == name


async def test_a_node_says_that_it_holds_to_a_view_when_all_its_services_do(line: Line) -> None:
    before = await view(line.nation, members="national")
    await held_to(line, before)
    member = await admitted(line.city, "宇文成都")
    await reads(line.province, member, "宇文成都")
    await line.province.stop("membership")
    closed = await view(line.nation)

    async def others() -> None:
        network = await line.nation.network()
        assert [network[code].view for code in ("0", "51", "5101")] == [
            closed.name, before.name, closed.name,
        ]  # fmt: skip

    await eventually(others)
    assert await bytes_in(line.province, "宇文成都") == ["membership.members"]
    await line.province.start("membership")
    await held_to(line, closed)
    assert await bytes_in(line.province, "宇文成都") == []


@asynccontextmanager
async def kept_back(line: Line, member: str) -> AsyncIterator[Any]:
    """The city's frames up to that of a member, as the province has stored them and the nation has
    not the last; and a way to put another in the place of that."""
    conn = await plain(line.province.databases["sync"])

    async def stored() -> list[frame_pb2.Frame]:
        rows = await conn.fetch(
            "SELECT body FROM frames WHERE origin = $1 AND service = 'membership'"
            " AND channel = 'records' ORDER BY number",
            line.city.id,
        )
        found = [frame_pb2.Frame.FromString(row["body"]) for row in rows]
        while found and all(f"{one.kind}/{one.id}" != member for one in frames.lines(found[-1])):
            found.pop()
        assert found
        return found

    found = await eventually(stored)

    async def put(other: frame_pb2.Frame) -> None:
        await conn.execute(
            "UPDATE frames SET body = $3"
            " WHERE origin = $1 AND service = 'membership' AND channel = 'records'"
            "   AND number = $2",
            line.city.id, other.number, other.SerializeToString(),
        )  # fmt: skip

    try:
        yield found, put
    finally:
        await conn.close()


async def push(line: Line, found: list[frame_pb2.Frame]) -> None:
    """As the province pushes, with its link token."""
    metadata = (("authorization", f"Bearer {await link_token(line.province)}"),)
    async with line.nation.sync_stub() as stub:
        request = sync_pb2.PushFramesRequest(frames=found)
        await stub.PushFrames(request, metadata=metadata, timeout=60, wait_for_ready=True)


def altered(
    frame: frame_pb2.Frame, name: str, change: Callable[[list[bytes]], list[bytes]]
) -> frame_pb2.Frame:
    """The same frame with other rows in a section."""
    other = frame_pb2.Frame()
    other.CopyFrom(frame)
    for section in other.sections:
        if section.name == name:
            rows = list(frame_pb2.SectionRows.FromString(frames._unpack(section.body)).rows)
            section.CopyFrom(frames._section(name, change(rows)))
    return other


async def shown(line: Line) -> sync_pb2.StreamProof:
    """What the nation shows of the city's members."""
    for stream in (await line.nation.network())["5101"].streams:
        if (stream.service, stream.proof.channel) == ("membership", "records"):
            return stream
    raise AssertionError("no stream")


async def whole(line: Line) -> None:
    """The nation has all that the view shows it of the city's members."""

    async def check() -> None:
        assert not (await shown(line)).proof.lacking_buckets

    await eventually(check)


async def test_a_section_that_is_altered_on_the_way_is_named_and_comes_from_its_owner(
    line: Line,
) -> None:
    await held_to(line, await view(line.nation, members="national"))
    await line.nation.stop("sync")
    member = await admitted(line.city, "令狐冲冲")
    async with kept_back(line, member) as (frames_, _):
        await line.province.stop("sync")
        await line.nation.start("sync")
        forged = altered(frames_[-1], "personal", lambda rows: [
            row.replace("令狐冲冲".encode(), "岳不群".encode()) for row in rows
        ])  # fmt: skip
        await push(line, [*frames_[:-1], forged])

        async def named() -> None:
            stream = await shown(line)
            assert (stream.refusals, stream.refusal) == (1, "SECTION_ALTERED")
            assert stream.via == f"nodes/{line.province.id}"
            assert (await line.nation.network())["5101"].verdict == log_pb2.DIFFERENT

        await eventually(named)
        await line.province.start("sync")
    await reads(line.nation, member, "令狐冲冲")
    assert await bytes_in(line.nation, "岳不群") == []

    async def right() -> None:
        stream = await shown(line)
        assert (stream.refusals, stream.refusal) == (1, "")
        assert stream.proof.verdict == log_pb2.COMPLETE

    await eventually(right)


async def test_a_section_that_is_dropped_or_swapped_on_the_way_is_lacking_until_it_is_fetched(
    line: Line,
) -> None:
    await held_to(line, await view(line.nation, members="national"))
    await whole(line)  # also what earlier tests have left is asserted again
    await line.nation.stop("sync")
    member = await admitted(line.city, "独孤求败")
    async with kept_back(line, member) as ([*_, frame], put):
        await put(altered(frame, "personal", lambda rows: [b""] * len(rows)))
        await line.city.stop("sync")  # so that it can be seen before it is put right
        await line.nation.start("sync")

        async def lacking() -> None:
            proof = (await shown(line)).proof
            assert list(proof.lacking_buckets) == [bytes.fromhex(member[-2:])[0]]
            assert proof.verdict == log_pb2.COMPLETE  # what is lacking leaves its hash

        await eventually(lacking)
        await line.city.start("sync")
    await reads(line.nation, member, "独孤求败")
    await whole(line)


async def test_a_field_that_the_province_was_not_shown_cannot_be_altered_by_it(line: Line) -> None:
    """It holds the hash of the field alone; whatever it says instead, the nation names it."""
    await held_to(line, await view(line.nation))
    before = (await shown(line)).refusals
    await line.nation.stop("sync")
    member = await admitted(line.city, "风清扬")
    async with kept_back(line, member) as ([*_, frame], put):
        assert [section.name for section in frame.sections] == ["public"]
        skeleton = frame_pb2.Skeleton.FromString(frames._unpack(frame.skeleton))
        [group] = [group for group in skeleton.groups if group.name == "personal"]
        assert all(not is_held(hash_) for hash_ in frames.batched_bytes(group.hashes))
        group.hashes = bytes(len(group.hashes))
        other = frame_pb2.Frame()
        other.CopyFrom(frame)
        other.skeleton = frames._pack(skeleton)
        other.hash = frames.frame_hash(other)  # it has not the key to sign it
        await put(other)
        await line.nation.start("sync")

        async def named() -> None:
            stream = await shown(line)
            assert stream.refusals > before and stream.refusal == "FRAME_REJECTED"
            assert stream.via == f"nodes/{line.province.id}"
            assert (await line.nation.network())["5101"].verdict == log_pb2.DIFFERENT

        await eventually(named)
        await put(frame)
    await reads(line.nation, member, "")

    async def right() -> None:
        assert (await shown(line)).refusal == ""
        assert (await line.nation.network())["5101"].verdict == log_pb2.COMPLETE

    await eventually(right)


async def test_a_service_gives_its_sections_to_sync_alone(line: Line) -> None:
    origin, shown = line.city.id.bytes, ["members/personal"]
    async with grpc.aio.insecure_channel(line.city.addresses["membership"]) as channel:
        log = log_pb2_grpc.LogServiceStub(channel)
        metadata = line.city.token("services/benefits")
        reading = log_pb2.ReadLogRequest(reader="benefits", channel="records", sections=shown)
        assert await reason(log.ReadLog(reading, metadata=metadata)) == "ACCESS_DENIED"
        taking = log_pb2.ReadSnapshotRequest(origin=origin, channel="records", sections=shown)
        call = _all(log.ReadSnapshot(taking, metadata=metadata))
        assert await reason(call) == "ACCESS_DENIED"
        del taking.sections[:]
        found = await _all(log.ReadSnapshot(taking, metadata=metadata))
        assert found and not any(is_held(one) for entry in found for one in entry.sections.values())


async def _all(parts: Any) -> list[log_pb2.Entry]:
    return [entry async for part in parts for entry in part.records]


async def test_a_view_is_made_at_the_top_and_of_sections_that_there_are(line: Line) -> None:
    assert await reason(view(line.province, members="province")) == "VIEW_FROM_ABOVE"
    assert await reason(view(line.nation, members="everywhere")) == "VIEW_LEVEL_UNKNOWN"
    assert await reason(view(line.nation, **{"members/x": "city"})) == "VIEW_RULES_INVALID"
    async with line.nation.sync_stub() as stub:
        late = sync_pb2.View()
        late.effective_time.FromJsonString("2020-01-01T00:00:00Z")
        request = sync_pb2.CreateViewRequest(view=late)
        call = partial(stub.CreateView, request, metadata=line.nation.token(), timeout=60)
        assert await reason(call()) == "EFFECTIVE_TIME_OUT_OF_RANGE"
    for node in line.all:
        async with node.sync_stub() as stub:
            answer = await stub.ListViews(
                sync_pb2.ListViewsRequest(page_size=2), metadata=node.token(), timeout=60
            )
        numbers = [one.number for one in answer.views]
        assert len(numbers) == 2 and numbers[0] == numbers[1] + 1 and answer.next_page_token
