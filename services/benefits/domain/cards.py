"""Member cards (会员卡): who holds one, and when it ends."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntEnum
from typing import Any
from uuid import UUID

from kit.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from kit.headers import Header
from kit.texts import check_characters

MOST_REASON_CHARACTERS = 500


class CardNotFound(NotFound):
    message = "there is no {card} at this node"
    chinese = "本节点没有 {card}"


class NoCard(NotFound):
    message = "{member} has no active card; your union can issue a new one"
    chinese = "{member} 没有有效的会员卡；可请所在工会补发"


class CardActive(AlreadyExists):
    message = "{member} has an active card, {card}; revoke that one before"
    chinese = "{member} 已有有效的会员卡 {card}；请先注销该卡"


class CardAlreadyRevoked(FailedPrecondition):
    message = "{card} was revoked at {revoke_time}; a revoked card stays so, issue a new one"
    chinese = "{card} 已于 {revoke_time} 注销；注销后不能恢复，请补发新卡"


class RevokeReasonLength(InvalidArgument):
    field = "reason"
    message = "a reason has 1 to 500 characters, not {length}"
    chinese = "注销理由应为 1 至 500 个字，而不是 {length} 个"


class CardState(IntEnum):
    """Where a card stands, with the numbers of the contract."""

    ACTIVE = 1
    REVOKED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CardIssued:
    card: str
    member: str
    organization: str
    occur_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CardMoved:
    card: str
    member: str
    organization: str
    occur_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CardRevoked:
    card: str
    member: str
    organization: str
    occur_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A member's card."""

    id: UUID
    header: Header
    member: UUID
    organization: UUID
    state: CardState
    status_index: int
    """Which bit of its node's status list is set when it is revoked."""
    issue_time: datetime
    revoke_time: datetime | None = None
    revoke_reason: str = ""
    """Empty in a copy, and where no officer revoked it."""
    revoker: str = ""
    """The officer who revoked it; empty as above."""

    @property
    def name(self) -> str:
        return f"cards/{self.id}"

    @property
    def renewable(self) -> bool:
        """Whether its holder gets a new one by being a member again: not against an officer."""
        return self.state is CardState.REVOKED and not self.revoker

    def revoke(self, *, by: str, reason: str, at: datetime) -> tuple["Card", CardRevoked]:
        """The card taken back by an officer, and the fact to announce.

        Raises:
            RevokeReasonLength: unless the trimmed reason has 1 to 500 characters.
            TextCharacters: if it holds control characters other than line breaks and tabs.
            CardAlreadyRevoked: unless the card is active.
            OwnedElsewhere: if this is a copy.
        """
        told = reason.strip()
        if not 1 <= len(told) <= MOST_REASON_CHARACTERS:
            raise RevokeReasonLength(length=len(told))
        check_characters(told, field="reason", lines=True)
        revoked, fact = self.end(at=at)
        return replace(revoked, revoke_reason=told, revoker=by), fact

    def end(self, *, at: datetime) -> tuple["Card", CardRevoked]:
        """The card of one who is no longer a member, and the fact to announce."""
        header = self.header.next(resource=self.name)
        if self.state is CardState.REVOKED:
            raise CardAlreadyRevoked(card=self.name, revoke_time=self.revoke_time)
        revoked = replace(self, header=header, state=CardState.REVOKED, revoke_time=at)
        return revoked, CardRevoked(**self._facts(at))

    def move(self, organization: UUID, *, at: datetime) -> tuple["Card", CardMoved]:
        """The card of one who belongs to another organisation now, and the fact to announce."""
        header = self.header.next(resource=self.name)
        moved = replace(self, header=header, organization=organization)
        return moved, CardMoved(**moved._facts(at))

    def _facts(self, at: datetime) -> dict[str, Any]:
        return {
            "card": self.name, "member": f"members/{self.member}",
            "organization": f"organizations/{self.organization}", "occur_time": at,
        }  # fmt: skip


def issue(
    *, id: UUID, header: Header, member: UUID, organization: UUID, status_index: int, at: datetime
) -> tuple[Card, CardIssued]:
    """A new card, and the fact to announce."""
    card = Card(
        id=id, header=header, member=member, organization=organization, state=CardState.ACTIVE,
        status_index=status_index, issue_time=at,
    )  # fmt: skip
    return card, CardIssued(
        card=card.name, member=f"members/{member}",
        organization=f"organizations/{organization}", occur_time=at,
    )  # fmt: skip
