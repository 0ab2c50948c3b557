"""Nodes with stand-in services, in processes of their own."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


class Node:
    """A node that runs on the config in `folder`."""

    def __init__(self, folder: Path, process: asyncio.subprocess.Process) -> None:
        self.folder, self.process = folder, process

    @property
    def endpoints(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.folder / "data" / "endpoints.json").read_text())
        return facts

    def pid(self, part: str) -> int:
        return int(self.endpoints["pids"][part])

    def kill(self, part: str) -> int:
        pid = self.pid(part)
        os.kill(pid, signal.SIGKILL)
        return pid

    async def stop(self) -> int:
        """Its exit code."""
        if self.process.returncode is None:
            self.process.terminate()
        return await asyncio.wait_for(self.process.wait(), 40)


def write_config(folder: Path, more: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    config = folder / "node.toml"
    config.write_text(f'name = "成都市总工会"\norganization = "5101"\nlevel = "city"\n{more}')
    return config


async def launch(config: Path, *options: str, user: tuple[str, ...] = ()) -> Any:
    return await asyncio.create_subprocess_exec(
        *user,
        sys.executable,
        "-m",
        "tests.service.node.standin",
        config,
        *options,
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def a_node(folder: Path, *options: str, more: str = "") -> AsyncIterator[Node]:
    """A node that is up; stopped in the end if it is not by then."""
    node = Node(folder, await launch(write_config(folder, more), *options))
    reading = asyncio.create_task(read(node.process))
    try:
        await eventually(lambda: is_up(node))
        yield node
    finally:
        await node.stop()
        print(await reading)


async def read(process: asyncio.subprocess.Process) -> str:
    assert process.stderr
    return (await process.stderr.read()).decode()


async def refusal(folder: Path, *options: str, more: str = "") -> str:
    """What a node says that does not start."""
    process = await launch(write_config(folder, more), *options)
    said = await asyncio.wait_for(read(process), 40)
    assert await process.wait() == 1
    line: str = said.strip().splitlines()[-1]
    assert "Traceback" not in said
    return line


async def is_up(node: Node) -> bool:
    assert node.process.returncode is None, "the node ended"
    return (node.folder / "data" / "endpoints.json").exists()


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `check` holds, for a minute at most."""
    async with asyncio.timeout(60):
        while not await check():
            await asyncio.sleep(0.02)


def lives(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
