"""The line that can be cut, with a real echo server behind it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from node.proxy import Proxy, Way


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while block := await reader.read(1024):
        writer.write(block)
        await writer.drain()
    writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    async with Proxy(target=f"{host}:{port}") as line:
        yield line
    server.close()


@asynccontextmanager
async def connected(line: Proxy) -> AsyncIterator["Client"]:
    host, _, port = line.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    yield Client(reader, writer)
    writer.transport.abort()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, word: bytes) -> bytes:
        self.writer.write(word)
        await self.writer.drain()
        return await asyncio.wait_for(self.reader.readexactly(len(word)), 2)


async def test_bytes_pass_both_ways_and_are_counted(proxy: Proxy) -> None:
    async with connected(proxy) as client:
        assert await client.ask(b"ni hao") == b"ni hao"
        assert proxy.passed_bytes == 12


async def test_a_cut_resets_what_stands_and_refuses_what_comes(proxy: Proxy) -> None:
    async with connected(proxy) as client:
        await client.ask(b"before")
        await proxy.cut()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(client.reader.readexactly(1), 2)
    with pytest.raises(ConnectionRefusedError):
        async with connected(proxy):
            pass
    assert proxy.connections == 0


async def test_a_half_open_line_swallows_what_is_said_and_never_answers(proxy: Proxy) -> None:
    async with connected(proxy) as old:
        await old.ask(b"before")
        await proxy.half_open()
        async with connected(proxy) as new:
            for client in (old, new):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(client.ask(b"lost"), 0.2)
            assert proxy.swallowed_bytes == 8
            assert proxy.passed_bytes == 12


async def test_a_line_may_be_half_open_in_one_direction_alone(proxy: Proxy) -> None:
    async with connected(proxy) as old:
        await old.ask(b"before")
        for way, passed in ((Way.DOWN, 4), (Way.UP, 0)):  # The echo has nothing to say unasked.
            await proxy.half_open(way)
            async with connected(proxy) as new:
                before = proxy.passed_bytes
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(new.ask(b"lost"), 0.2)
                assert proxy.passed_bytes - before == passed
            await proxy.heal()
    assert proxy.swallowed_bytes == 8


async def test_a_healed_line_keeps_its_address_and_resets_streams_with_a_hole(
    proxy: Proxy,
) -> None:
    address = proxy.address
    await proxy.cut()
    await proxy.heal()
    assert proxy.address == address
    async with connected(proxy) as client:
        assert await client.ask(b"again") == b"again"
        await proxy.half_open()
        client.writer.write(b"lost")
        await proxy.heal()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(client.reader.readexactly(1), 2)
    async with connected(proxy) as client:
        assert await client.ask(b"fresh") == b"fresh"


async def test_a_line_to_nowhere_ends_its_connections(proxy: Proxy) -> None:
    async with Proxy(target="127.0.0.1:1") as nowhere, connected(nowhere) as client:
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(client.reader.readexactly(1), 2)
