"""This node and those below it."""

from dataclasses import replace
from uuid import UUID

from services.sync.domain.nodes import Node, tree
from services.sync.usecases import Means


async def placed(means: Means) -> Node:
    """This node, with its parent if it has been admitted."""
    async with means.transaction() as store:
        uplink = await store.uplink.get()
    return replace(means.own, parent=uplink["parent"]) if uplink else means.own


async def below(means: Means) -> dict[UUID, Node]:
    """The nodes below, parents before children."""
    async with means.look() as store:
        return tree(means.own.id, await store.nodes.list())
