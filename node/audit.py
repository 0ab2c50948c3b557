"""The audit trail at the command line: smartunion audit …"""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from kit import audit, chain
from kit.chain import BEGINNING, Head
from kit.ids import uuid_of
from node import databases
from node.problems import HeadsMalformed

app = typer.Typer(help="The audit trail (审计) of a node: check it.", no_args_is_help=True)

Config = Annotated[Path, typer.Option("--config", help="The TOML file of the node, which is up.")]
ROWS = f"SELECT {audit.COLUMNS} FROM audit"
LOOK = 10_000
"""Rows behind one that is wrong in which is looked for what was done."""


@app.command()
def verify(
    config: Config,
    heads: Annotated[
        Path | None,
        typer.Option(
            "--heads",
            exists=True,
            dir_okay=False,
            help="What `audit heads` wrote at a node above, or below.",
        ),
    ] = None,
) -> None:
    """Recompute the chain of each service; exit code 1 names the first row that is wrong."""
    held = read_heads(heads.read_text(encoding="utf-8")) if heads else {}

    async def judged(service: str, conn: Any) -> str | chain.Fault:
        try:
            return await check(conn, held.get(service, ()))
        except chain.Fault as fault:
            return fault

    whole = True
    for service, found in asyncio.run(databases.each(config, judged)).items():
        typer.echo(f"{service}: {found}")
        whole = whole and not isinstance(found, chain.Fault)
    if not whole:
        raise typer.Exit(1)


@app.command()
def heads(
    config: Config,
    origin: Annotated[str, typer.Argument(help="The id of the node whose heads are wanted.")],
) -> None:
    """Print the heads of another node's trails that are kept here, for `audit verify --heads`."""
    try:
        wanted = uuid_of(origin.removeprefix("nodes/"))
    except ValueError:
        raise HeadsMalformed() from None

    async def kept(service: str, conn: Any) -> list[tuple[int, str]]:
        return await kept_heads(conn, wanted)

    typer.echo(json.dumps(asyncio.run(databases.each(config, kept)), indent=1))


def read_heads(text: str) -> dict[str, list[Head]]:
    """The heads in what `heads` wrote, by service.  Raises HeadsMalformed."""
    try:
        return {
            service: [Head(int(number), bytes.fromhex(hash_)) for number, hash_ in found]
            for service, found in json.loads(text).items()
        }
    except (ValueError, TypeError, AttributeError):
        raise HeadsMalformed() from None


async def kept_heads(conn: Any, origin: UUID) -> list[tuple[int, str]]:
    """Number and hash, in hex, of each head of a node that one service keeps."""
    rows = await conn.fetch(
        "SELECT number, hash FROM audit_heads WHERE origin = $1 ORDER BY number, hash", origin
    )
    return [(row["number"], row["hash"].hex()) for row in rows]


async def check(conn: Any, held: Sequence[Head]) -> str:
    """Recompute the trail in one database, and compare it with heads that others keep; in words.

    Raises:
        Fault: what is wrong.
    """
    wanted = {head.number for head in held}
    found, at = dict[int, bytes](), BEGINNING
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        async for part in _parts(conn):
            before = at
            at, wrong = chain.follow(before, part)
            if wrong:
                rows = await conn.fetch(
                    f"{ROWS} WHERE number >= $1 ORDER BY number LIMIT $2", wrong.number, LOOK
                )
                raise chain.Fault(chain.explain(at, [audit.row_of(row) for row in rows]))
            found |= {row.number: row.hash for row in part if row.number in wanted}
        noted = await audit.head_of(conn)
    if noted != at:
        lost = f"rows {at.number + 1} to {noted.number} are missing at the end"
        raise chain.Fault(lost if noted.number > at.number else "the head is not the last row's")
    if fault := chain.compare(held, found, at):
        raise chain.Fault(fault)
    heads = f", as {len(held):,} heads say that others keep" if held else ""
    return f"{at.number:,} rows, whole{heads}"


async def _parts(conn: Any) -> Any:
    """All rows in order of number, some thousands at a time."""
    after = 0
    while rows := await conn.fetch(
        f"{ROWS} WHERE number > $1 ORDER BY number LIMIT $2", after, LOOK
    ):
        yield [audit.row_of(row) for row in rows]
        after = rows[-1]["number"]
