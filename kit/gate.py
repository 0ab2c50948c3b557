"""Who calls, and whether the method is open to them: by what its proto says."""

import functools
import hashlib
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import UUID

from google.protobuf.descriptor_pool import Default

from kit.authority import NoOffice, OfficesUnread, Scope
from kit.bindings import Bindings
from kit.errors import PermissionDenied, Unauthenticated
from kit.identity import Identity, Verifier
from kit.limits import Allowances, Sort, address_of, is_neighbour
from kit.offices import Offices
from smartunion.event.v1 import access_pb2
from smartunion.event.v1.access_pb2 import Access, Place

NOBODY = Identity("")
"""Who calls where anyone may."""

MOST_PROVEN = 10_000
"""Tokens that are known to have been right once, about 1 MB."""

OPEN_SERVICES = ("grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection")
"""Not ours, and open to everyone: they carry no option."""


class TokenInvalid(Unauthenticated):
    message = "this call needs the metadata `authorization: Bearer …` with a token of this node"
    chinese = "此调用需要本节点签发的令牌：元数据 authorization: Bearer …"


class AccessDenied(PermissionDenied):
    message = "{method} is not open to {caller}"
    chinese = "{caller} 无权调用 {method}"


def split(method: str) -> tuple[str, str]:
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
        child_key: Callable[[UUID], Awaitable[bytes | None]] | None = None,
    ) -> None:
        """
        Args:
            neighbours: know the services of this node and the nodes below.
            verifier: knows the tokens of everybody else at this node.
            allowances: what each caller has left.
            bindings: which person is which member.
            strong: the `acr` of logins that are good enough where a fresh one is asked.
            child_key: the public key of a child that is admitted; of no other.
        """
        self._neighbours, self._verifier, self._allowances = neighbours, verifier, allowances
        self._bindings, self._strong, self._child_key = bindings, strong, child_key
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
        service, name = split(method)
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
        """While a call lasts.  Raises AccessDenied unless the person who calls is the member still,
        and the node a child."""
        if who.person and await self._bindings.member(who.person) != who.name:
            raise AccessDenied(method=method, caller=who.person)
        child = who.name.removeprefix("nodes/")
        if child != who.name and self._child_key and not await self._child_key(UUID(child)):
            raise AccessDenied(method=method, caller=who.name)

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
