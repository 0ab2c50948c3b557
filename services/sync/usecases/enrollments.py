"""Children: invited, confirmed by an officer, and known from then on."""

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from kit import tls
from kit.rpc import Call
from services.sync.domain.enrollments import (
    INVITATION_LONGEST,
    INVITATION_VALID,
    ChildUnknown,
    DurationOutOfRange,
    EnrollmentInvalid,
    EnrollmentNotFound,
    FingerprintDifferent,
    Invitation,
    InvitationInvalid,
    check_code,
    check_enrollment,
    invitation_text,
)
from services.sync.domain.nodes import Node, fingerprint
from services.sync.events import joined
from services.sync.usecases import Means
from services.sync.usecases.keys import Keys

Admit = Callable[[UUID, str], Awaitable[str]]
"""Opens a child's account in NATS for its user key; returns the user's JWT, empty without NATS."""


@dataclass(frozen=True, slots=True)
class Invited:
    """An invitation, as it is answered once."""

    token: str
    organization_code: str
    expire_time: datetime


class Enrollments:
    def __init__(
        self,
        means: Means,
        keys: Keys,
        *,
        admit: Admit,
        cut: Callable[[UUID], Awaitable[None]],
        nats_url: str,
    ) -> None:
        """
        Args:
            cut: closes a child's account in NATS.
            nats_url: what children are told of this node's NATS; empty if there is none.
        """
        self._means, self._keys = means, keys
        self._admit, self._cut, self._nats_url = admit, cut, nats_url

    async def invite(self, code: str, valid: timedelta | None, *, call: Call) -> Invited:
        """A new invitation; its token is kept nowhere in clear."""
        check_code(code, below=self._means.own.organization_code)
        duration = INVITATION_VALID if valid is None else valid
        if not timedelta(0) < duration <= INVITATION_LONGEST:
            raise DurationOutOfRange()
        token = invitation_text(secrets.token_urlsafe(24), self._means.own.public_key)
        invited = Invited(token, code, self._means.clock() + duration)
        async with self._means.transaction() as store:
            if earlier := await store.calls.earlier(call, Invited):
                return earlier
            await store.invitations.add(
                Invitation(
                    token_hash=_hash(invited.token), organization_code=code,
                    expire_time=invited.expire_time,
                )
            )  # fmt: skip
            await store.calls.answer(call, invited)
        return invited

    async def enroll(self, token: str, node: Node, nats_user_key: str) -> Any | None:
        """The credentials of a child that shows an invitation; None until it is confirmed."""
        check_enrollment(node, nats_user_key)
        if self._keys.shown_by(node) is None:
            right = "made by the node itself, of these keys 由节点自己签发"
            raise EnrollmentInvalid(field="certificate", field_name="certificate", right=right)
        async with self._means.transaction() as store:
            invitation = await store.invitations.lock(_hash(token))
            if invitation is None or not invitation.admits(node, at=self._means.clock()):
                raise InvitationInvalid()
            await store.invitations.use(invitation.token_hash, node.id)
            fresh = invitation.node is None
            if not await store.enrollments.add(node, nats_user_key, fresh=fresh):
                raise InvitationInvalid()
            row = await store.enrollments.lock(node.id)
            if row is None or row["link_token"] is None:
                return None
            link_certificate = tls.for_child(self._means.signer, node.public_key)
            return {"link_token": store.enrollments.token(row), "user_jwt": row["user_jwt"],
                    "nats_url": self._nats_url if row["user_jwt"] else "",
                    "link_certificate": link_certificate}  # fmt: skip

    async def waiting(self) -> Sequence[Any]:
        """The enrolments that wait for a confirmation."""
        async with self._means.transaction() as store:
            return await store.enrollments.waiting()

    async def confirm(self, node: UUID, compared: str) -> Node:
        """Admit a child whose fingerprint was compared; again does no harm."""
        async with self._means.transaction() as store:
            row = await store.enrollments.lock(node)
            if row is None or row["revoke_time"] is not None:
                raise EnrollmentNotFound(node=f"nodes/{node}")
            if fingerprint(row["public_key"]) != compared.strip().lower():
                raise FingerprintDifferent()
            child = Node(
                id=node, parent=self._means.own.id, organization_code=row["organization_code"],
                display_name=row["display_name"], level=row["level"],
                public_key=row["public_key"], certificate=row["certificate"],
            )  # fmt: skip
            child = replace(child, certificate=self._keys.certify(child))
            if row["link_token"] is not None:
                return child
            token = secrets.token_urlsafe(24)
            user_jwt = await self._admit(node, row["nats_user_key"])
            await store.enrollments.admit(
                node, token=token, token_hash=_hash(token), user_jwt=user_jwt
            )
            change = joined(child, at=self._means.clock())
            if await store.nodes.add(change, child, origin=self._means.own.id):
                await store.outbox.put(change)
        self._means.committed()
        return child

    async def revoke(self, node: UUID) -> None:
        """Cut a child off, or refuse one that waits; again does no harm."""
        async with self._means.transaction() as store:
            if not await store.enrollments.revoke(node):
                raise ChildUnknown(node=f"nodes/{node}")
        await self._cut(node)

    async def child(self, token: str) -> str | None:
        """The name of the child that a link token belongs to."""
        async with self._means.look() as store:
            node = await store.enrollments.by_token(_hash(token))
        return f"nodes/{node}" if node else None

    async def child_key(self, child: UUID) -> bytes | None:
        """The public key of a child that is admitted."""
        async with self._means.look() as store:
            return await store.enrollments.key(child)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
