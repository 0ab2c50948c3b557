"""Nobody reads along with a node's NATS: in production it shows a certificate."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from ssl import SSLError
from uuid import UUID

import nats.errors
import pytest

from kit import carrier
from kit.carrier import Carrier
from kit.ids import uuid7
from kit.waiting import ended
from node import config, keys, nats_server, ports, supervisor
from node.certificates import Authority
from node.nats_server import NatsServer
from node.problems import NotLoopback
from node.supervisor import Board, Plan
from tests.eventually import eventually
from tests.unit.node.test_certificates import PRODUCTION


async def test_in_production_it_answers_nobody_in_plain_and_shows_what_the_nodes_ca_vouches_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, node = tmp_path / "node.toml", str(uuid7())
    file.write_text(PRODUCTION, encoding="utf-8")
    port = ports.free()
    plan = Plan(config.load(file), node, {"nats": port}, False, "services", None)
    supervisor._certified(plan)
    async with AsyncExitStack() as stack:
        given = await supervisor._carrier(plan, Board(tmp_path / "endpoints.json"), stack)
        url, creds, ca = given["nats_url"], given["nats_creds"], given["nats_ca"]
        assert url == f"tls://127.0.0.1:{port}"
        await nats_server.check(url, creds, ca)
        stranger = Authority(tmp_path / "stranger", UUID(node), "127.0.0.1")
        foreign = stranger.issue_server("nats", "127.0.0.1")
        for trusted in ("", str(foreign / "ca.crt")):
            with pytest.raises((OSError, nats.errors.Error, SSLError)):
                await nats_server.check(url, creds, trusted)
        assert b"PONG" not in await _said_in_plain(port)
        monkeypatch.setattr(carrier, "ATTEMPT", 0.2)
        known = tmp_path / "known.crt"
        service = Carrier(url, creds, str(known))
        running = asyncio.create_task(service.run())
        await asyncio.sleep(0.1)  # it is not there yet, and waited for
        known.write_bytes((foreign / "ca.crt").read_bytes())
        log = plan.config.data / "nats" / "nats.log"
        before = log.read_text().count("TLS handshake error")

        async def turned_away() -> None:
            assert log.read_text().count("TLS handshake error") > before

        await eventually(turned_away)
        known.write_bytes(Path(ca).read_bytes())

        async def connected() -> None:
            assert service.client is not None

        await eventually(connected)
        await ended(running)


async def _said_in_plain(port: int) -> bytes:
    """What is answered to a client that goes on without TLS."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
    said = await reader.read()
    writer.close()
    return said


async def test_it_does_not_listen_beyond_this_machine_without_a_certificate(
    tmp_path: Path,
) -> None:
    known = keys.nats_keys(tmp_path / "secrets")
    server = NatsServer(tmp_path / "nats", ports.free(), known, str(uuid7()), host="0.0.0.0")
    with pytest.raises(NotLoopback):
        await server.start()
