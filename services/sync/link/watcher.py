"""What the services of this node can prove."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from uuid import UUID

import grpc

from kit.db import PASSING
from services.sync.differences import Metadata
from services.sync.domain.streams import StreamKey
from services.sync.usecases import Means
from smartunion.event.v1 import log_pb2, log_pb2_grpc

logger = logging.getLogger(__name__)


class Watcher:
    """Knows what the services of this node can prove, and has missing things asked for."""

    def __init__(
        self, means: Means, peers: Mapping[str, grpc.aio.Channel], metadata: Metadata
    ) -> None:
        self._means, self._metadata = means, metadata
        self._logs = {name: log_pb2_grpc.LogServiceStub(peer) for name, peer in peers.items()}
        self._views: dict[str, str] = {}
        """The view to which each service says that it holds; of one that did not answer none."""
        self.held: Callable[[], Awaitable[None]] | None = None
        """Called when all services hold to the view in force."""

    async def proofs(self) -> dict[StreamKey, log_pb2.Proof]:
        """What each service says now; nothing for one that does not answer."""
        answers = await asyncio.gather(*map(self._ask, self._logs))
        return {
            StreamKey(UUID(bytes=proof.origin), service, proof.channel): proof
            for service, proofs in zip(self._logs, answers, strict=True)
            for proof in proofs
        }

    async def figures(self) -> list[log_pb2.Figure]:
        """What the services count now; nothing of one that does not answer."""

        async def ask(stub: "log_pb2_grpc.LogServiceAsyncStub") -> Sequence[log_pb2.Figure]:
            with suppress(grpc.aio.AioRpcError):
                request = log_pb2.ListFiguresRequest()
                answer = await stub.ListFigures(request, metadata=self._metadata, timeout=2)
                return answer.figures
            return []

        answers = await asyncio.gather(*map(ask, self._logs.values()))
        return [figure for figures in answers for figure in figures]

    async def _ask(self, service: str) -> Sequence[log_pb2.Proof]:
        try:
            answer = await self._logs[service].ListProofs(
                log_pb2.ListProofsRequest(), metadata=self._metadata, timeout=2
            )
        except grpc.aio.AioRpcError as error:
            logger.info("no proofs", extra={"peer": service, "code": error.code().name})
            self._views.pop(service, None)
            return []
        self._views[service] = answer.view
        return list(answer.proofs)

    async def run(self) -> None:
        """Every second, remember which buckets of which streams differ here, or lack sections."""
        while True:
            await asyncio.sleep(1)
            for key, proof in (await self.proofs()).items():
                if key.origin == self._means.own.id:
                    continue
                if proof.verdict == log_pb2.DIFFERENT:
                    self._means.wants.add(key, buckets=proof.different_buckets)
                self._means.wants.add(key, sections=proof.lacking_buckets)
            await self._say_held()

    async def _say_held(self) -> None:
        """Once all services of the node hold to the view in force, say so."""
        view = self._means.shown.name
        if view and self.held and all(self._views.get(name) == view for name in self._logs):
            with suppress(*PASSING):
                await self.held()
