"""The children's side of NATS."""

import asyncio
import logging
from contextlib import suppress
from uuid import UUID

import nats.errors
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg

from kit import accounts
from kit.carrier import Carrier, close, dial
from kit.db import PASSING
from kit.errors import Refusal
from kit.limits import Allowances, TooManyAtOnce
from kit.waiting import ended
from services.sync.usecases import Means
from services.sync.usecases.down import Down
from services.sync.usecases.enrollments import Enrollments
from smartunion.sync.v1 import sync_pb2

LONGEST = 20.0
"""Seconds for one push.  The child waits for less, but what is committed it need not send again."""

PASSING_HERE = (*PASSING, Refusal, DecodeError, nats.errors.Error)
"""Of pushes: what is no fault of this node."""

logger = logging.getLogger(__name__)


class Children:
    """The children's side of NATS: an account for each, and their pushes on `up.{child}.push`."""

    def __init__(
        self, means: Means, enrollments: Enrollments, down: Down, carrier: Carrier,
        allowances: Allowances, *, url: str, ca: str, system_creds: str, operator: str,
        account: str,
    ) -> None:  # fmt: skip
        """
        Args:
            allowances: what each child has left, over whatever it pushes.
            url: of the node's NATS; empty: children push over gRPC alone.
            system_creds: the path of the credentials of the account SYS.
            operator: the seed of the NATS operator.
            account: the public key of the account NODE.
        """
        self._means, self._enrollments, self._down = means, enrollments, down
        self._allowances = allowances
        self._url, self._ca, self._system_creds = url, ca, system_creds
        self.account = account
        self.operator = accounts.key_from_seed(operator) if url else None
        self.system: Client | None = None
        """A connection of the account SYS, once there is one."""
        self._at_work: set[asyncio.Task[None]] = set()
        self._ended = False
        if url:
            carrier.serve("up.*.push", self._take)

    async def run(self) -> None:
        """Open the accounts of all children again: NATS may have lost its folder."""
        if self.operator is None:
            return await asyncio.Event().wait()  # type: ignore[return-value]
        try:
            self.system = await dial(self._url, self._ca, user_credentials=self._system_creds)
            while True:
                with suppress(*PASSING, accounts.ClaimsRefused):
                    async with self._means.transaction() as store:
                        admitted = await store.enrollments.admitted()
                    for child in admitted:
                        await accounts.admit(self.system, self.operator, self.account, str(child))
                await asyncio.sleep(30)
        finally:
            self._ended = True
            await ended(*self._at_work)
            if self.system is not None:
                await close(self.system)

    async def admit(self, child: UUID, user_key: str) -> str:
        """Open the account of a child; the JWT of its user, empty if there is no NATS here."""
        if self.operator is None:
            return ""
        if self.system is not None:
            with suppress(accounts.ClaimsRefused):  # `run` tries again
                await accounts.admit(self.system, self.operator, self.account, str(child))
        return accounts.child_user_jwt(self.operator, str(child), user_key)

    async def cut(self, child: UUID) -> None:
        """Close the connections of a child; what it still sends is not answered in any case."""
        if self.operator is not None and self.system is not None:
            with suppress(accounts.ClaimsRefused):
                await accounts.revoke(self.system, self.operator, self.account, str(child))

    async def _take(self, msg: Msg) -> None:
        """Work on a push beside those of others: nats-py waits for this before the next message."""
        if not self._ended:
            task = asyncio.create_task(self._answer(msg))
            self._at_work.add(task)
            task.add_done_callback(self._at_work.discard)

    async def _answer(self, msg: Msg) -> None:
        """The account imposes the subject; the token shows that the account is still admitted."""
        try:
            child = f"nodes/{msg.subject.split('.')[1]}"
            with self._allowances.running(child, "pushes_at_once"):
                async with asyncio.timeout(LONGEST):
                    request = sync_pb2.PushFramesRequest.FromString(msg.data)
                    if await self._enrollments.child(request.link_token) != child:
                        return
                    answer = await self._down.receive(UUID(child.removeprefix("nodes/")), request)
            await msg.respond(answer.SerializeToString())
        except TooManyAtOnce:
            return  # without a word: there may be very many
        except Exception as error:
            # Without an answer the child goes over to gRPC, which can say what is wrong.
            level = logging.INFO if isinstance(error, PASSING_HERE) else logging.ERROR
            logger.log(level, "push not answered", extra={"error": type(error).__name__})
