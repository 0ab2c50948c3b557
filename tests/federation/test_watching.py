"""Who watches is told each event once, whatever order it comes in and wherever the line is cut."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc
import pytest

from node.databases import drop_database
from services.sync.domain.watching import Position, position_of
from services.sync.store.frames import Frames
from services.sync.usecases import watching
from smartunion.sync.v1.sync_pb2 import Event, EventFilter, WatchEventsRequest, WatchEventsResponse
from tests.eventually import eventually
from tests.federation import nodes
from tests.federation.conftest import Line
from tests.federation.nodes import Node
from tests.federation.test_enrollment import reason
from tests.federation.test_proof import settled
from tests.federation.things import CRY

ADMITTED = "smartunion.membership.v1.MemberAdmitted"
REASSERTED = "smartunion.event.v1.RecordReasserted"
MINE = EventFilter(types=[ADMITTED])


class Watch:
    """A call of WatchEvents that is under way."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.token = ""

    async def next(self, within: float = 10) -> WatchEventsResponse:
        async with asyncio.timeout(within):
            answer: WatchEventsResponse = await self._call.read()
        self.token = answer.resume_token
        return answer

    async def event(self, within: float = 10) -> Event:
        """The next event; only how far it has come does not count."""
        async with asyncio.timeout(within):
            while not (answer := await self.next()).HasField("event"):
                pass
        return answer.event

    async def until(self, ids: set[str]) -> list[Event]:
        """All events until those of these records have come, and at most this one twice."""
        found: list[Event] = []
        missing = set(ids)
        while missing:
            found.append(await self.event())
            missing.discard(found[-1].subject)
        return found


@asynccontextmanager
async def watch(node: Node, **asked: Any) -> AsyncIterator[Watch]:
    """Watch a node; it has begun when the block does."""
    request = WatchEventsRequest(**asked)
    async with node.sync_stub() as stub:
        call = stub.WatchEvents(request, metadata=node.token(), wait_for_ready=True)
        watched = Watch(call)
        assert not (await watched.next()).HasField("event")
        yield watched
        call.cancel()


async def refused(node: Node, **asked: Any) -> str:
    async with node.sync_stub() as stub:
        call = stub.WatchEvents(
            WatchEventsRequest(**asked), metadata=node.token(), wait_for_ready=True
        )

        async def drain() -> None:
            async for _ in call:
                pass

        return await reason(asyncio.wait_for(drain(), 30))


def names(ids: list[UUID], kind: str = "things") -> set[str]:
    return {f"{kind}/{id_}" for id_ in ids}


@pytest.fixture(scope="module")
async def city(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node]:
    """One node, alone."""
    node = await nodes.make(postgres, tmp_path_factory.mktemp("city") / "city", "5101", "city")
    await node.start()
    async with watch(node):
        pass  # it serves
    yield node
    await node.stop()


async def test_what_happens_below_is_told_above_once_and_in_the_order_of_each_record(
    line: Line,
) -> None:
    await line.city.things.add(1)
    async with watch(line.nation, filter=MINE) as seen:
        ids = await line.city.things.add(2_500)
        for version in (2, 3):
            await line.city.things.save(ids[:50], version=version)
        own = await line.nation.things.add(1)
        last = await line.city.things.add(1)
        found = await seen.until(names(ids) | names(own) | names(last))
    versions: dict[str, list[int]] = {}
    for event in found:
        versions.setdefault(event.subject, []).append(event.version)
    expected = {f"things/{id_}": [1] for id_ in ids + own + last}
    expected |= {f"things/{id_}": [1, 2, 3] for id_ in ids[:50]}
    assert {subject: versions.get(subject) for subject in expected} == expected
    assert len({event.id for event in found}) == len(found)
    event = next(event for event in found if event.subject == f"things/{last[0]}")
    assert (event.origin, event.service) == (f"nodes/{line.city.id}", "things")
    assert (event.channel, event.type, event.owner_epoch) == ("records", ADMITTED, 1)
    assert len(event.record_hash) == 16 and event.event and event.event_time.seconds


async def test_what_commits_late_is_told_though_what_came_after_was_told_before(
    city: Node,
) -> None:
    """A frame of one stream is stored and not committed; one of another stream overtakes it."""
    conn = await nodes.plain(city.databases["sync"])
    await conn.execute(
        """
        CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON frames DEFERRABLE INITIALLY DEFERRED
          FOR EACH ROW WHEN (NEW.channel = 'urgent') EXECUTE FUNCTION hold();
        SELECT pg_advisory_lock(4711)
        """
    )
    async with watch(city, filter=MINE) as seen:
        late = await city.things.add(3, kind=CRY)

        async def stored_and_held() -> None:
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            assert await conn.fetchval(waiting)

        await eventually(stored_and_held)
        early = await city.things.add(3)
        assert {event.subject for event in await seen.until(names(early))} == names(early)
        await seen.next()  # it has come past what was committed
        await conn.execute("SELECT pg_advisory_unlock(4711)")
        found = await seen.until(names(late, "cries"))
    assert {event.subject for event in found} == names(late, "cries")
    await conn.execute("DROP TRIGGER hold ON frames; DROP FUNCTION hold")
    await conn.close()


async def test_a_call_that_is_cut_anywhere_goes_on_with_each_event_exactly_once(
    city: Node,
) -> None:
    async with watch(city) as seen:
        start = seen.token
        ids = []
        for batch in (1, 7, 2, 5):  # some frames have one event, some several
            ids += await city.things.add(batch)
            await city.things.add(batch, kind=CRY)
            await asyncio.sleep(0.1)
        last = await city.things.add(1)
        found = [(await seen.event(), seen.token) for _ in range(2 * len(ids) + 1)]
    assert {event.subject for event, _ in found} >= names(ids + last)
    order = [event.id for event, _ in found]
    for at, token in enumerate([start, *(token for _, token in found[:-1])]):
        async with watch(city, resume_token=token) as again:
            assert [(await again.event()).id for _ in order[at:]] == order[at:], at


async def test_a_token_moves_on_while_nothing_passes_the_filter(city: Node) -> None:
    async with watch(city, filter=EventFilter(types=["smartunion.newer.v9.*"])) as seen:
        start = seen.token
        ids = await city.things.add(5)

        async def moved() -> None:
            answer = await seen.next(within=2 * watching.PROGRESS + 1)
            assert not answer.HasField("event") and answer.resume_token != start

        await eventually(moved)
        start = seen.token
    async with watch(city, filter=MINE, resume_token=start) as seen:
        more = await city.things.add(1)
        subjects = {event.subject for event in await seen.until(names(more))}
        assert not subjects & names(ids)


async def test_only_what_the_filter_asks_for_is_told(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "PROGRESS", 0.3)
    await settled(line, 5)
    filters = {
        "origin": EventFilter(types=["smartunion.membership.*"], origins=[f"nodes/{line.city.id}"]),
        "subtree": EventFilter(types=[ADMITTED], subtree="5101"),
        "above": EventFilter(types=[ADMITTED], subtree="51"),
        "own": EventFilter(types=[ADMITTED], origins=[f"nodes/{line.nation.id}"]),
        "nobody": EventFilter(types=["smartunion.sync.v1.NodeJoined"]),
    }
    async with watch(line.nation) as seen:
        start = seen.token
        wrote = {node.code: names(await node.things.add(3)) for node in line.all}
        await seen.until(set().union(*wrote.values()))
    passes = {"origin": ["5101"], "subtree": ["5101"], "above": ["51", "5101"],
              "own": ["0"], "nobody": []}  # fmt: skip
    for name, asked in filters.items():
        async with watch(line.nation, filter=asked, resume_token=start) as seen:
            expected = set().union(*(wrote[code] for code in passes[name]))
            assert {event.subject for event in await seen.until(expected)} == expected
            assert not (await seen.next()).HasField("event")


async def test_what_was_only_asserted_again_is_told_to_who_asks_for_it(city: Node) -> None:
    async with watch(city) as all_, watch(city, filter=EventFilter(types=[REASSERTED])) as some:
        [id_] = await city.things.add(1)
        await all_.until(names([id_]))
        await city.things.pool.execute(
            """
            INSERT INTO outbox (channel, kind, id, owner_epoch, version, before, hash, public,
                                event_id, event_type, event_time, event)
            SELECT 'records', 'things', id, owner_epoch, version, hash, hash, public, $1, $2,
                   clock_timestamp(), '' FROM things WHERE id = $3
            """,
            uuid4(), REASSERTED, id_,
        )  # fmt: skip
        assert (await some.event()).type == REASSERTED
        [after] = await city.things.add(1)
        assert (await all_.event()).subject == f"things/{after}"


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"filter": EventFilter(types=["MemberAdmitted; DROP"])}, "EVENT_TYPE_MALFORMED"),
        ({"filter": EventFilter(types=["*"])}, "EVENT_TYPE_MALFORMED"),
        ({"filter": EventFilter(types=[""])}, "EVENT_TYPE_MALFORMED"),
        ({"filter": EventFilter(types=["a"] * 101)}, "FILTER_TOO_LONG"),
        ({"filter": EventFilter(origins=["nodes/one"])}, "NAME_MALFORMED"),
        ({"filter": EventFilter(origins=[f"nodes/{uuid4()}"])}, "ORIGIN_UNKNOWN"),
        ({"filter": EventFilter(subtree="5")}, "SUBTREE_INVALID"),
        ({"filter": EventFilter(subtree="6101")}, "SUBTREE_INVALID"),
        ({"resume_token": "seven"}, "RESUME_TOKEN_MALFORMED"),
        ({"resume_token": "七" * 38}, "RESUME_TOKEN_MALFORMED"),
        ({"resume_token": "A" * 38, "from_beginning": True}, "START_AMBIGUOUS"),
        ({"resume_token": Position(uuid4(), 1).token()}, "EVENTS_REWOUND"),
        ({"resume_token": Position(uuid4(), 2**61).token()}, "EVENTS_REWOUND"),
    ],
)
async def test_what_cannot_be_meant_is_refused(city: Node, asked: Any, why: str) -> None:
    await city.things.add(1)
    assert await refused(city, **asked) == why


async def test_so_many_may_watch_and_one_more_when_one_has_gone(
    city: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "WATCHERS", 2)

    async def full() -> None:
        async with watch(city), watch(city):
            assert await refused(city) == "TOO_MANY_WATCHERS"

    for _ in range(2):
        await eventually(full)  # once those that have ended are noticed


async def free(node: Node) -> None:
    """Free frames as if no backup were ever restored."""
    conn: Any = await nodes.plain(node.databases["sync"])
    await Frames(conn).free(own=node.id, parent=False, keep=timedelta(0), detach=timedelta(30))
    await conn.close()


async def test_what_is_freed_is_refused_and_not_skipped(city: Node) -> None:
    async with watch(city, filter=MINE) as seen:
        old = seen.token
        freed = names(await city.things.add(3))
        await seen.until(freed)
        middle = seen.token
        await seen.until(names(await city.things.add(3)))

    async def quiet() -> None:
        async with watch(city) as seen:
            newest = seen.token
        await free(city)
        for token in (old, middle):
            assert await refused(city, resume_token=token) == "EVENTS_TRIMMED"
        async with watch(city, filter=MINE, resume_token=newest) as seen:  # nothing after it
            [id_] = await city.things.add(1)
            assert (await seen.event()).subject == f"things/{id_}"

    await eventually(quiet)  # a certificate may come between, and be freed
    async with watch(city, filter=MINE, from_beginning=True) as seen:
        [last] = await city.things.add(1)
        assert not freed & {event.subject for event in await seen.until(names([last]))}


async def test_a_restored_database_refuses_the_tokens_of_what_it_lost(
    postgres: str, tmp_path: Path
) -> None:
    node = await nodes.make(postgres, tmp_path / "city", "5101", "city")
    await node.start()
    async with watch(node, filter=MINE) as seen:
        await seen.until(names(await node.things.add(3)))
        kept = seen.token
    await node.stop("sync")
    await backup(postgres, node)
    await node.start("sync")
    async with watch(node, filter=MINE, resume_token=kept) as seen:
        await seen.until(names(await node.things.add(3)))
        lost = seen.token
    await node.stop("sync")
    await restore(postgres, node)
    await node.start("sync")
    assert await refused(node, resume_token=lost) == "EVENTS_REWOUND"
    async with watch(node, filter=MINE, resume_token=kept) as seen:  # what it kept is the same
        for _ in range(5):  # its numbers pass those that it lost
            await seen.until(names(await node.things.add(3)))
    assert await refused(node, resume_token=lost) == "EVENTS_REWOUND"
    await node.stop()


async def backup(postgres: str, node: Node, *, back: bool = False) -> None:
    """Copy the database of sync away, or back."""
    name = node.databases["sync"].rpartition("/")[2]
    source, target = (f"{name}_kept", name) if back else (name, f"{name}_kept")
    conn = await asyncpg.connect(postgres)
    await drop_database(conn, target)
    await conn.execute(f'CREATE DATABASE "{target}" TEMPLATE "{source}" OWNER "{name}_owner"')
    await conn.close()


async def restore(postgres: str, node: Node) -> None:
    await backup(postgres, node, back=True)


async def test_those_who_watch_are_let_go_when_the_service_drains(
    postgres: str, tmp_path: Path
) -> None:
    node = await nodes.make(postgres, tmp_path / "city", "5101", "city")
    await node.start()
    async with node.sync_stub() as stub:
        call: Any = stub.WatchEvents(
            WatchEventsRequest(), metadata=node.token(), wait_for_ready=True
        )
        token = (await call.read()).resume_token
        stop, task = node.running["sync"]
        stop.set()
        while (answer := await call.read()) is not grpc.aio.EOF:
            token = answer.resume_token
        await asyncio.wait_for(task, 10)
        assert await call.code() is grpc.StatusCode.OK
    await node.stop("things")
    node.running.pop("sync")
    await node.start()
    async with watch(node, filter=MINE, resume_token=token) as seen:
        await seen.until(names(await node.things.add(1)))
    await node.stop()


async def test_a_frame_that_is_gone_from_storage_is_said_and_comes_back(line: Line) -> None:
    await settled(line, 5)
    async with watch(line.nation, filter=MINE) as seen:
        start = seen.token
        ids = await line.city.things.add(5)
        await seen.until(names(ids))
    await settled(line, 5)
    conn = await nodes.plain(line.nation.databases["sync"])
    gone = await conn.execute(
        "DELETE FROM frames WHERE (origin, service, channel, number) ="
        " (SELECT origin, service, channel, frame FROM arrivals WHERE origin = $1"
        "   AND service = 'things' AND number > $2 ORDER BY number LIMIT 1)",
        line.city.id, position_of(start).number,
    )  # fmt: skip
    assert gone == "DELETE 1"
    await conn.close()
    assert await refused(line.nation, filter=MINE, resume_token=start) == "EVENTS_MISSING"

    async def back() -> None:
        async with watch(line.nation, filter=MINE, resume_token=start) as seen:
            found = await seen.until(names(ids))
        assert [event.subject for event in found][: len(ids)] == [f"things/{id_}" for id_ in ids]

    await eventually(back)
