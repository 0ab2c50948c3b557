"""The gRPC edge shared by all services: who calls, what a refusal looks like, and repeats."""

import asyncio
import functools
import hashlib
import inspect
import json
import logging
import math
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Protocol, TypeAlias, TypeVar, cast
from uuid import UUID

import grpc
from google.protobuf import any_pb2
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from kit.audit import Act, acting
from kit.authority import NoOffice, OfficesUnread, Scope, ScopeUndecided, scope
from kit.bindings import Bindings
from kit.db import PASSING
from kit.errors import (
    InvalidArgument,
    PermissionDenied,
    Refusal,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from kit.identity import Identity, TokenExpired, Verifier
from kit.ids import uuid_of
from kit.limits import Allowances, Sort, address_of, is_neighbour
from kit.offices import Offices
from kit.personal import mask
from smartunion.event.v1 import access_pb2
from smartunion.event.v1.access_pb2 import Access, Place

T = TypeVar("T")
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]

DEADLINE = 15.0
"""Seconds that a call without a deadline gets, streams excepted."""

CHANNEL_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 16 * 2**20),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)
"""Of every channel that a node opens: a line that swallows bytes is noticed in 15 s, and what
`http_proxy` says is for web pages, not for neighbours."""

MOST_KEY_CHARACTERS = 100
"""Of an item of a list: an id, a code, a number."""

FIRST, LAST = UUID(int=0), UUID(int=2**128 - 1)
"""Before and after all ids."""

NOBODY = Identity("")
"""Who calls where anyone may."""

MOST_PROVEN = 10_000
"""Tokens that are known to have been right once, about 1 MB."""

OPEN_SERVICES = ("grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection")
"""Not ours, and open to everyone: they carry no option."""

caller: ContextVar[str] = ContextVar("caller")
"""Who calls: `officers/…`, `members/…`, `merchants/…`, `persons/…`, `services/…`, `nodes/…`; empty
where anyone may."""

log = logging.getLogger(__name__)


class RequestIdMalformed(InvalidArgument):
    field = "request_id"
    message = "a request_id is a UUID such as 0190a1b2-…, not {request_id}"
    chinese = "request_id 应为 UUID，而不是 {request_id}"


class NameMalformed(InvalidArgument):
    message = "the format is {format}, not {name}"
    chinese = "格式应为 {format}，而不是 {name}"


class EnumNumberUnknown(InvalidArgument):
    message = "the number {number} stands for nothing here; the known ones are {known}"
    chinese = "编号 {number} 没有含义；可用的编号是 {known}"


class PageTokenForeign(InvalidArgument):
    field = "page_token"
    message = "this page_token belongs to another request; begin again without one"
    chinese = "该 page_token 属于另一个请求；请去掉后从第一页重新开始"


class PageSizeOutOfRange(InvalidArgument):
    field = "page_size"
    message = "page_size is between 0 and {most}, not {page_size}"
    chinese = "page_size 应在 0 到 {most} 之间，而不是 {page_size}"


class TokenInvalid(Unauthenticated):
    message = "this call needs the metadata `authorization: Bearer …` with a token of this node"
    chinese = "此调用需要本节点签发的令牌：元数据 authorization: Bearer …"


class AccessDenied(PermissionDenied):
    message = "{method} is not open to {caller}"
    chinese = "{caller} 无权调用 {method}"


class TryAgain(Unavailable):
    message = "the database is away for a moment; repeat the call with the same request_id"
    chinese = "数据库暂时不可用；请用同一 request_id 重试"


@dataclass(frozen=True, slots=True)
class Call:
    """One mutation, as it is known when it is repeated."""

    caller: str
    method: str
    request_id: UUID | None
    """None if the caller gave none: then it cannot be repeated safely."""
    request_hash: bytes
    """SHA-256 of the request."""
    act: Act | None = field(default=None, compare=False)
    """What is recorded of it, if somebody is to answer for it."""


def call_of(request: Message, request_id: str) -> Call:
    """The call that carries `request`.

    Raises:
        RequestIdMalformed: if `request_id` is neither empty nor a UUID.
    """
    try:
        parsed = UUID(request_id) if request_id else None
    except ValueError:
        raise RequestIdMalformed(request_id=request_id[:50]) from None
    serialized = request.SerializeToString(deterministic=True)
    return Call(
        caller=caller.get(),
        method=request.DESCRIPTOR.full_name,
        request_id=parsed,
        request_hash=hashlib.sha256(serialized).digest(),
        act=acting.get(None),
    )


def uuid_in(name: str, collection: str, *, field: str = "name") -> UUID:
    """The UUID of a resource name.

    >>> uuid_in("members/01890a5d-ac96-774b-bcce-b302099a8057", "members").version
    7

    Raises:
        NameMalformed: if it is no `{collection}/{uuid}`.
    """
    prefix, _, identifier = name.partition("/")
    try:
        if prefix == collection:
            return uuid_of(identifier)
    except ValueError:
        pass
    raise NameMalformed(field=field, format=f"{collection}/{{uuid}}", name=name[:100])


def check_enum(number: int, known: Iterable[int], *, field: str) -> None:
    """Raises EnumNumberUnknown if a number is none of an enum's: proto3 lets any pass."""
    numbers = list(known)
    if number not in numbers:
        raise EnumNumberUnknown(field=field, number=number, known=", ".join(map(str, numbers)))


@dataclass(frozen=True, slots=True)
class Page:
    """Where a list goes on: after `key`, at most `size` items."""

    size: int
    key: str
    """The key of the last item of the page before; empty for the first page.  Anyone can make a
    token, so it is printable ASCII and short, and no more is known of it."""
    question: str
    """A hash of the request but for its page, so that a token of another request is refused."""

    def after(self) -> UUID:
        """The id after which a list goes on, the oldest first.  Raises PageTokenForeign."""
        return self._id() or FIRST

    def before(self) -> UUID:
        """The id before which a list goes on, the newest first.  Raises PageTokenForeign."""
        return self._id() or LAST

    def _id(self) -> UUID | None:
        try:
            return uuid_of(self.key) if self.key else None
        except ValueError:
            raise PageTokenForeign() from None

    def cut(
        self, found: Sequence[T], key: Callable[[T], str] = lambda item: str(cast(Any, item).id)
    ) -> tuple[list[T], str | None]:
        """Of items that were read, one more than are asked for, those that are shown; and the key
        of the next page, None if this is the last."""
        shown = list(found[: self.size])
        return shown, key(shown[-1]) if len(found) > self.size else None

    async def across(
        self, within: Iterable[str], read: Callable[[str], Awaitable[list[T]]], *,
        newest: bool = False,
    ) -> tuple[list[T], str | None]:  # fmt: skip
        """What is shown of lists in order of id that are read at several paths, none below another,
        and the key of the next page.  One list a path: PostgreSQL knows too little of an array of
        paths, and took 3 s for what takes 20 ms."""
        found = [item for path in within for item in await read(path)]
        found.sort(key=lambda item: cast(Any, item).id, reverse=newest)
        return self.cut(found)

    def token(self, key: str | None) -> str:
        """The token with which the same list goes on after `key`; empty if that was the end."""
        if key is None:
            return ""
        return urlsafe_b64encode(json.dumps([self.question, key]).encode()).decode()


def page_of(request: Any, *, usual: int = 100, most: int = 1000) -> Page:
    """The page that a List request asks for.

    Raises:
        PageSizeOutOfRange: if it is negative or more than `most`.
        PageTokenForeign: if the token was not made for the same request, or not here.
    """
    if not 0 <= request.page_size <= most:
        raise PageSizeOutOfRange(page_size=request.page_size, most=most)
    bare = type(request)()
    bare.CopyFrom(request)
    bare.ClearField("page_size")
    bare.ClearField("page_token")
    content = request.DESCRIPTOR.full_name.encode() + bare.SerializeToString(deterministic=True)
    question = hashlib.sha256(content).hexdigest()[:16]
    key = _page_key(request.page_token, question) if request.page_token else ""
    return Page(request.page_size or usual, key, question)


def _page_key(token: str, question: str) -> str:
    try:
        found = json.loads(urlsafe_b64decode(token))
    except (ValueError, RecursionError):
        raise PageTokenForeign() from None
    match found:
        case [str(asked), str(key)] if asked == question and _is_key(key):
            return key
    raise PageTokenForeign()


def _is_key(text: str) -> bool:
    return len(text) <= MOST_KEY_CHARACTERS and text.isascii() and text.isprintable()


def to_status(refusal: Refusal, *, domain: str) -> status_pb2.Status:
    """The refusal as a google.rpc.Status.  Source: AIP-193.

    With `ErrorInfo`, `LocalizedMessage` in zh-CN, `BadRequest` where a field is wrong, and
    `RetryInfo` where time helps.
    """
    info = error_details_pb2.ErrorInfo(reason=refusal.reason, domain=domain, metadata=refusal.facts)
    details: list[Message] = [
        info,
        error_details_pb2.LocalizedMessage(locale="zh-CN", message=refusal.chinese_text),
    ]
    if refusal.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=refusal.field, description=str(refusal), reason=refusal.reason
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if refusal.retry_delay is not None:
        again = error_details_pb2.RetryInfo()
        again.retry_delay.FromTimedelta(timedelta(seconds=refusal.retry_delay))
        details.append(again)
    return status_pb2.Status(
        code=refusal.code, message=str(refusal), details=[_packed(detail) for detail in details]
    )


def pushback(refusal: Refusal) -> tuple[tuple[str, str], ...]:
    """When a client whose service config has it repeat RESOURCE_EXHAUSTED does so, in ms; -1:
    never.  Source: gRFC A6."""
    if not isinstance(refusal, ResourceExhausted):
        return ()
    delay = refusal.retry_delay
    return (("grpc-retry-pushback-ms", "-1" if delay is None else f"{delay * 1000:.0f}"),)


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


@dataclass(frozen=True, slots=True)
class Refused:
    """What a refused caller learns; empty as far as the other end did not say it."""

    code: grpc.StatusCode
    text: str
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    field: str = ""
    chinese: str = ""
    retry_delay: float | None = None
    """Seconds after which the same call may be served."""


def refused(error: grpc.aio.AioRpcError) -> Refused:
    """What an error of a call says, as `to_status` wrote it."""
    info, words = error_details_pb2.ErrorInfo(), error_details_pb2.LocalizedMessage()
    bad, again = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    for detail in status.details if status else ():
        for known in (info, words, bad, again):
            detail.Unpack(known)
    fields = [violation.field for violation in bad.field_violations]
    return Refused(
        error.code(), error.details() or "", info.reason, dict(info.metadata), "".join(fields),
        words.message,
        again.retry_delay.ToTimedelta().total_seconds() if again.HasField("retry_delay") else None,
    )  # fmt: skip


def _split(method: str) -> tuple[str, str]:
    """The service and the name in `/package.Service/Method`."""
    service, _, name = method.lstrip("/").partition("/")
    return service, name


class Neighbours(Protocol):
    """Know who is no person: by tokens in development (`kit.tokens`), else by certificates
    (`kit.tls`)."""

    async def name(self, token: str, shown: str) -> str | None:
        """`services/…` of this node, or `nodes/…` below; None if it is nobody's.

        Args:
            shown: a certificate that TLS has let in, in PEM; empty if none was asked for.

        Raises:
            Unauthenticated: if a certificate is nobody's.
        """


class Gate:
    """Decides who calls, and whether the method is open to them."""

    def __init__(
        self,
        neighbours: Neighbours,
        verifier: Verifier,
        allowances: Allowances,
        bindings: Bindings,
        *,
        strong: Collection[str] = (),
    ) -> None:
        """
        Args:
            neighbours: know the services of this node and the nodes below.
            verifier: knows the tokens of everybody else at this node.
            allowances: what each caller has left.
            bindings: which person is which member.
            strong: the `acr` of logins that are good enough where a fresh one is asked.
        """
        self._neighbours, self._verifier, self._allowances = neighbours, verifier, allowances
        self._bindings, self._strong = bindings, strong
        self._proven: dict[bytes, None] = {}
        """The SHA-256 of what was right, and is still checked at each call."""

    async def admit(
        self, method: str, metadata: dict[str, str | bytes], peer: str, shown: str = ""
    ) -> Identity:
        """Who calls `/package.Service/Method`; of no name where anyone may.

        Args:
            peer: where the call comes from, as gRPC names it.
            shown: the certificate that TLS has let in, in PEM; it counts before any token.

        Raises:
            Unauthenticated: if it is not known who calls.
            IssuerAway: if that cannot be said now.
            OfficesUnread: if it is not known yet whether a person is a member.
            AccessDenied: if the method is not open to them, or carries no rule.
            TooManyCalls: if they, or strangers from the same place, call too often.
        """
        service, name = _split(method)
        if service in OPEN_SERVICES:
            return NOBODY
        rule = rule_of(service, name)
        if rule.access == access_pb2.PUBLIC:
            self._allowances.take(address_of(peer), "strangers")
            return NOBODY
        header = metadata.get("authorization", "")
        token = header.removeprefix("Bearer ") if isinstance(header, str) else ""
        found = await self._known(token, shown, peer)
        self._allowances.take(found.name, "neighbours" if is_neighbour(found.name) else rule.sort)
        if found.name.startswith("persons/") and rule.access != access_pb2.PERSON:
            member = await self._bindings.member(found.name)
            found = replace(found, name=member, person=found.name) if member else found
        if found.name.partition("/")[0] not in _PREFIXES.get(rule.access, ()):
            raise AccessDenied(method=method, caller=found.name)
        return found

    async def confirm(self, method: str, who: Identity) -> None:
        """Before each answer of a call that lasts.  Raises AccessDenied unless the person who calls
        is the member still."""
        if who.person and await self._bindings.member(who.person) != who.name:
            raise AccessDenied(method=method, caller=who.person)

    def check_step_up(self, who: Identity) -> None:
        """Raises InsufficientUserAuthentication unless they logged in a moment ago, and well."""
        who.check_step_up(self._strong, at=time.time())

    async def _known(self, token: str, shown: str, peer: str) -> Identity:
        """Who calls.  What was never right before costs a stranger's call, until it has proved
        right: a flood of made-up tokens ends before they are looked at."""
        digest = hashlib.sha256((shown or token).encode()).digest()
        new = digest not in self._proven
        if new:
            self._allowances.take(address_of(peer), "strangers")
        try:
            found = await self._identify(token, shown)
        except Unauthenticated:
            self._proven.pop(digest, None)
            raise
        if new:
            self._allowances.give_back(address_of(peer), "strangers")
            if len(self._proven) >= MOST_PROVEN:
                del self._proven[next(iter(self._proven))]
            self._proven[digest] = None
        return found

    async def _identify(self, token: str, shown: str) -> Identity:
        """Each kind of token has a form of its own, so none passes as another."""
        if not shown and token.count(".") == 2:
            return await self._verifier.identify(token)
        found = await self._neighbours.name(token, shown)
        if found is None:
            raise TokenInvalid()
        return Identity(found)


_PREFIXES: dict[Access, tuple[str, ...]] = {
    access_pb2.OFFICER: ("officers", "members"),
    access_pb2.SERVICE: ("services",),
    access_pb2.NODE: ("nodes",),
    access_pb2.MEMBER: ("members",),
    access_pb2.MERCHANT: ("merchants",),
    access_pb2.SELF: ("officers", "members", "merchants", "persons"),
    access_pb2.PERSON: ("persons",),
}
"""Members may hold offices too."""

PEOPLE = (
    access_pb2.OFFICER, access_pb2.MEMBER, access_pb2.MERCHANT, access_pb2.SELF, access_pb2.PERSON,
)  # fmt: skip
"""Who answers for what they change: it leaves a row in the audit trail."""


CLEAR = (access_pb2.MEMBER, access_pb2.PERSON, access_pb2.SERVICE, access_pb2.NODE)
"""Whose answers are not masked: what members and persons read is their own, and services and nodes
are sent what they must know."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a method's proto says of who may call it, and as what a call counts."""

    access: Access = access_pb2.ACCESS_UNSPECIFIED
    permission: str = ""
    place: Place = access_pb2.PLACE_UNSPECIFIED
    sort: Sort = "reads"
    step_up: bool = False


@functools.cache
def rule_of(service: str, method: str) -> Rule:
    """The rule of a method; nobody may call one that does not exist, has none, or is open to
    officers without a word of what they must be permitted."""
    try:
        described = Default().FindServiceByName(service).methods_by_name[method]
    except KeyError:
        return Rule()
    said: Any = described.GetOptions().Extensions
    sort: Sort = "writes" if "request_id" in described.input_type.fields_by_name else "reads"
    if described.client_streaming or described.server_streaming:
        sort = "streams"
    rule = Rule(
        said[access_pb2.access], said[access_pb2.permission], said[access_pb2.place], sort,
        said[access_pb2.step_up],
    )  # fmt: skip
    return Rule() if rule.access == access_pb2.OFFICER and not rule.permission else rule


class Doorkeeper:
    """Lets an officer in who holds, somewhere, what the method asks for."""

    def __init__(self, offices: Offices, home: str) -> None:
        """`home`: the path of the organisation that the node serves."""
        self._offices, self._home = offices, home

    def admit(self, caller: str, rule: Rule) -> Scope:
        """What the officer who calls may do by this method.

        Raises:
            NoOffice: if that is nothing.
            OutsideScope: if it is not for the node, which the call is about.
            OfficesUnread: if it is not known yet.
        """
        found = Scope(
            caller=caller, permission=rule.permission, clock=self._offices.clock,
            offices=functools.partial(self._offices.of, caller), seats=self._offices.at,
            home=self._home,
        )  # fmt: skip
        if not found.holds():
            if not self._offices.known.is_set():
                raise OfficesUnread()
            raise NoOffice(caller=caller, permission=rule.permission)
        if rule.place == access_pb2.HOME:
            found.check(self._home)
        elif rule.place == access_pb2.ANYWHERE:
            found.places()
        return found


class RefusalInterceptor(grpc.aio.ServerInterceptor):
    """Asks the gate before every call of any kind, and answers a Refusal with its Status."""

    def __init__(
        self, *, domain: str, gate: Gate, doorkeeper: Doorkeeper, allowances: Allowances
    ) -> None:
        self._domain = domain
        self._gate = gate
        self._doorkeeper = doorkeeper
        self._allowances = allowances

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = str(handler_call_details.method)
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
                lasting = _until_expiry(who) if deadline is None else nullcontext()
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
                        async with _until_expiry(who), aclosing(answers):
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
        service, bare = _split(method)
        rule = rule_of(service, bare)
        guarded = None
        if rule.access == access_pb2.OFFICER:
            guarded = self._doorkeeper.admit(name, rule)
            scope.set(guarded)
        if rule.step_up:
            self._gate.check_step_up(who)
        if rule.access in PEOPLE:
            acting.set(Act(name, f"{service}.{bare}", guarded))
        return who, guarded

    def _running(self, method: str, context: Context) -> AbstractContextManager[None]:
        """Counts a call while it is under way.  That a full service lives can still be asked."""
        service, name = _split(method)
        stream = rule_of(service, name).sort == "streams"
        if service in OPEN_SERVICES and not stream:
            return nullcontext()
        return self._allowances.running(caller.get() or address_of(context.peer()), stream=stream)

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


@asynccontextmanager
async def _until_expiry(who: Identity) -> AsyncIterator[None]:
    """What lasts ends with the token by which it began.  Raises TokenExpired."""
    left = None if who.expires == math.inf else max(0.0, who.expires - time.time())
    try:
        async with asyncio.timeout(left) as limit:
            yield
    except TimeoutError:
        if limit.expired():
            raise TokenExpired(issuer=who.issuer) from None
        raise


def _check_decided(method: str, guarded: Scope | None) -> None:
    """So that a method which forgets to ask is found by its first test: it answers nothing."""
    if guarded and not guarded.decided:
        log.error("scope undecided", extra={"method": method})
        raise ScopeUndecided(method=method)


def _mask(method: str, answer: Message) -> None:
    """Hide what an answer does not show of people, unless it is revealed for a purpose that stands
    in the audit trail, or is not for officers."""
    act = acting.get(None)
    if rule_of(*_split(method)).access not in CLEAR and not (act and act.revealed):
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
