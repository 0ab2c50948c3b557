"""Reads a workbook in a process of its own: see `parser`."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from kit.errors import Refusal
from services.membership.domain.formats import (
    NoTable,
    OtherSpreadsheet,
    WorkbookDamaged,
    WorkbookEncrypted,
    WorkbookTooLarge,
)
from services.membership.domain.table import Header, HeaderMissing, NoRows, Row

_TOO_LARGE = {-signal.SIGABRT, -signal.SIGXCPU, -signal.SIGSEGV}
_REFUSALS: Mapping[str, type[Refusal]] = {
    kind.__name__: kind
    for kind in (HeaderMissing, NoRows, NoTable, OtherSpreadsheet, WorkbookDamaged,
                 WorkbookEncrypted)
}  # fmt: skip


class ParserDied(OSError):
    """The process ended for a reason that is not the workbook's: the same may succeed later."""


@dataclass(frozen=True, slots=True)
class Workbook:
    """The sheet that was chosen in a workbook."""

    header: Header
    sheet: str
    unread_sheets: list[str]
    """Those that are not empty and were not read."""
    total_rows: int
    _process: Process

    async def rows(self) -> AsyncIterator[list[Row]]:
        """All rows, some at a time."""
        left = self.total_rows
        while left:
            rows = [Row(*row) for row in await _received(self._process)]
            left -= len(rows)
            yield rows


@asynccontextmanager
async def opened(parts: AsyncIterable[bytes]) -> AsyncIterator[Workbook]:
    """The workbook whose content comes in parts.

    Raises:
        HeaderMissing, NoRows, NoTable, OtherSpreadsheet, WorkbookDamaged, WorkbookEncrypted,
        WorkbookTooLarge: if there is nothing to read.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.membership.workbooks.parser",
        env={"PYTHONPATH": os.pathsep.join(sys.path)}, stdin=PIPE, stdout=PIPE, stderr=DEVNULL,
    )  # fmt: skip
    try:
        await _send(process, parts)
        head = await _received(process)
        if "refusal" in head:
            raise _REFUSALS[head["refusal"]](**head["facts"])
        yield Workbook(Header(*head["header"]), head["sheet"], head["unread"], head["total"],
                       process)  # fmt: skip
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
        await process.wait()


async def _send(process: Process, parts: AsyncIterable[bytes]) -> None:
    assert process.stdin
    with suppress(ConnectionError):  # It has died: its exit code says why.
        async for part in parts:
            process.stdin.write(part)
            await process.stdin.drain()
    process.stdin.close()


async def _received(process: Process) -> Any:
    """The next message.

    Raises:
        WorkbookTooLarge: if the process has died of it.
    """
    assert process.stdout
    try:
        length = int.from_bytes(await process.stdout.readexactly(4), "big")
        return json.loads(await process.stdout.readexactly(length))
    except asyncio.IncompleteReadError:
        code = await process.wait()
        if code in _TOO_LARGE:
            raise WorkbookTooLarge() from None
        raise ParserDied(f"the parser ended with {code}") from None
