"""What it takes to decide who calls and whether they may, by one core."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from bench.figures import Figure, Target
from kit.gate import Gate
from kit.identity import Keys, Verifier
from kit.limits import Allowances, Limits
from kit.tokens import Tokens
from node.issuer import NAME, DevelopmentIssuer

TOKENS = 500
CALLS = 20_000
PEER = "ipv4:127.0.0.1:50000"
METHOD = "/smartunion.membership.v1.MembershipService/GetMember"


async def decisions(folder: Path, runs: int) -> list[Figure]:
    """The gate's answer to a token that it knows, and to one that it sees for the first time."""
    folder.mkdir(parents=True)
    issuer = DevelopmentIssuer(folder.resolve(), "bench")
    keys = Keys(NAME, issuer.settings["jwks"])
    names = [f"officers/{number}" for number in range(TOKENS)]
    given: list[dict[str, str | bytes]] = [dict(issuer.metadata(name)) for name in names]
    known, new, bare = [], [], []
    for _ in range(runs):
        verifier = Verifier(NAME, issuer.settings["audience"], keys, person_key=bytes(32))
        neighbours = Tokens(bytes(32), None)
        gate = Gate(neighbours, verifier, Allowances(Limits()), cast(Any, None))
        new.append(await _micros(gate, given))
        known.append(await _micros(gate, given * (CALLS // TOKENS)))
        bare.append(_bare_micros())
    return [
        Figure(
            name="who calls, a token seen before", unit="µs", values=known,
            target=Target("≤", 50, of="value"),
        ),
        Figure(
            name="who calls, a new token", unit="µs", values=new, probe="ECDSA P-256 verify",
            probes=bare, target=Target("≤", 3.0),
        ),
    ]  # fmt: skip


async def _micros(gate: Gate, given: Sequence[dict[str, str | bytes]]) -> float:
    """A decision, on average."""
    began = time.perf_counter()
    for metadata in given:
        await gate.admit(METHOD, metadata, PEER)
    return (time.perf_counter() - began) / len(given) * 1e6


def _bare_micros() -> float:
    """A signature of as long a text, checked by the library alone."""
    key, message = ec.generate_private_key(ec.SECP256R1()), bytes(300)
    signature, public = key.sign(message, ec.ECDSA(hashes.SHA256())), key.public_key()
    began = time.perf_counter()
    for _ in range(TOKENS):
        public.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    return (time.perf_counter() - began) / TOKENS * 1e6
