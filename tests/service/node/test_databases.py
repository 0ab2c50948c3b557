"""Databases are for who serves there, and are removed by who made them."""

from itertools import product
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from kit import db
from node import databases, engines
from tests.eventually import eventually

FILLED = "CREATE TABLE things AS SELECT n, repeat('x', 200) FROM generate_series(1, 20000) n"


async def test_a_database_is_removed_while_autovacuum_is_at_work_in_it(tmp_path: Path) -> None:
    """Also by who is no superuser, and may not end it by force."""
    async with engines.postgres(tmp_path) as dsn:
        host = await asyncpg.connect(dsn)
        for setting in (
            "autovacuum_naptime = '1s'", "autovacuum_vacuum_cost_limit = 1",
            "autovacuum_vacuum_cost_delay = '100ms'",  # it never gets done
        ):  # fmt: skip
            await host.execute(f"ALTER SYSTEM SET {setting}")
        await host.execute("SELECT pg_reload_conf()")
        await host.execute("CREATE ROLE guest LOGIN CREATEDB PASSWORD 'test'")
        await host.execute("CREATE DATABASE things OWNER guest")
        parts = urlsplit(dsn)
        server = f"guest:test@{parts.netloc.rpartition('@')[2]}"
        inside = await asyncpg.connect(urlunsplit(parts._replace(netloc=server, path="/things")))
        await inside.execute(FILLED)
        await inside.execute("DELETE FROM things WHERE n % 2 = 0")

        async def at_work() -> None:
            assert await host.fetchval(
                "SELECT EXISTS (SELECT FROM pg_stat_activity"
                " WHERE datname = 'things' AND backend_type = 'autovacuum worker')"
            )

        await eventually(at_work)
        guest = await asyncpg.connect(urlunsplit(parts._replace(netloc=server)))
        await databases.drop_database(guest, "things")  # and the session that is inside
        assert not await host.fetchval(
            "SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'things')"
        )
        for conn in (guest, inside, host):
            await conn.close()


async def test_who_may_read_the_data_of_all_does_not_serve(tmp_path: Path) -> None:
    """Grants and policies would keep nothing from them."""
    async with engines.postgres(tmp_path) as dsn:
        url = await databases.create(dsn, "things", password="test")
        host = await asyncpg.connect(dsn)
        host_role = urlsplit(dsn).username
        await host.execute("CREATE ROLE passing BYPASSRLS; CREATE ROLE copying REPLICATION")
        mighty = ("pg_read_all_data", "passing", "copying", host_role)
        for reader, role in product(("things", "things_owner"), mighty):
            await host.execute(f"GRANT {role} TO {reader} WITH INHERIT FALSE, SET TRUE")
            with pytest.raises(db.WallMissing):
                async with db.connect(url):
                    pass
            await host.execute(f"REVOKE {role} FROM {reader}")
        await host.close()
        async with db.connect(url):
            pass
