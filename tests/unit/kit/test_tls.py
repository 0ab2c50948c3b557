"""Whom a certificate names, once TLS has let it in."""

from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit import tls
from kit.errors import Unauthenticated
from kit.ids import utc_now
from kit.tls import CertificateExpired, CertificateForeign, Certificates, NodeIdentity
from node.certificates import Authority

NODE, CHILD = uuid4(), uuid4()
KEY = Ed25519PrivateKey.generate()
DAY = timedelta(days=1)


async def key_of(child: UUID) -> bytes | None:
    return KEY.public_key().public_bytes_raw() if child == CHILD else None


async def test_a_certificate_counts_on_an_open_connection_no_longer_than_it_says(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path, NODE, "127.0.0.1")
    names = Certificates(tls.Files(authority.issue("sync"), NODE, "sync"), NODE, key_of)
    now = utc_now()

    async def named(begin: timedelta, end: timedelta) -> str | None:
        folder = authority.issue("notify", begin=now + begin, end=now + end)
        return await names.name("", (folder / tls.CHAIN).read_text())

    assert await named(-DAY, DAY) == "services/notify"
    for begin, end in ((-2 * DAY, -DAY), (DAY, 2 * DAY)):
        with pytest.raises(CertificateExpired):
            await named(begin, end)


async def test_what_is_no_certificate_names_nobody(tmp_path: Path) -> None:
    authority = Authority(tmp_path, NODE, "127.0.0.1")
    names = Certificates(tls.Files(authority.issue("sync"), NODE, "sync"), NODE, None)
    assert await names.name("services/sync.AAAA", "") is None
    child = shown_by_child()
    for shown in ("", "x", authority.root, child):
        if shown:
            with pytest.raises(CertificateForeign):
                await names.name("", shown)
    assert issubclass(CertificateForeign, Unauthenticated)
    assert await Certificates(names._files, NODE, key_of).name("", child) == f"nodes/{CHILD}"


def shown_by_child() -> str:
    shown = NodeIdentity(KEY, CHILD, roots=b"")().chain
    assert shown
    return shown.decode()


def test_a_node_makes_another_certificate_in_time() -> None:
    now = [utc_now()]
    own = NodeIdentity(KEY, CHILD, roots=b"", clock=lambda: now[0])
    first = own()
    now[0] += DAY / 3
    assert own() is first
    now[0] += DAY / 3
    second = own()
    assert second is not first
    now[0] -= 30 * DAY  # a clock that was wrong is put right: what it made begins in a month
    assert own() is not second


def test_a_certificate_is_taken_up_when_its_time_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOK_EVERY", 0.0)
    now = [utc_now()]
    authority = Authority(tmp_path, NODE, "127.0.0.1")
    files = tls.Files(authority.issue("sync"), NODE, "sync", clock=lambda: now[0])
    first = files()
    authority.issue("sync", begin=now[0] + DAY / 2, end=now[0] + DAY)
    assert files() is first
    now[0] += DAY / 2  # or the clock jumps
    second = files()
    assert second is not first and files() is second
    now[0] += DAY
    assert files() is second  # nothing better is there
