"""What the tables of all records have in common: SQL of it, and a row's header."""

from datetime import UTC
from typing import Any
from uuid import UUID

from kit.headers import Header
from kit.log import Change
from smartunion.event.v1.log_pb2 import Certificate

RECORD = "record.id, record.origin, record.owner_epoch, record.version, record.hash, record.public"
PATH = "(SELECT path FROM organizations WHERE organizations.id = record.organization) AS path"
"""Of the record's organisation, by which authority is decided; NULL if it is not known here."""
WITHIN = """record.organization IN (SELECT id FROM organizations
             WHERE path = $2 OR path >= $2 || '.' AND path < $2 || '/')"""


def certificate(channel: str) -> str:
    """The join that brings the certificate of copies; $1 is this node."""
    return f"""LEFT JOIN proofs ON proofs.origin = record.origin AND record.origin <> $1
                     AND proofs.channel = '{channel}'"""


def header_of(row: Any, node: UUID, salt: bytes) -> Header:
    """The header in a row of RECORD with its certificate."""
    copy = row["origin"] != node
    certify_time = None
    if row["certificate"]:
        certify_time = Certificate.FromString(row["certificate"]).certify_time.ToDatetime(UTC)
    return Header(
        origin=row["origin"], copy=copy, certify_time=certify_time,
        owner_epoch=row["owner_epoch"], version=row["version"],
        salt="" if copy else salt.hex(), hash=row["hash"].hex(),
    )  # fmt: skip


def columns_of(record: Any, change: Change) -> tuple[Any, ...]:
    """The values of origin, id, owner_epoch, version, hash, public."""
    return (
        record.header.origin, record.id, change.owner_epoch, change.version, change.hash,
        change.public,
    )  # fmt: skip
