"""What all records of sync have in common."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Held:
    """The state of an own record before the next one."""

    version: int
    hash: bytes
    public: bytes
