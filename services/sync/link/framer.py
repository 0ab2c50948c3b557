"""From the log of a service of this node into frames."""

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta
from time import monotonic

import grpc

from kit.carrier import LONG_WAIT, WAIT
from kit.log import BATCH
from kit.status import refused
from kit.waiting import unhurried
from services.sync.differences import Metadata
from services.sync.domain.streams import StreamKey
from services.sync.link import PEER_FAILURES
from services.sync.restores import Restores
from services.sync.usecases import Means
from services.sync.usecases.frames import Frames
from services.sync.usecases.streams import Streams
from smartunion.event.v1 import log_pb2, log_pb2_grpc

logger = logging.getLogger(__name__)


class Framer:
    """Makes frames of one channel of the log of one service of this node."""

    def __init__(
        self, means: Means, streams: Streams, frames: Frames, restores: Restores,
        peer: grpc.aio.Channel, metadata: Metadata, service: str, channel: str,
    ) -> None:  # fmt: skip
        self._means, self._streams, self._frames = means, streams, frames
        self._restores = restores
        self._log, self._metadata = log_pb2_grpc.LogServiceStub(peer), metadata
        self._service, self._channel = service, channel
        self._stream = StreamKey(means.own.id, service, channel)
        self._away = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._follow()
            except PEER_FAILURES as error:
                with suppress(*PEER_FAILURES):
                    await self._recover(error)
                await asyncio.sleep(0.2)

    async def _recover(self, error: Exception) -> None:
        """A log that does not continue what was framed of it is shown, and taken up again."""
        info = refused(error) if isinstance(error, grpc.aio.AioRpcError) else None
        reason = info.reason if info else ""
        if not self._away:
            facts = {"peer": self._service, "error": reason or type(error).__name__}
            lost = reason in ("LOG_REWOUND", "LOG_TRIMMED")
            logger.log(logging.ERROR if lost else logging.INFO, "log not read", extra=facts)
        self._away = True
        if reason == "LOG_REWOUND":
            await self._streams.lost(self._stream)
            await self._restores.give_back(self._stream)
        elif reason == "LOG_TRIMMED" and info:
            first = int(info.metadata["first"])
            await self._streams.restart(self._stream, number=first - 1)

    async def _follow(self) -> None:
        cursor = await self._streams.cursor(self._stream)
        while True:
            shown, began = self._means.shown, monotonic()
            answer = await self._log.ReadLog(
                log_pb2.ReadLogRequest(
                    reader="sync",
                    channel=self._channel,
                    after=cursor.number,
                    run=cursor.run,
                    page_size=BATCH,
                    sections=shown.above,
                    wait=timedelta(seconds=WAIT if cursor.number else LONG_WAIT),
                ),
                metadata=self._metadata,
                timeout=10,
            )
            self._away = False
            if answer.entries or answer.head:
                moved = await self._frames.append(self._stream, cursor, answer, view=shown.id)
                if moved is None:
                    return  # another replica was faster, or frames came back from the parent
                cursor = moved
            if not answer.entries:
                await unhurried(began)
