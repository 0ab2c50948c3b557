"""Waiting for what comes by itself: by looking, never by sleeping and hoping."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc

T = TypeVar("T")


async def eventually(check: Callable[[], Awaitable[T]], *, within: float = 60) -> T:
    """Repeat `check` until it no longer fails, for at most `within` seconds."""
    deadline = asyncio.get_running_loop().time() + within
    while True:
        try:
            return await check()
        except (AssertionError, grpc.aio.AioRpcError):
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.05)


async def waiting(conn: Any, count: int) -> None:
    """So many transactions of the database wait for a lock, also as one sees it that goes on."""
    await conn.execute("SELECT pg_stat_clear_snapshot()")
    found = await conn.fetchval(
        """
        SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
         WHERE datname = current_database() AND NOT granted
        """
    )
    assert found == count
