"""NATS in operator mode, from Python: who may connect to a node's NATS, and what it may say there.

    operator   signs the accounts           its key stays in the node's secrets
      SYS      takes changes of accounts    $SYS.REQ.CLAIMS.UPDATE, no file, no restart
      NODE     the node's own services      JetStream, everything; exports the service up.>, and
                                            pulling from the consumers of its stream BELOW
      <child>  one account for each child   imports up.<child>.> of NODE as its own up.>
      <subscriber>  one account for each    imports its own consumer of BELOW

What a child publishes on `up.push` arrives as `up.<child>.push`, whatever it pretends: the prefix
is in the account, which the child cannot change.  It may listen on `_INBOX_<child>.>` and nowhere
else.  A refused publish is silent on the publisher's side, so a child must always ask for a reply.

A subscriber pulls from one consumer of the stream BELOW, which the node makes for it, asks how that
stands, and acknowledges: it can ask JetStream for nothing else.  It may not make consumers, which
would let it have what is stored published on any subject of the node.

The child makes its user key and sends the public half; it gets back a JWT, never a secret.  The key
of its account is derived from the operator's, so a node has nothing to keep for each child.  The
same holds for a subscriber.

Source: NATS JWT version 2 (github.com/nats-io/jwt), nkeys (github.com/nats-io/nkeys).
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Literal

import nats.errors
import nkeys
from nats.aio.client import Client

Kind = Literal["operator", "account", "user"]

PREFIXES: dict[Kind, int] = {
    "operator": nkeys.PREFIX_BYTE_OPERATOR,
    "account": nkeys.PREFIX_BYTE_ACCOUNT,
    "user": nkeys.PREFIX_BYTE_USER,
}
UNLIMITED = -1
LIMITS = {
    "subs": UNLIMITED,
    "data": UNLIMITED,
    "payload": UNLIMITED,
    "imports": UNLIMITED,
    "exports": UNLIMITED,
    "wildcards": True,
    "conn": UNLIMITED,
    "leaf": UNLIMITED,
}
"""No limits but no JetStream either: naming its limits, even as 0, would enable it."""
JETSTREAM = {
    "mem_storage": UNLIMITED,
    "disk_storage": UNLIMITED,
    "streams": UNLIMITED,
    "consumer": UNLIMITED,
}
CHILD_LIMITS = {**LIMITS, "exports": 0, "leaf": 0, "conn": 64, "subs": 1024}
"""64 connections: those of a flapping line linger until the server's pings find them dead."""
EVERYTHING = [">"]
NEXT, INFO, ACK = "$JS.API.CONSUMER.MSG.NEXT.BELOW", "$JS.API.CONSUMER.INFO.BELOW", "$JS.ACK.BELOW"
"""Subjects on which JetStream is asked by who pulls from BELOW; the name of a consumer follows."""
API_PREFIX = "below"
"""What a subscriber's NATS client must say for `$JS.API`: under that name, its own account would
answer too, that there is no JetStream in it."""
NEVER_AGAIN = 253_402_300_799
"""Unix seconds at the end of the year 9999."""


class ClaimsRefused(Exception):
    """NATS did not take an account; the text is its reason."""


@dataclass(frozen=True)
class Key:
    """A key pair for signing, Ed25519."""

    seed: str = field(repr=False)
    """The secret half: 58 characters, the first is S."""
    public: str
    """The public half: 56 characters; the first tells the kind: O, A or U."""

    def sign(self, data: bytes) -> bytes:
        """64 bytes that prove that the holder of the seed signed `data`."""
        signature: bytes = nkeys.from_seed(bytearray(self.seed.encode())).sign(data)
        return signature


def new_key(kind: Kind) -> Key:
    """A fresh key."""
    return key_from_bytes(kind, secrets.token_bytes(32))


def key_from_bytes(kind: Kind, raw: bytes) -> Key:
    """The key whose secret is these 32 bytes."""
    return key_from_seed(nkeys.encode_seed(raw, PREFIXES[kind]).decode())


def key_from_seed(seed: str) -> Key:
    """The key with this seed, as `new_key` made it.

    Raises:
        nkeys.ErrInvalidSeed: if it is no seed.
    """
    return Key(seed, nkeys.from_seed(bytearray(seed.encode())).public_key.decode())


def child_account(operator: Key, child: str) -> Key:
    """The key of a child's account: always the same for the same operator and child."""
    return _derived(operator, f"child {child}")


def system_account(operator: Key) -> Key:
    """The key of the account SYS."""
    return _derived(operator, "system")


def _derived(operator: Key, name: str) -> Key:
    label = f"smartunion account {name}".encode()
    return key_from_bytes("account", hmac.digest(operator.seed.encode(), label, hashlib.sha256))


def operator_jwt(operator: Key, *, name: str, system_account: str) -> str:
    """The operator's statement about itself: which account (public key) is the system's."""
    return _jwt(
        operator, operator.public, name, {"type": "operator", "system_account": system_account}
    )


def account_jwt(
    operator: Key, account: str, *, name: str, limits: dict[str, Any], **claims: Any
) -> str:
    """The operator's statement about an account (public key): limits, exports, imports."""
    allow_all: dict[str, Any] = {"pub": {}, "sub": {}}
    facts = {"type": "account", "limits": limits, "default_permissions": allow_all, **claims}
    return _jwt(operator, account, name, facts)


def user_jwt(
    account: Key, user: str, *, name: str, publish: list[str], subscribe: list[str]
) -> str:
    """The account's statement about a user (public key): the subjects it may use."""
    facts = {
        "type": "user",
        "pub": {"allow": publish},
        "sub": {"allow": subscribe},
        "subs": UNLIMITED,
        "data": UNLIMITED,
        "payload": UNLIMITED,
        "allowed_connection_types": ["STANDARD"],
    }
    return _jwt(account, user, name, facts)


def creds(jwt: str, seed: str) -> str:
    """The text of a credentials file, as NATS clients read it."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


def system_account_jwt(operator: Key, account: str) -> str:
    """The account SYS; JetStream is not allowed in it."""
    return account_jwt(operator, account, name="SYS", limits=LIMITS)


def node_account_jwt(operator: Key, account: str) -> str:
    """The account NODE, in which the node's own services work."""
    up = {"name": "up", "subject": "up.>", "type": "service"}
    below = [
        {"name": subject, "subject": subject, "type": "service", "response_type": kind}
        for subject, kind in ((f"{NEXT}.*", "Stream"), (f"{INFO}.*", "Singleton"),
                              (f"{ACK}.>", "Singleton"))
    ]  # fmt: skip
    return account_jwt(
        operator, account, name="NODE", limits=LIMITS | JETSTREAM, exports=[up, *below]
    )


def node_creds(account: Key, name: str) -> str:
    """Fresh credentials of a user who may do everything within one account of the node."""
    user = new_key("user")
    jwt = user_jwt(account, user.public, name=name, publish=EVERYTHING, subscribe=EVERYTHING)
    return creds(jwt, user.seed)


def child_account_jwt(operator: Key, node: str, child: str, *, revoked_until: int = 0) -> str:
    """The account of a child, as `node` (the public key of the account NODE) serves it.

    User JWTs issued at or before `revoked_until` (Unix seconds) do not count any more.
    """
    up = {
        "name": "up",
        "type": "service",
        "account": node,
        "subject": f"up.{child}.>",
        "local_subject": "up.>",
    }
    revoked = {"revocations": {"*": revoked_until}} if revoked_until else {}
    account = child_account(operator, child).public
    return account_jwt(operator, account, name=child, limits=CHILD_LIMITS, imports=[up], **revoked)


def child_user_jwt(operator: Key, child: str, user: str) -> str:
    """What a child connects with, next to the seed that only it has; `user` is its public key."""
    account = child_account(operator, child)
    inbox = [f"{inbox_prefix(child)}.>"]
    return user_jwt(account, user, name=child, publish=["up.>"], subscribe=inbox)


def inbox_prefix(child: str) -> str:
    """The `inbox_prefix` that a child or subscriber must give its NATS client."""
    return f"_INBOX_{child}"


def subscriber_account_jwt(
    operator: Key, node: str, subscriber: str, *, revoked: bool = False
) -> str:
    """The account of a subscriber, which pulls from the consumer of its name; if it is revoked, all
    JWTs of its users count no more, whenever they were issued."""
    imports = [
        {"name": local, "type": "service", "account": node, "subject": subject,
         "local_subject": local}
        for local, subject in _subjects_of_subscriber(subscriber).items()
    ]  # fmt: skip
    revocations = {"revocations": {"*": NEVER_AGAIN}} if revoked else {}
    account = _derived(operator, f"subscriber {subscriber}").public
    return account_jwt(
        operator, account, name=subscriber, limits=CHILD_LIMITS, imports=imports, **revocations
    )


def subscriber_user_jwt(operator: Key, subscriber: str, user: str) -> str:
    """What a subscriber connects with, next to the seed that only it has."""
    account = _derived(operator, f"subscriber {subscriber}")
    inbox = [f"{inbox_prefix(subscriber)}.>"]
    publish = list(_subjects_of_subscriber(subscriber))
    return user_jwt(account, user, name=subscriber, publish=publish, subscribe=inbox)


def _subjects_of_subscriber(subscriber: str) -> dict[str, str]:
    """Those of the account NODE that a subscriber may use, by the names that it has for them."""
    asked = [f"{NEXT}.{subscriber}", f"{INFO}.{subscriber}"]
    said = f"{ACK}.{subscriber}.>"
    return {subject.replace("$JS.API", API_PREFIX): subject for subject in asked} | {said: said}


async def admit(system: Client, operator: Key, node: str, child: str) -> None:
    """Open a child's account, on a connection of the account SYS; again does no harm.

    Raises:
        ClaimsRefused: if NATS refuses or does not answer within 5 s.
    """
    await update(system, child_account_jwt(operator, node, child))


async def revoke(system: Client, operator: Key, node: str, child: str) -> None:
    """Cut a child off at once: its connections are closed, its JWTs so far do not count any more.

    To let it come back, sign a `child_user_jwt` in a later second; do not `admit` again, which
    would forget the revocation.

    Raises:
        ClaimsRefused: if NATS refuses or does not answer within 5 s.
    """
    await update(system, child_account_jwt(operator, node, child, revoked_until=int(time.time())))


async def update(system: Client, jwt: str) -> None:
    """Have NATS take an account as it is stated, on a connection of the account SYS.

    Raises:
        ClaimsRefused: if NATS refuses or does not answer within 5 s.
    """
    try:
        reply = await system.request("$SYS.REQ.CLAIMS.UPDATE", jwt.encode(), timeout=5)
    except (nats.errors.Error, TimeoutError) as error:
        raise ClaimsRefused(f"NATS did not take the account: {error or 'no answer'}") from error
    if problem := json.loads(reply.data).get("error"):
        raise ClaimsRefused(f"NATS did not take the account: {problem}")


def _jwt(signer: Key, subject: str, name: str, facts: dict[str, Any]) -> str:
    """What `signer` states about `subject` (a public key), signed.

    `jti`, the id of the statement, is a hash of the rest.
    """
    claims = {"iat": int(time.time()), "iss": signer.public, "sub": subject, "name": name}
    claims["nats"] = {**facts, "version": 2}
    digest = hashlib.sha256(json.dumps(claims).encode()).digest()
    claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
    body = f"{_base64({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_base64(claims)}"
    signature = base64.urlsafe_b64encode(signer.sign(body.encode())).rstrip(b"=").decode()
    return f"{body}.{signature}"


def _base64(value: dict[str, Any]) -> str:
    text = json.dumps(value, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
