"""One network of three nodes, and one run after the other on it.

A run: officers bring people at the city, faults strike, everything that was brought is acknowledged
in the end, the nation proves it, and then the nation's list is compared with what was answered.
"""

import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from node import processes
from node.network import Network
from node.people import Crowd
from node.pictures import in_words
from smartunion.event.v1 import log_pb2
from smartunion.membership.v1 import membership_pb2 as pb
from smartunion.sync.v1 import sync_pb2
from tests.faults.checker import check
from tests.faults.load import Ledger, Load, Officer, record
from tests.faults.schedules import CITY, NATION, PROVINCE, Fault, Plan
from tests.faults.victims import Victims

RESULTS = Path(__file__).parents[2] / "build" / "faults"
PROOF = 60.0
"""Seconds that the nation has to prove what is acknowledged, once the officers have ended."""
AHEAD = 0.15
"""The load goes on this share beyond the next fault, and waits for it there."""
SAMPLE = 50
"""Members and persons that are looked up one by one."""


class History:
    """What happened when, of one run."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.lines: list[str] = []

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self._began, 2)

    def note(self, what: str, **facts: Any) -> None:
        told = ", ".join(f"{name}={fact}" for name, fact in facts.items())
        self.lines.append(f"{self.seconds:.2f} s {what} {told}".strip())


class World:
    """A network that is up, and all that was acknowledged on it."""

    def __init__(self, folder: Path, network: Network) -> None:
        self.folder, self.network = folder, network
        self.ledger, self.crowd = Ledger(), Crowd(seed=2026)
        self.victims = Victims(folder, network.lines)
        self.city = Officer(network.nodes[CITY], self.ledger)
        self.nation = Officer(network.nodes[NATION], self.ledger)
        self.failed = False
        """Whether a run found a problem: then the folder is kept."""
        self.shown = sync_pb2.Network()
        """As the nation showed it last."""

    async def prove(self) -> None:
        """Wait until the nation proves all that was acknowledged."""
        expected = {NATION: 0, PROVINCE: 0, CITY: len(self.ledger.members)}
        while not is_proved(self.shown, expected):
            await asyncio.sleep(0.2)
            self.shown = await self.nation.persist(self._ask)

    async def _ask(self) -> sync_pb2.Network:
        top = self.network.top
        answer: sync_pb2.Network = await top.sync.GetNetwork(
            sync_pb2.GetNetworkRequest(), **top.call
        )
        return answer

    async def findings(self, random: Random) -> list[str]:
        """What is not as it was answered, read through the public API of city and nation."""
        owner, nation = await self.city.members(), await self.nation.members()
        persons = {number: await self._active(number) for number in self._people(random)}
        found = check(self.ledger.members, owner, nation, persons=persons).lines()
        known = {record.name: record for record in owner}
        origin = self.network.nodes[CITY].name
        for name in random.sample(sorted(known), min(SAMPLE, len(known))):
            copy = await self.nation.member(name)
            if copy is None or record(copy) != known[name] or copy.provenance.origin != origin:
                found.append(f"GetMember at the nation answers otherwise: {name}, maybe more")
                break
        return found + await self._repeats()

    def _people(self, random: Random) -> list[str]:
        return random.sample(self.ledger.persons, min(SAMPLE, len(self.ledger.persons)))

    async def _active(self, id_number: str) -> list[str]:
        found = await self.city.ask(pb.SearchMembersRequest(id_number=id_number))
        return [member.name for member in found.members if member.state == pb.Member.ACTIVE]

    async def _repeats(self) -> list[str]:
        """Approvals, asked again with the same request_id, are answered as before."""
        asked = self.ledger.approvals[-SAMPLE:]
        answers = [(await self.city.ask(request)).member for request, _ in asked]
        return [
            f"the repeat of {request.name} answers {answer}, not {member}"
            for (request, member), answer in zip(asked, answers, strict=True)
            if answer != member
        ]

    async def recount(self) -> list[str]:
        """What the independent recount of all databases says, if anything differs."""
        endpoints, report = self.folder / "endpoints.json", self.folder / "report.json"
        self.network.write_endpoints(endpoints)
        report.write_text(json.dumps({"network": [in_facts(node) for node in self.shown.nodes]}))
        log = self.folder / "verify.log"
        log.unlink(missing_ok=True)
        command: list[str | Path] = [sys.executable, "-m", "node.verify", endpoints, report]
        code = await processes.run_once(command, user="", log=log)
        return log.read_text().splitlines() if code else []


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """Nation, province and city, each service a process, and a line that can be cut.

    Their folder goes with them, unless a run on them failed: it has the logs and databases.
    """
    folder = Path(tempfile.mkdtemp(prefix="smartunion-faults-"))
    failed = True
    try:
        async with _started(folder) as made:
            failed = False
            yield made
            failed = made.failed
    finally:
        if not failed:
            shutil.rmtree(folder)


@asynccontextmanager
async def _started(folder: Path) -> AsyncIterator[World]:
    async with Network(folder, proxied=CITY, separate=True) as network:
        for code in (NATION, PROVINCE, CITY):
            await network.start(code)
        await network.whole()
        made = World(folder, network)
        try:
            yield made
        finally:
            await made.city.close()
            await made.nation.close()


def is_proved(network: sync_pb2.Network, expected: dict[str, int]) -> bool:
    """Whether every node is heard of, COMPLETE and without lag, and counts what is expected."""
    counts = {node.node.organization_code: node.members for node in network.nodes}
    return counts == expected and all(
        node.verdict == log_pb2.COMPLETE
        and node.connected
        and node.lag_entries == 0
        and node.covered_nodes == node.subtree_nodes
        for node in network.nodes
    )


def in_facts(node: sync_pb2.NetworkNode) -> dict[str, Any]:
    """What GetNetwork says of a node, as `node.verify` reads it."""
    return {
        "node": node.node.name.removeprefix("nodes/"),
        "name": node.node.display_name,
        "members": node.members,
        "subtree_members": node.subtree_members,
        "streams": [
            {
                "service": stream.service,
                "channel": stream.proof.channel,
                "digest": stream.proof.digest.hex().rjust(32, "0"),
                "counts": {count.kind: count.records for count in stream.proof.counts},
            }
            for stream in node.streams
        ],
    }


class Run:
    """One plan, carried out."""

    def __init__(self, world: World, plan: Plan) -> None:
        self._world, self._plan = world, plan
        self._before = len(world.ledger.members)
        self._load = Load(plan, world.city, world.crowd, world.ledger)
        self.history = History()
        world.ledger.note = self.history.note
        self.problems: list[str] = []
        self._step = "the import"

    async def carry_out(self) -> None:
        """Do it; `problems` says what is wrong."""
        try:
            async with asyncio.timeout(self._plan.deadline):
                await self._unless_a_node_ends(self._story)
        except* TimeoutError:
            self.problems.append(f"{self._step} took longer than {self._plan.deadline:g} s")
        except* Exception as failures:
            self.problems += [f"{self._step}: {text}" for text in texts(failures)]
        self.history.note("ended", problems=len(self.problems))
        self._world.failed = bool(self.problems)

    async def _unless_a_node_ends(self, story: Callable[[], Awaitable[None]]) -> None:
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._world.network.ended())
            await story()
            watch.cancel()

    async def _story(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._load.run())
            group.create_task(self._strike())
        expected = self._before + self._plan.people
        acknowledged = len(self._world.ledger.members)
        assert acknowledged == expected, f"{acknowledged:,} of {expected:,} acknowledged"
        self.history.note("all acknowledged", members=acknowledged)
        await self._prove()
        self._step = "the check"
        self.problems += await self._world.findings(Random(self._plan.seed))
        self._step = "the recount"
        self.problems += await self._world.recount()
        self.history.note("checked")

    async def _prove(self) -> None:
        """Note what is wrong if it takes too long; then the check says what is missing."""
        try:
            async with asyncio.timeout(PROOF):
                await self._world.prove()
        except TimeoutError:
            self.problems.append(f"not proved in {PROOF:g} s: {in_words(self._world.shown)}")
        else:
            self.history.note("proved at the nation")

    async def _strike(self) -> None:
        limits = [min(0.94, fault.at + AHEAD) for fault in self._plan.faults] + [1.0]
        self._load.allow(limits[0])
        for fault, limit in zip(self._plan.faults, limits[1:], strict=True):
            count = max(1, round(fault.at * self._plan.people))
            await self._world.ledger.reach(self._before + count)
            await asyncio.sleep(fault.delay)
            self._load.allow(limit)
            await self._strike_once(fault)

    async def _strike_once(self, fault: Fault) -> None:
        share = (len(self._world.ledger.members) - self._before) / self._plan.people
        assert 0 < share < 0.99, f"{fault} came too late"
        self.history.note("strikes", fault=str(fault), acknowledged=round(share, 4))
        self.history.note("struck", **await self._world.victims.strike(fault))

    def __str__(self) -> str:
        return json.dumps(self.as_facts(), ensure_ascii=False, indent=2)

    def as_facts(self) -> dict[str, Any]:
        """Everything that is known of the run."""
        return {
            "seed": self._plan.seed,
            "passed": not self.problems,
            "problems": self.problems,
            "seconds": self.history.seconds,
            "people": self._plan.people,
            "rosters": self._plan.rosters,
            "folder": str(self._world.folder),
            "schedule": [str(fault) for fault in self._plan.faults],
            "repeated_calls": self._world.ledger.repeats,
            "import_seconds": self._load.seconds,
            "shown": [in_facts(node) | {"lag": node.lag_entries, "verdict": node.verdict}
                      for node in self._world.shown.nodes],
            "history": self.history.lines,
        }  # fmt: skip


def texts(failures: BaseExceptionGroup[Any]) -> list[str]:
    """What each failure says."""
    found = []
    for failure in failures.exceptions:
        if isinstance(failure, BaseExceptionGroup):
            found += texts(failure)
        else:
            found.append(f"{type(failure).__name__}: {failure}"[:1_000])
    return found
