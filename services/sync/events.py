"""What sync announces, and its kinds of record.  An event's subject is the name of its type."""

import os
from datetime import datetime
from typing import Any
from uuid import UUID

from kit.log import Change
from kit.records import DOWN, Kind
from services.sync.domain import Held, Node
from smartunion.sync.v1 import events_pb2, records_pb2


def parse(public: bytes) -> tuple[Any, ...]:
    """The fields of a section `public` of a node.  Raises ValueError if it is none."""
    section = records_pb2.PublicNode.FromString(public)
    if len(section.public_key) != 32:
        raise ValueError("a public key has 32 bytes")
    return (
        UUID(bytes=section.parent),
        section.organization_code,
        section.display_name,
        section.level,
        section.public_key,
        section.certificate,
    )


KIND = Kind(
    name="nodes",
    table="nodes",
    fields={
        "parent": "uuid",
        "organization_code": "text",
        "display_name": "text",
        "level": "text",
        "public_key": "bytea",
        "certificate": "bytea",
    },
    parse=parse,
    may=lambda origin, values: bool(values[0] == origin),  # a parent speaks of its own children
)


def parse_trusted(public: bytes) -> tuple[Any, ...]:
    """The fields of a section `public` of a key that was handed down."""
    return (records_pb2.PublicTrustedKey.FromString(public).certificate,)


TRUSTED = Kind(
    name="trusted_keys",
    table="trusted_keys",
    fields={"certificate": "bytea"},
    parse=parse_trusted,
    channel=DOWN,
)


def joined(node: Node, *, at: datetime) -> Change:
    """The record of a child that was admitted, new, and the event that announces it."""
    return Change(
        kind=KIND, id=node.id, version=1, before=None, public=_public(node, os.urandom(16)),
        event=events_pb2.NodeJoined(
            node=f"nodes/{node.id}", organization=f"organizations/{node.organization_code}"
        ),
        event_time=at,
    )  # fmt: skip


def certified(node: Node, held: Held, *, at: datetime) -> Change:
    """The record of a child whose keys were certified again."""
    salt = records_pb2.PublicNode.FromString(held.public).salt
    return Change(
        kind=KIND, id=node.id, version=held.version + 1, before=held.hash,
        public=_public(node, salt), event=events_pb2.NodeCertified(node=f"nodes/{node.id}"),
        event_time=at,
    )  # fmt: skip


def handed_down(node: UUID, certificate: bytes, held: Held | None, *, at: datetime) -> Change:
    """The record of a node's key, for all nodes below."""
    salt = records_pb2.PublicTrustedKey.FromString(held.public).salt if held else os.urandom(16)
    section = records_pb2.PublicTrustedKey(salt=salt, certificate=certificate)
    return Change(
        kind=TRUSTED, id=node, version=held.version + 1 if held else 1,
        before=held.hash if held else None,
        public=section.SerializeToString(deterministic=True),
        event=events_pb2.KeyHandedDown(node=f"nodes/{node}"), event_time=at,
    )  # fmt: skip


def _public(node: Node, salt: bytes) -> bytes:
    assert node.parent is not None
    section = records_pb2.PublicNode(
        salt=salt,
        parent=node.parent.bytes,
        organization_code=node.organization_code,
        display_name=node.display_name,
        level=node.level,
        public_key=node.public_key,
        certificate=node.certificate,
    )
    return section.SerializeToString(deterministic=True)
