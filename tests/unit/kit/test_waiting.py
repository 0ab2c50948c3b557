"""Who waits is let go in time, also by a call that loses a cancellation."""

import asyncio
from contextlib import suppress

import pytest

from kit import waiting
from kit.waiting import ended, within


async def loses(cancellations: int) -> str:
    """As `wait_for` of Python 3.11 does, if what it waits for comes at the same moment."""
    for _ in range(cancellations):
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
    return "here"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "AGAIN", 0.01)


async def test_what_comes_in_time_is_brought() -> None:
    assert await within(5, loses(0)) == "here"


async def test_what_does_not_come_is_given_up_in_time() -> None:
    with pytest.raises(TimeoutError):
        await within(0.01, asyncio.Event().wait())


async def test_what_came_while_it_was_given_up_is_not_thrown_away() -> None:
    assert await within(0.01, loses(3)) == "here"


async def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    task = asyncio.create_task(within(60, loses(3)))
    await asyncio.sleep(0)
    await ended(task)
    assert task.cancelled() and asyncio.all_tasks() == before
