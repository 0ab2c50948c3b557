"""The import of rosters, beside COPY of the rows that it writes."""

import time
from datetime import date
from pathlib import Path

from bench.figures import Figure, Target
from bench.memory import peak_mb
from bench.network import Conn, database, running
from node.officers import imported
from node.people import Crowd, roster
from smartunion.membership.v1 import membership_pb2 as pb

ROWS = 100_000
LONGEST = 600.0
"""Seconds that an import gets."""
TABLES = ("people", "members", "admissions", "roster_rows", "entries")
"""What an import writes; its outbox rows have become entries."""


async def imports(folder: Path, runs: int) -> list[Figure]:
    """Rows a second from the first byte uploaded to DONE, with all checks; and the memory."""
    values, probes, peaks = [], [], []
    for run in range(runs):  # A node each: its tables are as large, and its peak its own.
        content = roster(
            Crowd(run).people(ROWS, "5101"), approval="川工〔2026〕1号", approved=date(2026, 3, 1)
        )
        async with running(folder / str(run), "0") as network, database(network.top) as conn:
            began = time.perf_counter()
            async for found in imported(network.top, content, within=LONGEST):
                last = found
            values.append(ROWS / (time.perf_counter() - began))
            assert last.state == pb.Roster.DONE and last.admitted_rows == ROWS
            peaks.append(peak_mb(network.top.facts["pids"]["membership"]))
            probes.append(ROWS / await copied(conn))
    return [
        Figure(
            name="import of 100,000 rows", unit="rows/s", values=values,
            probe="COPY of what it writes", probes=probes, target=Target("≥", 0.25),
        ),
        Figure(
            name="import, most memory of the services", unit="MB", values=peaks,
            target=Target("≤", 300, of="value"),
        ),
    ]  # fmt: skip


async def copied(conn: Conn) -> float:
    """Seconds that COPY takes for the same rows into tables like theirs."""
    seconds = 0.0
    await conn.execute("CREATE SCHEMA bench")
    for table in TABLES:
        await conn.execute(f"CREATE TABLE bench.{table} (LIKE {table} INCLUDING ALL)")
        rows = await conn.fetch(f"SELECT * FROM {table} LIMIT $1", ROWS)
        began = time.perf_counter()
        await conn.copy_records_to_table(table, schema_name="bench", records=map(tuple, rows))
        seconds += time.perf_counter() - began
    return seconds
