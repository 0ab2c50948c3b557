"""The door for records of others: whose copies are kept, and what members on the roll lead to."""

from collections.abc import Sequence

from kit.db import Connection
from kit.follower import Effect
from kit.records import Kind
from kit.roll import Roll, erased
from kit.sealing import Keyring
from services.benefits.events import CARDS, COUPONS, PROGRAMMES, SHARED_STATUS_LISTS, STATUS_LISTS
from services.benefits.store import Store
from services.benefits.usecases import Means, cards
from smartunion.event.v1 import log_pb2

KINDS: tuple[Kind, ...] = (CARDS, STATUS_LISTS, SHARED_STATUS_LISTS, PROGRAMMES, COUPONS)


def enrolling(means: Means, keyring: Keyring) -> Effect:
    """What membership's entries lead to: the roll is kept, and cards follow it; of who is erased,
    nothing is said any more."""

    async def enrol(conn: Connection, entries: Sequence[log_pb2.Entry]) -> None:
        enrolments, gone = await Roll(conn).put(entries), erased(entries)
        store = Store(conn, keyring, means.node)
        if enrolments:
            await cards.follow(store, enrolments, node=means.node, at=means.clock())
        if gone:  # After the cards were locked, as by whoever revokes one now.
            await store.cards.erase(gone)

    return enrol
