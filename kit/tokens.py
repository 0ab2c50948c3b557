"""Development tokens: who calls, vouched for by the node's own secret.

A token is `dev.{name}.{mac}`: the name of an officer or a service, such as `officers/li-na`, and a
keyed hash of it.  It is valid at the node that holds the key, and only in the development profile.
"""

import base64
import hashlib
import hmac


def sign(key: bytes, name: str) -> str:
    """The token by which the holder of `key` vouches for `name`.

    >>> sign(bytes(32), "officers/li-na")
    'dev.officers/li-na.1nWdsGFNv7f6nijiq7EkFQ'
    """
    mac = hmac.digest(key, name.encode(), hashlib.sha256)[:16]
    return f"dev.{name}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def verify(key: bytes, token: str) -> str | None:
    """The name in a token that `sign` made with the same key; None for any other text.

    >>> verify(bytes(32), sign(bytes(32), "officers/li-na"))
    'officers/li-na'
    >>> verify(bytes(32), "dev.officers/li-na.AAAA")
    """
    prefix, _, rest = token.partition(".")
    name = rest.rpartition(".")[0]
    genuine = prefix == "dev" and hmac.compare_digest(sign(key, name).encode(), token.encode())
    return name if genuine else None
