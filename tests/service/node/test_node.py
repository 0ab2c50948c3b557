"""A node as its operator knows it: it starts, it heals, it ends."""

import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import nats
import pytest

from node import engines
from node.databases import as_owner
from node.services import is_healthy
from tests.conftest import NATS_URL
from tests.service.node.nodes import Node, a_node, eventually, lives, refusal

PARTS = ("postgres", "nats", "membership", "benefits", "notify", "sync")


async def answers(node: Node) -> bool:
    """Whether every part of the node does what it is for."""
    try:
        for dsn in node.endpoints["postgres"].values():
            await (await asyncpg.connect(dsn, timeout=1)).close()
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return False
    return all([await is_healthy(address) for address in node.endpoints["grpc"].values()])


async def test_a_node_comes_up_and_ends_with_all_that_it_started(tmp_path: Path) -> None:
    async with a_node(tmp_path, "--processes") as node:
        facts = node.endpoints
        assert facts["name"] == "成都市总工会"
        assert (facts["level"], facts["organization"]) == ("city", "5101")
        assert facts["tokens"]["officers/admin"].count(".") == 2
        assert await answers(node)
        pids = [node.pid(part) for part in PARTS]
        assert await node.stop() == 0
    assert not [pid for pid in pids if lives(pid)]
    assert not (tmp_path / "data" / "endpoints.json").exists()


@pytest.fixture(scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    """A node for all tests that leave it as they found it."""
    async with a_node(tmp_path_factory.mktemp("node"), "--processes") as node:
        yield node


async def kill(node: Node, part: str) -> None:
    """Kill a part and wait until it is healthy again."""
    pid = node.kill(part)

    async def is_back() -> bool:
        return node.pid(part) != pid

    await eventually(is_back)


async def test_a_service_reaches_its_own_database_and_no_other(node: Node) -> None:
    membership = node.endpoints["postgres"]["membership"]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(membership.removesuffix("membership") + "sync")


async def test_no_second_node_runs_on_the_same_folder(node: Node) -> None:
    assert "another node runs on" in await refusal(node.folder)


async def test_what_is_killed_comes_back_where_it_was(node: Node) -> None:
    before = node.endpoints
    for part in PARTS:
        await kill(node, part)
    await eventually(lambda: answers(node))
    assert {**node.endpoints, "pids": {}} == {**before, "pids": {}}


async def test_a_killed_node_leaves_nothing_behind_and_keeps_its_data(tmp_path: Path) -> None:
    async with a_node(tmp_path, "--processes") as node:
        before = node.endpoints
        connection = await asyncpg.connect(as_owner(before["postgres"]["membership"]))
        await connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        connection.terminate()
        pids = [node.pid(part) for part in PARTS]
        node.kill("node")

        async def all_gone() -> bool:
            return not [pid for pid in pids if lives(pid)]

        await eventually(all_gone)
        await node.process.wait()
    os.unlink(tmp_path / "data" / "endpoints.json")
    async with a_node(tmp_path) as node:
        fresh: dict[str, Any] = {"pids": {}, "tokens": {}}
        assert {**node.endpoints, **fresh} == {**before, **fresh}
        connection = await asyncpg.connect(as_owner(before["postgres"]["membership"]))
        assert await connection.fetchval("SELECT number FROM kept") == 7
        await connection.close()


async def test_a_cluster_starts_again_while_a_backend_of_the_killed_server_lives(
    node: Node,
) -> None:
    connection = await asyncpg.connect(node.endpoints["postgres"]["sync"])
    busy = connection.get_server_pid()
    os.kill(busy, signal.SIGSTOP)  # It notices nothing, and holds the server's memory.
    await kill(node, "postgres")
    assert not lives(busy)
    connection.terminate()


async def test_the_streams_may_be_deleted_at_any_time(node: Node) -> None:
    shutil.rmtree(node.folder / "data" / "nats")
    await kill(node, "nats")
    creds = node.folder / "data" / "secrets" / "nats" / "node.creds"
    client = await nats.connect(node.endpoints["nats"], user_credentials=str(creds))
    await client.jetstream().add_stream(name="EVENTS", subjects=["smartunion.>"])
    await client.close()


async def test_a_node_works_on_servers_that_others_run(postgres: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        url, creds = NATS_URL, ""
        if not url:
            server = await stack.enter_async_context(engines.nats(tmp_path / "others"))
            url, creds = server.url, str(server.keys.node_creds)
        more = f'[postgres]\ndsn = "{postgres}"\n[nats]\nurl = "{url}"\ncreds = "{creds}"\n'
        node = await stack.enter_async_context(a_node(tmp_path, "--processes", more=more))
        assert await answers(node)
        assert node.endpoints["nats"] == url
        assert set(node.endpoints["pids"]) == {"node", "membership", "benefits", "notify", "sync"}


async def test_two_nodes_start_at_once(tmp_path: Path) -> None:
    async with a_node(tmp_path / "a") as one, a_node(tmp_path / "b") as two:
        assert one.endpoints["node"] != two.endpoints["node"]
        assert await answers(one) and await answers(two)
