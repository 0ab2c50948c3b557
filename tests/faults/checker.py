"""What became of what was acknowledged.  Pure: names, organisations, states and versions alone.

Everything that was brought is acknowledged in the end; so the owner's list must be exactly that,
and the nation's list exactly the owner's.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Record:
    """A member as a node lists it."""

    name: str
    organization: str
    state: int
    version: int


@dataclass(slots=True)
class Findings:
    """The names that are not as they should be; empty if all is well."""

    lost_prefix: list[str] = field(default_factory=list)
    """Acknowledged before everything that is still there."""
    lost_middle: list[str] = field(default_factory=list)
    lost_tail: list[str] = field(default_factory=list)
    """Acknowledged after everything that is still there."""
    unexpected: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)

    def lines(self, shown: int = 5) -> list[str]:
        """What is wrong, in a line for each kind of it."""
        found = {what: getattr(self, what) for what in self.__slots__}
        return [
            f"{what}: {len(names):,}: {', '.join(names[:shown])}"
            for what, names in found.items()
            if names
        ]


def check(
    acknowledged: Mapping[str, str],
    owner: Sequence[Record],
    nation: Sequence[Record],
    *,
    persons: Mapping[str, Sequence[str]],
) -> Findings:
    """Compare what clients were told with what the owner and the nation list.

    Args:
        acknowledged: the organisation of each member, in the order of the answers.
        persons: for some ID numbers, the names of all their ACTIVE members at the owner.
    """
    findings = Findings()
    for holder in (owner, nation):
        _lost(findings, list(acknowledged), {record.name for record in holder})
    listed = {record.name: record for record in owner}
    findings.unexpected += [r.name for r in nation if r.name not in listed]
    findings.unexpected += [r.name for r in owner if r.name not in acknowledged]
    for holder in (owner, nation):
        findings.duplicated += _more_than_one([record.name for record in holder])
    findings.duplicated += [" = ".join(names) for names in persons.values() if len(names) > 1]
    _different(findings, acknowledged, listed, nation)
    return findings


def _lost(findings: Findings, order: Sequence[str], held: Collection[str]) -> None:
    kept = [place for place, name in enumerate(order) if name in held]
    first, last = (kept[0], kept[-1]) if kept else (len(order), len(order))
    for place, name in enumerate(order):
        if name in held:
            continue
        if place < first:
            findings.lost_prefix.append(name)
        elif place < last:
            findings.lost_middle.append(name)
        else:
            findings.lost_tail.append(name)


def _different(
    findings: Findings,
    acknowledged: Mapping[str, str],
    owner: Mapping[str, Record],
    nation: Sequence[Record],
) -> None:
    findings.different += [r.name for r in nation if r.name in owner and r != owner[r.name]]
    findings.different += [
        name
        for name, record in owner.items()
        if acknowledged.get(name, record.organization) != record.organization
    ]


def _more_than_one(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]
