"""The services of a node: as tasks of this process, or each in a process of its own."""

import asyncio
import importlib
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kit.errors import Refusal
from kit.wire import CHANNEL_OPTIONS
from node.problems import DidNotStart
from node.processes import Program, run

NAMES = ("membership", "benefits", "notify", "sync")
OFFICERS = "smartunion.event.v1.AccessService"
"""The name under which a service's health says that it knows who holds which office."""
PATIENCE = 15.0
"""Seconds that a service gets to finish the calls in flight."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """One service, and how it is to run."""

    name: str
    address: str
    """host:port where it tells its health."""
    settings: Mapping[str, Any] = field(repr=False)
    """By the names of its class Settings; paths, ids and addresses as text."""
    separate: bool
    """In a process of its own."""
    package: str = "services"
    patience: float = 60
    """Seconds that it gets to become healthy; its migrations are part of them."""

    async def start(self) -> "Program | Task":
        """Run it; it is healthy when this returns.

        Raises:
            DidNotStart: if it ends instead, or is not healthy in time.
        """
        running = await self._process() if self.separate else Task(self)
        try:
            await asyncio.wait_for(self._ready(running), self.patience)
        except BaseException as error:
            await running.stop()
            if isinstance(error, TimeoutError):
                raise self._failed("it is not healthy") from None
            raise
        return running

    async def _process(self) -> Program:
        return await run(
            [sys.executable, "-m", f"{self.package}.{self.name}"],
            goodbye=signal.SIGTERM,
            orphaned=signal.SIGTERM,
            patience=PATIENCE,
            environment=os.environ | environment(self.settings),
        )

    async def _ready(self, running: "Program | Task") -> None:
        ended = asyncio.create_task(running.wait())
        try:
            while not await is_healthy(self.address):
                await asyncio.wait({ended}, timeout=0.05)
                if ended.done():
                    raise self._failed(ended.result())
        finally:
            ended.cancel()

    def _failed(self, problem: str) -> DidNotStart:
        return DidNotStart(name=self.name, problem=problem, log="the lines above")


class Task:
    """A service as a task of this process."""

    def __init__(self, service: Service) -> None:
        self._name = service.name
        module = importlib.import_module(f"{service.package}.{service.name}.__main__")
        config = importlib.import_module(f"{service.package}.{service.name}.config")
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(
            module.serve(config.Settings(**service.settings), self._stop), name=service.name
        )

    @property
    def pid(self) -> int:
        """The number of this process."""
        return os.getpid()

    async def wait(self) -> str:
        """How it ended, once it has; a bug is logged with its traceback."""
        await asyncio.wait({self._task})
        if self._task.cancelled():
            return "cancelled"
        error = self._task.exception()
        if error and _is_bug(error):
            log.error("service failed", extra={"part": self._name}, exc_info=error)
            return type(error).__name__  # Its text may quote a row.
        return str(error or "it returned")

    async def stop(self) -> None:
        """Ask it to end, and cancel it when it takes too long."""
        self._stop.set()
        await asyncio.wait({self._task}, timeout=PATIENCE)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def _is_bug(error: BaseException) -> bool:
    """Whether a service ended for a reason that its operator cannot put right."""
    from kit.config import CannotServe  # Here, because they load all that a service needs.
    from kit.db import WallMissing

    return not isinstance(error, Refusal | CannotServe | WallMissing)


def environment(settings: Mapping[str, Any]) -> dict[str, str]:
    """The settings as a service reads them.

    >>> environment({"listen": "127.0.0.1:1", "peers": {"sync": "127.0.0.1:2"}})
    {'SMARTUNION_LISTEN': '127.0.0.1:1', 'SMARTUNION_PEERS': '{"sync": "127.0.0.1:2"}'}
    """
    return {
        f"SMARTUNION_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in settings.items()
    }


async def is_healthy(address: str, part: str = "") -> bool:
    """Whether the gRPC server at `address` says that it serves; `part`: one part of it."""
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)  # Its types leave out the methods.
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=part), timeout=2)
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
