"""What a node makes once, at its first start, and keeps: its id and its secrets.

data/node-id                    UUIDv7
data/secrets/                   0700, every file 0600
  node.key data.key token.key   32 bytes in hex: signs the node's logs (the seed of an Ed25519
                                key); wraps the keys that seal personal data, the first of several
                                lines, and unwraps, all of them; makes tokens of the services
  person.key                    the same: makes names of what the issuer calls people; never changed
  issuer.key issuer.jwks        of the development issuer: its P-256 key, and the public one
  tls/                          in production: see node/certificates.py
  postgres/<role>               the password of a role
  nats/operator.seed            signs accounts     nats/account.seed   signs the node's users
  nats/node.creds               for the services   nats/system.creds   to admit children
"""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kit import accounts
from kit.accounts import Key


@dataclass(frozen=True)
class NatsKeys:
    """Who may connect to a node's own NATS server."""

    operator: Key
    account: Key
    system: Key
    """The key of the account SYS."""
    node_creds: Path
    system_creds: Path


def keep(file: Path, make: Callable[[], str]) -> str:
    """The text of `file`; at first that of `make`, which a crash leaves whole or absent."""
    if file.exists():
        return file.read_text()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = make()
    write(file, text)
    return text


def write(file: Path, text: str) -> None:
    """Put `text` into `file` for its owner alone; readers see the old text or the new one."""
    draft = file.with_name(f".{file.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(descriptor)
    draft.replace(file)


def node_keys(folder: Path) -> None:
    """Make the three secrets of 32 bytes that are missing in `folder`."""
    for name in ("node.key", "data.key", "token.key", "person.key"):
        keep(folder / name, lambda: secrets.token_hex(32))


def password(folder: Path, role: str) -> str:
    """The password of a role of PostgreSQL: 48 hexadecimal digits, so it needs no quoting."""
    return keep(folder / "postgres" / role, lambda: secrets.token_hex(24))


def nats_keys(folder: Path) -> NatsKeys:
    """The keys in `folder`/nats."""
    folder = folder / "nats"
    operator_seed = keep(folder / "operator.seed", lambda: accounts.new_key("operator").seed)
    account_seed = keep(folder / "account.seed", lambda: accounts.new_key("account").seed)
    operator = accounts.key_from_seed(operator_seed)
    account = accounts.key_from_seed(account_seed)
    system = accounts.system_account(operator)
    keep(folder / "node.creds", lambda: accounts.node_creds(account, "node"))
    keep(folder / "system.creds", lambda: accounts.node_creds(system, "system"))
    return NatsKeys(operator, account, system, folder / "node.creds", folder / "system.creds")
