"""python -m bench [ROW …] [--runs N]: measure, print the table, write build/bench.json."""

import asyncio
import json
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from bench import backlog, benefits, calls, differences, gate, hops, links, memory, rosters
from bench.figures import HEADER, Figure

Row = Callable[[Path, int], Awaitable[list[Figure]]]

ROWS: dict[str, Row] = {
    "get": calls.get_member,
    "approve": calls.approve,
    "import": rosters.imports,
    "links": links.store_and_forward,
    "hop": hops.one_hop,
    "hops": hops.two_hops,
    "backlog": backlog.catch_up,
    "differences": differences.search,
    "claim": benefits.claim,
    "card": benefits.card,
    "gate": gate.decisions,
    "memory": memory.idle,
}
"""What can be measured: each starts nodes of its own, and gives one figure or more."""

console = Console(width=150)


def main(
    rows: Annotated[list[str] | None, typer.Argument(help=" ".join(ROWS))] = None,
    runs: Annotated[int, typer.Option(help="Interleaved runs; their median counts.")] = 5,
    build: Annotated[Path, typer.Option(help="The folder for all that is made.")] = Path("build"),
) -> None:
    """Measure some rows, or all."""
    chosen = rows or list(ROWS)
    if unknown := set(chosen) - set(ROWS):
        raise typer.BadParameter(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    uvloop.run(_measure(chosen, runs, build))


async def _measure(rows: list[str], runs: int, build: Path) -> None:
    figures: list[Figure] = []
    build.mkdir(parents=True, exist_ok=True)
    for row in rows:
        folder = build / "bench" / row
        shutil.rmtree(folder, ignore_errors=True)
        began = time.monotonic()
        figures += await ROWS[row](folder, runs)
        console.print(f"{row}: {time.monotonic() - began:.0f} s", style="dim")
        shutil.rmtree(folder, ignore_errors=True)
        await asyncio.to_thread(_write, build / "bench.json", figures)
    table = Table(*HEADER)
    for figure in figures:
        table.add_row(*figure.cells())
    console.print(table)


def _write(file: Path, figures: list[Figure]) -> None:
    records = [figure.record() for figure in figures]
    file.write_text(json.dumps(records, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
