"""What all tests stand on: one real PostgreSQL for the session; each test has its own databases."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node import engines


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[str]:
    """The DSN of the superuser of a PostgreSQL server that ends with the session."""
    with tempfile.TemporaryDirectory(prefix="smartunion-") as folder:
        async with engines.postgres(Path(folder)) as dsn:
            yield dsn
