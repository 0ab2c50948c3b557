"""What the parent hands back after a restore is not overwritten with what came before it."""

from datetime import UTC, datetime

from kit.ids import uuid7
from services.sync import events
from services.sync.domain.records import Held
from services.sync.usecases import Means
from tests.service.sync.conftest import OWN

NOW = datetime(2026, 11, 26, tzinfo=UTC)


async def test_a_key_that_comes_back_in_a_later_version_stays(means: Means) -> None:
    child = uuid7()

    async def put(certificate: bytes, held: Held | None) -> Held | None:
        """Hand down what follows `held`, as one does who looked before the others wrote."""
        change = events.handed_down(child, certificate, held, at=NOW)
        async with means.transaction() as store:
            if not await store.trusted_keys.put([(change, certificate)], origin=OWN.id):
                return None
            return (await store.trusted_keys.own(OWN.id))[child][1]

    first = await put(b"first", None)
    assert first and first.version == 1
    later = await put(b"later", first)
    assert later and later.version == 2
    for looked in (None, first):
        assert await put(b"outdated", looked) is None
    async with means.look() as store:
        assert await store.trusted_keys.certificates() == [b"later"]
    assert await put(b"latest", later)
