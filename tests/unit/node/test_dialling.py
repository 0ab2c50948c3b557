"""Who calls a node from the command line speaks TLS with it, unless it is on this machine."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import grpc
import pytest
from typer.testing import CliRunner

from kit.tls import Files
from kit.wire import channel_to, server_credentials
from node import cli
from node.certificates import Authority
from node.network import SEATS, Node
from node.problems import NodeUnreachable
from smartunion.benefits.v1 import benefits_pb2
from smartunion.benefits.v1.benefits_pb2_grpc import (
    BenefitsServiceServicer,
    BenefitsServiceStub,
    add_BenefitsServiceServicer_to_server,
)
from smartunion.sync.v1 import sync_pb2, sync_pb2_grpc

BUNDLE = benefits_pb2.TrustBundle(root=bytes(32))
NODE = uuid4()


class Benefits(BenefitsServiceServicer):
    """Gives a bundle to anyone."""

    async def GetTrustBundle(self, request: Any, context: Any) -> benefits_pb2.TrustBundle:  # noqa: N802
        return BUNDLE


class Sync(sync_pb2_grpc.SyncServiceServicer):
    """Says who the node is to anyone."""

    async def GetNode(self, request: Any, context: Any) -> sync_pb2.Node:  # noqa: N802
        return sync_pb2.Node(name=f"nodes/{NODE}")


@dataclass(frozen=True)
class Guarded:
    """A node in production, as it is reached."""

    address: str
    ca: Path
    stranger: Path
    """A CA that does not vouch for it, of the same name."""


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    folder, other = tmp_path / "tls", tmp_path / "stranger"
    files = Files(Authority(folder, NODE, "127.0.0.1").issue("benefits"), NODE, "benefits")
    Authority(other, NODE, "127.0.0.1")
    server = grpc.aio.server()
    add_BenefitsServiceServicer_to_server(cast(Any, Benefits)(), server)
    sync_pb2_grpc.add_SyncServiceServicer_to_server(cast(Any, Sync)(), server)
    port = server.add_secure_port("127.0.0.1:0", server_credentials(files))
    await server.start()
    yield Guarded(f"127.0.0.1:{port}", folder / "ca.crt", other / "ca.crt")
    await server.stop(None)


async def test_a_bundle_is_fetched_over_tls_from_a_node_in_production(
    guarded: Guarded, tmp_path: Path
) -> None:
    to = tmp_path / "bundle"

    async def fetch(*more: str) -> Any:
        return await asyncio.to_thread(
            CliRunner().invoke, cli.app, ["card", "bundle", guarded.address, "--to", str(to), *more]
        )

    for more in ((), ("--ca", str(guarded.stranger))):
        assert isinstance((await fetch(*more)).exception, NodeUnreachable) and not to.exists()
    assert (await fetch("--ca", str(guarded.ca))).exit_code == 0
    assert benefits_pb2.TrustBundle.FromString(to.read_bytes()) == BUNDLE


async def test_a_network_calls_its_nodes_by_what_their_endpoints_say(
    guarded: Guarded, tmp_path: Path
) -> None:
    (tmp_path / "data" / "secrets").mkdir(parents=True)

    async def named(**facts: str) -> str:
        found = Node(SEATS[0], cast(Any, None), tmp_path / "node.log", {
            "node": str(NODE), "tokens": {"officers/admin": "a.b.c"}, **facts,
            "grpc": dict.fromkeys(("membership", "sync"), guarded.address),
        })  # fmt: skip
        try:
            return (await found.sync.GetNode(sync_pb2.GetNodeRequest(), **found.call)).name
        except grpc.aio.AioRpcError as error:
            return error.code().name
        finally:
            for channel in found.to.values():
                await channel.close()

    assert await named(ca=str(guarded.ca)) == f"nodes/{NODE}"
    assert await named(ca=str(guarded.stranger)) == await named() == "UNAVAILABLE"


async def test_nothing_is_asked_in_plain_beyond_this_machine() -> None:
    """Whoever listens in between is shown a handshake, and no question."""
    heard = asyncio.get_running_loop().create_future()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set_result(await reader.read(1))
        writer.close()

    async with await asyncio.start_server(hear, "0.0.0.0", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with channel_to(f"0.0.0.0:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await BenefitsServiceStub(channel).GetTrustBundle(
                    benefits_pb2.GetTrustBundleRequest(), timeout=5
                )
        assert await heard == b"\x16"  # a TLS record
