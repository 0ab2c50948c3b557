"""A line that can be cut: a TCP proxy that stands between two nodes and outside both.

    async with Proxy(target="127.0.0.1:4222") as proxy:
        …                        connect to proxy.address
        await proxy.cut()        connections are reset, new ones refused
        await proxy.half_open()  connections stand, but every byte is swallowed, both ways
        await proxy.half_open(Way.DOWN)  what is said arrives, the answers are swallowed
        await proxy.heal()       bytes pass again

A connection that has lost bytes is reset when the line heals: a stream with a hole is none.
"""

import asyncio
import socket
import struct
from collections.abc import Collection
from contextlib import suppress
from enum import Enum
from types import TracebackType

from node import ports

BLOCK = 64 * 1024
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with zero seconds: closing sends RST."""


class Way(Enum):
    """Where bytes go."""

    UP = "up"
    """To the target."""
    DOWN = "down"
    """Back from it."""


class Mode(Enum):
    """What happens to bytes."""

    PASS = "pass"
    CUT = "cut"
    HALF_OPEN = "half-open"


class Proxy:
    """One line, on a port of its own that it keeps while the line is cut."""

    def __init__(self, target: str, *, host: str = "127.0.0.1") -> None:
        """
        Args:
            target: host:port that connections are passed on to.
        """
        self._target_host, _, port = target.rpartition(":")
        self._target_port = int(port)
        self._host, self._port = host, ports.free(host)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.mode = Mode.PASS
        self._silent: Collection[Way] = tuple(Way)
        self.passed_bytes = 0
        """Bytes that went through, both ways."""
        self.swallowed_bytes = 0
        """Bytes that vanished, both ways."""

    @property
    def address(self) -> str:
        """host:port, the same in every mode."""
        return f"{self._host}:{self._port}"

    @property
    def connections(self) -> int:
        """How many connections stand."""
        return len(self._connections)

    async def __aenter__(self) -> "Proxy":
        await self._listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close()
        await self._reset()

    async def cut(self) -> None:
        """Reset every connection and refuse new ones."""
        self.mode = Mode.CUT
        await self._close()
        await self._reset()

    async def half_open(self, *silent: Way) -> None:
        """Accept everything, and swallow every byte that goes these ways; both if none is named."""
        self.mode, self._silent = Mode.HALF_OPEN, silent or tuple(Way)
        await self._listen()

    async def heal(self) -> None:
        """Pass bytes again."""
        was, self.mode = self.mode, Mode.PASS
        if was is Mode.HALF_OPEN:
            await self._reset()
        await self._listen()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, self._host, self._port)

    async def _close(self) -> None:
        """Stop listening; not `wait_closed`, which waits for connections too (Python 3.12)."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def _reset(self) -> None:
        for writer in list(self._writers):
            _abort(writer)
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self._writers.add(writer)
        try:
            await self._carry(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # The other side gets the reset below.
        finally:
            self._connections.discard(task)
            self._writers.discard(writer)
            _abort(writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until one side ends."""
        if self.mode is Mode.HALF_OPEN and Way.DOWN in self._silent and Way.UP in self._silent:
            return await self._swallow(reader)
        far_reader, far_writer = await asyncio.open_connection(self._target_host, self._target_port)
        self._writers.add(far_writer)
        try:
            ways = {
                asyncio.create_task(self._copy(reader, far_writer, Way.UP)),
                asyncio.create_task(self._copy(far_reader, writer, Way.DOWN)),
            }
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            self._writers.discard(far_writer)
            _abort(far_writer)

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way
    ) -> None:
        with suppress(OSError):
            while block := await reader.read(BLOCK):
                if self.mode is Mode.PASS or way not in self._silent:
                    self.passed_bytes += len(block)
                    writer.write(block)
                    await writer.drain()
                else:
                    self.swallowed_bytes += len(block)

    async def _swallow(self, reader: asyncio.StreamReader) -> None:
        while block := await reader.read(BLOCK):
            self.swallowed_bytes += len(block)


def _abort(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and not writer.transport.is_closing():
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
