"""The files of rosters: how each is read, and its rows."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import TypeAlias

from services.membership.domain.formats import (
    ENCRYPTED,
    MOST_WORKBOOK_BYTES,
    Format,
    OtherSpreadsheet,
    WorkbookEncrypted,
    WorkbookTooLarge,
    format_of,
)
from services.membership.domain.rosters import Roster
from services.membership.domain.sheet import ENCODINGS, NotText, Sheet
from services.membership.domain.table import Header, NoRows, Row
from services.membership.store.rosters import Rosters
from services.membership.workbooks import reading

SLICE_BYTES = 2**16
"""Bytes that are parsed before calls get their turn."""
Portion: TypeAlias = tuple[Header, list[Row]]
"""The header, and some rows below it."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a file as a whole is."""

    total_rows: int
    encoding: str = ""
    """Of a text; empty for a workbook."""
    sheet: str = ""
    """Of a workbook: the one that is read."""
    unread_sheets: tuple[str, ...] = ()


class File:
    """The content of one roster."""

    def __init__(self, rosters: Rosters, roster: Roster) -> None:
        self._rosters, self._roster = rosters, roster

    async def survey(self) -> Survey:
        """Read it once.

        Raises:
            Refusal: why the file as a whole is refused.
        """
        kind = format_of(await self._first())
        if kind is Format.TEXT:
            return await self._survey_text()
        if kind is Format.OLD:
            if await self._holds(ENCRYPTED):
                raise WorkbookEncrypted()
            raise OtherSpreadsheet(kind=".xls/.et")
        if self._roster.size_bytes > MOST_WORKBOOK_BYTES:
            raise WorkbookTooLarge()
        async with reading.opened(self._parts()) as book:
            return Survey(
                book.total_rows, sheet=book.sheet, unread_sheets=tuple(book.unread_sheets)
            )

    async def rows(self, encoding: str) -> AsyncGenerator[Portion, None]:
        """The rows, in portions; `encoding`: as the survey found it."""
        if encoding:
            async for portion in self._text(encoding):
                yield portion
            return
        async with reading.opened(self._parts()) as book:
            async for rows in book.rows():
                yield book.header, rows

    async def _survey_text(self) -> Survey:
        for encoding in ENCODINGS:
            try:
                total = 0
                async for _, rows in self._text(encoding):
                    total += len(rows)
            except UnicodeDecodeError:
                continue
            if not total:
                raise NoRows()
            return Survey(total, encoding)
        raise NotText()

    async def _text(self, encoding: str) -> AsyncGenerator[Portion, None]:
        sheet, read = Sheet(encoding), 0
        async for part in self._parts():
            for at in range(0, len(part), SLICE_BYTES):
                piece = part[at : at + SLICE_BYTES]
                read += len(piece)
                rows = sheet.feed(piece, last=read == self._roster.size_bytes)
                await asyncio.sleep(0)
                if sheet.header:
                    yield sheet.header, rows

    def _parts(self) -> AsyncIterator[bytes]:
        return self._rosters.parts(self._roster.id)

    async def _first(self) -> bytes:
        """The beginning, in which every signature stands."""
        first = b""
        async for part in self._parts():
            first += part
            if len(first) >= 64:
                break
        return first

    async def _holds(self, text: bytes) -> bool:
        rest = b""
        async for part in self._parts():
            if text in rest + part:
                return True
            rest = part[-len(text) :]
        return False
