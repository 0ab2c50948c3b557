"""The door for copies: which kinds of records of other nodes are kept, and how they are read."""

from kit import local
from kit.records import Kind
from services.membership.events import APPLICATIONS, MEMBERS

KINDS: tuple[Kind, ...] = (APPLICATIONS, MEMBERS, *local.KINDS)
