"""How soon, and by how many bytes, a child finds where its parent's copies differ."""

from pathlib import Path

from bench.figures import Figure, Target
from node import engines
from tests.federation.scale import measure


async def search(folder: Path, runs: int) -> list[Figure]:
    """100 differences in a million records: `ListDifferences` at a child, over gRPC.

    Two nodes of the federation tests, in one process, on two databases of one server.
    """
    async with engines.postgres(folder) as postgres:
        found = await measure(postgres, folder, records=1_000_000, differences=100, runs=runs)
    seconds, passed = zip(*found, strict=True)
    return [
        Figure(
            name="100 differences in a million", unit="s", values=seconds,
            target=Target("≤", 3, of="value"),
        ),
        Figure(
            name="the same, both ways on the line", unit="kB",
            values=[sent / 1_000 for sent in passed],
            target=Target("≤", 200, of="value"),
        ),
    ]  # fmt: skip
