"""What a node says when it cannot start: one line that says what to do."""

import os
import socket
from pathlib import Path

import asyncpg
import pytest

from node import databases, engines
from node.databases import as_owner
from node.problems import DatabaseTooOld
from tests.service.node.nodes import refusal


async def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = await refusal(tmp_path, more=f"[listen]\nsync = {port}\n")
    assert f"port {port} on 127.0.0.1 is taken" in line
    assert "listen.sync" in line


async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    dsn = "postgresql://me:secret@127.0.0.1:1/postgres"
    line = await refusal(tmp_path, more=f'[postgres]\ndsn = "{dsn}"\n')
    assert "postgres.dsn" in line
    assert "secret" not in line


async def test_a_dsn_that_is_none(tmp_path: Path) -> None:
    assert "postgres.dsn" in await refusal(tmp_path, more='[postgres]\ndsn = "nonsense"\n')


async def test_a_server_that_is_too_old(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "OLDEST", 99)
    with pytest.raises(DatabaseTooOld, match=r"is of version \d+; use 99 or newer"):
        await databases.create(postgres, "never", password="pass")


async def test_a_carrier_that_is_not_there(tmp_path: Path) -> None:
    line = await refusal(tmp_path, more='[nats]\nurl = "nats://127.0.0.1:1"\n')
    assert "nats.url" in line


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = f'data = "{tmp_path}/file/data"\n'
    assert "cannot write in" in await refusal(tmp_path / "node", more=config)


async def test_a_service_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_FAILS", "yes")
    line = await refusal(tmp_path, "--processes")
    assert "did not start (exit code 3)" in line


async def test_a_role_that_may_only_create_is_enough(tmp_path: Path) -> None:
    async with engines.postgres(tmp_path) as dsn:
        owner = await asyncpg.connect(dsn)
        await owner.execute("CREATE ROLE ops LOGIN PASSWORD 'ops' CREATEDB CREATEROLE")
        await owner.close()
        limited = dsn.replace(dsn.partition("//")[2].partition("@")[0], "ops:ops")
        for _ in range(2):  # Again does no harm.
            service = await databases.create(limited, "membership", password="pass")
        connection = await asyncpg.connect(as_owner(service))
        await connection.execute("CREATE TABLE members (name text)")
        await connection.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone gives the cluster to another user")
async def test_a_cluster_lies_below_a_folder_that_only_root_may_enter(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o700)
    async with engines.postgres(locked) as dsn:
        connection = await asyncpg.connect(dsn)
        assert await connection.fetchval("SHOW data_checksums") == "on"
        await connection.close()
    assert (locked / "postgres" / "cluster").stat().st_uid != 0
