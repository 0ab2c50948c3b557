"""The door for copies: which kinds of records of other nodes are kept, and how they are read."""

from kit.offices import OFFICES
from kit.records import Kind
from services.membership.events import APPLICATIONS, MEMBERS

KINDS: tuple[Kind, ...] = (APPLICATIONS, MEMBERS, OFFICES)
