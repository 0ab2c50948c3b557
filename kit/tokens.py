"""Tokens of the services of a node among themselves, vouched for by the node's own secret.

A token is `services/{name}.{mac}`: who calls, and a keyed hash of it, cut to 16 bytes.  Nobody but
a service can be named by one: whom people and merchants act as, the issuer says (`kit.identity`).
"""

import base64
import hmac

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
