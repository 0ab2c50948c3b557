"""Whether a card is good.  Pure: it needs keys and status lists, and no network."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from uuid import UUID

from kit.trust import NodeKey
from services.benefits.domain import lists, tokens
from services.benefits.domain.tokens import Altered, CutShort, Foreign, Token

LIST_AGE = timedelta(days=7)
"""How old a status list may be: unverified default."""


class Finding(IntEnum):
    """What was found of a card, with the numbers of the contract."""

    VALID = 1
    EXPIRED = 2
    NOT_YET_VALID = 3
    REVOKED = 4
    ALTERED = 5
    UNKNOWN_ISSUER = 6
    OUTSIDE_SCOPE = 7
    FOREIGN = 8
    CUT_SHORT = 9
    LIST_MISSING = 10
    LIST_STALE = 11


TEXTS: Mapping[Finding, tuple[str, str]] = {
    Finding.VALID: ("the card is good", "会员卡有效"),
    Finding.EXPIRED: (
        "the card text has expired; its holder can show a fresh one",
        "二维码已过期；请持卡人重新出示",
    ),
    Finding.NOT_YET_VALID: (
        "the card text is from the future; check the clock of this device",
        "二维码尚未生效；请检查本机时钟",
    ),
    Finding.REVOKED: (
        "the card was revoked; its holder can ask their union",
        "会员卡已注销；请持卡人联系所在工会",
    ),
    Finding.ALTERED: (
        "the card text is not what a union signed; do not accept it",
        "二维码内容被改动或签名不符；请勿接受",
    ),
    Finding.UNKNOWN_ISSUER: (
        "the card was signed by a node that is not known here; get a fresh bundle",
        "签发节点不在信任名单中；请更新离线包",
    ),
    Finding.OUTSIDE_SCOPE: (
        "the card names an organisation that its signer may not speak for; do not accept it",
        "签发节点无权为该组织签发；请勿接受",
    ),
    Finding.FOREIGN: (
        "this is no member card: its text begins with UC1:",
        "这不是会员卡二维码：会员卡内容以 UC1: 开头",
    ),
    Finding.CUT_SHORT: (
        "the text is cut short; scan the whole code again",
        "二维码内容不完整；请重新扫描",
    ),
    Finding.LIST_MISSING: (
        "there is no status list of the signer here, so it is not known whether the card was "
        "revoked; get a fresh bundle",
        "缺少签发节点的状态列表，无法确认是否已注销；请更新离线包",
    ),
    Finding.LIST_STALE: (
        "the status list of the signer is too old to know whether the card was revoked; get a "
        "fresh bundle",
        "签发节点的状态列表过旧，无法确认是否已注销；请更新离线包",
    ),
}
"""What each finding means, and what is to be done, in English and Chinese."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found, and what the card says if its signature is right."""

    finding: Finding
    token: Token | None = None

    @property
    def message(self) -> str:
        return TEXTS[self.finding][0]

    @property
    def chinese_message(self) -> str:
        return TEXTS[self.finding][1]


def verify(
    text: str,
    keys: Mapping[UUID, NodeKey],
    lists_of: Callable[[UUID], Iterable[bytes]],
    *,
    at: datetime,
    list_age: timedelta = LIST_AGE,
) -> Verdict:
    """Whether the card in a text is good.

    Args:
        keys: those that are trusted: see `kit.trust`.
        lists_of: the status lists that are known of a node, whoever brought them.
        list_age: how old a list may be.
    """
    try:
        signed = tokens.signed_in(text)
        node = tokens.issuer_of(signed)
        if node not in keys:
            return Verdict(finding=Finding.UNKNOWN_ISSUER)
        token = tokens.opened(signed, keys[node].public_key)
    except Foreign:
        return Verdict(finding=Finding.FOREIGN)
    except CutShort:
        return Verdict(finding=Finding.CUT_SHORT)
    except Altered:
        return Verdict(finding=Finding.ALTERED)
    found = _of_token(token, keys[node], at=at) or _of_list(
        token, lists.newest(lists_of(node), keys[node].public_key, node=node),
        at=at, list_age=list_age,
    )  # fmt: skip
    return Verdict(finding=found, token=token)


def _of_token(token: Token, key: NodeKey, *, at: datetime) -> Finding | None:
    if not key.covers(token.code):
        return Finding.OUTSIDE_SCOPE
    if at < token.begin_time:
        return Finding.NOT_YET_VALID
    if at >= token.expire_time:
        return Finding.EXPIRED
    return None


def _of_list(
    token: Token, status_list: lists.StatusList | None, *, at: datetime, list_age: timedelta
) -> Finding:
    if status_list is None:
        return Finding.LIST_MISSING
    if status_list.is_revoked(token.status_index):  # for ever, however old the list
        return Finding.REVOKED
    if at >= status_list.expire_time or at >= status_list.sign_time + list_age:
        return Finding.LIST_STALE
    return Finding.VALID
