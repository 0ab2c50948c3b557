"""What an operator reads when a service cannot start: one line, without a traceback or secret."""

import asyncio
import importlib
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

SERVICES = pytest.mark.parametrize("service", ["membership", "benefits", "notify", "sync"])


def variables(folder: Path, changes: Mapping[str, str | None]) -> dict[str, str]:
    """An environment with settings that are right but for `changes`."""
    for name in ("data.key", "token.key", "node.key", "person.key"):
        if not (folder / name).exists():
            (folder / name).write_text(secrets.token_hex(32))
    settings: dict[str, str | None] = {
        "database_url": "postgresql://me:geheim@127.0.0.1:1/x", "profile": "development",
        "node": "01890a5d-ac96-774b-bcce-b302099a8057", "node_name": "x", "organization": "51",
        "level": "province", "secrets": str(folder), "peers": '{"sync": "127.0.0.1:1"}',
        "issuer": "https://login.example.org", "audience": "this node",
        **changes,
    }  # fmt: skip
    others = {name: value for name, value in os.environ.items() if "SMARTUNION" not in name}
    return others | {f"SMARTUNION_{key}".upper(): value for key, value in settings.items() if value}


def started(service: str, folder: Path, **changes: str | None) -> str:
    """What the process of a service says on stderr as it ends."""
    ended = subprocess.run(
        [sys.executable, "-m", f"services.{service}"], capture_output=True, text=True, timeout=60,
        env={**variables(folder, changes), "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    assert "geheim" not in ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


def told(service: str, folder: Path, **changes: str | None) -> str:
    """The same without a process of its own, which takes a second to start."""
    main = importlib.import_module(f"services.{service}.__main__")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(os, "environ", variables(folder, changes))
        patch.setattr(main, "setup_logging", lambda service: None)
        asyncio.run(main.main())
    line = str(end.value)
    assert "geheim" not in line
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"node": None, "secrets": None}, "set SMARTUNION_NODE; set SMARTUNION_SECRETS"),
        ({"keep_days": "geheim"}, "SMARTUNION_KEEP_DAYS is wrong"),
        ({"database_url": "mysql://geheim"}, "SMARTUNION_DATABASE_URL is wrong"),
        ({"database_url": "postgresql://me:gehe#im@h:geheim/x"}, "SMARTUNION_DATABASE_URL"),
        ({"peers": "geheim"}, "SMARTUNION_PEERS is wrong"),
        ({"peers": "{}"}, 'the peer "sync" is missing'),
        ({"peers": None}, 'the peer "sync" is missing'),
        ({"issuer": None, "audience": None}, "set SMARTUNION_ISSUER; set SMARTUNION_AUDIENCE"),
        ({"issuer": "here"}, "SMARTUNION_JWKS is wrong: write https://"),
        ({"jwks": "http://login.example.org/keys"}, "SMARTUNION_JWKS is wrong: write https://"),
        ({"jwks": "file:///keys", "profile": "production"}, "SMARTUNION_JWKS is wrong"),
        ({"listen": "0.0.0.0:50051"}, "SMARTUNION_PROFILE to production"),
        ({"nats_url": "nats://mq:4222", "profile": "production"}, "SMARTUNION_NATS_URL to tls://"),
    ],
)
def test_a_wrong_setting_is_named(
    changes: dict[str, str | None], said: str, tmp_path: Path
) -> None:
    assert said in told("membership", tmp_path, **changes)


@SERVICES
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"profile": "production"}, "set SMARTUNION_LISTEN_PEERS"),
        ({"profile": "production", "listen_peers": "127.0.0.1:0"}, "/tls/tls.crt cannot be read"),
        ({"secrets": "/nowhere"}, "cannot use /nowhere/token.key"),
    ],
)
def test_every_service_says_what_it_cannot_do_without(
    service: str, changes: dict[str, str | None], said: str, tmp_path: Path
) -> None:
    assert said in told(service, tmp_path, **changes)


@SERVICES
@pytest.mark.parametrize(
    ("changes", "said"),
    [({"node": None}, "set SMARTUNION_NODE"), ({}, "SMARTUNION_DATABASE_URL")],
)
def test_every_service_ends_with_one_line_that_says_what_to_set(
    service: str, changes: dict[str, str | None], said: str, tmp_path: Path
) -> None:
    assert said in started(service, tmp_path, **changes)


def test_a_secret_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "token.key").write_text("geheim")
    assert "token.key does not hold 32 bytes in hex" in told("membership", tmp_path)


async def test_a_database_that_knows_no_such_role(postgres: str, tmp_path: Path) -> None:
    url = postgres.replace(postgres.partition("//")[2].partition("@")[0], "me:geheim")
    line = started("membership", tmp_path, database_url=url)
    assert "SMARTUNION_DATABASE_URL" in line
