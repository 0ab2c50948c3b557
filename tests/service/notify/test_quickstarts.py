"""What the quickstarts tell a client to write does what they say, against real services."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node.issuer import DevelopmentIssuer
from services.membership.config import Settings
from services.notify.config import Settings as NotifySettings
from smartunion.event.v1 import access_pb2
from tests.callers import OF_A_NODE
from tests.eventually import eventually
from tests.offices import DEPUTY, explained
from tests.pages import ROOT, Page
from tests.service.conftest import calling
from tests.service.desk import HOME
from tests.service.notify.conftest import make_settings, serving

ADMIN = "officers/admin"
PACKAGES = ROOT / "build" / "js" / "node_modules"
"""`make js` puts there what the page for Node.js tells to install."""


@pytest.fixture(scope="module")
async def notify(
    shared: Settings, postgres: str, notify_template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[NotifySettings]:
    """Notify that follows the membership which most tests share."""
    alone = await make_settings(postgres, notify_template, tmp_path_factory.mktemp("notify"))
    peers = {**alone.peers, "membership": shared.listen}
    same = shared.model_dump(include=OF_A_NODE)
    settings = alone.model_copy(update={**same, "peers": peers})
    async with calling(shared) as desk, serving(settings):
        for role in ("CHAIR", "NODE_OPERATOR"):
            await desk.appoint(ADMIN, HOME, role)

        async def heard() -> None:
            found = await explained(
                settings.listen, desk.as_officer(ADMIN),
                "smartunion.notify.v1.NotifyService.CreateNotice", HOME,
            )  # fmt: skip
            assert found.finding == access_pb2.Explanation.ALLOWED

        await eventually(heard)
        yield settings


def page_of(name: str, folder: Path, shared: Settings, notify: NotifySettings) -> Page:
    """A page at a node with these services."""
    page = Page(name, folder)
    token = DevelopmentIssuer(shared.secrets, shared.node).token(ADMIN)
    second = DevelopmentIssuer(shared.secrets, shared.node).token(DEPUTY)
    page.node(token, second=second, membership=shared.listen, notify=notify.listen)
    page.config(shared.secrets, shared.node)
    return page


async def test_the_quickstart_for_python_does_what_it_says(
    shared: Settings, notify: NotifySettings, tmp_path: Path
) -> None:
    page = page_of("quickstart-python.md", tmp_path, shared, notify)
    [generate] = [block for block in page.blocks("sh") if "grpc_tools" in block]
    await page.run("sh", "-ec", generate)
    assert (tmp_path / "client/smartunion/membership/v1/membership_pb2_grpc.py").exists()
    program = "\n".join(page.blocks("python"))
    page.check(await page.run("python", "-Werror", "-c", program, PYTHONPATH="client"))


async def test_the_quickstart_for_node_js_does_what_it_says(
    shared: Settings, notify: NotifySettings, tmp_path: Path
) -> None:
    if not shutil.which("node"):
        pytest.skip("there is no `node` on this machine")
    if not PACKAGES.exists():
        pytest.skip("the packages of the page are not installed; `make js` does that")
    page = page_of("quickstart-js.md", tmp_path, shared, notify)
    (tmp_path / "node_modules").symlink_to(PACKAGES)
    (tmp_path / "quickstart.mjs").write_text("\n".join(page.blocks("js")))
    page.check(await page.run("node", "quickstart.mjs"))
