"""Tokens of the services of a node among themselves, vouched for by the node's own secret: in
development, where they show no certificates (`kit.tls`).

A token is `services/{name}.{mac}`: who calls, and a keyed hash of it, cut to 16 bytes.  Nobody but
a service can be named by one: whom people and merchants act as, the issuer says (`kit.identity`).
"""

import base64
import hmac
from collections.abc import Awaitable, Callable

from kit import suites


def sign(key: bytes, service: str) -> str:
    """The token by which the holder of `key` vouches for a service.

    >>> sign(bytes(32), "sync")
    'services/sync.Adk_lX6VppDAKicrIAygbQ'
    """
    name = f"services/{service}"
    mac = suites.tag(key, name.encode())[:16]
    return f"{name}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def verify(key: bytes, token: str) -> str | None:
    """The name in a token that `sign` made with the same key; None for any other text.

    >>> verify(bytes(32), sign(bytes(32), "sync"))
    'services/sync'
    >>> verify(bytes(32), "services/sync.AAAA")
    """
    name = token.rpartition(".")[0]
    genuine = sign(key, name.removeprefix("services/"))
    return name if hmac.compare_digest(genuine.encode(), token.encode()) else None


class Tokens:
    """Whom a token names that no issuer made."""

    def __init__(self, key: bytes, child: Callable[[str], Awaitable[str | None]] | None) -> None:
        """`child`: the name of the child node that a link token belongs to, if any."""
        self._key, self._child = key, child

    async def name(self, token: str, shown: str) -> str | None:
        """`services/…` of this node, or `nodes/…` below; None if it is nobody's.  No certificate is
        shown here."""
        found = verify(self._key, token)
        if found is None and self._child is not None and token:
            found = await self._child(token)
        return found
