"""Four nodes on one machine, each a process of its own, joined into one tree.

    0 中华全国总工会 ── 51 四川省总工会 ─┬─ 5101 成都市总工会
                                         └─ 5107 绵阳市总工会

They start level by level, as a network grows: the parent's operator makes an invitation, the child
starts with it and enrols, the operators compare the fingerprint, and the parent's confirms it.
All of that goes through the public API.
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import grpc
from rich.console import Console
from rich.live import Live

from kit.errors import FailedPrecondition
from kit.wire import channel_to
from node import keys, processes
from node.issuer import DevelopmentIssuer
from node.pictures import in_words, picture
from node.processes import Program
from node.proxy import Proxy
from node.supervisor import DEPUTY
from smartunion.membership.v1 import membership_pb2_grpc
from smartunion.sync.v1 import sync_pb2, sync_pb2_grpc

T = TypeVar("T")

NODE_UP = ("-c", "from node.cli import main; main()", "node", "up")
START = 90.0
"""Seconds that a node gets to start for the first time."""
JOIN = 30.0
"""Seconds that a child gets to enrol and to be known at the top."""
CALL = 15.0
"""Seconds that a call gets."""
GOODBYE = 45.0
"""Seconds that a node gets to end well."""


class TooLate(FailedPrecondition):
    message = "waited {seconds} s for {what}; {found}"
    chinese = "等待{what}已超过 {seconds} 秒；{found}"


class NodeEnded(FailedPrecondition):
    message = "the node {name} ended ({ending}): {said}; see {log}"
    chinese = "节点 {name} 已退出（{ending}）：{said}；详见 {log}"


@dataclass(frozen=True)
class Seat:
    """A node as it is planned."""

    name: str
    code: str
    """The division code of the organisation that it serves."""
    level: str
    parent: str
    """The code of the node above; empty for the top."""


SEATS = (
    Seat("中华全国总工会", "0", "national", ""),
    Seat("四川省总工会", "51", "province", "0"),
    Seat("成都市总工会", "5101", "city", "51"),
    Seat("绵阳市总工会", "5107", "city", "51"),
)


@dataclass
class Node:
    """A node that is up: its process, and how an officer reaches it."""

    seat: Seat
    program: Program
    log: Path
    facts: dict[str, Any]
    """Its data/endpoints.json."""

    def __post_init__(self) -> None:
        ca = Path(self.facts["ca"]) if "ca" in self.facts else None
        self.to = {
            service: channel_to(address, ca) for service, address in self.facts["grpc"].items()
        }
        """A channel to each service, by name."""
        self.membership = membership_pb2_grpc.MembershipServiceStub(self.to["membership"])
        self.sync = sync_pb2_grpc.SyncServiceStub(self.to["sync"])
        self.issuer = DevelopmentIssuer(self.log.with_name("data") / "secrets", self.facts["node"])
        token = next(iter(self.facts["tokens"].values()))
        self.metadata = (("authorization", f"Bearer {token}"),)
        self.call: dict[str, Any] = {"metadata": self.metadata, "timeout": CALL}
        """What goes with every call of an officer."""
        self.second = self.calling_as(DEPUTY)
        """What goes with a call of a second one."""

    @property
    def name(self) -> str:
        """Format: `nodes/{id}`."""
        return f"nodes/{self.facts['node']}"

    def calling_as(self, name: str, *, step_up: bool = False) -> dict[str, Any]:
        """What goes with a call of someone else, such as `members/…`: a token of this node."""
        return {"metadata": self.issuer.metadata(name, step_up=step_up), "timeout": CALL}

    async def shows(
        self, what: str, check: Callable[[sync_pb2.Network], bool], *, within: float
    ) -> sync_pb2.Network:
        """The network as this node shows it, once `check` holds.

        Raises:
            TooLate: if it does not hold in time.
        """
        found: sync_pb2.Network | None = None
        watch = self.sync.WatchNetwork(sync_pb2.WatchNetworkRequest(), metadata=self.metadata)
        try:
            async with asyncio.timeout(within):
                async for found in watch:
                    if check(found):
                        return found
        except TimeoutError:
            pass
        finally:
            watch.cancel()
        raise TooLate(what=what, seconds=round(within), found=in_words(found))


class Network:
    """The nodes, by division code, while they run."""

    def __init__(
        self, folder: Path, *, proxied: Collection[str] = (), separate: Collection[str] = (),
        program: Sequence[str] = NODE_UP,
    ) -> None:  # fmt: skip
        """
        Args:
            folder: keeps a folder for each node.
            proxied: the codes of the nodes that reach their parent through `lines`.
            separate: the nodes of which each service is a process of its own.
            program: what this Python runs for each node, but for `--config FILE`.
        """
        self._program = program
        self._folder, self._proxied, self._separate = folder, proxied, separate
        self._stack = AsyncExitStack()
        self.nodes: dict[str, Node] = {}
        self.lines: dict[str, tuple[Proxy, Proxy]] = {}
        """By the code of the node below: the line to its parent's gRPC, and to its NATS."""

    async def __aenter__(self) -> "Network":
        return self

    async def __aexit__(self, *_: object) -> None:
        """End all nodes, at once."""
        nodes = self.nodes.values()
        for channel in [channel for node in nodes for channel in node.to.values()]:
            await channel.close()
        await self._stack.aclose()

    @property
    def top(self) -> Node:
        """The node that sees all others."""
        return self.nodes[SEATS[0].code]

    async def start(self, *codes: str) -> None:
        """Start nodes of one level at once, and have their parent admit them.

        Raises:
            NodeEnded, TooLate: if one does not come up, or does not join.
        """
        await together(*(self._start(seat) for seat in SEATS if seat.code in codes))

    async def _start(self, seat: Seat) -> None:
        folder = self._folder / seat.code
        config = folder / "node.toml"
        if not config.exists():
            folder.mkdir(parents=True, exist_ok=True)
            keys.write(config, await self._config(seat))
        node = await self._launch(seat, config)
        self.nodes[seat.code] = node
        if seat.parent:
            await self._admit(self.nodes[seat.parent], node)

    async def _config(self, seat: Seat) -> str:
        lines = [
            f'name = "{seat.name}"', f'organization = "{seat.code}"', f'level = "{seat.level}"'
        ]  # fmt: skip
        if seat.parent:
            parent = self.nodes[seat.parent]
            invitation = await parent.sync.CreateInvitation(
                sync_pb2.CreateInvitationRequest(organization_code=seat.code), **parent.call
            )
            address, nats = parent.facts["grpc"]["sync"], parent.facts["nats"]
            if seat.code in self._proxied:
                address, nats = await self._through_lines(seat.code, address, nats)
            lines += [
                "[parent]", f'sync = "{address}"', f'nats = "{nats}"',
                f'invitation = "{invitation.token}"',
            ]  # fmt: skip
        return "\n".join([*lines, ""])

    async def _through_lines(self, code: str, address: str, nats: str) -> tuple[str, str]:
        grpc_line, nats_line = Proxy(address), Proxy(nats.removeprefix("nats://"))
        self.lines[code] = grpc_line, nats_line
        for line in self.lines[code]:
            await self._stack.enter_async_context(line)
        return grpc_line.address, f"nats://{nats_line.address}"

    async def _launch(self, seat: Seat, config: Path) -> Node:
        """Run the node; it is up when this returns."""
        log = config.with_name("node.log")
        log.unlink(missing_ok=True)
        program = await processes.run(
            [sys.executable, *self._program, "--config", config.resolve(),
             *(["--processes"] if seat.code in self._separate else [])],
            goodbye=signal.SIGTERM, orphaned=signal.SIGTERM, patience=GOODBYE, log=log,
        )  # fmt: skip
        self._stack.push_async_callback(program.stop)
        file = config.with_name("data") / "endpoints.json"

        async def facts() -> dict[str, Any] | None:
            if program.process.returncode is not None:
                raise NodeEnded(
                    name=seat.name, ending=await program.wait(), said=last_line(log), log=log
                )
            with suppress(FileNotFoundError):
                found: dict[str, Any] = json.loads(file.read_text())
                # An earlier run that was killed may have left its file.
                return found if found["pids"]["node"] == program.pid else None
            return None

        return Node(seat, program, log, await until(f"{seat.name} to start", facts, within=START))

    async def _admit(self, parent: Node, child: Node) -> None:
        """Both operators' part: read the fingerprint at the child, confirm it at the parent."""

        async def joined() -> bool:
            own = await child.sync.GetNode(sync_pb2.GetNodeRequest(), **child.call)
            if own.parent:
                return True
            waiting = await parent.sync.ListEnrollments(
                sync_pb2.ListEnrollmentsRequest(), **parent.call
            )
            if own.name in [enrollment.node.name for enrollment in waiting.enrollments]:
                await parent.sync.ConfirmEnrollment(
                    sync_pb2.ConfirmEnrollmentRequest(name=own.name, fingerprint=own.fingerprint),
                    **parent.call,
                )
            return False

        await until(f"{child.seat.name} to join {parent.seat.name}", joined, within=JOIN)

    async def whole(self) -> sync_pb2.Network:
        """The network as the top shows it, once all nodes are in it and heard of."""
        count = len(self.nodes)
        return await self.top.shows(
            f"{self.top.seat.name} to show {count} nodes",
            lambda found: len(found.nodes) == count and all(n.connected for n in found.nodes),
            within=JOIN,
        )

    async def ended(self) -> NoReturn:
        """Wait for a node that ends by itself.

        Raises:
            NodeEnded: when one has.
        """
        waits = {asyncio.create_task(node.program.wait()): node for node in self.nodes.values()}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            node = waits[task := done.pop()]
            raise NodeEnded(
                name=node.seat.name, ending=task.result(), said=last_line(node.log), log=node.log
            )
        finally:
            for wait in waits:
                wait.cancel()

    def write_endpoints(self, file: Path) -> None:
        """Where everything is: for each node its name, addresses, DSNs and tokens."""
        ids = {code: node.facts["node"] for code, node in self.nodes.items()}
        nodes = [
            {**node.facts, "parent": ids.get(node.seat.parent, "")} for node in self.nodes.values()
        ]
        file.parent.mkdir(parents=True, exist_ok=True)
        keys.write(file, json.dumps({"nodes": nodes}, ensure_ascii=False, indent=2))


def levels() -> list[list[str]]:
    """The codes of the nodes, level by level from the top."""
    found = [[seat.code for seat in SEATS if not seat.parent]]
    while below := [seat.code for seat in SEATS if seat.parent in found[-1]]:
        found.append(below)
    return found


async def together(*work: Coroutine[Any, Any, T]) -> list[T]:
    """The results of several pieces of work at once; the first failure ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(piece) for piece in work]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def until(
    what: str, check: Callable[[], Awaitable[T | None]], *, within: float, every: float = 0.05
) -> T:
    """The first answer of `check` that is neither None nor False.

    Raises:
        TooLate: if there is none in time.
    """
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if answer := await check():
            return answer
        await asyncio.sleep(every)
    raise TooLate(what=what, seconds=round(within), found="it did not come")


def last_line(log: Path) -> str:
    """What a node said last, in one line."""
    with suppress(OSError, IndexError):
        line = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1][:300]
        with suppress(ValueError, TypeError, KeyError):
            return str(json.loads(line)["message"])
        return line
    return "nothing"


async def guarded(network: Network, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, unless a node ends by itself before.

    Raises:
        NodeEnded: if one does.
    """
    task, watch = asyncio.create_task(work), asyncio.create_task(network.ended())
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if watch.done():
            watch.result()
        return task.result()
    finally:
        task.cancel()
        watch.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def up(folder: Path, endpoints: Path, console: Console) -> None:
    """Keep the network running until cancelled, and show it."""
    async with Network(folder) as network:
        for codes in levels():
            for code in codes:
                name = next(seat.name for seat in SEATS if seat.code == code)
                console.print(f"starting {name} …")
            await network.start(*codes)
        await guarded(network, _serve(network, endpoints, console))


async def _serve(network: Network, endpoints: Path, console: Console) -> None:
    await network.whole()
    network.write_endpoints(endpoints)
    console.print(f"the network is up; where everything is: {endpoints}; Ctrl-C ends it")
    try:
        await show(network.top, console)
    finally:
        endpoints.unlink(missing_ok=True)


async def show(node: Node, console: Console) -> None:
    """The tree as `node` sees it, until cancelled: in place on a terminal, else line by line."""
    with ExitStack() as stack:
        live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        if live is not None:
            stack.enter_context(live)
        said = ""
        while True:
            with suppress(grpc.aio.AioRpcError):
                request = sync_pb2.WatchNetworkRequest()
                async for found in node.sync.WatchNetwork(request, metadata=node.metadata):
                    if live is not None:
                        live.update(picture(found), refresh=True)
                    elif said != (said := in_words(found)):
                        console.print(said, soft_wrap=True)
            await asyncio.sleep(0.5)
