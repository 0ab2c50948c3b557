"""The ports of a node: those of the config, or free ones that stay the same ever after."""

import asyncio
import json
import random
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from node.keys import write
from node.problems import PortTaken

RANGE = range(20_000, 32_000)
"""Below those that Linux gives to outgoing connections, which could take ours while we are down."""

_held: list[socket.socket] = []
"""Bound, but not listening: no other process takes these for free before our server listens."""


def is_free(port: int, host: str) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return _bind(probe, port, host)


def free(host: str = "127.0.0.1") -> int:
    """A port that no one uses, held for this process (Linux) so that no one else finds it free."""
    for port in random.sample(RANGE, len(RANGE)):
        probe = socket.socket()
        if not _bind(probe, port, host):
            probe.close()
            continue
        # From here on a server that asks for SO_REUSEADDR, as all of ours do, may listen there.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":
            _held.append(probe)
        else:
            probe.close()
        return port
    raise PortTaken(port=f"{RANGE.start} to {RANGE.stop}", host=host, name="*", memory="")


async def assign(
    wanted: Mapping[str, int], *, memory: Path, host: str, patience: float
) -> dict[str, int]:
    """A port for each name: the wanted one, or for 0 the one in `memory`, or a new one, remembered.

    A port in use gets `patience` seconds to become free.

    Raises:
        PortTaken: if it is still in use then.
    """
    remembered = json.loads(memory.read_text()) if memory.exists() else {}
    ports = {name: port or remembered.get(name, 0) or free(host) for name, port in wanted.items()}
    deadline = time.monotonic() + patience
    for name, port in ports.items():
        while not is_free(port, host):
            if time.monotonic() > deadline:
                raise PortTaken(port=port, host=host, name=name, memory=memory)
            await asyncio.sleep(0.1)
    chosen = {name: port for name, port in ports.items() if not wanted[name]}
    write(memory, json.dumps(remembered | chosen, indent=2))
    return ports


def _bind(probe: socket.socket, port: int, host: str) -> bool:
    try:
        probe.bind((host, port))
    except OSError:
        return False
    return True
