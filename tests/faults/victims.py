"""The processes of a network, and how they are struck.

The pids come from each node's data/endpoints.json, which its supervisor rewrites after each start
of a part.  A pid is struck only while it is a living child of that supervisor: so nothing else can
be, whatever its number was used for since.
"""

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg

from node.network import TooLate, until
from node.proxy import Proxy
from tests.faults.schedules import CARRIERS, NODES, Fault, Kind

BACK = 90.0
"""Seconds that a part has to come back after an earlier fault."""
PATIENCE = 8.0
"""Seconds that a part has to write to a table."""
WAITS = "SELECT true FROM pg_locks WHERE relation = $1::text::regclass AND NOT granted"


class Victims:
    def __init__(self, folder: Path, lines: Mapping[str, tuple[Proxy, Proxy]]) -> None:
        """
        Args:
            folder: of the network.
            lines: by the code of the node below: its gRPC and its NATS.
        """
        self._folder, self._lines = folder, lines

    async def strike(self, fault: Fault) -> dict[str, Any]:
        """Do it, and undo it when its time is over; what is to be said of it."""
        match fault.kind:
            case Kind.KILL if fault.table:
                return await self._kill_writing(fault)
            case Kind.KILL:
                return {"pids": await self._kill_again(fault)}
            case Kind.FREEZE:
                return {"pids": await self._freeze(fault)}
            case Kind.WIPE:
                nodes = [fault.node] if fault.node else NODES
                return {"pids": await asyncio.gather(*map(self._wipe, nodes))}
            case Kind.CUT | Kind.HALF_OPEN:
                return await self._disturb(fault)

    async def kill(self, node: str, part: str) -> int:
        """Kill a part; the pid that it had."""
        pid = await self._living(node, part)
        os.kill(pid, signal.SIGKILL)
        return pid

    async def _kill_again(self, fault: Fault) -> list[int]:
        """Kill a part, and what is started in its place, before it is healthy or soon after."""
        others = set(self._pids(fault.node).values())
        pids = [await self.kill(fault.node, fault.part)]
        for after in fault.again:

            async def born() -> int | None:
                return self._youngest(fault.node, others | {*pids})

            pid = await until(f"{fault.part} of {fault.node} to start again", born, within=BACK)
            await asyncio.sleep(after)
            if parent_of(pid) == self._pids(fault.node)["node"]:
                os.kill(pid, signal.SIGKILL)
            pids.append(pid)
        return pids

    def _youngest(self, node: str, known: Collection[int]) -> int | None:
        """A living child of a supervisor that was not there before."""
        children = children_of(self._pids(node)["node"])
        return next((pid for pid in children if pid not in known and parent_of(pid)), None)

    async def _kill_writing(self, fault: Fault) -> dict[str, Any]:
        """Kill a part while it waits to write to a table, which is locked until it is dead.

        After `PATIENCE` it is killed in any case: it may be waiting for something else.
        """
        dsn = self._facts(fault.node)["postgres"][fault.part]

        async def connected() -> Any:
            with suppress(OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError):
                return await asyncpg.connect(dsn)

        conn = await until(f"the database of {fault.part} to be back", connected, within=BACK)
        try:
            async with conn.transaction():
                await conn.execute(f"LOCK TABLE {fault.table} IN EXCLUSIVE MODE")

                async def waits() -> bool:
                    return bool(await conn.fetchval(WAITS, fault.table))

                hit = False
                with suppress(TooLate):
                    hit = await until(fault.table, waits, within=PATIENCE, every=0.01)
                return {"writing": hit, "pids": [await self.kill(fault.node, fault.part)]}
        finally:
            await conn.close()

    async def _living(self, node: str, part: str) -> int:
        async def living() -> int | None:
            pid, supervisor = self._pids(node)[part], self._pids(node)["node"]
            return pid if parent_of(pid) == supervisor else None

        return await until(f"{part} of {node} to be back", living, within=BACK)

    def _pids(self, node: str) -> dict[str, int]:
        pids: dict[str, int] = self._facts(node)["pids"]
        return pids

    def _facts(self, node: str) -> dict[str, Any]:
        file = self._folder / node / "data" / "endpoints.json"
        facts: dict[str, Any] = json.loads(file.read_text())
        return facts

    async def _freeze(self, fault: Fault) -> list[int]:
        pid = await self._living(fault.node, fault.part)
        pids = [pid, *children_of(pid)]
        send(pids, signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.lasts)
        finally:
            send(pids, signal.SIGCONT)
        return pids

    async def _wipe(self, node: str) -> int:
        pid = await self.kill(node, "nats")
        store = self._folder / node / "data" / "nats" / "jetstream"
        gone = store.with_name(f"jetstream.gone.{time.monotonic_ns()}")
        store.rename(gone)  # At once: the supervisor is about to start NATS again.
        shutil.rmtree(gone)
        return pid

    async def _disturb(self, fault: Fault) -> dict[str, Any]:
        by_carrier = dict(zip(CARRIERS, self._lines[fault.node], strict=True))
        lines = [by_carrier[carrier] for carrier in fault.carriers]
        before = sum(line.swallowed_bytes for line in lines)
        for line in lines:
            await (line.cut() if fault.kind is Kind.CUT else line.half_open(*fault.ways))
        try:
            await asyncio.sleep(fault.lasts)
        finally:
            for line in lines:
                await line.heal()
        return {"swallowed_bytes": sum(line.swallowed_bytes for line in lines) - before}


def parent_of(pid: int) -> int | None:
    """The pid of the parent of a living process; None of one that has ended."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(parent) if state != "Z" else None


def children_of(pid: int) -> list[int]:
    """The pids of the children of a process: PostgreSQL works in them."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def send(pids: Iterable[int], sign: signal.Signals) -> None:
    """To those that still live."""
    for pid in pids:
        try:
            os.kill(pid, sign)
        except ProcessLookupError:
            continue
