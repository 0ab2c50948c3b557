"""The second wall: what the database itself keeps from a query that forgets whose the data is."""

import asyncio
import random
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import pytest

from kit import db
from kit.authority import Scope
from kit.ids import uuid7
from kit.sealing import FileKeys, Keyring
from services.membership.store.people import PERSON, WITH_KEY, opened, sealer_in
from smartunion.membership.v1 import membership_pb2 as pb
from tests.builders import a_roster
from tests.service.desk import Desk

FORGETFUL = f"SELECT person.id, {PERSON} FROM people person {WITH_KEY} WHERE person.id = ANY ($1)"
"""A query that asks for no scope."""


@dataclass
class Wall:
    """People of two streets, and a pool such as the service works with."""

    pool: db.Pool
    keyring: Keyring
    street: str
    """The path of the one street."""
    here: UUID
    """Who applied in it."""
    there: UUID
    """Who applied elsewhere."""
    member: UUID
    """Who was admitted in it."""
    imported: UUID
    """Who came to it with a roster."""

    async def seen(self, *names: str) -> set[UUID]:
        """Whose names the forgetful query reads, where the session reaches so far."""
        with db.reaching(lambda: names):
            return await self.read(self.pool)

    async def read(self, conn: "db.Connection | db.Pool") -> set[UUID]:
        """Whose names the forgetful query reads."""
        rows = await conn.fetch(FORGETFUL, [self.here, self.there, self.member, self.imported])
        people = {row["id"]: opened(sealer_in(self.keyring, row), row) for row in rows}
        return {
            id_ for id_, person in people.items() if person and person.full_name.startswith("张三")
        }


async def sibling_of(desk: Desk) -> str:
    """The code of a street elsewhere."""
    code: str = await desk.pool.fetchval(
        "SELECT code FROM organizations WHERE level = 5 AND left(code, 6) <> $1 LIMIT 1",
        desk.code[:6],
    )
    return code


@pytest.fixture
async def wall(membership: Desk) -> AsyncIterator[Wall]:
    desk = membership
    elsewhere = await sibling_of(desk)
    here, admitted = await desk.apply(1), await desk.approve(await desk.apply(2))
    there = await desk.apply(3, parent=f"organizations/{elsewhere}")
    street = await desk.pool.fetchval("SELECT path FROM organizations WHERE code = $1", desk.code)
    keyring = await Keyring.open(desk.pool, FileKeys(desk.settings.secrets / "data.key"))
    [row] = await desk.rows(await desk.bring(a_roster(desk.member_rows([5]))))
    names = here.name, there.name, admitted.member, row.record
    people = [UUID(name.partition("/")[2]) for name in names]
    async with db.connect(desk.settings.database_url) as pool:
        yield Wall(pool, keyring, street, *people)


async def test_a_query_that_forgets_its_scope_reads_nobodys_name_but_who_is_in_reach(
    wall: Wall,
) -> None:
    here, there, member, imported = wall.here, wall.there, wall.member, wall.imported
    assert await wall.seen(f"{wall.street}.") == {here, member, imported}
    assert await wall.seen(f"{wall.street.rpartition('.')[0]}.") == {here, member, imported}
    assert await wall.seen(f"{wall.street}1.", f"{wall.street}.1.") == set()
    assert await wall.seen(f"members/{member}") == {member}
    assert await wall.seen("members/", "officers/li-na", "merchants/a") == set()
    assert await wall.seen(f"members/{imported}") == {imported}
    assert await wall.seen(*db.everything()) == {here, there, member, imported}


async def test_a_session_that_nobody_has_given_a_reach_reads_nobodys_name(
    wall: Wall, membership: Desk
) -> None:
    assert await wall.seen() == set()
    assert await wall.read(wall.pool) == set()
    conn = await asyncpg.connect(membership.settings.database_url)
    assert await wall.read(conn) == set()
    await conn.close()


async def test_a_method_that_forgets_its_scope_shows_nobody_elses_name(
    membership: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, sibling = membership, f"officers/sibling-{membership.code}"
    application = await desk.apply(4)
    street = await sibling_of(desk)
    await desk.appoint(sibling, f"organizations/{street}", role="MEMBERSHIP")
    asked = pb.GetApplicationRequest(name=application.name)
    assert (await desk.refusal(asked, officer=sibling)).reason == "OUTSIDE_SCOPE"

    def forget(scope: Scope, path: str | None) -> None:
        scope.decided[""] = ""

    monkeypatch.setattr(Scope, "check", forget)
    assert (await desk.ask(asked)).person.full_name
    shown = await desk.ask(asked, officer=sibling)
    assert shown.name == application.name and not shown.HasField("person")


async def test_a_section_of_a_copy_is_kept_from_a_query_that_forgets_its_scope(
    wall: Wall, membership: Desk
) -> None:
    copy, section = uuid7(), "赫连勃勃".encode() * 4
    await membership.pool.execute(
        """
        INSERT INTO members (origin, id, owner_epoch, version, hash, public, organization, state,
                             personal)
        SELECT $1, $1, 1, 1, $2, '', id, 1, $3 FROM organizations WHERE path = $4
        """,
        copy, bytes(16), section, wall.street,
    )  # fmt: skip

    async def seen(*names: str) -> object:
        with db.reaching(lambda: names):
            return await wall.pool.fetchval("SELECT personal FROM members_held WHERE id = $1", copy)

    assert await seen() is None and await seen(f"{wall.street}1.") is None
    assert await seen(f"{wall.street}.") == await seen(*db.everything()) == section
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await wall.pool.fetchval("SELECT personal FROM members WHERE id = $1", copy)


async def test_connections_that_serve_one_caller_after_another_mix_nothing(wall: Wall) -> None:
    """Some of the callers go away while they are served."""
    street = {wall.here, wall.member, wall.imported}
    cases: Sequence[tuple[Sequence[str], Collection[UUID]]] = [
        ((f"{wall.street}.",), street),
        ((f"members/{wall.member}",), {wall.member}),
        ((), set()),
        (db.everything(), {*street, wall.there}),
    ]
    chance = random.Random(24)

    async def call(names: Sequence[str], expected: Collection[UUID]) -> None:
        assert await wall.seen(*names) == expected

    calls = [asyncio.create_task(call(*chance.choice(cases))) for _ in range(300)]
    while left := [one for one in calls if not one.done()]:
        if chance.random() < 0.3:
            chance.choice(left).cancel()
        await asyncio.sleep(0)
        await asyncio.wait(left, timeout=0.001, return_when=asyncio.FIRST_COMPLETED)
    for one in calls:
        with suppress(asyncio.CancelledError):
            one.result()
    assert sum(not one.cancelled() for one in calls) > 50
