"""Homes: which node serves an organisation, and where clients reach it."""

import re
from dataclasses import dataclass
from uuid import UUID

from kit.errors import NotFound
from services.sync.domain.nodes import Node, OrganizationCodeInvalid

LENGTHS = (2, 4, 6, 9)


class HomeAbove(NotFound):
    field = "organization_code"
    message = "{code} is not served below this node; ask FindHome of the sync service at {above}"
    chinese = "{code} 不在本节点及其下级的范围内；请向 {above} 的 sync 服务调用 FindHome"


class HomeUnknown(NotFound):
    field = "organization_code"
    message = "no node is known here that serves {code}"
    chinese = "这里没有已知的节点服务于 {code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """A node, and how clients reach it."""

    node: UUID
    display_name: str
    organization_code: str
    address: str = ""
    """host:port of its gRPC services; empty if it has not said."""
    issuer: str = ""
    """Whose tokens it takes; empty if it has not said."""


def line(code: str) -> list[str]:
    """The codes of the organisations whose nodes may serve `code`, itself included.

    >>> line("510104")
    ['0', '51', '5101', '510104']

    Raises:
        OrganizationCodeInvalid: if it is no division code.
    """
    if code != "0" and not re.fullmatch(r"\d{2}|\d{4}|\d{6}|\d{9}", code, re.ASCII):
        raise OrganizationCodeInvalid(code=code[:30])
    return ["0", *(code[:length] for length in LENGTHS if length <= len(code) and code != "0")]


def own(node: Node, address: str, issuer: str) -> Home:
    """That of this node."""
    return Home(
        node=node.id, display_name=node.display_name, organization_code=node.organization_code,
        address=address, issuer=issuer,
    )  # fmt: skip
