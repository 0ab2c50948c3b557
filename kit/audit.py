"""The audit trail: who changed what, or had personal data revealed, by which office, in a table to
which rows are only added.

The gate says who acts (`acting`); every transaction of a service leaves a row when it commits
(`kit.db.Database`), so nobody who writes a use case has to think of it.  The publisher numbers the
rows and chains them (kit/chain.py), and the head of the chain stands in the certificates, so that
the nodes that read them keep a copy.

No personal data: names of resources with an id, who was named by the token, and what an officer
gave as the purpose of a reveal.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import TYPE_CHECKING, Any
from uuid import UUID

from google.protobuf.message import Message

from kit.authority import REVEAL, Scope, ScopeUndecided
from kit.chain import Head, Row, link
from smartunion.event.v1 import log_pb2

if TYPE_CHECKING:  # which imports this module
    from kit.db import Connection, Pool

BATCH = 2_000
"""Rows numbered at once."""
MOST_NAMES = 100
"""Of one row: of more that a call touches, the first."""

END = 2**62
"""Behind all rows."""

_NAME = re.compile(r"[a-z_]+/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
COLUMNS = "number, time, caller, method, office, path, names, request_id, purpose, hash"


@dataclass(slots=True)
class Act:
    """What somebody does by one call, as far as it is known yet."""

    caller: str
    method: str
    """The full name: `package.Service.Method`."""
    scope: Scope | None
    """Of an officer."""
    request: Message | None = None
    touched: dict[str, None] = field(default_factory=dict)
    """The names of resources, each once."""
    repeated: bool = False
    """Whether it was done before, by a call with the same request_id."""
    recorded: tuple[str, ...] | None = None
    """The names in the row that was committed last."""
    purpose: str = ""
    """Why personal data is revealed by it, if it is."""

    @property
    def revealed(self) -> bool:
        """Whether an officer who may reveal has said why, and the trail says so."""
        noted = self.repeated or self.recorded is not None
        permitted = self.scope is not None and self.scope.permission == REVEAL
        return bool(self.purpose) and noted and permitted

    def touch(self, *names: str) -> None:
        """Note that resources were touched."""
        for name in names:
            if len(self.touched) < MOST_NAMES:
                self.touched[name] = None

    def names(self) -> tuple[str, ...]:
        """All that were touched: those of the request come first."""
        asked = _names_in(self.request) if self.request else ()
        return tuple(dict.fromkeys((*asked, *self.touched)))[:MOST_NAMES]

    def request_id(self) -> UUID | None:
        """That of the request, if it is one; some methods do not look at it."""
        try:
            return UUID(getattr(self.request, "request_id", ""))
        except ValueError:
            return None

    def decided(self) -> dict[str, str]:
        """The office by which the caller may, by path of the organisation."""
        return {"": ""} if self.scope is None else self.scope.decided


acting: ContextVar[Act] = ContextVar("acting")
"""Set by the gate for each call of a person: an officer, a member, a merchant."""


def names_of(record: object) -> list[str]:
    """The name of a record, if it has one."""
    name = getattr(record, "name", None)
    return [name] if isinstance(name, str) and _NAME.fullmatch(name) else []


def _names_in(message: Message) -> Iterator[str]:
    """The names of resources in a request: a kind and a UUID, and nothing else."""
    for found, value in message.ListFields():
        for one in value if found.is_repeated else (value,):
            if isinstance(one, Message):
                yield from _names_in(one)
            elif isinstance(one, str) and _NAME.fullmatch(one):
                yield one.lower()  # A UUID may come in capitals, and is the same.


async def record(conn: "Connection", act: Act) -> tuple[str, ...] | None:
    """Leave a row for what the transaction has changed, one for each organisation for which it was
    decided, unless the call has left it already; the names in it, to be kept in the act after the
    commit.  A transaction that has only read leaves none, unless it had a purpose.

    Raises:
        ScopeUndecided: if an officer has done something and nobody asked whose it is.
    """
    names = act.names()
    if act.repeated or act.recorded == names:
        return act.recorded
    written = await conn.fetchval(
        """
        WITH row AS (
            INSERT INTO audit_waiting (caller, method, office, path, names, request_id, purpose)
            SELECT $1, $2, office, path, $5, $6, $7
              FROM unnest($3::text[], $4::text[]) AS decided(office, path)
             WHERE pg_current_xact_id_if_assigned() IS NOT NULL OR $7 <> ''
        )
        SELECT pg_current_xact_id_if_assigned() IS NOT NULL OR $7 <> ''
        """,
        act.caller, act.method, [*act.decided().values()], [*act.decided()], names,
        act.request_id(), act.purpose,
    )  # fmt: skip
    if not written:
        return act.recorded
    if not act.decided():
        raise ScopeUndecided(method=act.method)
    return names


async def record_all(conn: "Connection", acts: Iterable[Act]) -> None:
    """Leave a row for each of many calls that one transaction answers, of who is no officer."""
    await conn.copy_records_to_table(
        "audit_waiting",
        columns=["caller", "method", "office", "path", "names", "request_id"],
        records=[(act.caller, act.method, "", "", act.names(), act.request_id()) for act in acts],
    )


async def number(conn: "Connection") -> bool:
    """Move rows that wait into the trail, in order of position; whether there may be more.

    Only on the connection that holds the publisher's lock.
    """
    async with conn.transaction():
        taken = await conn.fetch(
            """
            DELETE FROM audit_waiting WHERE position = ANY (ARRAY(
                SELECT position FROM audit_waiting ORDER BY position LIMIT $1))
            RETURNING *
            """,
            BATCH,
        )
        head = await head_of(conn)
        rows = []
        for found in sorted(taken, key=lambda found: found["position"]):
            row = row_of(found, number=head.number + 1, hash=b"")
            row = replace(row, hash=link(head.hash, row))
            rows.append(row)
            head = Head(row.number, row.hash)
        await conn.copy_records_to_table(
            "audit",
            columns=COLUMNS.split(", "),
            records=[
                (row.number, row.time, row.caller, row.method, row.office, row.path, row.names,
                 row.request_id, row.purpose, row.hash)
                for row in rows
            ],
        )  # fmt: skip
        await conn.execute("UPDATE audit_head SET number = $1, hash = $2", head.number, head.hash)
    return len(taken) == BATCH


def row_of(found: Any, **others: Any) -> Row:
    """A row of the table, or one that waits, with what it lacks."""
    return Row(
        time=found["time"], caller=found["caller"], method=found["method"], office=found["office"],
        path=found["path"], names=found["names"], request_id=found["request_id"],
        purpose=found["purpose"],
        **(others or {"number": found["number"], "hash": found["hash"]}),
    )  # fmt: skip


async def head_of(conn: "Connection") -> Head:
    """The end of the chain."""
    return Head(*(await conn.fetchrow("SELECT number, hash FROM audit_head") or ()))


async def keep_head(conn: "Connection", origin: UUID, certificate: log_pb2.Certificate) -> None:
    """Keep what another node has certified of its trail."""
    if certificate.audit_number:
        await conn.execute(
            "INSERT INTO audit_heads VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            origin, certificate.audit_number, certificate.audit_hash,
            certificate.certify_time.ToDatetime(UTC),
        )  # fmt: skip


async def page_of_heads(
    pool: "Pool", origin: UUID, *, before: tuple[int, bytes], limit: int
) -> Sequence[Any]:
    """The heads of another node's trail that are kept here, the newest first."""
    found: Sequence[Any] = await pool.fetch(
        """
        SELECT number, hash, certify_time FROM audit_heads
         WHERE origin = $1 AND (number, hash) < ($2, $3)
         ORDER BY number DESC, hash DESC LIMIT $4
        """,
        origin, *before, limit,
    )  # fmt: skip
    return found


async def page(
    pool: "Pool", within: Sequence[str], *, all_of_node: bool, resource: str, caller: str,
    before: int, limit: int,
) -> list[Row]:  # fmt: skip
    """Rows about organisations at some paths and below, the newest first.

    Args:
        all_of_node: whether also those of who is no officer, which are about no organisation.
        resource: only those that touched it; empty: all.
        caller: only theirs; empty: everybody's.
    """
    found = await pool.fetch(
        f"""
        SELECT {COLUMNS} FROM audit
         WHERE number < $1 AND ($2 AND path = '' OR EXISTS (
                   SELECT FROM unnest($3::text[]) AS above
                    WHERE path = above OR (path >= above || '.' AND path < above || '/')))
           {"AND names @> ARRAY[$4]" if resource else "AND $4 = ''"}
           {"AND caller = $5" if caller else "AND $5 = ''"}
         ORDER BY number DESC LIMIT $6
        """,
        before, all_of_node, within, resource, caller, limit,
    )  # fmt: skip
    return [row_of(row) for row in found]


async def page_of_reveals(
    pool: "Pool", names: Sequence[str], *, before: int, limit: int
) -> list[Row]:
    """Rows that say why data of some resources was revealed, the newest first: the resource that
    was asked for is the first in its row."""
    found = await pool.fetch(
        f"""
        SELECT {COLUMNS} FROM audit WHERE names && $1 AND names[1] = ANY ($1)
           AND purpose <> '' AND number < $2
         ORDER BY number DESC LIMIT $3
        """,
        names, before, limit,
    )  # fmt: skip
    return [row_of(row) for row in found]
