"""smartunion card verify: a plain line in two languages, and an exit code, without a network."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from kit import trust
from kit.errors import Refusal
from kit.ids import uuid7
from kit.trust import NodeKey
from node import cli
from node.problems import BundleMalformed, RootDiffers
from services.benefits.domain import lists, tokens
from services.benefits.domain.lists import StatusList
from services.benefits.domain.tokens import Token
from services.sync.domain.nodes import fingerprint
from smartunion.benefits.v1 import benefits_pb2 as pb

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
TOP, CITY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
TOP_NODE, CITY_NODE = uuid7(), uuid7()
ROOT = TOP.public_key().public_bytes_raw()


def a_certificate(key: Ed25519PrivateKey, node: object, parent: object, code: str) -> bytes:
    certified = NodeKey(
        node=node, parent=parent, organization_code=code, level="city",  # type: ignore[arg-type]
        public_key=key.public_key().public_bytes_raw(), seal_key=bytes(32),
    )  # fmt: skip
    return trust.certify(TOP, certified, at=NOW)


def a_bundle(folder: Path, *, age: timedelta = timedelta(0), revoked: tuple[int, ...] = ()) -> str:
    status_list = StatusList(
        node=CITY_NODE, number=1, sign_time=NOW - age, expire_time=NOW + 9 * DAY,
        bits=lists.bits_of(revoked),
    )  # fmt: skip
    bundle = pb.TrustBundle(
        root=ROOT, status_lists=[lists.signed(status_list, CITY)],
        certificates=[a_certificate(TOP, TOP_NODE, None, "0"),
                      a_certificate(CITY, CITY_NODE, TOP_NODE, "5101")],
    )  # fmt: skip
    file = folder / "bundle"
    file.write_bytes(bundle.SerializeToString())
    return str(file)


def a_card(*, code: str = "510104", days: int = 30) -> str:
    token = Token(
        node=CITY_NODE, card=uuid7(), code=code, status_index=3, sign_time=NOW,
        begin_time=NOW, expire_time=NOW + days * DAY,
    )  # fmt: skip
    return tokens.text_of(token, CITY)


def altered(text: str) -> str:
    """The same text with one character in the signature changed."""
    return text[:-20] + ("0" if text[-20] != "0" else "1") + text[-19:]


def verified(text: str, bundle: str, *more: str) -> tuple[int, str]:
    root = fingerprint(ROOT).upper()
    arguments = ["card", "verify", text, "--bundle", bundle, "--root", root, *more]
    result = CliRunner().invoke(cli.app, arguments)
    return result.exit_code, result.output


def test_a_good_card_is_good_without_a_network(tmp_path: Path) -> None:
    code, output = verified(a_card(), a_bundle(tmp_path))
    assert code == 0
    assert output.startswith("VALID: the card is good / 会员卡有效\ncards/")


@pytest.mark.parametrize(
    ("text", "age", "revoked", "expected"),
    [
        (a_card(days=-1), 0, (), "EXPIRED"),
        (a_card(), 0, (3,), "REVOKED"),
        (altered(a_card()), 0, (), "ALTERED"),
        (a_card()[:100], 0, (), "CUT_SHORT"),
        (a_card(code="5102"), 0, (), "OUTSIDE_SCOPE"),
        (a_card(), 8, (), "LIST_STALE"),
        ("https://example.org", 0, (), "FOREIGN"),
    ],
    ids=["old", "revoked", "altered", "cut short", "out of scope", "stale list", "foreign"],
)
def test_a_bad_card_ends_with_one_line_and_code_1(
    tmp_path: Path, text: str, age: int, revoked: tuple[int, ...], expected: str
) -> None:
    code, output = verified(text, a_bundle(tmp_path, age=age * DAY, revoked=revoked))
    assert code == 1
    first = output.splitlines()[0]
    assert first.startswith(f"{expected}: ") and " / " in first


def test_how_old_a_list_may_be_can_be_set(tmp_path: Path) -> None:
    assert verified(a_card(), a_bundle(tmp_path, age=8 * DAY), "--list-days", "9")[0] == 0


def test_a_bundle_for_another_root_or_none_at_all_is_refused(tmp_path: Path) -> None:
    bundle = a_bundle(tmp_path)
    other = tmp_path / "other"
    other.write_bytes(b"\xff\xff")
    for root, file, expected in (
        (fingerprint(bytes(32)), bundle, RootDiffers), (fingerprint(ROOT), other, BundleMalformed),
    ):  # fmt: skip
        arguments = ["card", "verify", a_card(), "--bundle", str(file), "--root", root]
        error = CliRunner().invoke(cli.app, arguments).exception
        assert isinstance(error, Refusal) and isinstance(error, expected)
