"""How a node joins: invitations, and what it shows to be admitted."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from kit.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from services.sync.domain.nodes import LEVELS, Node, OrganizationCodeInvalid

INVITATION_VALID = timedelta(days=7)

INVITATION_LONGEST = timedelta(days=90)


class OrganizationNotBelow(InvalidArgument):
    field = "organization_code"
    message = "{code} does not lie below {own}, which this node serves"
    chinese = "{code} 不在本节点所属的 {own} 之下"


class DurationOutOfRange(InvalidArgument):
    field = "valid_duration"
    message = "an invitation is valid for more than 0 seconds and at most 90 days"
    chinese = "邀请的有效期应大于 0 秒且不超过 90 天"


class InvitationInvalid(PermissionDenied):
    field = "token"
    message = "this invitation is unknown, used or expired; ask the parent's operator for a new one"
    chinese = "该邀请不存在、已被使用或已过期；请向上级节点的管理员索取新的邀请"


class EnrollmentInvalid(InvalidArgument):
    message = "{field_name} must be {right}"
    chinese = "{field_name} 应为：{right}"


class EnrollmentNotFound(NotFound):
    field = "name"
    message = "no enrolment of {node} waits for a confirmation"
    chinese = "没有待确认的节点 {node}"


class ChildUnknown(NotFound):
    field = "name"
    message = "{node} has never enrolled at this node"
    chinese = "{node} 从未在本节点登记"


class FingerprintDifferent(FailedPrecondition):
    field = "fingerprint"
    message = "the node that enrolled has another fingerprint; compare it with the child's operator"
    chinese = "申请加入的节点指纹不同；请与下级节点的管理员核对"


def check_code(code: str, *, below: str) -> None:
    """That `code` is a division code that lies below the division `below`.

    >>> check_code("5101", below="51")

    Raises:
        OrganizationCodeInvalid: if it is no division code.
        OrganizationNotBelow: if it lies elsewhere.
    """
    if not re.fullmatch(r"\d{2}|\d{4}|\d{6}|\d{9}", code, re.ASCII):
        raise OrganizationCodeInvalid(code=code[:30])
    if below != "0" and (code == below or not code.startswith(below)):
        raise OrganizationNotBelow(code=code, own=below)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """A one-time right to join."""

    token_hash: bytes
    organization_code: str
    expire_time: datetime
    node: UUID | None = None
    """The node that has shown it first; nobody else may."""

    def admits(self, node: Node, *, at: datetime) -> bool:
        """Whether `node` may enrol with it."""
        return (
            # Once it was shown in time, the operator may take their own.
            (self.node == node.id or (self.node is None and at < self.expire_time))
            and self.organization_code == node.organization_code
        )


def invitation_text(secret: str, public_key: bytes) -> str:
    """The token of an invitation: what admits, and the key by which its parent is known.

    >>> invitation_text("a-secret", bytes(32))
    'a-secret.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
    """
    return f"{secret}.{urlsafe_b64encode(public_key).rstrip(b'=').decode()}"


def key_invited_by(token: str) -> bytes:
    """The key in the token of an invitation; empty if there is none.

    >>> key_invited_by(invitation_text("a-secret", bytes(32))) == bytes(32)
    True
    >>> key_invited_by("a-secret"), key_invited_by("a-secret.AAAA"), key_invited_by("a.b.c")
    (b'', b'', b'')
    """
    try:
        key = urlsafe_b64decode(token.partition(".")[2] + "=")
    except ValueError:
        return b""
    return key if len(key) == 32 else b""


def check_enrollment(node: Node, nats_user_key: str) -> None:
    """That a child has shown all that is needed of it.

    Raises:
        EnrollmentInvalid: naming the field that is wrong.
    """
    checks = {
        "node.name": (node.id != node.parent, "another node's 其他节点"),
        "node.display_name": (
            1 <= len(node.display_name) <= 200 and node.display_name.isprintable(),
            "1 to 200 printable characters 个可打印字符",
        ),
        "node.level": (node.level in LEVELS[1:], ", ".join(LEVELS[1:])),
        "public_key": (len(node.public_key) == 32, "32 bytes 字节"),
        "nats_user_key": (bool(re.fullmatch("U[A-Z2-7]{55}", nats_user_key)), "a NATS user key"),
    }
    for name, (right, what) in checks.items():
        if not right:
            raise EnrollmentInvalid(field=name, field_name=name, right=what)
