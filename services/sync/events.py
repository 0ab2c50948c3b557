"""What sync announces, and its kinds of record.  An event's subject is the name of its type."""

import os
from datetime import datetime
from typing import Any
from uuid import UUID

from kit.log import Change
from kit.records import DOWN, Kind, section_of
from services.sync.domain.directives import Directive, Report, State
from services.sync.domain.homes import Home
from services.sync.domain.nodes import LEVELS, Node
from services.sync.domain.records import Held
from services.sync.domain.views import View
from smartunion.sync.v1 import events_pb2, records_pb2

LAST_SECOND = 4_102_444_800
"""2100-01-01 UTC: no time in a record is later."""


def parse(public: bytes) -> tuple[Any, ...]:
    """The fields of a section `public` of a node.  Raises ValueError if it is none."""
    section = section_of(records_pb2.PublicNode, public)
    if len(section.public_key) != 32:
        raise ValueError("a public key has 32 bytes")
    return (
        UUID(bytes=section.parent),
        section.organization_code,
        section.display_name,
        section.level,
        section.public_key,
        section.certificate,
    )


KIND = Kind(
    name="nodes",
    table="nodes",
    fields={
        "parent": "uuid",
        "organization_code": "text",
        "display_name": "text",
        "level": "text",
        "public_key": "bytea",
        "certificate": "bytea",
    },
    parse=parse,
    may=lambda origin, values: bool(values[0] == origin),  # a parent speaks of its own children
)


def parse_trusted(public: bytes) -> tuple[Any, ...]:
    """The fields of a section `public` of a key that was handed down."""
    return (section_of(records_pb2.PublicTrustedKey, public).certificate,)


TRUSTED = Kind(
    name="trusted_keys",
    table="trusted_keys",
    fields={"certificate": "bytea"},
    parse=parse_trusted,
    channel=DOWN,
)


def parse_directive(public: bytes) -> tuple[Any, ...]:
    """The fields of a section `public` of a directive.  Raises ValueError if it is none."""
    section = section_of(records_pb2.PublicDirective, public)
    if len(section.expected) % 16 or len(section.parent) not in (0, 16):
        raise ValueError("no ids")
    _check_times(section.due_seconds, section.create_seconds)
    return (
        section.title, section.text, section.subtree, section.levels, section.due_seconds,
        section.create_seconds, section.expected, section.parent,
    )  # fmt: skip


def _check_times(*seconds: int) -> None:
    """Raises ValueError unless each is a time between 1970 and 2100."""
    if not all(0 <= second <= LAST_SECOND for second in seconds):
        raise ValueError("no time")


DIRECTIVES = Kind(
    name="directives",
    table="directives",
    fields={
        "title": "text",
        "text": "text",
        "subtree": "text",
        "levels": "text",
        "due_seconds": "bigint",
        "create_seconds": "bigint",
        "expected": "bytea",
        "parent": "bytea",
    },
    parse=parse_directive,
    channel=DOWN,
)


def parse_report(public: bytes) -> tuple[Any, ...]:
    """The fields of a section `public` of a report.  Raises ValueError if it is none."""
    section = section_of(records_pb2.PublicDirectiveReport, public)
    state = int(State(section.state))
    _check_times(section.report_seconds)
    return UUID(bytes=section.directive), state, section.reason, section.report_seconds


REPORTS = Kind(
    name="directive_reports",
    table="directive_reports",
    fields={"directive": "uuid", "state": "smallint", "reason": "text", "report_seconds": "bigint"},
    parse=parse_report,
)


def parse_home(public: bytes) -> tuple[Any, ...]:
    """The fields of a section `public` of a home.  Raises ValueError if it is none."""
    section = section_of(records_pb2.PublicHome, public)
    return UUID(bytes=section.node), section.address, section.issuer


HOMES = Kind(
    name="homes",
    table="homes",
    fields={"node": "uuid", "address": "text", "issuer": "text"},
    parse=parse_home,
    may=lambda origin, values: bool(values[0] == origin),  # a node speaks of itself
)

_REPORTED = {
    State.RECEIVED: events_pb2.DirectiveReceived,
    State.READ: events_pb2.DirectiveRead,
    State.BROKEN_DOWN: events_pb2.DirectiveBrokenDown,
    State.COMPLETED: events_pb2.DirectiveCompleted,
    State.REFUSED: events_pb2.DirectiveRefused,
}


def parse_view(public: bytes) -> tuple[Any, ...]:
    """The fields of a section `public` of a view.  Raises ValueError if it is none."""
    section = section_of(records_pb2.PublicView, public)
    _check_times(section.effective_seconds, section.create_seconds)
    for rule in filter(None, section.rules.split(",")):
        _, level = rule.split(":")
        LEVELS.index(level)
    return section.number, section.effective_seconds, section.create_seconds, section.rules


VIEWS = Kind(
    name="views",
    table="views",
    fields={
        "number": "bigint",
        "effective_seconds": "bigint",
        "create_seconds": "bigint",
        "rules": "text",
    },
    parse=parse_view,
    channel=DOWN,
)


def parse_view_report(public: bytes) -> tuple[Any, ...]:
    """The fields of a section `public` of a report of a view.  Raises ValueError if it is none."""
    section = section_of(records_pb2.PublicViewReport, public)
    _check_times(section.report_seconds)
    return UUID(bytes=section.view), section.report_seconds


VIEW_REPORTS = Kind(
    name="view_reports",
    table="view_reports",
    fields={"view": "uuid", "report_seconds": "bigint"},
    parse=parse_view_report,
)


def drawn_up(view: View) -> Change:
    """The record of a view, new."""
    section = records_pb2.PublicView(
        salt=os.urandom(16), number=view.number,
        effective_seconds=int(view.effective_time.timestamp()),
        create_seconds=int(view.create_time.timestamp()),
        rules=",".join(f"{section}:{level}" for section, level in view.rules.items()),
    )  # fmt: skip
    return Change(
        kind=VIEWS, id=view.id, version=1, before=None,
        public=section.SerializeToString(deterministic=True),
        event=events_pb2.ViewIssued(view=view.name), event_time=view.create_time,
    )  # fmt: skip


def held_to(node: UUID, view: View, held: Held | None, *, at: datetime) -> Change:
    """The record of the view to which this node holds."""
    salt = records_pb2.PublicViewReport.FromString(held.public).salt if held else os.urandom(16)
    section = records_pb2.PublicViewReport(
        salt=salt, view=view.id.bytes, report_seconds=int(at.timestamp())
    )
    return Change(
        kind=VIEW_REPORTS, id=node, version=held.version + 1 if held else 1,
        before=held.hash if held else None,
        public=section.SerializeToString(deterministic=True),
        event=events_pb2.ViewAdopted(view=view.name), event_time=at,
    )  # fmt: skip


def issued(directive: Directive) -> Change:
    """The record of a directive, new."""
    section = records_pb2.PublicDirective(
        salt=os.urandom(16), title=directive.title, text=directive.text,
        subtree=directive.subtree, levels=",".join(directive.levels),
        due_seconds=int(directive.due_time.timestamp()),
        create_seconds=int(directive.create_time.timestamp()),
        expected=b"".join(node.bytes for node in directive.expected),
        parent=directive.parent.bytes if directive.parent else b"",
    )  # fmt: skip
    return Change(
        kind=DIRECTIVES, id=directive.id, version=1, before=None,
        public=section.SerializeToString(deterministic=True),
        event=events_pb2.DirectiveIssued(directive=directive.name),
        event_time=directive.create_time,
    )  # fmt: skip


def reported(report: Report, held: Held | None) -> Change:
    """The record of what this node reports of a directive."""
    salt = os.urandom(16)
    if held is not None:
        salt = records_pb2.PublicDirectiveReport.FromString(held.public).salt
    section = records_pb2.PublicDirectiveReport(
        salt=salt, directive=report.directive.bytes, state=report.state, reason=report.reason,
        report_seconds=int(report.report_time.timestamp()),
    )  # fmt: skip
    return Change(
        kind=REPORTS, id=report.id, version=held.version + 1 if held else 1,
        before=held.hash if held else None,
        public=section.SerializeToString(deterministic=True),
        event=_REPORTED[report.state](directive=f"directives/{report.directive}"),
        event_time=report.report_time,
    )  # fmt: skip


def joined(node: Node, *, at: datetime) -> Change:
    """The record of a child that was admitted, new, and the event that announces it."""
    return Change(
        kind=KIND, id=node.id, version=1, before=None, public=_public(node, os.urandom(16)),
        event=events_pb2.NodeJoined(
            node=f"nodes/{node.id}", organization=f"organizations/{node.organization_code}"
        ),
        event_time=at,
    )  # fmt: skip


def certified(node: Node, held: Held, *, at: datetime) -> Change:
    """The record of a child whose keys were certified again."""
    salt = records_pb2.PublicNode.FromString(held.public).salt
    return Change(
        kind=KIND, id=node.id, version=held.version + 1, before=held.hash,
        public=_public(node, salt), event=events_pb2.NodeCertified(node=f"nodes/{node.id}"),
        event_time=at,
    )  # fmt: skip


def handed_down(node: UUID, certificate: bytes, held: Held | None, *, at: datetime) -> Change:
    """The record of a node's key, for all nodes below."""
    salt = records_pb2.PublicTrustedKey.FromString(held.public).salt if held else os.urandom(16)
    section = records_pb2.PublicTrustedKey(salt=salt, certificate=certificate)
    return Change(
        kind=TRUSTED, id=node, version=held.version + 1 if held else 1,
        before=held.hash if held else None,
        public=section.SerializeToString(deterministic=True),
        event=events_pb2.KeyHandedDown(node=f"nodes/{node}"), event_time=at,
    )  # fmt: skip


def homed(home: Home, held: Held | None, *, at: datetime) -> Change:
    """The record of where this node is reached."""
    salt = records_pb2.PublicHome.FromString(held.public).salt if held else os.urandom(16)
    section = records_pb2.PublicHome(
        salt=salt, node=home.node.bytes, address=home.address, issuer=home.issuer
    )
    return Change(
        kind=HOMES, id=home.node, version=held.version + 1 if held else 1,
        before=held.hash if held else None,
        public=section.SerializeToString(deterministic=True),
        event=events_pb2.NodeMoved(node=f"nodes/{home.node}"), event_time=at,
    )  # fmt: skip


def _public(node: Node, salt: bytes) -> bytes:
    assert node.parent is not None
    section = records_pb2.PublicNode(
        salt=salt,
        parent=node.parent.bytes,
        organization_code=node.organization_code,
        display_name=node.display_name,
        level=node.level,
        public_key=node.public_key,
        certificate=node.certificate,
    )
    return section.SerializeToString(deterministic=True)
