"""Views (可见范围): which sections of records the levels above their owner hold.

A view is a version of one table, made at the top of the tree and handed down.  It says of each
section how high it travels: the highest level that holds it.  A section that it does not name
stays with the owner, and so does everything besides `public` before there is a view.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from kit.errors import FailedPrecondition, InvalidArgument
from services.sync.domain.nodes import LEVELS

MOST_RULES = 100
LONGEST = timedelta(days=366)


class ViewRulesInvalid(InvalidArgument):
    field = "view.rules"
    message = (
        "a view has at most 100 rules, each for another section: a kind, a slash and one of "
        "{sections}, such as members/personal; not {section}"
    )
    chinese = (
        "一个可见范围最多有 100 条规则，每条对应不同的分区：类别、斜杠和 {sections} 之一，"
        "如 members/personal；而不是 {section}"
    )


class ViewLevelUnknown(InvalidArgument):
    field = "view.rules"
    message = "the highest level of a rule is one of {known}, not {level}"
    chinese = "规则的最高层级应为 {known} 之一，而不是 {level}"


class EffectiveTimeOutOfRange(InvalidArgument):
    field = "view.effective_time"
    message = "a view takes effect now or within a year; it does not count for the past"
    chinese = "可见范围应从现在或一年之内的时间起生效，不溯及既往"


class ViewFromAbove(FailedPrecondition):
    message = "views are made at the top of the tree and handed down; this node has a parent"
    chinese = "可见范围由最上级节点制定并逐级下达；本节点有上级节点"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One version of the table."""

    id: UUID
    origin: UUID
    number: int
    """Counts the versions from 1."""
    effective_time: datetime
    create_time: datetime
    rules: Mapping[str, str]
    """The highest level that holds a section, by the section, such as `members/personal`."""

    @property
    def name(self) -> str:
        return f"views/{self.id}"

    def at(self, level: str) -> frozenset[str]:
        """The sections that a level holds of nodes below it."""
        if level not in LEVELS:
            return frozenset()
        place = LEVELS.index(level)
        return frozenset(
            section for section, highest in self.rules.items() if LEVELS.index(highest) <= place
        )


@dataclass(frozen=True, slots=True)
class Shown:
    """What the view in force says at one node."""

    view: View | None = None
    here: frozenset[str] = frozenset()
    """The sections that this node holds of the nodes below it."""
    above: frozenset[str] = frozenset()
    """Those that its parent holds, and it sends."""

    @property
    def id(self) -> UUID | None:
        """Of the view."""
        return self.view.id if self.view else None

    @property
    def name(self) -> str:
        """Of the view; empty if there is none."""
        return self.view.name if self.view else ""


NOTHING = Shown()
"""Where no view is in force."""


def draw_up(
    *, id: UUID, origin: UUID, rules: Sequence[tuple[str, str]], sections: Sequence[str],
    number: int, effective_time: datetime | None, at: datetime,
) -> View:  # fmt: skip
    """The next version of the table.

    Args:
        rules: section and highest level.
        sections: the names that sections besides `public` have.
        effective_time: None: now.

    Raises:
        ViewRulesInvalid, ViewLevelUnknown, EffectiveTimeOutOfRange
    """
    pattern = f"[a-z_]{{1,40}}/({'|'.join(sections)})"
    seen: dict[str, str] = {}
    for section, level in rules:
        if not re.fullmatch(pattern, section) or section in seen or len(rules) > MOST_RULES:
            raise ViewRulesInvalid(sections=", ".join(sections), section=section[:60] or "—")
        if level not in LEVELS:
            raise ViewLevelUnknown(known=", ".join(LEVELS), level=level[:30] or "—")
        seen[section] = level
    begins = effective_time or at
    if not at - timedelta(minutes=1) <= begins <= at + LONGEST:
        raise EffectiveTimeOutOfRange()
    return View(
        id=id, origin=origin, number=number, effective_time=begins, create_time=at, rules=seen
    )


def in_force(views: Iterable[View], *, at: datetime) -> View | None:
    """The greatest number of those that have taken effect."""
    begun = [view for view in views if view.effective_time <= at]
    return max(begun, key=lambda view: view.number, default=None)
