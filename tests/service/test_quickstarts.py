"""What the quickstarts tell a client to write does what they say, against a real service."""

import json
import shutil
from pathlib import Path

import pytest

from kit import tokens
from services.membership.config import Settings
from tests.pages import ROOT, Page

PACKAGES = ROOT / "build" / "js" / "node_modules"
"""`make js` puts there what the page for Node.js tells to install."""


def endpoints(settings: Settings, folder: Path) -> None:
    """Write down where the service is, as a node does."""
    officer = "officers/admin"
    facts = {
        "grpc": {"membership": settings.listen},
        "tokens": {officer: tokens.sign(settings.secret("token.key"), officer)},
    }
    (folder / "my/data").mkdir(parents=True)
    (folder / "my/data/endpoints.json").write_text(json.dumps(facts))


async def test_the_quickstart_for_python_does_what_it_says(
    shared: Settings, tmp_path: Path
) -> None:
    page = Page("quickstart-python.md", tmp_path)
    endpoints(shared, tmp_path)
    [generate] = [block for block in page.blocks("sh") if "grpc_tools" in block]
    await page.run("sh", "-ec", generate)
    assert (tmp_path / "client/smartunion/membership/v1/membership_pb2_grpc.py").exists()
    program = "\n".join(page.blocks("python"))
    page.check(await page.run("python", "-Werror", "-c", program, PYTHONPATH="client"))


async def test_the_quickstart_for_node_js_does_what_it_says(
    shared: Settings, tmp_path: Path
) -> None:
    if not shutil.which("node"):
        pytest.skip("there is no `node` on this machine")
    if not PACKAGES.exists():
        pytest.skip("the packages of the page are not installed; `make js` does that")
    page = Page("quickstart-js.md", tmp_path)
    endpoints(shared, tmp_path)
    (tmp_path / "node_modules").symlink_to(PACKAGES)
    (tmp_path / "quickstart.mjs").write_text("\n".join(page.blocks("js")))
    page.check(await page.run("node", "quickstart.mjs"))
