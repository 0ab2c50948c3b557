"""The command line: smartunion …

A new group of commands is a `typer.Typer` in a module of its own, added to `app` below.
"""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from datetime import timedelta
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from kit.errors import Refusal
from kit.ids import uuid7
from kit.telemetry import setup_logging
from node import audit, cards, keys, rotation, supervisor
from node import config as configs
from node.issuer import LIFETIME, DevelopmentIssuer
from node.problems import ConfigExists, DevelopmentIssuerOff

app = typer.Typer(
    help="Smart Union (智慧工会): one network of trade union nodes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
node = typer.Typer(help="One node on this machine.", no_args_is_help=True)
app.add_typer(node, name="node")
network = typer.Typer(help="Four nodes on this machine, joined.", no_args_is_help=True)
app.add_typer(network, name="network")
app.add_typer(cards.app, name="card")
app.add_typer(audit.app, name="audit")
app.add_typer(rotation.app, name="keys")

Config = Annotated[Path, typer.Option("--config", help="The TOML file of the node.")]
Build = Annotated[Path, typer.Option("--build", help="The folder for all that is made.")]
INTERRUPTED = 130


@node.command()
def up(
    config: Config,
    processes: Annotated[
        bool, typer.Option("--processes", help="Each service in a process of its own.")
    ] = False,
) -> None:
    """Start the node and keep it running until SIGTERM or Ctrl-C."""
    loaded = configs.load(config)
    setup_logging("node")
    run(supervisor.up(loaded, separate=processes))


@node.command()
def init(config: Config) -> None:
    """Write an example config, with a comment on each setting."""
    if config.exists():
        raise ConfigExists(config=config)
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(configs.EXAMPLE, encoding="utf-8")
    typer.echo(f"wrote {config}; now: smartunion node up --config {config}")


@network.command("up")
def network_up(build: Build = Path("build")) -> None:
    """Start the network and keep it running until SIGTERM or Ctrl-C."""
    from node.network import up

    run(up(build / "network", build / "endpoints.json", Console()))


@app.command()
def demo(build: Build = Path("build")) -> None:
    """Play the story on a network of four nodes: cut, healed and proved."""
    from node.demo import play

    finished = False

    async def story() -> None:
        nonlocal finished
        await play(build, Console())
        finished = True

    run(story())
    if not finished:
        typer.echo("smartunion: interrupted; every node has ended", err=True)
        raise typer.Exit(INTERRUPTED)


@app.command()
def token(
    config: Config,
    name: Annotated[
        str, typer.Argument(help="Who: officers/…, members/…, merchants/… or persons/…")
    ],
    hours: Annotated[
        float, typer.Option(min=0, max=24 * 365, help="For how long it is good.")
    ] = LIFETIME / timedelta(hours=1),
    step_up: Annotated[
        bool, typer.Option("--step-up", help="As if they had just logged in.")
    ] = False,
) -> None:
    """Print a token of the development issuer, good at this node only."""
    loaded = configs.load(config)
    if issuer := loaded.identity.issuer:
        raise DevelopmentIssuerOff(issuer=issuer)
    node = keys.keep(loaded.data / "node-id", lambda: str(uuid7()))
    development = DevelopmentIssuer(loaded.data / "secrets", node)
    typer.echo(development.token(name, lifetime=timedelta(hours=hours), step_up=step_up))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(installed_version("smartunion"))


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end, or until SIGTERM or SIGINT cancels it, which is a good end."""

    async def until_signal() -> None:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()

        def stop() -> None:
            for sign in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(sign, lambda: None)  # A second one is too many.
            task.cancel()

        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, stop)
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(until_signal())


def _loop_factory() -> Any:
    """uvloop's where it is installed: it doubles the rate of calls."""
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


def main() -> None:
    """The console script: what a person did wrong is one line, and exit code 1."""
    try:
        app()
    except Refusal as refusal:
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(
            f"smartunion: {refusal} / {refusal.chinese_text}"
        )
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(
            f"smartunion: {where}{error.strerror or error}"
        )
        sys.exit(1)
