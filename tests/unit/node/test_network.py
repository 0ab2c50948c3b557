"""How a network is planned, and how it is shown."""

import asyncio
from pathlib import Path

import pytest

from kit.errors import NotFound
from node.network import SEATS, TooLate, last_line, levels, together, until
from node.pictures import branches
from smartunion.sync.v1 import sync_pb2


class Missing(NotFound):
    message = "it is missing"
    chinese = "缺失"


def test_every_node_starts_after_its_parent() -> None:
    order = [code for level in levels() for code in level]
    assert sorted(order) == sorted(seat.code for seat in SEATS)
    for seat in SEATS:
        assert not seat.parent or order.index(seat.parent) < order.index(seat.code)


def test_a_tree_is_drawn_with_a_branch_for_each_node() -> None:
    parents = {"a": "", "b": "a", "c": "b", "d": "b", "e": "a"}
    nodes = [sync_pb2.Node(name=name, parent=parent) for name, parent in parents.items()]
    assert branches(nodes) == ["", "├─ ", "│  ├─ ", "│  └─ ", "└─ "]


def test_a_tree_that_begins_below_the_top_begins_without_a_branch() -> None:
    nodes = [sync_pb2.Node(name="b", parent="a"), sync_pb2.Node(name="c", parent="b")]
    assert branches(nodes) == ["", "└─ "]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"level": "info"}\nsmartunion: a line\n', "smartunion: a line"),
        ('{"level": "warning", "message": "it ended"}\n', "it ended"),
        ("", "nothing"),
    ],
)
def test_the_last_words_of_a_node_are_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "node.log").write_text(text)
    assert last_line(tmp_path / "node.log") == said
    assert last_line(tmp_path / "no.log") == "nothing"


async def test_a_wait_that_is_not_answered_says_what_it_waited_for() -> None:
    async def never() -> None:
        return None

    with pytest.raises(TooLate, match=r"waited 0 s for rain; it did not come"):
        await until("rain", never, within=0.1)


async def test_the_first_failure_of_several_ends_the_others_and_is_the_one_that_is_raised() -> None:
    ended = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fail() -> None:
        raise Missing()

    with pytest.raises(Missing):
        await together(slow(), fail())
    assert ended.is_set()
