"""The keys of other nodes, as sync knows them."""

from collections.abc import Mapping
from uuid import UUID

import grpc

from kit.errors import FailedPrecondition, Unavailable
from kit.rpc import uuid_in
from smartunion.sync.v1 import sync_pb2, sync_pb2_grpc

PATIENCE = 3.0
"""Seconds that sync has to answer."""


class NoNodeAbove(FailedPrecondition):
    message = "there is no node above {node}; answer or close the voice here"
    chinese = "{node} 没有上级节点；请在本级答复或办结"


class KeyUnknown(FailedPrecondition):
    message = "the key of {node} is not known here yet, so nothing can be sealed for it; try later"
    chinese = "本节点尚不知道 {node} 的密钥，无法为其加密；请稍后再试"


class KeysAway(Unavailable):
    message = "the service sync of this node does not answer; repeat the call with its request_id"
    chinese = "本节点的 sync 服务暂无应答；请用同一 request_id 重试"


class Keys:
    def __init__(self, sync: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...]) -> None:
        self._sync, self._metadata = sync_pb2_grpc.SyncServiceStub(sync), metadata

    async def above(self, node: UUID) -> tuple[UUID, bytes]:
        """The node above this one, and the key that seals for it.

        Raises:
            NoNodeAbove: if this is the top, or has not been admitted.
            KeysAway, KeyUnknown: if the key cannot be had.
        """
        keys = await self._known()
        if node not in keys or not keys[node].node.parent:
            raise NoNodeAbove(node=f"nodes/{node}")
        parent = uuid_in(keys[node].node.parent, "nodes")
        return parent, _seal_key(keys, parent)

    async def of(self, node: UUID) -> bytes:
        """The key that seals for a node.  Raises KeysAway, KeyUnknown."""
        return _seal_key(await self._known(), node)

    async def _known(self) -> dict[UUID, sync_pb2.NodeKey]:
        try:
            answer = await self._sync.ListKeys(
                sync_pb2.ListKeysRequest(), metadata=self._metadata, timeout=PATIENCE
            )
        except grpc.aio.AioRpcError:
            raise KeysAway() from None
        return {uuid_in(key.node.name, "nodes"): key for key in answer.keys}


def _seal_key(keys: Mapping[UUID, sync_pb2.NodeKey], node: UUID) -> bytes:
    if node not in keys or len(keys[node].seal_key) != 32:
        raise KeyUnknown(node=f"nodes/{node}")
    return keys[node].seal_key
