import sys
import time
from pathlib import Path

import pytest

from kit.identity import Keys, TokenExpired, Verifier
from node import cli, issuer


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["smartunion", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_a_config_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "node.toml"
    assert run(monkeypatch, "node", "init", "--config", str(file)) == 0
    assert run(monkeypatch, "node", "init", "--config", str(file)) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "is there already" in said and "已存在" in said


async def test_a_token_is_that_of_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "node.toml"
    run(monkeypatch, "node", "init", "--config", str(file))
    capsys.readouterr()
    assert run(monkeypatch, "token", "--config", str(file), "officers/li-na") == 0
    token = capsys.readouterr().out.strip()
    audience = f"nodes/{(tmp_path / 'data' / 'node-id').read_text()}"
    keys = Keys(issuer.NAME, (tmp_path / "data" / "secrets" / "issuer.jwks").as_uri())
    verifier = Verifier(issuer.NAME, audience, keys, person_key=bytes(32))
    assert (await verifier.identify(token)).name == "officers/li-na"
    in_a_day = Verifier(
        issuer.NAME, audience, keys, person_key=bytes(32), clock=lambda: time.time() + 86_400
    )
    with pytest.raises(TokenExpired):
        await in_a_day.identify(token)
    run(monkeypatch, "token", "--config", str(file), "--step-up", "persons/248289761001")
    fresh = await verifier.identify(capsys.readouterr().out.strip())
    assert fresh.name.startswith("persons/") and "248289761001" not in fresh.name
    assert (await verifier.identify(token)).auth_time == 0 < fresh.auth_time


@pytest.mark.parametrize(
    "name", ["services/sync", "nodes/x", "members/li-na", "li-na", "persons/", ""]
)
def test_nobody_is_named_who_is_no_officer_member_or_merchant(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "node.toml"
    run(monkeypatch, "node", "init", "--config", str(file))
    assert run(monkeypatch, "token", "--config", str(file), name) == 1
    assert "write officers/NAME" in capsys.readouterr().err


@pytest.mark.parametrize("profile", ["development", "production"])
def test_who_has_an_issuer_gets_no_development_token(
    profile: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        f'name = "x"\norganization = "51"\nlevel = "province"\nprofile = "{profile}"\n'
        '[identity]\nissuer = "https://login.example.org"\naudience = "nodes/51"\n'
    )
    assert run(monkeypatch, "token", "--config", str(file), "officers/li-na") == 1
    said = capsys.readouterr().err
    assert "https://login.example.org" in said and "profile = development" in said
    assert not (tmp_path / "data").exists()


def test_a_missing_config_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "node", "up", "--config", "nowhere.toml") == 1
    said = capsys.readouterr().err
    assert said.startswith("smartunion: there is no file nowhere.toml")
    assert said.count("\n") == 1
