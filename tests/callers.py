"""What goes with a call: the token of whoever calls."""

import functools
import time
from pathlib import Path
from uuid import UUID

from kit import tokens
from node.issuer import DevelopmentIssuer

OF_A_NODE = {"node", "secrets", "issuer", "audience", "jwks"}
"""The settings that services share if they are of one node, and know the same callers."""


def calling_as(name: str, secrets: Path, node: UUID) -> tuple[tuple[str, str], ...]:
    """Of an officer, a member, a merchant, a person or a service at the node with these secrets.
    People have just logged in."""
    return _calling_as(name, secrets, node, int(time.time() / 60))


@functools.cache
def _calling_as(name: str, secrets: Path, node: UUID, minute: int) -> tuple[tuple[str, str], ...]:
    kind, _, rest = name.partition("/")
    if kind == "services":
        key = bytes.fromhex((secrets / "token.key").read_text())
        return (("authorization", f"Bearer {tokens.sign(key, rest)}"),)
    return DevelopmentIssuer(secrets, node).metadata(name, step_up=True)
