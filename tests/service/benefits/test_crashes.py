"""A rush on a programme, and the service killed in the middle: exactly the stock is given out."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import grpc

from kit.ids import uuid7
from kit.status import refused
from services.benefits.config import Settings
from smartunion.benefits.v1 import benefits_pb2 as pb
from tests.service.benefits.conftest import calling, healthy, make_settings
from tests.service.benefits.counter import Counter

CALLERS, STOCK, MEMBERS = 64, 500, 640


@asynccontextmanager
async def process(settings: Settings) -> AsyncIterator[asyncio.subprocess.Process]:
    """The service as a process of its own, killed in the end."""
    values = {
        f"SMARTUNION_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in settings.model_dump(mode="json").items()
    }
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.benefits",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **values},
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await healthy(settings)
        yield running
    finally:
        if running.returncode is None:
            running.send_signal(signal.SIGKILL)
        await running.wait()


class Rush:
    """Members who claim all at once, and remember what they were answered."""

    def __init__(self, counter: Counter, programme: pb.Programme, members: list[UUID]) -> None:
        self.counter, self.programme = counter, programme
        self.requests = {member: str(uuid4()) for member in members}
        self.answers: dict[UUID, pb.MyCoupon] = {}
        self.refusals: dict[UUID, str] = {}

    async def run(self, *, until: int = 2**31) -> None:
        """Until all are answered, the service is gone, or so many have a coupon."""
        left = [member for member in self.requests if member not in self.answers]
        waiting = iter(left)

        async def caller() -> None:
            for member in waiting:
                if len(self.answers) >= until or not await self._claim(member):
                    return

        await asyncio.gather(*(caller() for _ in range(CALLERS)))

    async def _claim(self, member: UUID) -> bool:
        """Whether there was an answer."""
        try:
            self.answers[member] = await self.counter.claim(
                self.programme, member, request_id=self.requests[member]
            )
        except grpc.aio.AioRpcError as error:
            self.refusals[member] = refused(error).reason
            return error.code() != grpc.StatusCode.UNAVAILABLE
        return True


async def test_a_rush_that_is_killed_gives_out_exactly_the_stock_and_loses_no_answer(
    postgres: str, benefits_template: str, tmp_path: Path
) -> None:
    settings = await make_settings(postgres, benefits_template, tmp_path)
    members = [uuid7() for _ in range(MEMBERS)]
    async with calling(settings) as counter:
        async with process(settings) as running:
            await counter.announce(members)
            rush = Rush(counter, await counter.programme(STOCK), members)
            rushing = asyncio.create_task(rush.run())
            while len(rush.answers) < STOCK // 3:
                await asyncio.sleep(0.001)
            running.send_signal(signal.SIGKILL)
            await running.wait()
            await rushing
        before = dict(rush.answers)
        assert STOCK // 3 <= len(before) < STOCK
        async with process(settings):
            await rush.run()
            for member, answer in before.items():
                again = await counter.claim(
                    rush.programme, member, request_id=rush.requests[member]
                )
                assert again == answer
        rows = await counter.pool.fetch("SELECT id, member FROM coupons")
        assert len(rows) == len({row["member"] for row in rows}) == STOCK
        held = {row["member"]: f"coupons/{row['id']}" for row in rows}
        assert {one: answer.coupon.name for one, answer in rush.answers.items()} == held
        assert await counter.pool.fetchval("SELECT remaining FROM stocks") == 0
        events = await counter.pool.fetchval(
            """
            SELECT count(DISTINCT id) FROM (SELECT id, kind FROM entries UNION ALL
                                            SELECT id, kind FROM outbox) entry
             WHERE kind = 'coupons'
            """
        )
        assert events == STOCK
