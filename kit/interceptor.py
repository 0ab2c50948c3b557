"""Around every call: who may, how long, what is recorded, shown and refused."""

import asyncio
import inspect
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_status import rpc_status

from kit.audit import Act, acting
from kit.authority import Scope, ScopeUndecided, scope
from kit.db import PASSING, everything, reach
from kit.errors import Refusal, Unavailable
from kit.gate import (
    CLEAR,
    OPEN_SERVICES,
    PEOPLE,
    AccessDenied,
    Doorkeeper,
    Gate,
    Rule,
    rule_of,
    split,
)
from kit.identity import Identity, TokenExpired
from kit.limits import Allowances, address_of
from kit.personal import mask
from kit.rpc import Context, caller
from kit.status import pushback, to_status
from smartunion.event.v1 import access_pb2

Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]

DEADLINE = 15.0
"""Seconds that a call without a deadline gets, streams excepted."""

CONFIRM_EVERY = 2.0
"""Seconds after which it is asked again whether who calls may, of calls that last."""

log = logging.getLogger(__name__)


class TryAgain(Unavailable):
    message = "the database is away for a moment; repeat the call with the same request_id"
    chinese = "数据库暂时不可用；请用同一 request_id 重试"


class RefusalInterceptor(grpc.aio.ServerInterceptor):
    """Asks the gate before every call of any kind, and answers a Refusal with its Status."""

    def __init__(
        self, *, domain: str, gate: Gate, doorkeeper: Doorkeeper, allowances: Allowances
    ) -> None:
        self._domain = domain
        self._gate = gate
        self._doorkeeper = doorkeeper
        self._allowances = allowances
        self._handlers: dict[str, Any] = {}
        """By method, as far as one was called."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        method = str(handler_call_details.method)
        if method not in self._handlers:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            self._handlers[method] = self._around(method, handler)
        return self._handlers[method]

    def _around(self, method: str, handler: Any) -> Any:
        codecs = (handler.request_deserializer, handler.response_serializer)
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._answering(method, handler.unary_unary, DEADLINE), *codecs
            )
        if handler.stream_unary is not None:
            return grpc.stream_unary_rpc_method_handler(
                self._answering(method, handler.stream_unary, None), *codecs
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                self._streaming(method, handler.unary_stream), *codecs
            )
        return grpc.stream_stream_rpc_method_handler(
            self._streaming(method, handler.stream_stream), *codecs
        )

    def _answering(self, method: str, handler: Any, deadline: float | None) -> Any:
        async def respond(request: Any, context: Context) -> Any:
            try:
                who, guarded = await self._admit(method, context)
                request = _noted(request)
                # A client's own deadline cancels the call; one without any must not hang for ever.
                limit = deadline if context.time_remaining() is None else None
                lasting = self._lasting(method, who) if deadline is None else nullcontext()
                with self._running(method, context):
                    async with lasting, asyncio.timeout(limit):
                        answer = await handler(request, context)
                _check_decided(method, guarded)
                _mask(method, answer)
                return answer
            except Exception as error:
                await self._abort(method, context, error)

        return respond

    def _streaming(self, method: str, handler: Any) -> Any:
        async def stream(request: Any, context: Context) -> None:
            try:
                who, guarded = await self._admit(method, context)
                with self._running(method, context):
                    answers = handler(_noted(request), context)
                    if inspect.isawaitable(answers):  # it writes by itself, as Health.Watch does
                        await answers
                    else:  # what it holds ends with the call
                        async with self._lasting(method, who), aclosing(answers):
                            async for answer in answers:
                                await self._gate.confirm(method, who)
                                _check_decided(method, guarded)
                                if guarded:
                                    guarded.confirm()
                                _mask(method, answer)
                                await context.write(answer)
                _check_decided(method, guarded)
            except Exception as error:
                await self._abort(method, context, error)

        return stream

    async def _admit(self, method: str, context: Context) -> tuple[Identity, Scope | None]:
        """Who calls, and what they may do if they are an officer."""
        metadata = {str(key): value for key, value in context.invocation_metadata() or ()}
        [shown] = context.auth_context().get("x509_pem_cert", [b""])
        who = await self._gate.admit(method, metadata, context.peer(), shown.decode())
        name = who.name
        caller.set(name)
        service, bare = split(method)
        rule = rule_of(service, bare)
        guarded = None
        if rule.access == access_pb2.OFFICER:
            guarded = self._doorkeeper.admit(name, rule)
            scope.set(guarded)
        reach.set(_reach_of(name, rule, guarded))
        if rule.step_up:
            self._gate.check_step_up(who)
        if rule.access in PEOPLE:
            acting.set(Act(name, f"{service}.{bare}", guarded))
        return who, guarded

    @asynccontextmanager
    async def _lasting(self, method: str, who: Identity) -> AsyncIterator[None]:
        """What lasts ends with the token by which it began, and soon after the caller is none any
        more who may call, also while nothing is sent.

        Raises:
            TokenExpired, AccessDenied
        """
        denied: list[AccessDenied] = []
        left = None if who.expires == math.inf else max(0.0, who.expires - time.time())
        try:
            async with asyncio.timeout(left) as limit:
                watching = asyncio.create_task(self._watch(method, who, limit, denied))
                try:
                    yield
                finally:
                    watching.cancel()
        except TimeoutError:
            if denied:
                raise denied[0] from None
            if limit.expired():
                raise TokenExpired(issuer=who.issuer) from None
            raise

    async def _watch(
        self, method: str, who: Identity, limit: asyncio.Timeout, denied: list[AccessDenied]
    ) -> None:
        """Let a call end once the gate denies it; what the gate cannot say now it says later."""
        while not denied:
            await asyncio.sleep(CONFIRM_EVERY)
            try:
                await self._gate.confirm(method, who)
            except AccessDenied as error:
                denied.append(error)
                limit.reschedule(asyncio.get_running_loop().time())
            except (Refusal, *PASSING):
                continue

    def _running(self, method: str, context: Context) -> AbstractContextManager[None]:
        """Counts a call while it is under way.  That a full service lives can still be asked."""
        service, name = split(method)
        stream = rule_of(service, name).sort == "streams"
        if service in OPEN_SERVICES and not stream:
            return nullcontext()
        who = caller.get() or address_of(context.peer())
        return self._allowances.running(who, "streams_at_once" if stream else "calls_at_once")

    async def _abort(self, method: str, context: Context, error: Exception) -> None:
        if isinstance(error, grpc.aio.AbortError):
            raise error
        if isinstance(error, asyncio.TimeoutError):
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"longer than {DEADLINE:g} s")
        if isinstance(error, PASSING) and not isinstance(error, ValueError):
            log.warning("call failed", extra={"method": method, "error": type(error).__name__})
            error = TryAgain()
        if isinstance(error, Refusal):
            status = rpc_status.to_status(to_status(error, domain=self._domain))
            metadata = (*status.trailing_metadata, *pushback(error))
            await context.abort(status.code, status.details, metadata)
        # The traceback names code, never values: asyncpg's messages may quote a row, so only types.
        log.error("call failed", extra={"method": method, "error": _where(error)})
        await context.abort(grpc.StatusCode.INTERNAL, "internal error")


def _reach_of(name: str, rule: Rule, guarded: Scope | None) -> Callable[[], Sequence[str]]:
    """How far a call reaches in the database: see `kit.db.reach`."""
    if guarded:
        return guarded.reach
    if rule.access in (access_pb2.SERVICE, access_pb2.NODE):
        return everything
    return lambda: [name] if name else []


class _Noted:
    """The messages of a stream, as they come: the first says what the call is about."""

    def __init__(self, messages: AsyncIterator[Message], act: Act) -> None:
        self._messages, self._act = messages, act

    def __aiter__(self) -> "_Noted":
        return self

    async def __anext__(self) -> Message:
        message = await anext(self._messages)
        self._act.request = self._act.request or message
        return message


def _noted(request: Any) -> Any:
    """What is asked, which is noted in what the caller does."""
    act = acting.get(None)
    if act is None:
        return request
    if not isinstance(request, Message):
        return _Noted(request, act)
    act.request = request
    return request


def _check_decided(method: str, guarded: Scope | None) -> None:
    """So that a method which forgets to ask is found by its first test: it answers nothing."""
    if guarded and not guarded.decided:
        log.error("scope undecided", extra={"method": method})
        raise ScopeUndecided(method=method)


def _mask(method: str, answer: Message) -> None:
    """Hide what an answer does not show of people, unless it is revealed for a purpose that stands
    in the audit trail, or is not for officers."""
    act = acting.get(None)
    if rule_of(*split(method)).access not in CLEAR and not (act and act.revealed):
        mask(answer)


def _where(error: BaseException) -> str:
    """The type of an error and the lines that it came through, without its text.

    >>> _where(ValueError("110101199003070012"))
    'ValueError'
    """
    lines = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        lines.append(
            f"{code.co_qualname if hasattr(code, 'co_qualname') else code.co_name}"
            f":{trace.tb_lineno}"
        )
        trace = trace.tb_next
    return " ".join([type(error).__name__, *lines[-6:]])
