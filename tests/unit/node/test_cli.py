import sys
from pathlib import Path

import pytest

from kit import tokens
from node import cli


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


def test_a_token_is_that_of_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "node.toml"
    run(monkeypatch, "node", "init", "--config", str(file))
    capsys.readouterr()
    assert run(monkeypatch, "token", "--config", str(file), "officers/li-na") == 0
    key = bytes.fromhex((tmp_path / "data" / "secrets" / "token.key").read_text())
    assert tokens.verify(key, capsys.readouterr().out.strip()) == "officers/li-na"


def test_a_missing_config_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "node", "up", "--config", "nowhere.toml") == 1
    said = capsys.readouterr().err
    assert said.startswith("smartunion: there is no file nowhere.toml")
    assert said.count("\n") == 1
