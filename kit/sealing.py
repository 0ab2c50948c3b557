"""Sealing of personal data at rest, and blind indexes to search it by.

    value  ◀── sealed with ──  data key of a person, or of the node: a row of `data_keys`
                                   ▲ wrapped by
                               key-encryption key: with the KeyProvider, and in no database

A sealed value is the byte of its suite (kit/suites.py), the id of its data key, a nonce, ciphertext
and tag.  It opens only with its key and for its place.  Whoever deletes the row of a person's key
makes all unreadable that was sealed with it, wherever it lies: in tables, in the WAL, in backups.

A key-encryption key is changed by wrapping the data keys anew; what they seal stays as it is.  So
does the blind index: its key is such a row too.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from kit.config import SecretMalformed
from kit.db import Connection, Pool, to_uuid
from kit.errors import FailedPrecondition, PermissionDenied, Unavailable
from kit.suites import (
    KEY_BYTES,
    NONCE_BYTES,
    OURS,
    SUITES,
    Cipher,
    SealBroken,
    Suite,
    decrypt,
    suite_of,
    tag,
)

NODE = UUID(int=1)
"""The data key for what belongs to no person: answers kept for repeats, tokens, rows of rosters."""
INDEX = UUID(int=2)
"""The key of the blind indexes."""
KEY = "data_keys.id AS key, data_keys.kek, data_keys.wrapped"
"""Of the table `data_keys`, joined to what one of its keys sealed."""
BATCH = 1_000
"""Data keys wrapped anew at once."""
_HEAD = 1 + 16 + NONCE_BYTES


class KeyAway(Unavailable):
    message = (
        "the key that opens this is not here: key {kek} is missing in data.key; an operator of the "
        "node must put it back"
    )
    chinese = "缺少打开该数据所需的密钥：data.key 中没有密钥 {kek}；请由节点运维人员补回"


class PersonErased(FailedPrecondition):
    message = "the personal data of this person was erased; nothing is kept of them any more"
    chinese = "该人员的个人信息已被删除，不再保存其任何信息"


class KeyOutOfReach(PermissionDenied):
    message = (
        "this is about a person who is kept from you; an officer of their organisation, or of one "
        "above, may"
    )
    chinese = "该事项涉及您无权查看的人员；应由其所在组织或其上级的干部办理"


class Sealer:
    """Seals with one data key; what is sealed for one place cannot be opened at another."""

    __slots__ = ("_cipher", "_head", "_key", "_suite")

    def __init__(self, id: UUID, key: bytes, suite: Suite = OURS) -> None:
        """`key` has 32 bytes.  `suite`: by which it seals; it opens those of all."""
        self._head, self._key = bytes([suite.number]) + id.bytes, key
        self._suite, self._cipher = suite, suite.cipher(key)

    def seal(self, plain: bytes, place: str) -> bytes:
        """`plain`, readable only with this key and for the same `place`.

        Args:
            place: table, column and row, such as `raisings.text/0190…`.
        """
        nonce, head = os.urandom(NONCE_BYTES), self._head
        return head + nonce + self._cipher.encrypt(nonce, plain, head + place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """What was sealed.

        Raises:
            SealBroken: if it was altered, moved, or sealed with another key or suite.
        """
        suite, head = suite_of(sealed), sealed[:17]
        if head[1:] != self._head[1:]:
            raise SealBroken("sealed with another key")
        cipher = self._cipher if suite is self._suite else suite.cipher(self._key)
        return decrypt(cipher, sealed[17:_HEAD], sealed[_HEAD:], head + place.encode())

    def salt(self, place: str) -> bytes:
        """16 bytes that follow from the key and a place, and go with the key.  By one suite for
        ever: the record whose section it salts keeps its hash."""
        return SUITES[1].mac(self._key, b"salt/" + place.encode())[:16]


def key_of(sealed: bytes) -> UUID:
    """The id of the data key that sealed something."""
    return to_uuid(sealed[1:17])


class KeyRow(NamedTuple):
    """A row of `data_keys`."""

    id: UUID
    kek: bytes
    """Which key-encryption key wraps it: 8 bytes."""
    wrapped: bytes


class KeyProvider(Protocol):
    """Holds the key-encryption keys, and need not give them away: a file, an HSM, a KMS."""

    @property
    def current(self) -> bytes:
        """The id of the key that wraps."""

    def wrap(self, key: bytes, place: bytes) -> bytes:
        """A data key, readable only by `unwrap` for the same place, by the current key."""

    def unwrap(self, kek: bytes, wrapped: bytes, place: bytes) -> bytes:
        """What was wrapped by any key that is held.  Raises KeyAway, SealBroken."""

    def refresh(self) -> None:
        """Look whether other keys are held now."""


class FileKeys:
    """Key-encryption keys in a file: 64 hex digits a line.  The first wraps, all unwrap."""

    def __init__(self, path: Path) -> None:
        """Raises OSError, SecretMalformed."""
        self._path = path
        self._ciphers: Mapping[bytes, Mapping[int, Cipher]] = {}
        """By key and suite."""
        self.refresh()

    @property
    def current(self) -> bytes:
        return self._current

    def wrap(self, key: bytes, place: bytes) -> bytes:
        nonce, head = os.urandom(NONCE_BYTES), bytes([OURS.number])
        cipher = self._ciphers[self._current][OURS.number]
        return head + nonce + cipher.encrypt(nonce, key, head + place)

    def unwrap(self, kek: bytes, wrapped: bytes, place: bytes) -> bytes:
        if kek not in self._ciphers:
            self.refresh()
            if kek not in self._ciphers:
                raise KeyAway(kek=kek.hex())
        cipher, end = self._ciphers[kek][suite_of(wrapped).number], 1 + NONCE_BYTES
        return decrypt(cipher, wrapped[1:end], wrapped[end:], wrapped[:1] + place)

    def refresh(self) -> None:
        keys = read_keys(self._path)
        self._current = kek_id(keys[0])
        self._ciphers = {
            kek_id(key): {suite.number: suite.cipher(key) for suite in SUITES.values()}
            for key in keys
        }


def read_keys(path: Path) -> list[bytes]:
    """The keys in a file, at least one.  Raises OSError, SecretMalformed."""
    try:
        keys = [bytes.fromhex(line) for line in path.read_text().split()]
    except ValueError:
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise SecretMalformed(
            f"{path} does not hold 32 bytes in hex a line; write 64 hex digits on each"
        )
    return keys


def kek_id(key: bytes) -> bytes:
    """What names a key-encryption key and tells nothing of it: 8 bytes."""
    return OURS.mac(key, b"kek id")[:8]


class Keyring:
    """The data keys of one service, in its table `data_keys`."""

    def __init__(self, provider: KeyProvider, node: Sealer, index_key: bytes) -> None:
        self._provider, self._index_key = provider, index_key
        self.node = node
        """Seals what belongs to no person."""

    @classmethod
    async def open(cls, pool: "Connection | Pool", provider: KeyProvider) -> "Keyring":
        """The keyring of a database; the keys that every service has are made the first time.

        Raises:
            KeyAway, SealBroken: if what the provider holds does not open them.
        """
        await pool.execute(
            "INSERT INTO keks (id) VALUES ($1) ON CONFLICT DO NOTHING", provider.current
        )
        made = [_made(provider, id)[1] for id in (NODE, INDEX)]
        await pool.executemany(
            "INSERT INTO data_keys (id, kek, wrapped) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            made,
        )
        node, index = [
            provider.unwrap(row["kek"], row["wrapped"], _place(row["id"]))
            for row in await pool.fetch(
                "SELECT id, kek, wrapped FROM data_keys WHERE id = ANY ($1) ORDER BY id",
                [NODE, INDEX],
            )
        ]
        return cls(provider, Sealer(NODE, node), index)

    def index(self, name: str, value: str) -> bytes:
        """33 bytes that are equal for equal values of the same name, and tell nothing else."""
        return tag(self._index_key, f"{name}\0{value}".encode())

    def make(self, id: UUID) -> tuple[Sealer, KeyRow]:
        """A new data key, and its row, to be added in the transaction that writes what it seals."""
        return _made(self._provider, id)

    def sealer(self, row: Any) -> Sealer:
        """The data key in a row with the columns KEY.  Raises KeyAway."""
        key = self._provider.unwrap(row["kek"], row["wrapped"], _place(row["key"]))
        return Sealer(row["key"], key)

    async def add(self, conn: "Connection | Pool", rows: Sequence[KeyRow]) -> None:
        """Keep new data keys.

        One that was wrapped by a key retired meanwhile is wrapped anew: the lock on the row of
        `keks` is what whoever retires a key waits for.

        Raises:
            KeyAway: if the provider still wraps by a key that is retired.
        """
        left = await _inserted(conn, rows)
        if left:
            self._provider.refresh()
            left = await _inserted(conn, [rewrapped(self._provider, row) for row in left])
        if left:
            raise KeyAway(kek=self._provider.current.hex())

    async def of(self, conn: "Connection | Pool", id: UUID) -> Sealer:
        """The data key with an id, made if there never was one.  Whoever destroys it waits for the
        transaction.

        Raises:
            PersonErased: if it was destroyed.
            KeyOutOfReach: if it is kept from who calls.
        """
        found = f"SELECT {KEY} FROM data_keys WHERE id = $1 FOR SHARE"
        row = await conn.fetchrow(found, id)
        if row is None:
            await self.add(conn, [self.make(id)[1]])
            row = await conn.fetchrow(found, id)
        if row is None:
            raise KeyOutOfReach()
        if row["wrapped"] is None:
            raise PersonErased()
        return self.sealer(row)

    async def destroy(self, conn: "Connection | Pool", ids: Sequence[UUID]) -> None:
        """Destroy data keys, and let none be made again with their ids."""
        await conn.execute(
            """
            INSERT INTO data_keys (id) SELECT DISTINCT id FROM unnest($1::uuid[]) AS gone(id)
             ORDER BY id
            ON CONFLICT (id) DO UPDATE SET kek = NULL, wrapped = NULL
            """,
            ids,
        )

    def unseal(self, row: Any, sealed: bytes, place: str) -> bytes | None:
        """What the node sealed, or the key in a row with the columns KEY; None if that is gone."""
        if key_of(sealed) == NODE:
            return self.node.open(sealed, place)
        return self.sealer(row).open(sealed, place) if row["wrapped"] else None


async def rewrap(conn: Connection, provider: KeyProvider) -> int:
    """Wrap all data keys of a database by the key that wraps now, and retire the others; how many
    data keys that were.

    Services go on meanwhile.  Retiring a key waits for the transactions that add data keys wrapped
    by it, wraps those too, and lets nobody add more (`Keyring.add`): afterwards it opens nothing in
    the database any more.

    Raises:
        KeyAway: if a key is needed that the provider has not; then none is retired.
    """
    await conn.execute(
        "INSERT INTO keks (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET retired = false",
        provider.current,
    )
    done = await _rewrap(conn, provider)
    async with conn.transaction():
        await conn.execute(
            "UPDATE keks SET retired = true WHERE id <> $1 AND NOT retired", provider.current
        )
        return done + await _rewrap(conn, provider)


async def _rewrap(conn: Connection, provider: KeyProvider) -> int:
    done, after = 0, UUID(int=0)
    while rows := await conn.fetch(
        """
        SELECT id, kek, wrapped FROM data_keys
         WHERE kek <> $1 AND id > $2 ORDER BY id LIMIT $3
        """,
        provider.current, after, BATCH,
    ):  # fmt: skip
        new = [rewrapped(provider, KeyRow(*row)) for row in rows]
        await conn.execute(
            """
            UPDATE data_keys SET kek = new.kek, wrapped = new.wrapped
              FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS new(id, kek, wrapped)
             WHERE data_keys.id = new.id AND data_keys.wrapped IS NOT NULL
            """,  # one that is destroyed meanwhile stays so
            *zip(*new, strict=True),
        )
        done, after = done + len(rows), rows[-1]["id"]
    return done


def rewrapped(provider: KeyProvider, row: KeyRow) -> KeyRow:
    """The same data key, wrapped by the key that wraps now.  Raises KeyAway, SealBroken."""
    key = provider.unwrap(row.kek, row.wrapped, _place(row.id))
    return KeyRow(row.id, provider.current, provider.wrap(key, _place(row.id)))


def _made(provider: KeyProvider, id: UUID) -> tuple[Sealer, KeyRow]:
    key = os.urandom(KEY_BYTES)
    return Sealer(id, key), KeyRow(id, provider.current, provider.wrap(key, _place(id)))


def _place(id: UUID) -> bytes:
    return b"data_keys.wrapped/" + id.bytes


async def _inserted(conn: "Connection | Pool", rows: Sequence[KeyRow]) -> list[KeyRow]:
    """Add rows; those that were not, as the key-encryption key that wraps them is retired."""
    if not rows:
        return []
    found = await conn.fetch(
        """
        WITH held AS (
            SELECT id FROM keks WHERE id = ANY ($2) AND NOT retired FOR SHARE
        ), added AS (
            INSERT INTO data_keys (id, kek, wrapped)
            SELECT key.id, kek, wrapped
              FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS key(id, kek, wrapped)
              JOIN held ON held.id = kek
            ON CONFLICT DO NOTHING
        )
        SELECT id FROM held
        """,
        *zip(*rows, strict=True),
    )
    held = {row["id"] for row in found}
    return [row for row in rows if row.kek not in held]
