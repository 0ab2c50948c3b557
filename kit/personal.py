"""Personal data in messages: how answers show it, and that logs do not.

The one list is the option `pii` of fields (personal.proto).  Use cases and servicers work with what
is true; what leaves the service is masked where it leaves (kit/rpc.py), and what is logged is
redacted where it is written (kit/telemetry.py).
"""

import functools
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, TypeAlias, TypeVar

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from kit.texts import hidden, without_numbers
from smartunion.event.v1 import personal_pb2 as pb

Text = TypeVar("Text", str, bytes)
Kind: TypeAlias = pb.PersonalData

SHOWN: dict[Kind, tuple[int, int]] = {
    pb.ID_NUMBER: (6, 4),
    pb.PHONE: (3, 4),
    pb.BANK_ACCOUNT: (0, 4),
}
"""How many characters at the beginning and at the end a masked field shows.  What is not here is
shown to whoever may call the method."""

EVERYTHING = frozenset(pb.PersonalData.values()) - {pb.PERSONAL_DATA_UNSPECIFIED}
MASKED = frozenset(SHOWN)


def of_field(field: FieldDescriptor) -> Kind:
    """What a field holds of a person."""
    options: Any = field.GetOptions()
    found: Kind = options.Extensions[pb.pii]
    return found


@functools.cache
def fields(kind: Descriptor, of: frozenset[int]) -> tuple[tuple[str, Kind, bool], ...]:
    """The fields of a type of message that hold what is asked `of`, or messages that do: name, what
    it holds (0: messages), and whether there are many."""
    return tuple(
        (field.name, of_field(field), field.is_repeated)
        for field in kind.fields
        if _holds(field, of, set())
    )


def _holds(field: FieldDescriptor, of: frozenset[int], seen: set[str]) -> bool:
    """Whether a field may hold it, at any depth; a type of message may hold itself."""
    kind = field.message_type
    if kind is None or kind.full_name in seen:
        return of_field(field) in of
    seen.add(kind.full_name)
    return any(_holds(one, of, seen) for one in kind.fields)


def change(message: Message, of: frozenset[int], how: Callable[[Any, Kind], Any]) -> None:
    """Put what `how` makes of it into every field of a message, at any depth, that holds what is
    asked `of`."""
    for name, kind, many in fields(message.DESCRIPTOR, of):
        if kind:
            if value := getattr(message, name):
                setattr(message, name, how(value, kind))
        elif many:
            for one in getattr(message, name):
                change(one, of, how)
        elif message.HasField(name):
            change(getattr(message, name), of, how)


def mask(message: Message) -> None:
    """Make of a message what answers show: `110105********002X`, `138****0000`."""
    change(message, MASKED, lambda text, kind: hidden(text, *SHOWN[kind]))


def redacted(message: Message) -> str:
    """A message as logs may show it, on one line: of personal data, only what it is."""
    copy = type(message)()
    copy.CopyFrom(message)
    change(copy, EVERYTHING, _named)
    text = text_format.MessageToString(copy, as_one_line=True, as_utf8=True)
    return f"{message.DESCRIPTOR.name} {{{text}}}"


def _named(value: Text, kind: Kind) -> Text:
    name = f"[{pb.PersonalData.Name(kind)}]"
    return name if isinstance(value, str) else name.encode()


def loggable(value: Any) -> Any:
    """A value as logs may show it, whatever it is: messages are redacted, and of errors the type is
    named, since their text may quote what was given."""
    match value:
        case None | bool() | int() | float():
            return value
        case Message():
            return redacted(value)
        case BaseException():
            return type(value).__name__
        case Mapping():
            return {name: loggable(one) for name, one in value.items()}
        case Sequence() | Set() if not isinstance(value, str | bytes):
            return tuple(map(loggable, value))
    return without_numbers(str(value))
