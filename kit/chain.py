"""The chain of an audit trail: each row's hash is over the row and the hash before it.

Whoever changes, removes, inserts or reorders rows must make all hashes anew that follow; and then
they are no longer those of which the nodes above keep a copy (`Head`).  So rows and heads together
show what was done to a trail, and where.

Pure.  The hash is SHA-256 over the hash before (32 bytes; zeros before the first) and the row as
JSON without spaces: [number, time, caller, method, office, path, names, request_id], and, of what
has one, the purpose.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the table `audit`: who did what, by which office."""

    number: int
    """Counts from 1, without gaps."""
    time: datetime
    """When, by the clock of the database."""
    caller: str
    method: str
    """The full name, such as smartunion.membership.v1.MembershipService.ApproveApplication."""
    office: str
    """By which the caller might: `offices/…`; empty of who is no officer."""
    path: str
    """Of the organisation for which that was decided; empty of who is no officer."""
    names: Sequence[str]
    """The resources that were touched."""
    request_id: UUID | None
    purpose: str = ""
    """Why personal data was revealed; empty of everything else."""
    hash: bytes
    """32 bytes."""


@dataclass(frozen=True, slots=True)
class Head:
    """The last row of a trail at some time, by its number and its hash."""

    number: int
    hash: bytes


BEGINNING = Head(0, bytes(32))


class Fault(Exception):
    """What is wrong with a trail, in a line of text."""


def link(before: bytes, row: Row) -> bytes:
    """The hash that a row has after another."""
    content = [
        row.number, row.time.isoformat(timespec="microseconds"), row.caller, row.method, row.office,
        row.path, list(row.names), str(row.request_id or ""),
    ]  # fmt: skip
    content += [row.purpose] if row.purpose else []
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(before + text.encode()).digest()


def follow(before: Head, rows: Iterable[Row]) -> tuple[Head, Row | None]:
    """How far rows follow a head as they should, and the first that does not."""
    for row in rows:
        if row.number != before.number + 1 or link(before.hash, row) != row.hash:
            return before, row
        before = Head(row.number, row.hash)
    return before, None


def explain(before: Head, rows: Sequence[Row]) -> str:
    """What was done to rows of which the first does not follow `before`, in a line of text.

    Args:
        rows: it, and as many of those behind it as there are, or as are worth a look.
    """
    row, number = rows[0], before.number + 1
    if row.number != number:
        return f"row {number} was removed"
    for other in rows[1:]:
        moved = replace(other, number=number)
        if link(before.hash, moved) in (row.hash, other.hash):
            return _moved(before.hash, rows, other)
    if _was_pulled_up(rows):
        return f"row {number} was removed, and those behind it were given other numbers"
    return f"row {number} was changed"


def _moved(before: bytes, rows: Sequence[Row], true: Row) -> str:
    """The row that belongs where the first stands is found further behind: the two have changed
    places, or the first was put in before it."""
    first, at = rows[0], true.number
    previous = link(before, replace(true, number=first.number))
    between = [row for row in rows if first.number < row.number < at]
    if between:
        previous = between[-1].hash
    if link(previous, replace(first, number=at)) in (first.hash, true.hash):
        return f"rows {first.number} and {at} have changed places"
    if at == first.number + 1:
        return f"row {first.number} was inserted"
    return f"row {at} stood at {first.number}; rows were reordered"


def _was_pulled_up(rows: Sequence[Row]) -> bool:
    """Whether the second row follows the first under the number after the next."""
    if len(rows) < 2:
        return False
    first, second = rows[:2]
    return link(first.hash, replace(second, number=second.number + 1)) == second.hash


def compare(held: Iterable[Head], found: dict[int, bytes], end: Head) -> str:
    """What the heads that others keep say of a trail whose chain is whole; empty if they agree.

    Args:
        found: the hashes of its rows, of as many as there are heads.
        end: its head.
    """
    agreed, heads = 0, sorted(held, key=lambda head: head.number)
    for head in heads:
        if head.number > end.number:
            return (
                f"rows {end.number + 1} to {heads[-1].number} are missing at the end: they were cut"
                " off, or the database was restored from a backup"
            )
        if found.get(head.number, BEGINNING.hash) != head.hash:
            return (
                f"a row from {agreed + 1} to {head.number} was changed and the chain was made anew:"
                f" row {head.number} has another hash than the node that keeps the head says"
            )
        agreed = head.number
    return ""
