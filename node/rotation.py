"""The key-encryption key at the command line: smartunion keys …

It wraps the data keys of the four services (kit/sealing.py).  Services go on while it is changed:
they read the file again when they meet a key that they do not know.
"""

import asyncio
import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from kit.sealing import FileKeys, rewrap
from node import config as configs
from node import databases, keys

app = typer.Typer(help="The key (密钥) that wraps all data keys of a node.", no_args_is_help=True)

Config = Annotated[Path, typer.Option("--config", help="The TOML file of the node, which is up.")]


@app.command()
def rotate(config: Config) -> None:
    """Make a new key, the first of data.key, and wrap all data keys by it."""
    databases.of_node(config)
    file = _file(config)
    keys.write(file, f"{secrets.token_hex(32)}\n{file.read_text()}")
    wrap(config)


@app.command("rewrap")
def wrap(config: Config) -> None:
    """Wrap all data keys by the first key of data.key: again after a rotation that was cut off."""
    file = _file(config)
    provider = FileKeys(file)

    async def wrapped(service: str, conn: Any) -> int:
        return await rewrap(conn, provider)

    for service, count in asyncio.run(databases.each(config, wrapped)).items():
        typer.echo(f"{service}: {count:,} data keys wrapped anew")
    typer.echo(
        f"only the first key of {file} is in use; delete the lines below it when no backup from "
        "before may be restored any more"
    )


def _file(config: Path) -> Path:
    return configs.load(config).data / "secrets" / "data.key"
