"""Logs: for a person at a terminal, for a machine elsewhere.

A record has a constant message, and its facts in `extra`; never a person's name.  The machine gets
one JSON object a line: time (RFC 3339, UTC), level, service, logger, message, the facts, and, for
a bug only, `error` with the traceback.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

STANDARD = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"}


def facts(record: logging.LogRecord) -> dict[str, Any]:
    """What was given as `extra`."""
    return {name: value for name, value in record.__dict__.items() if name not in STANDARD}


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
            "message": record.getMessage(),
            **facts(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """A line to read: time, service, level if it matters, message, facts."""

    def __init__(self, service: str) -> None:
        super().__init__(datefmt="%H:%M:%S")
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno <= logging.INFO else f"{record.levelname} "
        known = " ".join(f"{name}={value}" for name, value in facts(record).items())
        time = self.formatTime(record, self.datefmt)
        line = f"{time} {self._service:<10} {level}{record.getMessage()}  {known}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def setup_logging(service: str, *, level: int = logging.INFO) -> None:
    """Log to standard error: as text if it is a terminal, else as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    terminal = sys.stderr.isatty()
    handler.setFormatter(TextFormatter(service) if terminal else JsonFormatter(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
