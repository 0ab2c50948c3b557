"""Whether a card is good, as far as this node knows; and what others need to find it out."""

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from kit.errors import Unavailable
from kit.keys import NodeKeys
from kit.trust import NodeKey
from services.benefits.domain import tokens, verification
from services.benefits.domain.tokens import Altered, CutShort, Foreign
from services.benefits.domain.verification import Verdict
from services.benefits.usecases import Means


class TrustUnknown(Unavailable):
    message = "this node does not know the key of the top yet; repeat the call in a minute"
    chinese = "本节点尚未取得最上级节点的公钥；请一分钟后重试"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """All that is needed to check cards without a network."""

    root: bytes
    certificates: list[bytes]
    status_lists: list[bytes]
    make_time: datetime


class Verification:
    def __init__(self, means: Means, keys: NodeKeys, *, list_age: timedelta) -> None:
        self._means, self._keys, self._list_age = means, keys, list_age

    async def verify(self, text: str) -> Verdict:
        """What is found of a card's text."""
        at = self._means.clock()
        known: Mapping[UUID, list[bytes]] = await self._lists_of_issuer(text)
        return verification.verify(
            text, self._trusted(at), lambda node: known.get(node, []),
            at=at, list_age=self._list_age,
        )  # fmt: skip

    async def bundle(self) -> Bundle:
        if not self._keys.root:
            raise TrustUnknown()
        return Bundle(
            root=self._keys.root, certificates=self._keys.certificates,
            status_lists=await self._means.reads.lists.all(), make_time=self._means.clock(),
        )  # fmt: skip

    async def _lists_of_issuer(self, text: str) -> dict[UUID, list[bytes]]:
        try:
            node = tokens.issuer_of(tokens.signed_in(text))
        except (Foreign, CutShort, Altered):
            return {}
        return {node: await self._means.reads.lists.of(node)}

    def _trusted(self, at: datetime) -> Mapping[UUID, NodeKey]:
        """The node knows itself, also before its sync has said who stands above."""
        own = NodeKey(
            node=self._means.node, parent=None, organization_code=self._means.home.code,
            level=self._means.home.level.name.lower(),
            public_key=self._means.key.public_key().public_bytes_raw(), seal_key=bytes(32),
        )  # fmt: skip
        return ChainMap(self._keys.trusted(at=at), {own.node: own})
