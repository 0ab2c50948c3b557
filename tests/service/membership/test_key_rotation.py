"""The key that wraps all data keys is changed, and nobody notices."""

import asyncio
import secrets
from uuid import uuid4

import asyncpg
import pytest

from kit.db import EVERYTHING
from kit.ids import uuid7
from kit.sealing import FileKeys, KeyAway, Keyring, rewrap
from services.membership.config import Settings
from smartunion.membership.v1 import membership_pb2 as pb
from tests.eventually import eventually, waiting
from tests.service.conftest import serving
from tests.service.desk import Desk


def add_key(settings: Settings) -> FileKeys:
    """A new first line of data.key; the file as it is then."""
    file = settings.secrets / "data.key"
    file.write_text(f"{secrets.token_hex(32)}\n{file.read_text()}")
    return FileKeys(file)


async def keks(desk: Desk) -> set[bytes]:
    """The keys by which something is wrapped."""
    rows = await desk.pool.fetch(
        "SELECT kek FROM data_keys UNION SELECT id FROM keks WHERE NOT retired"
    )
    return {row[0] for row in rows}


async def test_calls_go_on_while_the_key_is_changed_and_the_old_one_may_be_deleted(
    unserved: Desk,
) -> None:
    desk, settings = unserved, unserved.settings
    ended = asyncio.Event()
    made: list[str] = []

    async def calls(first: int) -> None:
        """People come and are looked at without a break; the first refusal fails the test."""
        number = first
        while not ended.is_set():
            number += 1
            approved = await desk.approve(await desk.apply(number))
            seen = await desk.ask(pb.GetMemberRequest(name=approved.member))
            assert seen.person.full_name == "张三"
            made.append(approved.member)

    async def goes_on(count: int) -> None:
        assert len(made) >= count or any(task.done() for task in callers)

    async with serving(settings):
        before = await desk.approve(await desk.apply(0))
        old = await keks(desk)
        callers = [asyncio.create_task(calls(first)) for first in (1_000, 2_000)]
        await eventually(lambda: goes_on(4))
        provider = add_key(settings)
        async with desk.pool.acquire() as conn:
            assert await rewrap(conn, provider) >= 4
        at = len(made)
        await eventually(lambda: goes_on(at + 4))
        (settings.secrets / "data.key").write_text(
            (settings.secrets / "data.key").read_text().splitlines()[0]
        )
        ended.set()
        await asyncio.gather(*callers)
        assert await keks(desk) == {provider.current} != old
    async with serving(settings):
        for member, number in ((before.member, 0), (made[0], None), (made[-1], None)):
            seen = await desk.ask(pb.GetMemberRequest(name=member))
            assert seen.person.full_name == "张三"
            if number is not None:
                search = pb.SearchMembersRequest(id_number=desk.id_number(number))
                assert [one.name for one in (await desk.ask(search)).members] == [member]


async def test_a_key_is_retired_after_those_who_use_it_and_is_used_no_more(
    unserved: Desk,
) -> None:
    desk, settings = unserved, unserved.settings
    async with serving(settings):
        pass  # Makes the keys that every service has.
    slow = await Keyring.open(desk.pool, FileKeys(settings.secrets / "data.key"))
    late = await Keyring.open(desk.pool, FileKeys(settings.secrets / "data.key"))
    early, after = slow.make(uuid7()), late.make(uuid7())
    conn, other = [
        await asyncpg.connect(settings.database_url, server_settings=EVERYTHING) for _ in range(2)
    ]
    async with conn.transaction():
        await slow.add(conn, [early[1]])
        provider = add_key(settings)
        task = asyncio.create_task(rewrap(other, provider))

        async def waits() -> None:
            assert await conn.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND datname = current_database()"
            )

        await eventually(waits)
    await task
    await other.close()
    await late.add(conn, [after[1]])
    assert await keks(desk) == {provider.current}
    rows = await conn.fetch(
        "SELECT id AS key, kek, wrapped FROM data_keys WHERE id = ANY ($1) ORDER BY id",
        [early[1].id, after[1].id],
    )
    for row, (sealer, _) in zip(rows, (early, after), strict=True):
        assert late.sealer(row).open(sealer.seal(b"x", "here"), "here") == b"x"
    await conn.close()


async def test_a_key_that_is_destroyed_while_all_are_wrapped_anew_stays_destroyed(
    unserved: Desk,
) -> None:
    settings = unserved.settings
    async with serving(settings):
        pass  # Makes the keys that every service has.
    keyring = await Keyring.open(unserved.pool, FileKeys(settings.secrets / "data.key"))
    _, row = keyring.make(uuid7())
    conn, other = [
        await asyncpg.connect(settings.database_url, server_settings=EVERYTHING) for _ in range(2)
    ]
    await keyring.add(conn, [row])
    async with conn.transaction():
        await keyring.destroy(conn, [row.id])
        task = asyncio.create_task(rewrap(other, add_key(settings)))
        await eventually(lambda: waiting(conn, 1))
    await task
    gone = "SELECT kek IS NULL AND wrapped IS NULL FROM data_keys WHERE id = $1"
    assert await conn.fetchval(gone, row.id)
    for one in (conn, other):
        await one.close()


async def test_a_service_that_starts_with_an_older_file_does_not_bring_a_key_back(
    unserved: Desk,
) -> None:
    desk, settings = unserved, unserved.settings
    async with serving(settings):
        pass  # Makes the keys that every service has.
    provider = add_key(settings)
    async with desk.pool.acquire() as conn:
        await rewrap(conn, provider)
    new, old = (settings.secrets / "data.key").read_text().split()
    (settings.secrets / "data.key").write_text(f"{old}\n{new}")
    late = await Keyring.open(desk.pool, FileKeys(settings.secrets / "data.key"))
    with pytest.raises(KeyAway):
        await late.add(desk.pool, [late.make(uuid7())[1]])
    assert await keks(desk) == {provider.current}


async def test_a_key_that_is_missing_retires_none(unserved: Desk) -> None:
    desk, settings = unserved, unserved.settings
    async with serving(settings):
        await desk.apply(1)
        held = await keks(desk)
        (settings.secrets / "data.key").write_text(secrets.token_hex(32))
        provider = FileKeys(settings.secrets / "data.key")
        async with desk.pool.acquire() as conn:
            with pytest.raises(KeyAway):
                await rewrap(conn, provider)
        assert await keks(desk) == {*held, provider.current}
        request = desk.an_application(2, request_id=str(uuid4()))
        assert (await desk.ask(request)).person.full_name == "张三", "the old one is still held"
