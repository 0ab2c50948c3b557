"""The independent recount finds what was planted, and nothing where nothing was."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from kit import db
from kit.records import group_hash, record_hash
from node import engines, verify
from smartunion.membership.v1 import records_pb2

ROOT = Path(__file__).parents[3]
NATION, CITY = UUID(int=1), UUID(int=2)
CHENGDU = UUID(int=5101)
RANDOM = Random(51)


def a_member(organization: UUID = CHENGDU, state: int = 1) -> tuple[Any, ...]:
    """origin, id, owner_epoch, version, hash, public, organization, state, personal."""
    section = records_pb2.PublicState(
        salt=RANDOM.randbytes(16), organization=organization.bytes, state=state
    )
    public, id_ = section.SerializeToString(), UUID(int=RANDOM.getrandbits(128))
    personal = b"salt of 16 bytes" + id_.bytes
    groups = {"public": group_hash(public), "personal": group_hash(personal)}
    hash_ = record_hash("members", id_, 1, 1, groups)
    return CITY, id_, 1, 1, hash_, public, organization, state, personal


MEMBERS = [a_member() for _ in range(20)]
INSERT = "INSERT INTO members VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
BARE = [(*row[:-1], group_hash(row[-1])) for row in MEMBERS[:10]]
"""Of these members, the nation is not shown the section `personal`."""


class Network:
    """A nation with a city below it: their databases and the file of endpoints."""

    def __init__(self, folder: Path, nation: Any, dsns: dict[UUID, dict[str, str]]) -> None:
        self.nation, self._folder = nation, folder
        nodes = [
            {"node": str(NATION), "name": "全国", "parent": "", "postgres": dsns[NATION]},
            {"node": str(CITY), "name": "成都", "parent": str(NATION), "postgres": dsns[CITY]},
        ]
        self.endpoints = folder / "endpoints.json"
        self.endpoints.write_text(json.dumps({"nodes": nodes}))

    def report(self, **wrong: object) -> Path:
        """A file with what GetNetwork would say, but for what is `wrong` of the city's stream."""
        digest = sum(int.from_bytes(row[4], "big") for row in MEMBERS) % 2**128
        stream = {
            "service": "membership", "channel": "records", "digest": f"{digest:032x}",
            "counts": {"members": 20},
        }  # fmt: skip
        network = [
            {"node": str(NATION), "name": "全国", "members": 0, "subtree_members": 20,
             "streams": []},
            {"node": str(CITY), "name": "成都", "members": 20, "subtree_members": 20,
             "streams": [stream | wrong]},
        ]  # fmt: skip
        file = self._folder / "report.json"
        file.write_text(json.dumps({"network": network}))
        return file


@pytest.fixture(scope="module")
async def databases(
    postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Network, list[Any]]]:
    async with AsyncExitStack() as stack:
        dsns: dict[UUID, dict[str, str]] = {NATION: {}, CITY: {}}
        tables = []
        for node in (NATION, CITY):
            for service in sorted({kind.service for kind in verify.KINDS}):
                name = f"verify_{service}_{node.int}_{uuid4().hex}"
                dsn = await stack.enter_async_context(engines.database(postgres, name))
                dsns[node][service] = dsn
                conn = await asyncpg.connect(dsn)
                stack.push_async_callback(conn.close)
                for folder in (ROOT / "kit", ROOT / "services" / service):
                    await db.migrate(conn, folder / "migrations")
                tables += [conn] if service == "membership" else []
        yield Network(tmp_path_factory.mktemp("verify"), tables[0], dsns), tables


@pytest.fixture
async def network(databases: tuple[Network, list[Any]]) -> Network:
    network, tables = databases
    for conn, members in zip(tables, ([*BARE, *MEMBERS[10:]], MEMBERS), strict=True):
        await conn.execute("DELETE FROM members")
        await conn.executemany(INSERT, members)
    return network


async def recount(*files: Path) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "node.verify", *files, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def test_true_copies_and_a_true_report_differ_in_nothing(network: Network) -> None:
    code, said = await recount(network.endpoints, network.report())
    assert said.splitlines()[-1] == "nothing differs"
    assert "全国: members of 成都: 20 records" in said
    assert code == 0


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("DELETE FROM members WHERE id = $1", "is missing"),
        ("UPDATE members SET state = 2 WHERE id = $1", "column state is not what its section says"),
        ("UPDATE members SET organization = origin WHERE id = $1", "column organization is not"),
        ("UPDATE members SET hash = decode(repeat('00', 16), 'hex') WHERE id = $1", "hash is 0000"),
        ("UPDATE members SET version = 2 WHERE id = $1", "is in version 1.2, the owner's in 1.1"),
        ("UPDATE members SET public = '\\x12' WHERE id = $1", "its section cannot be read"),
        ("UPDATE members SET id = '00000000-0000-0000-0000-000000000009' WHERE id = $1",
         "is not the owner's"),
        ("UPDATE members SET origin = '00000000-0000-0000-0000-000000000003' WHERE id = $1",
         "which does not lie below"),
        ("UPDATE members SET personal = decode(repeat('00', 16), 'hex') WHERE id = $1", "gives"),
    ],
)  # fmt: skip
async def test_planted_damage_is_found(network: Network, damage: str, said: str) -> None:
    await network.nation.execute(damage, MEMBERS[7][1])
    code, output = await recount(network.endpoints)
    assert said in output
    assert code == 1


async def test_a_copy_that_agrees_with_itself_alone_is_found(network: Network) -> None:
    *_, public, _, state, _ = a_member(organization=NATION)
    id_ = MEMBERS[3][1]
    hash_ = record_hash("members", id_, 1, 1, {"public": group_hash(public)})
    await network.nation.execute("DELETE FROM members WHERE id = $1", id_)
    await network.nation.execute(INSERT, CITY, id_, 1, 1, hash_, public, NATION, state, None)
    code, output = await recount(network.endpoints)
    assert "has another content in the same version" in output
    assert code == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"digest": "00" * 16}, "digest of membership of 成都"),
        ({"counts": {"members": 21}}, "counts of membership of 成都"),
    ],
)
async def test_a_network_that_says_something_else_is_found(
    network: Network, wrong: dict[str, object], said: str
) -> None:
    code, output = await recount(network.endpoints, network.report(**wrong))
    assert said in output
    assert code == 1


async def test_a_database_that_is_away_is_one_line_and_no_success(
    network: Network, tmp_path: Path
) -> None:
    text = re.sub(r"@127.0.0.1:\d+", "@127.0.0.1:1", network.endpoints.read_text())
    (tmp_path / "endpoints.json").write_text(text)
    code, output = await recount(tmp_path / "endpoints.json")
    assert output.startswith("cannot recount: ")
    assert "Traceback" not in output
    assert code == 1


def test_the_recount_shares_no_code_with_the_product() -> None:
    assert verify.__file__ is not None
    source = Path(verify.__file__).read_text(encoding="utf-8")
    assert not any(f"{word} {part}" in source for word in ("from", "import")
                   for part in ("kit", "services", "smartunion"))  # fmt: skip
