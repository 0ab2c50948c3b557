"""The development issuer: tokens for a node on a laptop, which has no OIDC issuer.

It is a key in the secrets of the node, and a file beside it from which the services of that node
read what belongs to it.  Nothing else takes its tokens.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt
from joserfc.jwk import ECKey

from kit.identity import PRINCIPAL
from node import keys
from node.problems import PrincipalMalformed

NAME = "smartunion-development"
LIFETIME = timedelta(hours=12)


class DevelopmentIssuer:
    """Of one node, by the key in its secrets."""

    def __init__(self, secrets: Path, node: UUID | str) -> None:
        """Makes the key if it is missing, and writes down what its services need of it."""
        scalar = int(keys.keep(secrets / "issuer.key", _new_scalar), 16)
        self._key = ECKey.import_key(ec.derive_private_key(scalar, ec.SECP256R1()))
        self._audience = f"nodes/{node}"
        jwks = secrets / "issuer.jwks"
        public = {**self._key.as_dict(private=False), "kid": self._key.thumbprint()}
        text = json.dumps({"keys": [public]})
        if not jwks.exists() or jwks.read_text() != text:
            keys.write(jwks, text)
        self.settings: dict[str, Any] = {
            "issuer": NAME,
            "audience": self._audience,
            "jwks": jwks.resolve().as_uri(),
        }
        """Of each service of the node."""

    def token(
        self, name: str, *, lifetime: timedelta = LIFETIME, at: datetime | None = None,
        step_up: bool = False,
    ) -> str:  # fmt: skip
        """A token that names `officers/…`, `members/{uuid}` or `merchants/…`; or `persons/` and
        what an issuer calls them, such as `persons/248289761001`.

        Args:
            step_up: whether they have just logged in.

        Raises:
            PrincipalMalformed: if it is none of these.
        """
        person = re.fullmatch(r"persons/(.+)", name)
        if not person and not PRINCIPAL.fullmatch(name):
            raise PrincipalMalformed(name=name)
        begins = int((at or datetime.now(UTC)).timestamp())
        claims = {
            "iss": NAME, "aud": self._audience, "sub": person[1] if person else name,
            "iat": begins, "exp": begins + int(lifetime.total_seconds()),
            **({"auth_time": begins} if step_up else {}),
        }  # fmt: skip
        header = {"alg": "ES256", "typ": "at+jwt", "kid": self._key.thumbprint()}
        return jwt.encode(header, claims, self._key, algorithms=["ES256"])

    def metadata(self, name: str, *, step_up: bool = False) -> tuple[tuple[str, str], ...]:
        """What goes with a call of somebody."""
        return (("authorization", f"Bearer {self.token(name, step_up=step_up)}"),)


def _new_scalar() -> str:
    """A private key of P-256, as 64 hex digits."""
    return f"{ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value:064x}"
