"""What is missed here and above, and asked for."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from time import monotonic

from services.sync.domain.streams import StreamKey
from services.sync.usecases.messages import to_stream
from smartunion.sync.v1 import sync_pb2

WANT_AGE = 5.0
"""Seconds after which a want that was not repeated is forgotten."""


@dataclass(slots=True)
class Wants:
    """What readers here and above miss of each stream, until it is no longer said."""

    _said: dict[tuple[StreamKey, str, int | bytes], float] = field(default_factory=dict)
    """By stream, field of `Want`, and item: when it was said last."""

    def add(
        self, key: StreamKey, *, frames: Iterable[int] = (), buckets: Iterable[int] = (),
        ids: Iterable[bytes] = (), sections: Iterable[int] = (),
    ) -> None:  # fmt: skip
        """Say it again to keep it alive."""
        now = monotonic()
        said: dict[str, Iterable[int | bytes]] = {
            "frames": frames, "buckets": buckets, "ids": ids, "sections": sections,
        }  # fmt: skip
        for name, items in said.items():
            self._said |= {(key, name, item): now for item in items}

    def alive(self) -> dict[StreamKey, sync_pb2.Want]:
        """The want of each stream, as it travels."""
        oldest = monotonic() - WANT_AGE
        found: dict[StreamKey, sync_pb2.Want] = {}
        for (key, name, item), at in list(self._said.items()):
            if at < oldest:
                del self._said[key, name, item]
            else:
                want = found.setdefault(key, sync_pb2.Want(stream=to_stream(key)))
                getattr(want, name).append(item)
        return found
