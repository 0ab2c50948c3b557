"""What an idle node holds of the machine's memory."""

import asyncio
from pathlib import Path

from bench.figures import Figure, Target
from bench.network import running

SETTLED = 10.0
"""Seconds after which a node that does nothing is looked at."""


async def idle(folder: Path, runs: int) -> list[Figure]:
    """All processes of a node alone: its services, PostgreSQL and NATS; shared pages once."""
    values = []
    for run in range(runs):
        async with running(folder / str(run), "0") as network:
            await asyncio.sleep(SETTLED)
            values.append(sum(map(proportional_mb, family(network.top.program.pid))))
    return [Figure(name="idle node", unit="MB", values=values, target=Target("≤", 400, of="value"))]


def family(pid: int) -> list[int]:
    """A process and all below it (Linux)."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # It has ended.
        parents[int(stat.parent.name)] = int(after_name[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def proportional_mb(pid: int) -> float:
    """Its memory, of what is shared its share: PSS."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def peak_mb(pid: int) -> float:
    """The most that a process has held at once: VmHWM."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0
