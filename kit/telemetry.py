"""Logs: for a person at a terminal, for a machine elsewhere.

A record has a constant message, and its facts in `extra`; never a person's name.  The machine gets
one JSON object a line: time (RFC 3339, UTC), level, service, logger, message, the facts, and, for
a bug only, `error` with the traceback.  Whoever logs a message of a proto all the same, an error,
or a number of a person, finds it redacted (kit/personal.py); so it is for other people's code.
"""

import json
import logging
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from kit.personal import loggable
from kit.texts import without_numbers

STANDARD = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"}


def facts(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`."""
    return {
        name: loggable(value) for name, value in record.__dict__.items() if name not in STANDARD
    }


def text_of(record: logging.LogRecord) -> str:
    """The message, with its arguments."""
    text = str(loggable(record.msg))
    if record.exc_info:  # asyncio quotes the error behind the first line
        text = text.partition("\n")[0]
    try:
        return without_numbers(text % loggable(record.args)) if record.args else text
    except (TypeError, ValueError, KeyError):
        return text


def trace_of(error: BaseException | None) -> str:
    """The lines that an error came through, after those of what led to it; of the errors only the
    types: their texts may quote a row."""
    return "".join(_traces(error)).rstrip()


def _traces(error: BaseException | None) -> Iterator[str]:
    if error is None:
        return
    yield from _traces(
        error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    )
    for one in getattr(error, "exceptions", ()):
        yield from _traces(one)
    yield from traceback.format_tb(error.__traceback__)
    yield f"{type(error).__name__}\n"


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": text_of(record),
            **facts(record),
        }
        if record.exc_info:
            line["error"] = trace_of(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """A line to read: time, service, level if it matters, message, facts."""

    def __init__(self, service: str) -> None:
        super().__init__(datefmt="%H:%M:%S")
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno <= logging.INFO else f"{record.levelname} "
        known = " ".join(f"{name}={value}" for name, value in facts(record).items())
        time = self.formatTime(record, self.datefmt)
        line = f"{time} {self._service:<10} {level}{text_of(record)}  {known}".rstrip()
        if record.exc_info:
            line = f"{line}\n{trace_of(record.exc_info[1])}"
        return line


def setup_logging(service: str, *, level: int = logging.INFO) -> None:
    """Log to standard error: as text if it is a terminal, else as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    terminal = sys.stderr.isatty()
    handler.setFormatter(TextFormatter(service) if terminal else JsonFormatter(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
