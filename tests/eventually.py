"""Waiting for what comes by itself: by looking, never by sleeping and hoping."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

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
