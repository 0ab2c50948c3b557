"""What the quickstarts tell a client to write does what they say, against a real service."""

import shutil
from pathlib import Path

import pytest

from kit import tokens
from services.membership.config import Settings
from tests.pages import ROOT, Page

PACKAGES = ROOT / "build" / "js" / "node_modules"
"""`make js` puts there what the page for Node.js tells to install."""


@pytest.fixture
def token(shared: Settings) -> str:
    """Of an officer, at the service that most tests share."""
    return tokens.sign(shared.secret("token.key"), "officers/admin")


async def test_the_quickstart_for_python_does_what_it_says(
    shared: Settings, token: str, tmp_path: Path
) -> None:
    page = Page("quickstart-python.md", tmp_path)
    page.node(token, membership=shared.listen)
    [generate] = [block for block in page.blocks("sh") if "grpc_tools" in block]
    await page.run("sh", "-ec", generate)
    assert (tmp_path / "client/smartunion/membership/v1/membership_pb2_grpc.py").exists()
    program = "\n".join(page.blocks("python"))
    page.check(await page.run("python", "-Werror", "-c", program, PYTHONPATH="client"))


async def test_the_quickstart_for_node_js_does_what_it_says(
    shared: Settings, token: str, tmp_path: Path
) -> None:
    if not shutil.which("node"):
        pytest.skip("there is no `node` on this machine")
    if not PACKAGES.exists():
        pytest.skip("the packages of the page are not installed; `make js` does that")
    page = Page("quickstart-js.md", tmp_path)
    page.node(token, membership=shared.listen)
    (tmp_path / "node_modules").symlink_to(PACKAGES)
    (tmp_path / "quickstart.mjs").write_text("\n".join(page.blocks("js")))
    page.check(await page.run("node", "quickstart.mjs"))
