import json
import logging
import sys
from collections.abc import Iterator

import pytest

from kit.telemetry import setup_logging
from smartunion.membership.v1 import membership_pb2 as pb


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


@pytest.mark.parametrize("terminal", [True, False])
def test_no_log_shows_a_person(
    capsys: pytest.CaptureFixture[str],
    root_logger: object,
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
) -> None:
    """Whoever logs one by mistake: in the message, its arguments, the facts, or an error."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    setup_logging("membership")
    name, number, phone = "张三", "11010519491231002X", "13800000000"
    person = pb.Person(full_name=name, id_number=number, phone=phone)
    member, log = pb.Member(person=person), logging.getLogger("others")
    log.warning(member)
    log.warning("read %s of %s", member, number)
    log.warning("read %(it)s", {"it": member})
    log.warning(f"called {phone}", extra={"one": member, "all": [member], "who": {"it": person}})
    try:
        try:
            raise KeyError(f"Failing row contains ({name}, {number})")
        except KeyError as error:
            raise ExceptionGroup(str(person), [ValueError(phone)]) from error
    except ExceptionGroup:
        log.exception("failed", extra={"why": ValueError(name)})
    told = capsys.readouterr().err
    for kind in ("KeyError", "ValueError", "ExceptionGroup", "test_no_log_shows_a_person"):
        assert kind in told
    assert "[ID_NUMBER]" in told and "110105********002X" in told and "138****0000" in told
    for secret in (name, number, phone):
        assert secret not in told


def test_a_person_reads_text(
    capsys: pytest.CaptureFixture[str], root_logger: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    setup_logging("sync")
    logging.getLogger("x").warning("line cut", extra={"parent": "p"})
    assert "sync       WARNING line cut  parent=p" in capsys.readouterr().err
