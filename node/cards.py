"""Member cards at the command line: smartunion card …, for who checks cards without a network."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated
from uuid import UUID

import grpc
import typer
from google.protobuf.message import DecodeError

from kit import trust
from kit.wire import channel_to
from node.problems import BundleMalformed, NodeUnreachable, RootDiffers
from services.benefits.domain import verification
from services.benefits.domain.verification import Finding, Verdict
from services.sync.domain.nodes import fingerprint
from smartunion.benefits.v1 import benefits_pb2 as pb
from smartunion.benefits.v1.benefits_pb2_grpc import BenefitsServiceStub

app = typer.Typer(help="Member cards (会员卡): check them without a network.", no_args_is_help=True)


@app.command()
def bundle(
    address: Annotated[str, typer.Argument(help="host:port of a node's benefits service.")],
    to: Annotated[Path, typer.Option("--to", help="The file to write.")] = Path("cards.bundle"),
    ca: Annotated[
        Path | None,
        typer.Option("--ca", help="The node's CA, `ca` in its endpoints.json, in production."),
    ] = None,
) -> None:
    """Fetch what is needed to check cards: keys, and the lists of revoked cards."""
    found = asyncio.run(_fetched(address, ca))
    to.write_bytes(found.SerializeToString())
    typer.echo(
        f"wrote {to}: {len(found.certificates)} nodes, {len(found.status_lists)} status lists; "
        f"root {fingerprint(found.root)}"
    )


async def _fetched(address: str, ca: Path | None) -> pb.TrustBundle:
    async with channel_to(address, ca) as channel:
        try:
            asked = pb.GetTrustBundleRequest()
            return await BenefitsServiceStub(channel).GetTrustBundle(asked, timeout=15)
        except grpc.aio.AioRpcError as error:
            raise NodeUnreachable(address=address, problem=error.code().name) from None


@app.command()
def verify(
    text: Annotated[str, typer.Argument(help="The text of the QR code.")],
    bundle: Annotated[Path, typer.Option("--bundle", help="The file of `card bundle`.")],
    root: Annotated[str, typer.Option("--root", help="The fingerprint of the top's key.")],
    list_days: Annotated[
        float, typer.Option("--list-days", help="How old a list of revoked cards may be, in days.")
    ] = verification.LIST_AGE / timedelta(days=1),
) -> None:
    """Say whether a card is good, without a network; exit code 1 if it is not."""
    verdict = check(
        text, bundle.read_bytes(), root, at=datetime.now(UTC), list_age=timedelta(days=list_days)
    )
    typer.echo(f"{verdict.finding.name}: {verdict.message} / {verdict.chinese_message}")
    if token := verdict.token:
        typer.echo(f"cards/{token.card} {token.code} {token.expire_time:%Y-%m-%dT%H:%M:%SZ}")
    if verdict.finding is not Finding.VALID:
        raise typer.Exit(1)


def check(text: str, content: bytes, root: str, *, at: datetime, list_age: timedelta) -> Verdict:
    """What is found of a card's text with a bundle.

    Args:
        content: of the bundle's file.
        root: the fingerprint that the key of the top must have.

    Raises:
        BundleMalformed: if the content is no bundle.
        RootDiffers: if the bundle is for another top.
    """
    try:
        found = pb.TrustBundle.FromString(content)
    except DecodeError:
        raise BundleMalformed() from None
    if len(found.root) != 32:
        raise BundleMalformed()
    expected = root.strip().lower().replace(":", "")
    if fingerprint(found.root).replace(":", "") != expected:
        raise RootDiffers(root=root[:50], found=fingerprint(found.root))
    keys = trust.trusted(found.certificates, found.root, at=at)
    return verification.verify(
        text, keys, lambda node: lists_of(node, found.status_lists), at=at, list_age=list_age
    )


def lists_of(node: UUID, status_lists: Iterable[bytes]) -> list[bytes]:
    """Those that say that they are a node's."""
    return [one for one in status_lists if trust.unverified(one).get(trust.ISS) == f"nodes/{node}"]
