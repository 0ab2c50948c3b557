"""Programs that a node runs: started, watched, stopped, and never left behind."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LAUNCH = Path(__file__).with_name("launch.py")


@dataclass(frozen=True)
class Program:
    """A running program."""

    process: asyncio.subprocess.Process
    goodbye: signal.Signals
    """The signal that asks it to end well."""
    patience: float
    """Seconds that it gets to do so."""

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self.process.pid

    async def wait(self) -> str:
        """How it ended, once it has: `exit code 1`, `signal 9`."""
        code = await self.process.wait()
        return f"exit code {code}" if code >= 0 else f"signal {-code}"

    async def stop(self) -> None:
        """Ask it to end, and end it when it takes too long."""
        for sign, patience in ((self.goodbye, self.patience), (signal.SIGKILL, None)):
            if self.process.returncode is not None:
                return
            self.process.send_signal(sign)
            try:
                await asyncio.wait_for(self.process.wait(), patience)
            except TimeoutError:
                continue


async def run(
    command: Sequence[str | Path],
    *,
    goodbye: signal.Signals,
    orphaned: signal.Signals,
    patience: float = 15,
    user: str = "",
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Program:
    """Start a program, in a process group of its own: Ctrl-C reaches the node alone, which tells
    it.

    `orphaned` is the signal that it gets when this process dies (Linux).  `user`: the user to
    become, if not empty.  `log`: the file for its output; this process's own if None.
    """
    prefix: list[str | Path] = [
        sys.executable,
        "-I",
        "-S",
        LAUNCH,
        str(os.getpid()),
        str(int(orphaned)),
        user or "-",
    ]
    output = open(log, "ab") if log else None  # noqa: SIM115 - closed below.
    try:
        process = await asyncio.create_subprocess_exec(
            *prefix,
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output and asyncio.subprocess.STDOUT,
            env=environment,
        )
    finally:
        if output:
            output.close()
    return Program(process, goodbye, patience)


async def run_once(command: Sequence[str | Path], *, user: str, log: Path) -> int:
    """Run a program to its end; its exit code."""
    program = await run(
        command, goodbye=signal.SIGTERM, orphaned=signal.SIGKILL, user=user, log=log
    )
    try:
        return await program.process.wait()
    finally:
        await program.stop()
