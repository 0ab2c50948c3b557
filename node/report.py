"""What the story finds: steps on the console, and all of it in a file."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console

from kit.errors import FailedPrecondition
from node.network import TooLate

STORY = 300.0
"""Seconds after which the story is stuck: it takes one minute, or three on a busy machine."""


class StepFailed(FailedPrecondition):
    message = "{step}: {problem}"
    chinese = "{step}：{problem}"


def check(holds: bool, step: str, problem: str) -> None:
    """End the story if what it promises does not hold."""
    if not holds:
        raise StepFailed(step=step, problem=problem)


class Report:
    """build/demo-report.json, and what is said on the way."""

    def __init__(self, file: Path, console: Console) -> None:
        self.file, self.console = file, console
        self._began = time.monotonic()
        self.facts: dict[str, Any] = {"passed": False, "reason": "", "steps": [], "counts": {}}
        self.current = "the beginning"

    @contextmanager
    def step(self, title: str) -> Iterator[dict[str, Any]]:
        """One step, timed; what it finds goes into the dictionary that it gets."""
        self.current = title
        began = time.monotonic()
        facts: dict[str, Any] = {"step": title, "seconds": 0.0}
        self.facts["steps"].append(facts)
        self.console.print(f"[bold]{began - self._began:6.1f} s[/]  {title}")
        try:
            yield facts
        finally:
            facts["seconds"] = round(time.monotonic() - began, 2)
        self.console.print(f"          [green]✓[/] {facts['seconds']:.1f} s")

    def say(self, text: str) -> None:
        """A line below the step."""
        self.console.print(f"          {text}", highlight=False, soft_wrap=True)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Whatever happens to the story, it is in the file; what ends it is one line."""
        try:
            yield
            self.facts["passed"] = True
        except grpc.aio.AioRpcError as error:
            self.facts["reason"] = problem = f"{error.code().name}: {error.details()}"
            raise StepFailed(step=self.current, problem=problem) from None
        except TimeoutError:
            self.facts["reason"] = "the story took too long"
            raise TooLate(what=self.current, seconds=round(STORY), found="the story ends") from None
        except BaseException as error:
            self.facts["reason"] = str(error) or type(error).__name__
            raise
        finally:
            self.write()

    def write(self) -> None:
        """Everything so far, into the file."""
        self.facts["seconds"] = round(time.monotonic() - self._began, 2)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(self.facts, ensure_ascii=False, indent=2))
