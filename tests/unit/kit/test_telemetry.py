import json
import logging
import sys
from collections.abc import Iterator

import pytest

from kit.telemetry import setup_logging


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield root
    root.handlers[:], root.level = before


def test_a_line_is_one_object_with_its_facts(
    capsys: pytest.CaptureFixture[str], root_logger: object
) -> None:
    setup_logging("sync")
    logging.getLogger("x").info("frame stored", extra={"node": "n", "entries": 3})
    line = json.loads(capsys.readouterr().err)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "service": "sync",
        "logger": "x",
        "message": "frame stored",
        "node": "n",
        "entries": 3,
    }


def test_a_bug_stays_on_one_line(capsys: pytest.CaptureFixture[str], root_logger: object) -> None:
    setup_logging("sync")
    try:
        raise ValueError("broken\nin two")
    except ValueError:
        logging.getLogger("x").exception("failed")
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "ValueError" in json.loads(text)["error"]


def test_a_person_reads_text(
    capsys: pytest.CaptureFixture[str], root_logger: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    setup_logging("sync")
    logging.getLogger("x").warning("line cut", extra={"parent": "p"})
    assert "sync       WARNING line cut  parent=p" in capsys.readouterr().err
