"""The settings that every service of a node shares, read from the environment: SMARTUNION_…"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from kit.db import PASSING, WallMissing
from kit.identity import is_loopback, is_web_address
from kit.limits import Limits

PREFIX = "SMARTUNION_"
WRONG_DATABASE = (
    *PASSING,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)
"""What a database answers, or that it does not, when its address or its rights are wrong."""


class CannotServe(Exception):
    """The service cannot start; the text says in one line what to do."""


class SecretMalformed(Exception):
    """The text says which file, never what is in it."""


class Settings(BaseSettings):
    """What a service must know of its node.  Read only by its `__main__`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, regex_engine="python-re", hide_input_in_errors=True
    )  # The input holds passwords.

    database_url: str
    """postgresql://role:password@host:port/database of this service."""
    nats_url: str = ""
    """nats://host:port of the node; empty: the node works without a carrier, slower."""
    nats_creds: str = ""
    """The path of the credentials file for it; empty: none are needed."""
    nats_ca: str = ""
    """The path of the CAs that vouch for NATS at tls://…; empty: those that the machine knows."""
    listen: str = "127.0.0.1:0"
    """host:port of the gRPC server: for people, and in development for all."""
    listen_peers: str = ""
    """host:port for services and nodes, who show certificates; needed in production."""
    listen_health: str = ""
    """host:port where nothing but its health is told, without TLS, which the probes of Kubernetes
    do not know; empty: nowhere."""
    profile: Literal["development", "production"] = "production"
    """Production: TLS on all ports, tokens of an issuer for people, certificates for the rest."""
    node: UUID
    """The id of the node."""
    node_name: str
    """The name that people know it by."""
    organization: str
    """The division code of the organisation that the node serves; `0` is the nation."""
    level: str
    """national, province, city, county, township, grassroots or group."""
    secrets: Path
    """The folder with node.key, data.key, person.key and, in development, token.key, each 32 bytes
    in hex."""
    tls: Path | None = None
    """The folder with tls.crt, tls.key and ca.crt of this service (kit/tls.py), needed in
    production; absent: `tls` among the secrets."""
    issuer: str = Field(min_length=1)
    """The OIDC issuer whose access tokens count here, as they name it (`iss`)."""
    audience: str = Field(min_length=1)
    """What such a token for this node has as `aud`; no other node takes it."""
    jwks: str = Field(default="", validate_default=True)
    """https:// address of the issuer's keys; empty: where its OIDC discovery says.  In
    development, http:// on this machine and file: are right too."""
    strong_acr: tuple[str, ...] = ()
    """What tokens have as `acr` after a login that is good enough for methods that ask for a fresh
    one, as JSON: `["phr", "phrh"]`; empty: any login is."""
    peers: dict[str, str] = Field(default={}, validate_default=True)
    """host:port of the node's services, by name, in production their `listen_peers`; `sync` is
    needed."""
    keep_days: float = 7.0
    """How many days an entry or frame is kept after all its readers have passed it: longer than
    the age of any backup that may be restored."""
    limits: Limits = Limits()
    """How much one caller may ask, as JSON: `{"reads": 100}` narrows one and leaves the rest."""

    def secret(self, name: str) -> bytes:
        """The 32 bytes of one secret.

        Raises:
            OSError: if the file cannot be read.
            SecretMalformed: if it holds something else.
        """
        path = self.secrets / name
        try:
            secret = bytes.fromhex(path.read_text().strip())
        except ValueError:
            secret = b""
        if len(secret) != 32:
            raise SecretMalformed(
                f"{path} does not hold 32 bytes in hex; write 64 hex digits there"
            )
        return secret

    @field_validator("database_url")
    @classmethod
    def _is_dsn(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            if parts.scheme in ("postgresql", "postgres") and parts.port != 0:
                return url
        except ValueError:  # Its text may quote the password.
            pass
        raise ValueError("write postgresql://role:password@host:port/database")

    @field_validator("jwks")
    @classmethod
    def _is_address(cls, jwks: str, known: ValidationInfo) -> str:
        development = known.data.get("profile") == "development"
        if development and jwks.startswith("file:///"):
            return jwks
        if not is_web_address(jwks or known.data.get("issuer", ""), loopback=development):
            raise ValueError(f"write https://…, or leave it empty if {PREFIX}ISSUER is https://…")
        return jwks

    @model_validator(mode="after")
    def _is_guarded(self) -> Self:
        host = self.listen.rpartition(":")[0].strip("[]")
        if self.profile == "development" and not is_loopback(host):
            raise ValueError(
                f"set {PREFIX}LISTEN to 127.0.0.1:…, or {PREFIX}PROFILE to production: in "
                "development there is no TLS"
            )
        if self.profile == "production" and self.nats_url and not is_guarded(self.nats_url):
            raise ValueError(f"set {PREFIX}NATS_URL to tls://…; nats:// is for this machine alone")
        return self

    @field_validator("peers")
    @classmethod
    def _has_sync(cls, peers: dict[str, str]) -> dict[str, str]:
        if "sync" not in peers:
            raise ValueError('the peer "sync" is missing; write {"sync": "host:port"}')
        return peers


def is_guarded(nats_url: str) -> bool:
    """Whether nobody between here and a NATS reads along.

    >>> [is_guarded(url) for url in ("tls://mq:4222", "nats://127.0.0.1:4222", "nats://mq:4222")]
    [True, True, False]
    """
    parts = urlsplit(nats_url)
    return parts.scheme == "tls" or is_loopback(parts.hostname or "")


@contextmanager
def explained(plain: type[Exception]) -> Iterator[None]:
    """What an operator can put right ends the process: one line on stderr, and code 1.

    Args:
        plain: an error whose own text says what to do.
    """
    try:
        yield
    except (SecretMalformed, WallMissing, plain) as error:
        sys.exit(str(error))
    except (ValidationError, SettingsError) as error:
        sys.exit(_of_settings(error))
    except WRONG_DATABASE as error:
        sys.exit(_of_surroundings(error))


def _of_settings(error: ValidationError | SettingsError) -> str:
    """Which variables are wrong, and how; never their values."""
    if isinstance(error, SettingsError):
        field = re.search(r'field "(\w+)"', str(error))
        return f"{PREFIX}{field[1].upper() if field else '…'} is wrong: it is no JSON"
    found = []
    for one in error.errors(include_url=False, include_context=False, include_input=False):
        name = f"{PREFIX}{one['loc'][0]}".upper() if one["loc"] else ""
        said = one["msg"].removeprefix("Value error, ")
        if not one["loc"]:
            found.append(said)
        else:
            found.append(f"set {name}" if one["type"] == "missing" else f"{name} is wrong: {said}")
    return "; ".join(found)


def _of_surroundings(error: Exception) -> str:
    """What could not be read or reached.  The text of a database's error may quote its row."""
    if isinstance(error, OSError) and error.filename:
        return f"cannot use {error.filename}: {error.strerror}; see {PREFIX}SECRETS"
    return (
        f"the database does not let us work ({type(error).__name__}); "
        f"start it, or set {PREFIX}DATABASE_URL right"
    )
