"""Pages of docs/ whose blocks are run as they stand."""

import asyncio
import doctest
import json
import os
import re
import shutil
import sys
from pathlib import Path
from uuid import UUID

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Page:
    """A page of docs/, and a folder in which a reader follows it."""

    def __init__(self, name: str, folder: Path) -> None:
        """
        Args:
            folder: becomes what a reader has: this repository, with a place for what is made.
        """
        text = (ROOT / "docs" / name).read_text(encoding="utf-8")
        self._blocks = BLOCK.findall(text)
        self.folder = folder
        for shared in ("docs", "protos"):
            shutil.copytree(ROOT / shared, folder / shared)

    def node(self, token: str, *, second: str = "", **grpc: str) -> None:
        """Write down where the services of a node are, and the tokens of officers, as it does."""
        facts = {"grpc": grpc, "tokens": {"officers/admin": token, "officers/deputy": second}}
        (self.folder / "my/data").mkdir(parents=True)
        (self.folder / "my/data/endpoints.json").write_text(json.dumps(facts))

    def config(self, secrets: Path, node: UUID) -> None:
        """Put there what `smartunion token` needs: the config, and the secrets of the node."""
        config = 'name = "四川"\norganization = "51"\nlevel = "province"\n'
        (self.folder / "my/node.toml").write_text(config, encoding="utf-8")
        shutil.copytree(secrets, self.folder / "my/data/secrets")
        (self.folder / "my/data/node-id").write_text(str(node))
        (self.folder / ".venv/bin").mkdir(parents=True)
        command = Path(sys.executable).with_name("smartunion")
        (self.folder / ".venv/bin/smartunion").symlink_to(command)

    def blocks(self, language: str) -> list[str]:
        """What stands in the blocks of a language, in order."""
        return [content for said, content in self._blocks if said == language]

    async def run(self, *command: str, **environment: str) -> str:
        """What a program prints, once it has ended well."""
        bin_ = Path(sys.executable).parent
        program = await asyncio.create_subprocess_exec(
            *command, cwd=self.folder, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"PATH": f"{bin_}:{os.environ['PATH']}"} | environment,
        )  # fmt: skip
        out, err = await asyncio.wait_for(program.communicate(), 60)
        assert program.returncode == 0, err.decode()
        return out.decode()

    def check(self, printed: str) -> None:
        """That this was printed which the page shows, where `...` stands for anything."""
        shown = "".join(self.blocks("text"))
        same = doctest.OutputChecker().check_output(shown, printed, doctest.ELLIPSIS)
        assert same, f"the page shows\n{shown}\nbut it printed\n{printed}"
