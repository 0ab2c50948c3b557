"""A node whose membership has one more kind, on the channel `urgent`: none of ours is there yet.

python -m bench.standin --config FILE
"""

from functools import partial

from kit.records import Kind
from services.membership.domain.members import MemberState
from services.membership.events import parse

ALARM = Kind(
    name="alarms",
    table="alarms",
    fields={"organization": "uuid", "state": "smallint"},
    parse=partial(parse, states=frozenset(MemberState)),
    channel="urgent",
)
