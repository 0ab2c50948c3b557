import socket
from pathlib import Path

import pytest

from node import ports
from node.problems import PortTaken


async def assign(folder: Path, **wanted: int) -> dict[str, int]:
    return await ports.assign(wanted, memory=folder / "ports.json", host="127.0.0.1", patience=0)


async def test_a_free_port_stays_the_same(tmp_path: Path) -> None:
    first = await assign(tmp_path, sync=0, nats=0)
    assert len(set(first.values())) == 2
    assert await assign(tmp_path, sync=0, nats=0) == first


async def test_a_wanted_port_is_taken_and_not_remembered(tmp_path: Path) -> None:
    port = ports.free()
    assert await assign(tmp_path, sync=port) == {"sync": port}
    assert (await assign(tmp_path, sync=0))["sync"] != port


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} .* listen.sync"):
            await assign(tmp_path, sync=port)


def test_a_free_port_is_given_once() -> None:
    given = [ports.free() for _ in range(50)]
    assert len(set(given)) == 50
