"""One network of four nodes, and one run after the other on it.

A run: officers bring people at two cities, readers look at all nodes, faults strike, everything
that was brought is acknowledged in the end, the nation and the province prove it, and then what
each node holds and showed is compared with what was answered.  Each run has a street of each city
to itself.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import astuple
from pathlib import Path
from random import Random
from typing import Any, TextIO

import asyncpg
import grpc
import pytest

from node import network as networks
from node import processes
from node.network import Network, levels
from node.people import Crowd
from node.pictures import in_words, verdict
from node.processes import Program
from smartunion.event.v1 import log_pb2
from smartunion.membership.v1 import membership_pb2 as pb
from smartunion.sync.v1 import sync_pb2
from tests.faults.checker import check, observed
from tests.faults.load import Ledger, Load, Officer, Reader, record
from tests.faults.schedules import ANCESTORS, CITIES, LINES, NATION, NODES, Plan, Wave
from tests.faults.victims import Victims

RESULTS = Path(__file__).parents[2] / "build" / "faults"
PROOF = 60.0
"""Seconds that the ancestors have to prove what is acknowledged, once the officers have ended."""
AHEAD = 0.12
"""The load goes on this share beyond the next wave, and waits for it there."""
SAMPLE = 30
"""Members and persons that are looked up one by one."""
REPAIRS = (
    "asserted again", "snapshot taken", "snapshot pushed", "stream restarts", "taken back",
    "frame refused", "frame not applied", "parked", "event not in BELOW",
)  # fmt: skip
"""What a node logs when it puts right, or cannot, what should never have been missing."""
KEEP_DAYS = 0.0
"""Entries and frames are freed as soon as all readers have passed them, every second."""


class History:
    """What happened when, of one run: a line of JSON each, written as it happens."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._began = file, time.monotonic()
        self.lines: list[dict[str, Any]] = []

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self._began, 3)

    def note(self, what: str, **facts: Any) -> None:
        line = {"t": self.seconds, "what": what, **facts}
        # As it is read again, so that the kept file says all that the check was made of.
        self._file.write(text := json.dumps(line, ensure_ascii=False) + "\n")
        self.lines.append(json.loads(text))


class Verdicts:
    """What the ancestors say they can prove, as they say it."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._changed = asyncio.Event()
        self._noted: dict[tuple[str, str], tuple[str, bool]] = {}
        self.shown = {code: sync_pb2.Network() for code in ANCESTORS}
        """As each ancestor showed it last."""
        self.note: Callable[..., None] = lambda *_, **__: None
        """Keeps the history of a run."""

    async def follow(self) -> None:
        """Until cancelled."""
        await asyncio.gather(*map(self._follow, ANCESTORS))

    async def _follow(self, code: str) -> None:
        node = self._network.nodes[code]
        while True:
            watch = node.sync.WatchNetwork(sync_pb2.WatchNetworkRequest(), metadata=node.metadata)
            with suppress(grpc.aio.AioRpcError):
                async for found in watch:
                    self._take(code, found)
            await asyncio.sleep(0.2)

    def _take(self, code: str, found: sync_pb2.Network) -> None:
        for node in found.nodes:
            place = code, node.node.organization_code
            state = verdict(node), node.connected
            if self._noted.get(place) != state:
                self._noted[place] = state
                self.note("verdict", at=code, of=place[1], verdict=state[0], connected=state[1],
                          members=node.members, lag=node.lag_entries)  # fmt: skip
        self.shown[code] = found
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def prove(self, members: dict[str, int]) -> None:
        """Wait until the ancestors prove that so many members of each node have arrived."""
        while not all(is_proved(found, members) for found in self.shown.values()):
            await self._changed.wait()


class World:
    """A network that is up, and all that was acknowledged on it."""

    def __init__(self, folder: Path, network: Network) -> None:
        self.folder, self.network = folder, network
        self.ledger, self.crowd = Ledger(), Crowd(seed=2026)
        self.victims, self.verdicts = Victims(folder, network.lines), Verdicts(network)
        self.officers = {code: Officer(node, self.ledger) for code, node in network.nodes.items()}
        self.readers = {code: Officer(node, Ledger()) for code, node in network.nodes.items()}
        self.streets: dict[str, list[str]] = {}
        """Of each city, by name."""
        self.seeds: list[int] = []
        """What was run on it so far."""
        self._logs = {code: node.log.stat().st_size for code, node in network.nodes.items()}
        self.failed = False
        """Whether a run found a problem: then the folder is kept."""

    async def look_around(self) -> None:
        """Learn the streets."""
        for city in CITIES:
            self.streets[city] = await self.officers[city].streets()

    async def close(self) -> None:
        for officer in (*self.officers.values(), *self.readers.values()):
            await officer.close()

    def repairs(self) -> list[tuple[str, str]]:
        """What nodes have logged since the last time of what they missed: the node and the line."""
        found = []
        for code, node in self.network.nodes.items():
            text = node.log.read_bytes()[self._logs[code] :]
            self._logs[code] += len(text)
            lines = text.decode(errors="replace").splitlines()
            found += [
                (code, line) for line in lines if any(f'"{word}"' in line for word in REPAIRS)
            ]
        return found

    async def repeats(self) -> list[str]:
        """Approvals, asked again with the same request_id, are answered as before."""
        asked = self.ledger.approvals[-SAMPLE:]
        answers = [(await self.officers[city].ask(request)).member for city, request, _ in asked]
        return [
            f"duplicated: the repeat of {request.name} answers {answer}, not {member}"
            for (_, request, member), answer in zip(asked, answers, strict=True)
            if answer != member
        ]

    async def recount(self) -> list[str]:
        """What the independent recount of all databases says, if anything differs."""
        endpoints, report = self.folder / "endpoints.json", self.folder / "report.json"
        self.network.write_endpoints(endpoints)
        shown = self.verdicts.shown[NATION]
        report.write_text(json.dumps({"network": [in_facts(node) for node in shown.nodes]}))
        log = self.folder / "verify.log"
        log.unlink(missing_ok=True)
        command: list[str | Path] = [sys.executable, "-m", "node.verify", endpoints, report]
        code = await processes.run_once(command, user="", log=log)
        return log.read_text().splitlines() if code else []

    async def kept(self) -> dict[str, list[int]]:
        """How many entries of membership and how many frames each node has numbered or stored, and
        how many of them it still keeps."""
        found = {}
        for code, node in self.network.nodes.items():
            entries = "SELECT (SELECT sum(head) FROM logs), (SELECT count(*) FROM entries)"
            frames = "SELECT (SELECT sum(frame) FROM streams), (SELECT count(*) FROM frames)"
            found[code] = [
                *await one_row(node.facts["postgres"]["membership"], entries),
                *await one_row(node.facts["postgres"]["sync"], frames),
            ]
        return found


async def one_row(dsn: str, query: str) -> list[int]:
    conn = await asyncpg.connect(dsn)
    try:
        return list(map(int, await conn.fetchrow(query) or []))
    finally:
        await conn.close()


@asynccontextmanager
async def world(separate: Collection[str] = NODES) -> AsyncIterator[World]:
    """Nation, province and two cities, and lines that can be cut.

    Their folder goes with them, unless a run on them failed: it has the logs and databases.

    Args:
        separate: the nodes of which each service is a process, and can be struck.
    """
    folder = Path(tempfile.mkdtemp(prefix="smartunion-faults-"))
    failed = True
    try:
        async with _started(folder, separate) as made:
            failed = False
            yield made
            failed = made.failed
    finally:
        if not failed:
            shutil.rmtree(folder)


def _politely(run: Callable[..., Awaitable[Program]]) -> Callable[..., Awaitable[Program]]:
    """Start programs that give way to others: these are twenty and more, and beside them the tests
    of another process would hardly get a turn."""

    async def started(*command: Any, **options: Any) -> Program:
        program = await run(*command, **options)
        os.setpriority(os.PRIO_PROCESS, program.pid, 10)
        return program

    return started


@asynccontextmanager
async def _started(folder: Path, separate: Collection[str]) -> AsyncIterator[World]:
    async with Network(folder, proxied=LINES, separate=separate) as network:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SMARTUNION_KEEP_DAYS", f"{KEEP_DAYS:f}")
            patch.setattr(processes, "run", _politely(processes.run))
            patch.setattr(networks, "START", 3 * networks.START)
            for codes in levels():
                await network.start(*codes)
        await network.whole()
        made = World(folder, network)
        following = asyncio.create_task(made.verdicts.follow())
        try:
            await made.look_around()
            yield made
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await made.close()


def is_proved(network: sync_pb2.Network, members: dict[str, int]) -> bool:
    """Whether every node is heard of, COMPLETE and without lag, and counts what is expected."""
    counts = {node.node.organization_code: node.members for node in network.nodes}
    return (
        counts == {code: members.get(code, 0) for code in counts}
        and members.keys() <= counts.keys()
        and all(
            node.verdict == log_pb2.COMPLETE
            and node.connected
            and node.lag_entries == 0
            and node.covered_nodes == node.subtree_nodes
            for node in network.nodes
        )
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
                "head": stream.head,
                "verdict": log_pb2.Verdict.Name(stream.proof.verdict),
                "digest": stream.proof.digest.hex().rjust(32, "0"),
                "counts": {count.kind: count.records for count in stream.proof.counts},
            }
            for stream in node.streams
        ],
    }


class Run:
    """One plan, carried out."""

    def __init__(self, world: World, plan: Plan, file: TextIO) -> None:
        self._world, self._plan = world, plan
        self._random = Random(plan.seed)
        self._streets = {
            city: streets[plan.seed % len(streets)] for city, streets in world.streets.items()
        }
        self._loads = {
            city: Load(work, world.officers[city], self._streets[city], world.crowd, world.ledger)
            for city, work in plan.work.items()
        }
        self._before = world.ledger.done
        self.history = History(file)
        world.ledger.note = world.verdicts.note = self.history.note
        self.history.note(
            "planned", seed=plan.seed, after_seeds=world.seeds, folder=str(world.folder),
            rosters={city: work.rosters for city, work in plan.work.items()},
            waves=list(map(str, plan.waves)),
        )  # fmt: skip
        self.problems: list[str] = []
        self._step = "the load"

    async def carry_out(self) -> None:
        """Do it; `problems` says what is wrong."""
        try:
            async with asyncio.timeout(self._plan.deadline):
                await self._unless_a_node_ends(self._story)
        except* TimeoutError:
            self.problems.append(f"{self._step} took longer than {self._plan.deadline:g} s")
        except* Exception as failures:
            self.problems += [f"{self._step}: {text}" for text in texts(failures)]
        self._world.seeds.append(self._plan.seed)
        self._world.failed = bool(self.problems)
        repeats = self._world.ledger.repeats
        self.history.note("ended", problems=self.problems, repeated_calls=repeats)

    async def _unless_a_node_ends(self, story: Callable[[], Awaitable[None]]) -> None:
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._world.network.ended())
            await story()
            watch.cancel()

    async def _story(self) -> None:
        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(reader.run()) for reader in self._readers()]
            await self._write_and_strike()
            await self._prove()
            for task in readers:
                task.cancel()
        self._step = "the check"
        self.problems += await self._findings()
        self._step = "the recount"
        self.problems += await self._world.recount()
        self.history.note("kept", of=await self._world.kept())

    def _readers(self) -> list[Reader]:
        """One at each node: an ancestor shows both streets."""
        streets = {code: [*self._streets.values()] for code in ANCESTORS}
        streets |= {city: [street] for city, street in self._streets.items()}
        return [
            Reader(self._world.readers[code], streets[code], self.history.note) for code in NODES
        ]

    async def _write_and_strike(self) -> None:
        async with asyncio.TaskGroup() as group:
            for load in self._loads.values():
                group.create_task(load.run())
            group.create_task(self._strike())
        self.history.note("all acknowledged", members=dict(self._world.ledger.admitted))

    async def _prove(self) -> None:
        """Wait for the proof; if it takes too long, note all that is shown of it: then the check
        says what is missing."""
        try:
            async with asyncio.timeout(PROOF):
                await self._world.verdicts.prove(dict(self._world.ledger.admitted))
        except TimeoutError:
            for code, found in self._world.verdicts.shown.items():
                self.problems.append(f"not proved at {code} in {PROOF:g} s: {in_words(found)}")
                self.history.note("shown", at=code, nodes=list(map(in_facts, found.nodes)))
        else:
            self.history.note("proved")

    async def _findings(self) -> list[str]:
        """What is not as it was answered, read through the public API of all nodes."""
        for city, street in self._streets.items():
            for code in (city, *ANCESTORS):
                held = await self._world.readers[code].records(street)
                self.history.note("held", city=city, node=code, records=list(map(astuple, held)))
        for code, message in self._world.repairs():
            self.history.note("repair", node=code, message=message)
        self.history.note("persons", members=[await self._active(*one) for one in self._people()])
        found = check(observed(self.history.lines)).lines()
        return found + await self._copies() + await self._world.repeats()

    def _people(self) -> list[tuple[str, str]]:
        """A city and an ID number each."""
        people = [(city, number) for city, load in self._loads.items() for number in load.persons]
        return self._random.sample(people, SAMPLE)

    async def _active(self, city: str, id_number: str) -> list[str]:
        request = pb.SearchMembersRequest(id_number=id_number)
        found = await self._world.officers[city].ask(request)
        return [member.name for member in found.members if member.state == pb.Member.ACTIVE]

    async def _copies(self) -> list[str]:
        """Members that an ancestor answers one by one otherwise than it lists them."""
        wrong = []
        for line in [line for line in self.history.lines if line["what"] == "held"]:
            if line["node"] == line["city"]:
                continue
            origin = self._world.network.nodes[line["city"]].name
            members = [held for held in line["records"] if held[0].startswith("members/")]
            for held in self._random.sample(members, min(SAMPLE, len(members))):
                copy = await self._world.readers[line["node"]].member(held[0])
                shown = copy and (list(astuple(record(copy))), copy.provenance.origin)
                if shown != (held, origin):
                    wrong.append(f"GetMember at {line['node']} answers otherwise: {held[0]}")
        return wrong

    async def _strike(self) -> None:
        limits = [min(0.94, wave.at + AHEAD) for wave in self._plan.waves] + [1.0]
        self._allow(limits[0])
        for wave, limit in zip(self._plan.waves, limits[1:], strict=True):
            await self._world.ledger.reach(self._before + round(wave.at * self._plan.answers))
            await asyncio.sleep(wave.delay)
            self._allow(limit)
            await self._strike_once(wave)

    def _allow(self, share: float) -> None:
        for load in self._loads.values():
            load.allow(share)

    async def _strike_once(self, wave: Wave) -> None:
        done = (self._world.ledger.done - self._before) / self._plan.answers
        assert done < 0.99, f"the wave {wave} came too late"
        self.history.note("strikes", wave=str(wave), done=round(done, 3))
        victims = self._world.victims
        said = await asyncio.gather(*map(victims.strike, wave.faults))
        self.history.note("struck", said=said)

    def __str__(self) -> str:
        """The whole picture of a failure; everything else is in its history."""
        told = [line for line in self.history.lines if line["what"] not in VERBOSE]
        lines = [", ".join(f"{key} {value}" for key, value in line.items()) for line in told]
        return "\n".join([*self.problems, *lines, f"folder: {self._world.folder}"])


VERBOSE = ("written", "seen", "held", "persons", "listed")


def texts(failures: BaseExceptionGroup[Any]) -> list[str]:
    """What each failure says."""
    found = []
    for failure in failures.exceptions:
        if isinstance(failure, BaseExceptionGroup):
            found += texts(failure)
        else:
            found.append(f"{type(failure).__name__}: {failure}"[:1_000])
    return found
