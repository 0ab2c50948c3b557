"""Waiting that ends: in time, and when it is cancelled, whatever a library does.

`asyncio.wait_for`, by which nats-py waits, can lose a cancellation before Python 3.12 (CPython
issue 86296).  Who relies on one alone may wait for ever.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from time import monotonic
from typing import Any, TypeVar

T = TypeVar("T")

UNHURRIED = 0.05
"""Seconds between two calls of a reader that found nothing."""
AGAIN = 1.0
"""Seconds after which a task that has not ended is cancelled again."""


async def happened(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event was set within so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await event.wait()
    return False


async def waited(event: asyncio.Event, seconds: float) -> bool:
    """The same; the event is cleared."""
    try:
        return await happened(event, seconds)
    finally:
        event.clear()


async def within(seconds: float, call: Coroutine[Any, Any, T]) -> T:
    """What a call brings.

    Raises:
        TimeoutError: if it takes longer; it has ended then.
    """
    task = asyncio.create_task(call)
    try:
        await asyncio.wait([task], timeout=seconds)
    finally:
        await ended(task)
    if task.cancelled():
        raise TimeoutError
    return task.result()


async def ended(*tasks: "asyncio.Task[Any]") -> None:
    """Cancel tasks until they have ended, also if this is cancelled meanwhile."""
    left = {task for task in tasks if not task.done()}
    cancelled = None
    while left:
        for task in left:
            task.cancel()
        try:
            _, left = await asyncio.wait(left, timeout=AGAIN)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        raise cancelled


async def unhurried(began: float) -> None:
    """After a call that brought nothing: who did not wait, as it ends, is not asked again at once.

    Args:
        began: when the call did, by `time.monotonic`.
    """
    await asyncio.sleep(max(0.0, began + UNHURRIED - monotonic()))
