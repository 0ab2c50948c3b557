"""How long and how many bytes it takes a child to find where its parent's copies differ.

.venv/bin/python -m tests.federation.scale 1000000
"""

import os
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import UUID

from kit.ids import uuid7
from node.proxy import Proxy
from smartunion.sync.v1 import sync_pb2
from tests.eventually import eventually
from tests.federation import nodes
from tests.federation.nodes import Node
from tests.federation.things import THING, change, parse, plain

MEANING = sync_pb2.Difference.Meaning


@dataclass
class Pair:
    """A child and its parent, with a line between them that counts bytes."""

    parent: Node
    child: Node
    line: Proxy

    async def fill(self, n: int) -> list[UUID]:
        """Give both so many records of the child, as if they had arrived; their ids."""
        rows = list(self._rows(n))
        for node in (self.parent, self.child):
            await node.things.pool.copy_records_to_table("things", records=rows)
            await node.things.pool.execute("ANALYZE things")
            await self._sum(node)
        return [row[1] for row in rows]

    def _rows(self, n: int) -> Iterator[tuple[Any, ...]]:
        for _ in range(n):
            new = change(uuid7(), 1, None, THING)
            yield (self.child.id, new.id, 1, 1, new.hash, new.public, *parse(new.public))

    async def _sum(self, node: Node) -> None:
        async with node.things.pool.acquire() as conn, conn.transaction():
            # Its service may be summing too, in another order of the rows.
            await conn.execute("LOCK TABLE sums IN SHARE ROW EXCLUSIVE MODE")
            await conn.execute(
                """
                INSERT INTO sums
                SELECT $1, 'records', 'things', bucket(id), count(*), modulo(sum(element(hash)))
                  FROM things WHERE origin = $1 GROUP BY bucket(id)
                ON CONFLICT (origin, channel, kind, bucket) DO UPDATE
                   SET records = excluded.records, digest = excluded.digest
                """,
                self.child.id,
            )

    async def spoil(self, ids: list[UUID], n: int) -> dict[UUID, int]:
        """Make so many records differ at the parent: lost, altered, extra; what each means."""
        pool, chosen = self.parent.things.pool, random.sample(ids, n)
        lost, altered, extra = chosen[: n // 3], chosen[n // 3 : 2 * n // 3], chosen[2 * n // 3 :]
        await pool.execute("DELETE FROM things WHERE id = ANY ($1)", lost)
        await pool.executemany(
            "UPDATE things SET hash = $2 WHERE id = $1", [(id_, os.urandom(16)) for id_ in altered]
        )
        await self.child.things.pool.execute("DELETE FROM things WHERE id = ANY ($1)", extra)
        await self._sum(self.parent)
        await self._sum(self.child)
        return (
            dict.fromkeys(lost, int(MEANING.MISSING_ABOVE))
            | dict.fromkeys(altered, int(MEANING.ALTERED_ABOVE))
            | dict.fromkeys(extra, int(MEANING.EXTRA_ABOVE))
        )

    async def list(self) -> tuple[dict[UUID, int], float, int]:
        """What differs and means what, the seconds, and the bytes on the line, both ways."""
        async with self.child.sync_stub() as stub:
            request = sync_pb2.ListDifferencesRequest(service="things", page_size=1_000)
            before, start = self.line.passed_bytes, perf_counter()
            answer = await stub.ListDifferences(request, metadata=self.child.token(), timeout=15)
            seconds, passed = perf_counter() - start, self.line.passed_bytes - before
        assert not answer.next_page_token
        return found(answer), seconds, passed


def found(answer: sync_pb2.ListDifferencesResponse) -> dict[UUID, int]:
    """What differs, and what it means."""
    return {
        UUID(one.record.removeprefix("things/")): int(one.meaning) for one in answer.differences
    }


@asynccontextmanager
async def pair(postgres: str, folder: Path) -> AsyncIterator[Pair]:
    """A city below a province, joined."""
    parent = await nodes.make(postgres, folder / "province", "51", "province")
    child = await nodes.make(postgres, folder / "city", "5101", "city")
    async with Proxy(parent.addresses["sync"]) as line:
        await parent.start()
        child.through = line.address
        await nodes.join(child, parent)
        await child.start()
        await nodes.confirm(child, parent)
        pair = Pair(parent, child, line)

        async def joined() -> None:
            await pair.list()

        await eventually(joined)
        yield pair
        for node in (child, parent):
            await node.stop()


@asynccontextmanager
async def unhealed(node: Node) -> AsyncIterator[None]:
    """Nothing is written to the log of a node's things: what differs stays so."""
    conn = await plain(node.databases["things"])
    async with conn.transaction():
        await conn.execute("LOCK TABLE outbox IN EXCLUSIVE MODE")
        yield
    await conn.close()


async def measure(
    postgres: str, folder: Path, *, records: int, differences: int, runs: int
) -> list[tuple[float, int]]:
    """The seconds and the bytes of each search for so many differences, which stay."""
    async with pair(postgres, folder) as both, unhealed(both.child):
        expected = await both.spoil(await both.fill(records), differences)
        searches = [await both.list() for _ in range(runs)]
    assert all(listed == expected for listed, _, _ in searches)
    return [(seconds, passed) for _, seconds, passed in searches]
