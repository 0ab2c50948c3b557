"""A directive reaches whom it is addressed to, each reports on it, and the parts add up."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest

from kit.wire import CHANNEL_OPTIONS
from smartunion.sync.v1 import directive_pb2 as pb
from smartunion.sync.v1 import directive_pb2_grpc
from tests.eventually import eventually
from tests.federation.conftest import Line
from tests.federation.nodes import Node
from tests.federation.test_enrollment import reason

SOON = datetime.now(UTC) + timedelta(days=30)


@pytest.fixture(autouse=True)
async def whole(line: Line) -> None:
    """Every node knows those below it: they are whom a directive can be addressed to."""

    async def check() -> None:
        assert len(await line.nation.network()) == 3

    await eventually(check)


@asynccontextmanager
async def desk(node: Node) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(
        node.addresses["sync"], options=CHANNEL_OPTIONS
    ) as channel:
        yield directive_pb2_grpc.DirectiveServiceStub(channel)


async def ask(node: Node, request: Any) -> Any:
    """The answer to a request of an officer, whose name says what is asked."""
    async with desk(node) as stub:
        method = getattr(stub, type(request).__name__.removesuffix("Request"))
        return await method(request, metadata=node.token(), timeout=60)


async def issue(node: Node, *levels: str, **changes: Any) -> pb.Directive:
    known = {"title": "夏送清凉", "text": "请于七月前完成走访。", "due_time": SOON}
    directive = pb.Directive(levels=levels, **{**known, **changes})
    answer: pb.Directive = await ask(
        node, pb.CreateDirectiveRequest(directive=directive, request_id=str(uuid4()))
    )
    return answer


async def shown(node: Node, directive: pb.Directive) -> pb.Directive:
    answer: pb.Directive = await ask(node, pb.GetDirectiveRequest(name=directive.name))
    return answer


async def becomes(node: Node, directive: pb.Directive, **progress: int) -> pb.Directive:
    """The directive, once a node shows this of it."""
    found = pb.Directive()

    async def check() -> None:
        nonlocal found
        found = await shown(node, directive)
        assert found.progress == pb.DirectiveProgress(**progress)

    await eventually(check)
    return found


async def test_what_the_nation_asks_is_received_read_broken_down_and_done(line: Line) -> None:
    asked = await issue(line.nation, "province", "city")
    found = await becomes(line.nation, asked, expected=2, received=2)
    [part] = found.parts  # both lie below the province
    assert part.node == f"nodes/{line.province.id}" and part.progress == found.progress
    there = await shown(line.province, asked)
    assert (there.title, there.text) == ("夏送清凉", "请于七月前完成走访。")
    assert there.due_time.seconds == int(SOON.timestamp())
    assert [part.progress.expected for part in there.parts] == [1, 1]
    await ask(line.province, pb.ReadDirectiveRequest(name=asked.name))
    await becomes(line.nation, asked, expected=2, received=1, read=1)
    own = await issue(line.province, "city", parent=asked.name)
    await becomes(line.nation, asked, expected=2, received=1, broken_down=1)
    await becomes(line.province, own, expected=1, received=1)
    await ask(line.city, pb.CompleteDirectiveRequest(name=own.name))
    await ask(line.city, pb.RefuseDirectiveRequest(name=asked.name, reason="本市无户外作业"))
    await becomes(line.province, own, expected=1, completed=1)
    await ask(line.province, pb.CompleteDirectiveRequest(name=asked.name))
    found = await becomes(line.nation, asked, expected=2, completed=1, refused=1)
    reports = (await ask(line.nation, pb.ListDirectiveReportsRequest(parent=asked.name))).reports
    assert [(one.display_name, one.state, one.reason) for one in reports] == [
        ("51", pb.DirectiveReport.COMPLETED, ""),
        ("5101", pb.DirectiveReport.REFUSED, "本市无户外作业"),
    ]
    listed = (await ask(line.city, pb.ListDirectivesRequest(page_size=1000))).directives
    assert [one.name for one in listed][:2] == [own.name, asked.name]
    assert [one.report.state for one in listed][:2] == [4, 5]


async def test_a_node_that_is_not_addressed_reads_and_does_not_report(line: Line) -> None:
    asked = await issue(line.nation, "city")
    await becomes(line.province, asked, expected=1, received=1)
    done = ask(line.province, pb.CompleteDirectiveRequest(name=asked.name))
    assert await reason(done) == "NOT_ADDRESSED"
    assert await reason(issue(line.province, "city", parent=asked.name)) == "NOT_ADDRESSED"


async def test_what_is_settled_stays_so(line: Line) -> None:
    asked = await issue(line.province, "city")
    await becomes(line.city, asked, expected=1, received=1)
    once = pb.CompleteDirectiveRequest(name=asked.name, request_id=str(uuid4()))
    first = await ask(line.city, once)
    assert (await ask(line.city, once)).report == first.report  # a double click
    again = ask(line.city, pb.RefuseDirectiveRequest(name=asked.name, reason="改变主意"))
    assert await reason(again) == "DIRECTIVE_SETTLED"
    read = await ask(line.city, pb.ReadDirectiveRequest(name=asked.name))
    assert read.report.state == pb.DirectiveReport.COMPLETED
    silent = pb.RefuseDirectiveRequest(name=asked.name, reason=" ")
    assert await reason(ask(line.city, silent)) == "DIRECTIVE_INVALID"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"levels": ["village"]}, "LEVEL_UNKNOWN"),
        ({"levels": []}, "LEVEL_UNKNOWN"),
        ({"levels": ["province"]}, "LEVEL_UNKNOWN"),
        ({"levels": ["city", "city"]}, "LEVEL_UNKNOWN"),
        ({"levels": ["county"]}, "NOBODY_ADDRESSED"),
        ({"subtree": "5107"}, "NOBODY_ADDRESSED"),
        ({"subtree": "42"}, "SUBTREE_NOT_HELD"),
        ({"subtree": "51x"}, "SUBTREE_NOT_HELD"),
        ({"due_time": datetime(2020, 1, 1, tzinfo=UTC)}, "DUE_TIME_OUT_OF_RANGE"),
        ({"due_time": datetime(9999, 1, 1, tzinfo=UTC)}, "DUE_TIME_OUT_OF_RANGE"),
        ({"title": ""}, "DIRECTIVE_INVALID"),
        ({"text": "长" * 20_001}, "DIRECTIVE_INVALID"),
        ({"title": "a\0b"}, "TEXT_CHARACTERS"),
        ({"parent": "directives/one"}, "NAME_MALFORMED"),
        ({"parent": f"directives/{uuid4()}"}, "DIRECTIVE_NOT_FOUND"),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    line: Line, changes: dict[str, Any], said: str
) -> None:
    levels = changes.pop("levels", ["city"])
    assert await reason(issue(line.province, *levels, **changes)) == said
