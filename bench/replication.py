"""PostgreSQL's own logical replication, cascaded over the same two hops: the probe of two hops."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg

from bench.network import Conn
from node import ports
from node.postgres import SUPERUSER, Postgres

PASSWORD = "bench"

TABLE = """
    CREATE FUNCTION bucket(id uuid) RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE
        RETURN get_byte(uuid_send(id), 15)::smallint;
    CREATE TABLE members (
        origin uuid NOT NULL, id uuid NOT NULL, owner_epoch integer NOT NULL,
        version bigint NOT NULL, hash bytea NOT NULL, public bytea NOT NULL,
        organization uuid NOT NULL, state smallint NOT NULL, PRIMARY KEY (id, origin));
    CREATE INDEX ON members (origin, bucket(id));
    CREATE INDEX ON members (organization, id);
    CREATE PUBLICATION upward FOR TABLE members;
"""
"""As membership has it, with its indexes."""


@asynccontextmanager
async def cascade(folder: Path) -> AsyncIterator[list[Conn]]:
    """Connections to three clusters like those of nodes, the origin first; each subscribes to the
    one before."""
    async with AsyncExitStack() as stack:
        conns: list[Conn] = []
        below: Postgres | None = None
        for at in range(3):
            settings = {"wal_level": "logical"}
            server = Postgres(folder / str(at), ports.free(), PASSWORD, settings=settings)
            program = await server.start()
            stack.push_async_callback(program.stop)
            conn: Conn = await asyncpg.connect(server.dsn)
            stack.push_async_callback(conn.close)
            await conn.execute(TABLE)
            if below is not None:
                source = (
                    f"host={below.host} port={below.port} user={SUPERUSER} "
                    f"password={PASSWORD} dbname=postgres"
                )
                await conn.execute(
                    f"CREATE SUBSCRIPTION upward CONNECTION '{source}' PUBLICATION upward"
                )
            conns.append(conn)
            below = server
        yield conns
