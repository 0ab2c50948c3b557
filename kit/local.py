"""What membership tells the other services of its node, and nobody else: who holds which office,
and which person is which member.

Membership writes these tables in its own transactions.  The others follow its channel `local`,
which never leaves the node.
"""

from collections.abc import Sequence
from uuid import UUID

from kit.bindings import BINDINGS
from kit.db import Connection
from kit.offices import OFFICES
from kit.records import Kind
from smartunion.event.v1 import log_pb2

KINDS: tuple[Kind, ...] = (OFFICES, BINDINGS)


async def put(conn: Connection, node: UUID, entries: Sequence[log_pb2.Entry]) -> None:
    """Write what membership announced.  Raises ValueError if a section is not that of its kind."""
    for kind in KINDS:
        rows = [
            (node, UUID(bytes=entry.id), entry.owner_epoch, entry.version, entry.hash,
             entry.public, *kind.parse(entry.public))
            for entry in {one.id: one for one in entries if one.kind == kind.name}.values()
        ]  # fmt: skip
        columns = ["origin", "id", "owner_epoch", "version", "hash", "public", *kind.fields]
        places = ", ".join(f"${place}" for place in range(1, len(columns) + 1))
        fresh = ", ".join(f"{column} = excluded.{column}" for column in columns[3:])
        await conn.executemany(
            f"""
            INSERT INTO {kind.table} AS held ({", ".join(columns)}) VALUES ({places})
            ON CONFLICT (id, origin) DO UPDATE SET {fresh} WHERE held.version < excluded.version
            """,
            rows,
        )


async def forget(conn: Connection) -> None:
    """Before a snapshot, which has all that there are: a restored membership may have fewer."""
    for kind in KINDS:
        await conn.execute(f"DELETE FROM {kind.table}")
