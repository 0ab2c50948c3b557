"""What sync announces, and its kind of record.  An event's subject is the name of its type."""

import os
from datetime import datetime
from typing import Any
from uuid import UUID

from kit.log import Change
from kit.records import Kind
from services.sync.domain import Node
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
    },
    parse=parse,
    may=lambda origin, values: bool(values[0] == origin),  # a parent speaks of its own children
)


def joined(node: Node, *, at: datetime) -> Change:
    """The record of a child that was admitted, new, and the event that announces it."""
    assert node.parent is not None
    section = records_pb2.PublicNode(
        salt=os.urandom(16),
        parent=node.parent.bytes,
        organization_code=node.organization_code,
        display_name=node.display_name,
        level=node.level,
        public_key=node.public_key,
    )
    event = events_pb2.NodeJoined(
        node=f"nodes/{node.id}", organization=f"organizations/{node.organization_code}"
    )
    return Change(
        kind=KIND,
        id=node.id,
        version=1,
        before=None,
        public=section.SerializeToString(deterministic=True),
        event=event,
        event_time=at,
    )
