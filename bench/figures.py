"""Figures: what a path gave beside its probe, and whether its target holds."""

import operator
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on the ratio to the probe, or on the value itself."""

    sign: str
    """`≥` or `≤`."""
    bound: float
    of: str = "ratio"
    """`ratio`, or `value`."""

    def holds(self, *, value: float, ratio: float | None) -> bool:
        """Whether what was measured is within the bound."""
        measured = ratio if self.of == "ratio" else value
        compare = operator.ge if self.sign == "≥" else operator.le
        return measured is not None and compare(measured, self.bound)

    def __str__(self) -> str:
        return f"{self.of} {self.sign} {self.bound:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row: the medians of all runs."""

    name: str
    unit: str
    values: Sequence[float]
    """What the path gave, a run each."""
    probe: str = ""
    """What it is compared with; empty if with nothing."""
    probes: Sequence[float] = ()
    """What the probe gave in the same runs."""
    target: Target

    @property
    def value(self) -> float:
        """The median over the runs."""
        return statistics.median(self.values)

    @property
    def probe_value(self) -> float | None:
        """The same of the probe."""
        return statistics.median(self.probes) if self.probes else None

    @property
    def ratio(self) -> float | None:
        """The median of the ratios, each of one run, so that what slows a run slows both."""
        if not self.probes:
            return None
        return statistics.median(
            value / probe for value, probe in zip(self.values, self.probes, strict=True)
        )

    @property
    def holds(self) -> bool:
        """Whether the target holds."""
        return self.target.holds(value=self.value, ratio=self.ratio)

    def record(self) -> dict[str, Any]:
        """As `build/bench.json` has it."""
        return {
            "name": self.name, "value": self.value, "unit": self.unit, "probe": self.probe,
            "probe_value": self.probe_value, "ratio": self.ratio, "target": str(self.target),
            "holds": self.holds,
        }  # fmt: skip

    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        probe = "–" if self.probe_value is None else f"{rounded(self.probe_value)} ({self.probe})"
        ratio = "–" if self.ratio is None else f"{self.ratio:.2f}"
        value = f"{rounded(self.value)} {self.unit}"
        return self.name, value, probe, ratio, str(self.target), "yes" if self.holds else "no"


HEADER = ("path", "value", "probe", "ratio", "target", "holds")


def rounded(number: float) -> str:
    """A number as it is worth reading.

    >>> rounded(12345.6), rounded(12.345), rounded(0.4567)
    ('12,346', '12.3', '0.46')
    """
    digits = 0 if number >= 100 else 1 if number >= 10 else 2
    return f"{number:,.{digits}f}"
