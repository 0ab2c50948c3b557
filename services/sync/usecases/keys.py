"""The keys of the tree: certified from node to node, and handed down."""

from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from kit import trust
from kit.trust import CERTIFICATE_VALID, NodeKey
from services.sync import events
from services.sync.domain.nodes import Node, tree
from services.sync.store import Store
from services.sync.usecases import Means


class Keys:
    def __init__(self, means: Means, seal_key: bytes) -> None:
        """`seal_key`: the public key that seals for this node."""
        self._means, self._seal_key = means, seal_key

    def own_certificate(self) -> bytes:
        """What the node itself says of its keys; the same for a month."""
        own = self._means.own
        month = self._now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        key = NodeKey(
            node=own.id, parent=None, organization_code=own.organization_code, level=own.level,
            public_key=own.public_key, seal_key=self._seal_key,
        )  # fmt: skip
        return trust.certify(self._means.signer, key, at=month)

    async def chain(self, store: Store) -> list[bytes]:
        """The certificates from this node's up to the top's."""
        return await store.uplink.chain() or [self.own_certificate()]

    async def trusted(self) -> tuple[bytes, dict[UUID, NodeKey]]:
        """The key of the top, and the keys of all nodes that can be checked with it."""
        async with self._means.transaction() as store:
            chain = await self.chain(store)
            below = [node.certificate for node in await store.nodes.list()]
            handed = await store.trusted_keys.certificates()
        root = trust.top(chain)
        return root, trust.trusted([*chain, *below, *handed], root, at=self._now())

    def certify(self, child: Node) -> bytes:
        """The certificate of a child, made of its own of itself; empty if that is none."""
        key = self.shown_by(child)
        if key is None:
            return b""
        key = replace(key, parent=self._means.own.id)
        return trust.certify(self._means.signer, key, at=self._now())

    def shown_by(self, child: Node) -> NodeKey | None:
        """What a child certifies of its keys, which shows that it holds them; None if its
        certificate is not its own, or says something else than the child."""
        with suppress(trust.NotSigned):
            key = trust.certified(child.certificate, child.public_key, at=self._now())
            said = key.node, key.parent, key.organization_code, key.level
            if said == (child.id, None, child.organization_code, child.level):
                return key
        return None

    async def chain_of(self, store: Store, child: UUID, shown: bytes) -> list[bytes]:
        """The chain from a child up.  If its certificate is missing, or half over, it is made again
        of what the child shows."""
        chain, own = await self.chain(store), self._means.own
        held = await store.nodes.certificate(child, origin=own.id)
        if shown and not self._is_fresh(held):
            node, record = await store.nodes.lock(child, origin=own.id)
            node = replace(node, certificate=shown)
            if made := self.certify(node):
                held = made
                change = events.certified(replace(node, certificate=made), record, at=self._now())
                await store.nodes.renew(change, made, origin=own.id)
                await store.outbox.put(change)
        return [held, *chain] if held else []

    async def hand_down(self) -> None:
        """Hand down the certificates of all nodes below that are new."""
        own = self._means.own.id
        async with self._means.transaction() as store:
            if not await store.trusted_keys.lack(own):
                return
            await store.trusted_keys.lock()
            chain = await self.chain(store)
            nodes = tree(own, await store.nodes.list())
            certificates = [node.certificate for node in nodes.values()]
            known = trust.trusted([*chain, *certificates], trust.top(chain), at=self._now())
            held = await store.trusted_keys.own(own)
            fresh = []
            for node in (node for node in nodes if node in known):
                certificate, record = held.get(node, (b"", None))
                if known[node].certificate != certificate:
                    certificate = known[node].certificate
                    change = events.handed_down(node, certificate, record, at=self._now())
                    fresh.append((change, certificate))
            written = await store.trusted_keys.put(fresh, origin=own)
            await store.outbox.put(*written)
        if written:
            self._means.committed()

    def _is_fresh(self, certificate: bytes) -> bool:
        """Whether this node has made it, and more than half of its time is left."""
        with suppress(trust.NotSigned):
            key = trust.certified(certificate, self._means.own.public_key, at=self._now())
            return key.expire_time - self._now() > CERTIFICATE_VALID / 2
        return False

    def _now(self) -> datetime:
        return self._means.clock()
