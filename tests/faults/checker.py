"""What became of what was acknowledged.  Pure, and from the history of a run alone:

    .venv/bin/python -m tests.faults.checker build/faults/seed-7.jsonl

Writers are officers at a city.  What one of them writes is a row of writes, in the order of the
answers: the state of one record each.  Every call is repeated until it is answered, so in the end
nothing is in doubt: each node that is to hold what was written holds exactly that.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SOUND = ("COMPLETE", "UNPROVEN")
"""The verdicts that a node may show while it is struck: the others say that something is missing,
altered, or cannot be read."""

Line = Mapping[str, Any]
"""One line of a history: `what` happened, when (`t`), and the facts."""


@dataclass(frozen=True, slots=True)
class Record:
    """A member or an application, as a node shows it."""

    name: str
    organization: str
    state: int
    version: int

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


@dataclass(slots=True)
class Observed:
    """What a history says, put in the order that the checker reads."""

    written: dict[str, list[Record]] = field(default_factory=dict)
    """By writer, `{city}/{officer}`: the states that were acknowledged, in that order."""
    seen: dict[str, list[Record]] = field(default_factory=dict)
    """By node: what readers saw while it went on, in that order; version 0 for what had been
    seen and was missing."""
    held: dict[str, dict[str, list[Record]]] = field(default_factory=dict)
    """By city and by the node that is to hold its records: what that lists in the end."""
    repairs: list[str] = field(default_factory=list)
    """What nodes said of what they missed and put right."""
    persons: list[Sequence[str]] = field(default_factory=list)
    """Of some people, the names of all their ACTIVE members."""


@dataclass(slots=True)
class Findings:
    """What is not as it should be, each with its node; empty if all is well."""

    lost_prefix: list[str] = field(default_factory=list)
    """Written before everything of that writer that is still there."""
    lost_middle: list[str] = field(default_factory=list)
    lost_tail: list[str] = field(default_factory=list)
    """Written after everything of that writer that is still there."""
    unexpected: list[str] = field(default_factory=list)
    """Held, and never acknowledged in that or a later version."""
    duplicated: list[str] = field(default_factory=list)
    """Listed twice, acknowledged twice, or one person with two memberships."""
    reordered: list[str] = field(default_factory=list)
    """A reader saw an older version, or none, after it had seen a newer one."""
    different: list[str] = field(default_factory=list)
    """Held in the right version with the wrong content."""
    repaired: list[str] = field(default_factory=list)
    """Lost or altered, noticed, and put right: the end hides it, and no fault of a schedule may
    cause it, since none removes what PostgreSQL has committed."""

    def lines(self, shown: int = 5) -> list[str]:
        """What is wrong, in a line for each kind of it."""
        found = {what: getattr(self, what) for what in self.__slots__}
        return [
            f"{what}: {len(names):,}: {', '.join(names[:shown])}"
            for what, names in found.items()
            if names
        ]


def check(observed: Observed) -> Findings:
    """Compare what officers were told with what every node held, and showed on the way."""
    findings = Findings()
    for city, holders in observed.held.items():
        writers = {w: rows for w, rows in observed.written.items() if w.startswith(f"{city}/")}
        for node, listed in holders.items():
            _compare(findings, writers, node, listed)
    _duplicated(findings, observed)
    for node, records in observed.seen.items():
        _reordered(findings, node, records)
    findings.repaired += observed.repairs
    return findings


def _compare(
    findings: Findings, writers: Mapping[str, Sequence[Record]], node: str, listed: list[Record]
) -> None:
    """What one node holds of one city."""
    held = {record.name: record for record in listed}
    for written in writers.values():
        _lost(findings, node, written, {name: record.version for name, record in held.items()})
    last = {record.name: record for rows in writers.values() for record in rows}
    for name, record in held.items():
        if name not in last or record.version > last[name].version:
            findings.unexpected.append(f"{node}: {record}")
        elif record.version == last[name].version and record != last[name]:
            findings.different.append(f"{node}: {record}")
    counts = Counter(record.name for record in listed)
    findings.duplicated += [f"{node}: {name}" for name, count in counts.items() if count > 1]


def _lost(
    findings: Findings, node: str, written: Sequence[Record], versions: Mapping[str, int]
) -> None:
    """A version is held if it, or a later one of its record, is."""
    kept = [
        at for at, record in enumerate(written) if versions.get(record.name, 0) >= record.version
    ]
    first, last = (kept[0], kept[-1]) if kept else (len(written), len(written))
    for at in sorted({*range(len(written))} - {*kept}):
        into = findings.lost_middle
        if at < first:
            into = findings.lost_prefix
        elif at > last:
            into = findings.lost_tail
        into.append(f"{node}: {written[at]}")


def _duplicated(findings: Findings, observed: Observed) -> None:
    answers = Counter((r.name, r.version) for rows in observed.written.values() for r in rows)
    findings.duplicated += [
        f"acknowledged {count} times: {name} version {version}"
        for (name, version), count in answers.items()
        if count > 1
    ]
    findings.duplicated += [" = ".join(names) for names in observed.persons if len(names) > 1]


def _reordered(findings: Findings, node: str, records: Iterable[Record]) -> None:
    newest: dict[str, int] = {}
    for record in records:
        seen = newest.setdefault(record.name, record.version)
        if record.version < seen:
            findings.reordered.append(f"{node}: {record} after version {seen}")
        newest[record.name] = max(seen, record.version)


def observed(history: Iterable[Line]) -> Observed:
    """What a history says."""
    found = Observed()
    for line in history:
        match line["what"]:
            case "written":
                found.written.setdefault(line["writer"], []).append(Record(*line["record"]))
            case "seen":
                found.seen.setdefault(line["node"], []).append(Record(*line["record"]))
            case "held":
                records = [Record(*record) for record in line["records"]]
                found.held.setdefault(line["city"], {})[line["node"]] = records
            case "verdict" if line["verdict"] not in SOUND:
                found.repairs.append(f"{line['at']} shows {line['verdict']} of {line['of']}")
            case "repair":
                found.repairs.append(f"{line['node']}: {line['message']}")
            case "persons":
                found.persons += line["members"]
    return found


def main() -> int:
    for name in sys.argv[1:]:
        lines = map(json.loads, Path(name).read_text(encoding="utf-8").splitlines())
        found = check(observed(lines)).lines()
        print(name, *(found or ["nothing is lost, unexpected, duplicated, reordered, different"]),
              sep="\n  ")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
