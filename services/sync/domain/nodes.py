"""Nodes: what each is, and which lie below this one."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from kit.errors import InvalidArgument, NotFound

LEVELS = ("national", "province", "city", "county", "township", "grassroots", "group")


class OrganizationCodeInvalid(InvalidArgument):
    field = "organization_code"
    message = "a division code has 2, 4, 6 or 9 digits (GB/T 2260), not {code}"
    chinese = "行政区划代码应为 2、4、6 或 9 位数字，而不是 {code}"


class NodeUnknown(NotFound):
    field = "origin"
    message = "{node} is neither this node nor known to lie below it"
    chinese = "{node} 既不是本节点，也不是已知的下级节点"


def fingerprint(public_key: bytes) -> str:
    """What people compare of a key: 16 bytes of its SHA-256, in eight groups.

    >>> fingerprint(bytes(32))
    '6668:7aad:f862:bd77:6c8f:c18b:8e9f:8e20'
    """
    digits = hashlib.sha256(public_key).hexdigest()[:32]
    return ":".join(digits[at : at + 4] for at in range(0, 32, 4))


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One deployment of one level."""

    id: UUID
    parent: UUID | None
    organization_code: str
    display_name: str
    level: str
    public_key: bytes
    certificate: bytes = b""
    """Of its keys: see `kit.trust`."""


def tree(own: UUID, nodes: Iterable[Node]) -> dict[UUID, Node]:
    """The nodes below `own`, each once, parents before children.

    Who lies nearer to `own` counts: a node cannot claim one that is known above it, nor `own`.
    """
    of: dict[UUID | None, list[Node]] = {}
    for node in sorted(nodes, key=lambda node: (node.organization_code, node.id)):
        of.setdefault(node.parent, []).append(node)
    found: dict[UUID, Node] = {}
    level = of.get(own, [])
    while level:
        fresh = {node.id: node for node in level if node.id not in found and node.id != own}
        found |= fresh
        level = [child for node in fresh.values() for child in of.get(node.id, [])]
    return found


def lies_below(origin: UUID, child: UUID, own: UUID, nodes: Mapping[UUID, Node]) -> bool:
    """Whether what `origin` made may come over a child: that is the child, a node below it, or one
    that is not known yet."""
    at: UUID | None = origin if origin != own else None
    while at is not None and at != child:
        if at not in nodes:
            return at == origin  # its record travels in another stream, and may come later
        at = nodes[at].parent
    return at == child
