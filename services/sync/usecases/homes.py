"""Homes: this node says where it is reached, and tells clients which node is theirs."""

from services.sync import events
from services.sync.domain.homes import Home, HomeAbove, HomeUnknown, line
from services.sync.usecases import Means


class Homes:
    def __init__(self, means: Means, own: Home, *, above: str) -> None:
        """`above`: host:port of the parent's sync; empty at the top."""
        self._means, self._own, self._above = means, own, above

    async def announce(self) -> None:
        """Say where this node is reached, if that was not said before."""
        own = self._own
        async with self._means.transaction() as store:
            held = await store.homes.lock(own.node)
            said = (held[0].address, held[0].issuer) if held else ("", "")
            if (not own.address and not held) or said == (own.address, own.issuer):
                return
            change = events.homed(own, held[1] if held else None, at=self._means.clock())
            await store.homes.put(change, own)
            await store.outbox.put(change)
        self._means.committed()

    async def find(self, code: str) -> Home:
        """The node that serves an organisation: the lowest that it lies within.

        Raises:
            OrganizationCodeInvalid: if it is no division code.
            HomeAbove, HomeUnknown: if it does not lie within this node's part of the tree.
        """
        codes = line(code)
        if self._own.organization_code not in codes:
            if self._above:
                raise HomeAbove(code=code, above=self._above)
            raise HomeUnknown(code=code)
        async with self._means.look() as store:
            return await store.homes.nearest(codes, node=self._own.node) or self._own
