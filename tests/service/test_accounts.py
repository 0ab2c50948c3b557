"""What a child may say to its parent's NATS, tried against a real server."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from kit import accounts
from node import engines, keys, nats_server
from node.nats_server import NatsServer


class Parent:
    """A parent's server with a connection for each account, and what went wrong for children."""

    def __init__(self, server: NatsServer, node: Client, system: Client) -> None:
        self.server, self.node, self.system = server, node, system
        self.errors: list[str] = []

    async def admit(self, child: str) -> accounts.Key:
        """Open the child's account; the key that the child would have made."""
        known = self.server.keys
        await accounts.admit(self.system, known.operator, known.account.public, child)
        return accounts.new_key("user")

    async def connect(self, child: str, user: accounts.Key, folder: Path) -> Client:
        """A connection of the child, with what it was given when it first connected."""
        jwt = accounts.child_user_jwt(self.server.keys.operator, child, user.public)
        file = folder / f"{child}.{user.public}.creds"
        keys.keep(file, lambda: accounts.creds(jwt, user.seed))
        return await nats.connect(
            self.server.url,
            user_credentials=str(file),
            inbox_prefix=accounts.inbox_prefix(child).encode(),
            allow_reconnect=False,
            error_cb=self._note,
        )

    async def revoke(self, child: str) -> None:
        known = self.server.keys
        await accounts.revoke(self.system, known.operator, known.account.public, child)

    async def _note(self, error: Exception) -> None:
        self.errors.append(str(error))


@pytest.fixture
async def parent(tmp_path: Path) -> AsyncIterator[Parent]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(engines.nats(tmp_path))
        node = await nats.connect(server.url, user_credentials=str(server.keys.node_creds))
        system = await nats.connect(server.url, user_credentials=str(server.keys.system_creds))
        stack.push_async_callback(node.close)
        stack.push_async_callback(system.close)
        await node.subscribe("up.>", cb=answer_with_subject)
        yield Parent(server, node, system)


async def answer_with_subject(message: Msg) -> None:
    large = message.subject.endswith("large")
    await message.respond(bytes(500_000) if large else message.subject.encode())


async def ask(client: Client, subject: str) -> str:
    return (await client.request(subject, b"x", timeout=1)).data.decode()


async def test_a_child_is_known_by_the_account_it_is_in(parent: Parent, tmp_path: Path) -> None:
    child = await parent.connect("A", await parent.admit("A"), tmp_path)
    assert await ask(child, "up.push") == "up.A.push"
    assert await ask(child, "up.B.push") == "up.A.B.push"
    await child.close()


async def test_a_child_cannot_touch_the_streams_of_its_parent(
    parent: Parent, tmp_path: Path
) -> None:
    await parent.node.jetstream().add_stream(name="EVENTS", subjects=["events.>"])
    child = await parent.connect("A", await parent.admit("A"), tmp_path)
    domain = parent.server.domain
    for subject in (
        "$JS.API.STREAM.INFO.EVENTS",
        "$JS.API.STREAM.DELETE.EVENTS",
        f"$JS.{domain}.API.STREAM.DELETE.EVENTS",
        "events.forged",
    ):
        with pytest.raises((nats.errors.NoRespondersError, TimeoutError)):
            await child.request(subject, b"", timeout=0.3)
    assert (await parent.node.jetstream().stream_info("EVENTS")).state.messages == 0
    assert "permissions violation" in parent.errors[0].lower()
    await child.close()


async def test_a_child_cannot_listen_to_its_sibling(parent: Parent, tmp_path: Path) -> None:
    child = await parent.connect("A", await parent.admit("A"), tmp_path)
    sibling = await parent.connect("B", await parent.admit("B"), tmp_path)
    heard: list[Msg] = []

    async def hear(message: Msg) -> None:
        heard.append(message)

    for subject in ("_INBOX_B.>", "up.>", ">"):
        await child.subscribe(subject, cb=hear)
    await child.flush()
    assert await ask(sibling, "up.push") == "up.B.push"
    assert not heard
    assert len(parent.errors) == 3
    await child.close()
    await sibling.close()


async def test_a_revoked_child_is_cut_at_once_and_its_sibling_is_not(
    parent: Parent, tmp_path: Path
) -> None:
    user = await parent.admit("A")
    child = await parent.connect("A", user, tmp_path)
    sibling = await parent.connect("B", await parent.admit("B"), tmp_path)
    started = time.monotonic()
    await parent.revoke("A")
    while not child.is_closed:
        assert time.monotonic() - started < 1
        await asyncio.sleep(0.01)
    assert await ask(sibling, "up.push") == "up.B.push"
    with pytest.raises(nats.errors.Error):
        await parent.connect("A", user, tmp_path)
    await sibling.close()


async def test_a_revoked_child_comes_back_with_a_later_key(parent: Parent, tmp_path: Path) -> None:
    await parent.admit("A")
    await parent.revoke("A")
    await asyncio.sleep(1.1)  # JWTs count in seconds.
    child = await parent.connect("A", accounts.new_key("user"), tmp_path)
    assert await ask(child, "up.push") == "up.A.push"
    await child.close()


async def test_an_account_that_the_operator_did_not_sign_opens_nothing(
    parent: Parent, tmp_path: Path
) -> None:
    rogue, user = accounts.new_key("operator"), accounts.new_key("user")
    await accounts.admit(parent.system, rogue, parent.server.keys.account.public, "A")
    file = tmp_path / "rogue.creds"
    file.write_text(accounts.creds(accounts.child_user_jwt(rogue, "A", user.public), user.seed))
    with pytest.raises(nats.errors.Error):
        await nats_server.check(parent.server.url, str(file))


async def test_what_is_no_account_is_refused(parent: Parent) -> None:
    with pytest.raises(accounts.ClaimsRefused, match="did not take the account"):
        await accounts.update(parent.system, "no account")


async def test_a_large_answer_reaches_a_child(parent: Parent, tmp_path: Path) -> None:
    child = await parent.connect("A", await parent.admit("A"), tmp_path)
    reply = await child.request("up.large", bytes(400_000), timeout=5)
    assert len(reply.data) == 500_000
    await child.close()
