"""The keys of the nodes around this one, as its sync knows them."""

import asyncio
import logging
from datetime import datetime, timedelta
from uuid import UUID

import grpc

from kit import trust
from kit.errors import FailedPrecondition, Unavailable
from kit.trust import NodeKey
from smartunion.sync.v1 import sync_pb2, sync_pb2_grpc

POLL = 10.0
"""Seconds between two looks for keys of nodes that have joined."""

LASTING = timedelta(minutes=1)
"""How long what is trusted is not worked out again, unless other keys come."""

logger = logging.getLogger(__name__)


class KeysAway(Unavailable):
    message = "the service sync of this node does not answer; repeat the call with its request_id"
    chinese = "本节点的 sync 服务暂无应答；请用同一 request_id 重试"


class KeyUnknown(FailedPrecondition):
    message = "the key of {node} is not known here yet, so nothing can be sealed for it; try later"
    chinese = "本节点尚不知道 {node} 的密钥，无法为其加密；请稍后再试"


class NodeKeys:
    """The keys that this node trusts.  While sync is away, what was known last counts."""

    def __init__(self, sync: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...]) -> None:
        self._sync, self._metadata = sync_pb2_grpc.SyncServiceStub(sync), metadata
        self.root = b""
        """The public key of the top; empty while it is not known."""
        self.certificates: list[bytes] = []
        self._trusted: tuple[datetime, dict[UUID, NodeKey]] | None = None

    async def run(self) -> None:
        """Until cancelled."""
        away = False
        while True:
            try:
                await self.ask()
                away = False
            except grpc.aio.AioRpcError as error:
                if not away:
                    logger.info("keys are not known", extra={"code": error.code().name})
                away = True
            # One alone may just have been admitted; it hears at once who stands above.
            await asyncio.sleep(POLL if len(self.certificates) > 1 else 1.0)

    async def ask(self) -> None:
        """Ask sync."""
        answer = await self._sync.ListKeys(
            sync_pb2.ListKeysRequest(), metadata=self._metadata, timeout=10
        )
        certificates = [key.certificate for key in answer.keys]
        if (answer.root, certificates) != (self.root, self.certificates):
            self.root, self.certificates, self._trusted = answer.root, certificates, None

    def trusted(self, *, at: datetime) -> dict[UUID, NodeKey]:
        """The keys of all nodes that can be checked with the key of the top."""
        if self._trusted is None or not timedelta(0) <= at - self._trusted[0] < LASTING:
            known = trust.trusted(self.certificates, self.root, at=at) if self.root else {}
            self._trusted = at, known
        return self._trusted[1]

    def of(self, node: UUID, *, at: datetime) -> NodeKey:
        """The key of a node.  Raises KeysAway if none are known, KeyUnknown if this one is not."""
        known = self.trusted(at=at)
        if not known:
            raise KeysAway()
        if node not in known:
            raise KeyUnknown(node=f"nodes/{node}")
        return known[node]
