"""Sync alone, on a database of its own, without parent, children and neighbours."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit import db
from kit.ids import uuid7
from kit.sealing import FileKeys, Keyring
from kit.server import KIT_MIGRATIONS
from node import databases
from services.sync.__main__ import MIGRATIONS
from services.sync.domain.nodes import Node
from services.sync.usecases import Means

KEY = Ed25519PrivateKey.generate()
OWN = Node(
    id=uuid7(), parent=None, organization_code="5101", display_name="成都", level="city",
    public_key=KEY.public_key().public_bytes_raw(),
)  # fmt: skip


@pytest.fixture
async def pool(postgres: str) -> AsyncIterator[db.Pool]:
    url = await databases.create(postgres, f"sync_{uuid4().hex}", password="test")
    async with db.connect(url, KIT_MIGRATIONS, MIGRATIONS) as pool:
        yield pool


@pytest.fixture
async def means(pool: db.Pool, tmp_path: Path) -> Means:
    (tmp_path / "data.key").write_text("00" * 32)
    with db.reaching(db.everything):
        keyring = await Keyring.open(pool, FileKeys(tmp_path / "data.key"))
    return Means(pool=pool, keyring=keyring, own=OWN, signer=KEY, services=("things",))


async def admitted(
    pool: db.Pool, code: str, *, by: UUID, public_key: bytes = b"", node: UUID | None = None
) -> UUID:
    """A node below another, as that one says."""
    node = node or uuid7()
    await pool.execute(
        """
        INSERT INTO nodes (origin, owner_epoch, version, hash, public, id, parent,
                           organization_code, display_name, level, public_key, certificate)
        VALUES ($1, 1, 1, $2, '', $3, $1, $4, $4, 'city', $5, '')
        """,
        by, bytes(16), node, code, public_key,
    )  # fmt: skip
    return node
