"""Three nodes in a line, and what they stand on."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from kit import log
from node import engines
from tests.conftest import NATS_URL
from tests.federation import nodes
from tests.federation.nodes import Node


@pytest.fixture(scope="package", autouse=True)
def soon() -> Iterator[None]:
    """Certificates follow sooner than at a real node: nearly every test waits for some."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "QUIET", 0.3)
        yield


@dataclass
class Line:
    """A nation, a province below it, a city below that."""

    nation: Node
    province: Node
    city: Node

    @property
    def all(self) -> tuple[Node, ...]:
        return self.nation, self.province, self.city

    def check_alive(self) -> None:
        """That no service has ended by itself."""
        for node in self.all:
            for name, (_, task) in node.running.items():
                if task.done():
                    raise RuntimeError(f"{name} of {node.code} ended") from task.exception()

    async def shown(self, code: str = "5101") -> dict[str, dict[str, str]]:
        """What each node that answers shows of the city, for a failure to print."""
        found = {}
        for node in self.all:
            city = (await node.network()).get(code)
            found[node.code] = {
                f"{stream.service}/{stream.proof.channel}": f"head {stream.head} {stream.proof}"
                for stream in (city.streams if city else ())
            }
        return found


async def make_line(postgres: str, folder: Path) -> Line:
    """Three nodes that have not been started."""
    return Line(
        await nodes.make(postgres, folder / "nation", "0", "national"),
        await nodes.make(postgres, folder / "province", "51", "province"),
        await nodes.make(postgres, folder / "city", "5101", "city"),
    )


async def start_line(line: Line) -> None:
    """Start them from the top, each joining the one above."""
    await line.nation.start()
    for child, parent in ((line.province, line.nation), (line.city, line.province)):
        await nodes.join(child, parent)
        await child.start()
        await nodes.confirm(child, parent)


@asynccontextmanager
async def running(postgres: str, folder: Path, *, carriers: bool = False) -> AsyncIterator[Line]:
    """Three nodes, without NATS (the frames go over gRPC alone) or each with one of its own.

    The city's is that of NATS_URL, if it is set.  The others let children in, each in an account
    that they sign, which only the embedded server knows.
    """
    line = await make_line(postgres, folder)
    async with AsyncExitStack() as stack:
        for node in line.all if carriers else ():
            if node is line.city and NATS_URL:
                node.nats = NATS_URL
                continue
            server = await stack.enter_async_context(engines.nats(node.folder))
            node.nats, node.creds = server.url, str(server.keys.node_creds)
        await start_line(line)
        yield line
        for node in line.all:
            await node.stop()


@pytest.fixture(scope="module")
async def line(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Line]:
    """Three nodes without NATS that the tests of a module share: each leaves them whole."""
    async with running(postgres, tmp_path_factory.mktemp("line")) as line:
        yield line


@pytest.fixture(scope="module")
async def carried(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Line]:
    """The same with NATS."""
    async with running(postgres, tmp_path_factory.mktemp("carried"), carriers=True) as line:
        yield line


@pytest.fixture
async def doomed(postgres: str, tmp_path: Path) -> AsyncIterator[Line]:
    """Three nodes for a test that leaves damage."""
    async with running(postgres, tmp_path) as line:
        yield line
