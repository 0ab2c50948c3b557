"""Benefits: a rush on a programme beside one hot row, and cards beside their bare signatures."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.figures import Figure, Target
from bench.network import organization_of, origin_of, running
from kit.db import Database
from kit.headers import new_header
from kit.ids import uuid7
from kit.rpc import Call
from kit.sealing import FileKeys, Keyring
from kit.tree import Organizations
from kit.trust import NodeKey
from kit.wire import CHANNEL_OPTIONS
from node.databases import as_owner
from node.network import Node
from services.benefits import events
from services.benefits.domain import lists, programmes, tokens
from services.benefits.domain.lists import StatusList
from services.benefits.domain.programmes import Programme, Share
from services.benefits.domain.tokens import Token
from services.benefits.domain.verification import Finding, verify
from services.benefits.store import Reads, Store
from services.benefits.usecases import Means
from services.benefits.usecases.claims import Claims
from smartunion.benefits.v1 import benefits_pb2 as pb
from smartunion.benefits.v1.benefits_pb2_grpc import MyCouponServiceStub

CALLERS = 64
CLAIMS = 4_000
"""In one run of each kind: all that the programme has."""
CARDS = 2_000
"""Signed and checked in one run."""

Work = Callable[[UUID], Awaitable[object]]


async def claim(folder: Path, runs: int) -> list[Figure]:
    """Coupons claimed a second: the use case, which is what the probe does, and over gRPC."""
    use_case, over_grpc, probes = [], [], []
    async with running(folder, "0") as network, pool(network.top) as own:
        means = await _means(network.top, own)
        members = await _enrol(own, organization_of(network.top))
        async with calling(network.top) as call:
            for _ in range(runs):
                probes.append(await rate(await _hot_row(own), members))
                claims, one = Claims(means), await _programme(means)

                async def claimed(
                    member: UUID, claims: Claims = claims, one: Programme = one
                ) -> object:
                    wish = Call(f"members/{member}", "claim", uuid4(), bytes(32))
                    return await claims.claim(one.id, member=member, call=wish)

                use_case.append(await rate(claimed, members))
                programme = (await _programme(means)).name
                over_grpc.append(await rate(call(programme, members), members))
    probe = "one hot row, conditional update"
    return [
        Figure(
            name=f"claim, the use case, {CALLERS} at once", unit="claims/s", values=use_case,
            probe=probe, probes=probes, target=Target("≥", 5.0),
        ),
        Figure(
            name=f"claim over gRPC, {CALLERS} callers", unit="claims/s", values=over_grpc,
            probe=probe, probes=probes, target=Target("≥", 5.0),
        ),
    ]  # fmt: skip


@asynccontextmanager
async def pool(node: Node) -> AsyncIterator["asyncpg.Pool[Any]"]:
    """As many connections to the database of benefits as the service itself may have."""
    dsn = node.facts["postgres"]["benefits"]
    async with asyncpg.create_pool(as_owner(dsn), min_size=10, max_size=10) as own:
        yield own


async def _means(node: Node, own: "asyncpg.Pool[Any]") -> Means:
    secrets = node.log.with_name("data") / "secrets"
    keyring = await Keyring.open(own, FileKeys(secrets / "data.key"))
    origin = origin_of(node)
    return Means(
        database=Database(own, lambda conn: Store(conn, keyring, origin)),
        reads=Reads(own, keyring, origin), node=origin,
        home=await Organizations(own).get(organization_of(node)),
        key=Ed25519PrivateKey.generate(), card_valid=timedelta(days=30),
    )  # fmt: skip


async def _enrol(own: "asyncpg.Pool[Any]", organization: UUID) -> list[UUID]:
    """Members on the roll."""
    members = [uuid7() for _ in range(CLAIMS)]
    await own.copy_records_to_table(
        "roll", columns=["id", "version", "organization", "active"],
        records=[(member, 1, organization, True) for member in members],
    )  # fmt: skip
    return members


async def _programme(means: Means) -> Programme:
    """A programme with a coupon for each member."""
    at = means.clock()
    programme = programmes.create(
        id=uuid7(), header=new_header(means.node), organization=means.home.id, title="bench",
        face_value_fen=100, shares=[Share(node=means.node, stock=CLAIMS)],
        claim_start_time=at, claim_end_time=at + timedelta(days=1),
        use_by_time=at + timedelta(days=1),
    )  # fmt: skip
    draft = programmes.Draft(programme=programme, creator="officers/bench")
    _, fact = draft.open(by="officers/other", at=at)
    async with means.database.transaction() as store:
        change = events.of_programme(programme, fact)
        await store.programmes.add(programme, change)
        await store.outbox.put(change)
    return programme


async def _hot_row(own: "asyncpg.Pool[Any]") -> Work:
    """Bare: a claim is a row, and takes one from the only row of a stock, in one transaction."""
    await own.execute("DROP TABLE IF EXISTS bench_stock, bench_claims")
    await own.execute("CREATE TABLE bench_stock (remaining bigint NOT NULL)")
    await own.execute("CREATE TABLE bench_claims (member uuid PRIMARY KEY, time timestamptz)")
    await own.execute("INSERT INTO bench_stock VALUES ($1)", CLAIMS)

    async def take(member: UUID) -> object:
        async with own.acquire() as conn, conn.transaction():
            await conn.execute("INSERT INTO bench_claims VALUES ($1, now())", member)
            return await conn.fetchval(
                "UPDATE bench_stock SET remaining = remaining - 1 WHERE remaining > 0"
                " RETURNING remaining"
            )

    return take


@asynccontextmanager
async def calling(node: Node) -> AsyncIterator[Callable[[str, Sequence[UUID]], Work]]:
    """How members claim of a programme at a node."""
    address = node.facts["grpc"]["benefits"]
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        stub: Any = MyCouponServiceStub(channel)

        def of(programme: str, members: Sequence[UUID]) -> Work:
            tokens = {member: node.issuer.metadata(f"members/{member}") for member in members}

            async def claim(member: UUID) -> object:
                request = pb.ClaimCouponRequest(programme=programme, request_id=str(uuid4()))
                return await stub.ClaimCoupon(request, metadata=tokens[member])

            return claim

        yield of


async def rate(work: Work, members: Sequence[UUID]) -> float:
    """How many a second, each member once, so many callers at once."""
    left = iter(members)

    async def caller() -> None:
        for member in left:
            await work(member)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return len(members) / (time.perf_counter() - began)


async def card(folder: Path, runs: int) -> list[Figure]:
    """Cards signed and checked a second by one core, from and to the text of the QR code."""
    key, at = Ed25519PrivateKey.generate(), datetime.now(UTC)
    public, node = key.public_key(), uuid7()
    own = NodeKey(
        node=node, parent=None, organization_code="0", level="national",
        public_key=public.public_bytes_raw(), seal_key=bytes(32),
    )  # fmt: skip
    token = Token(
        node=node, card=uuid7(), code="510104017", status_index=77, sign_time=at,
        begin_time=at - tokens.SKEW, expire_time=at + timedelta(days=30),
    )  # fmt: skip
    status_list = StatusList(
        node=node, number=1, sign_time=at, expire_time=at + lists.VALID,
        bits=lists.bits_of(range(0, 1_000_000, 1_000)),
    )  # fmt: skip
    known = [lists.signed(status_list, key)]
    text = tokens.text_of(token, key)
    message = tokens.signed_in(text)[:-66]
    signature = key.sign(message)

    def check() -> None:
        assert verify(text, {node: own}, lambda _: known, at=at).finding is Finding.VALID

    signed, bare_signed, checked, bare_checked = [], [], [], []
    for _ in range(runs):
        signed.append(_per_second(lambda: tokens.text_of(token, key)))
        bare_signed.append(_per_second(lambda: key.sign(message)))
        checked.append(_per_second(check))
        bare_checked.append(_per_second(lambda: public.verify(signature, message)))
    return [
        Figure(
            name="card, signed", unit="cards/s", values=signed, probe="Ed25519 sign",
            probes=bare_signed, target=Target("≥", 0.50),
        ),
        Figure(
            name="card, checked", unit="cards/s", values=checked, probe="Ed25519 verify",
            probes=bare_checked, target=Target("≥", 0.50),
        ),
    ]  # fmt: skip


def _per_second(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(CARDS):
        work()
    return CARDS / (time.perf_counter() - began)
