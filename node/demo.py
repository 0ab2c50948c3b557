"""The story: one network, cut and healed, and the proof that nothing was lost.

Everything that happens here goes through the public API, as an officer's console would do it.  The
line between 成都 and its province runs through two proxies, one for gRPC and one for NATS.  Every
wait has a deadline; what was waited for and did not come ends the story with one line.
"""

import asyncio
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from node import processes
from node.chapters import Chapters
from node.network import Network, Node, guarded, levels, together, until
from node.officers import a_street, admitted, imported, member_at, members, organizations, state
from node.people import Crowd, Person, roster
from node.pictures import as_facts, picture, proof_table, shown, voices_table
from node.report import STORY, Report, check
from smartunion.event.v1 import log_pb2
from smartunion.membership.v1 import membership_pb2 as pb
from smartunion.sync.v1 import sync_pb2

NATION, PROVINCE, CHENGDU, MIANYANG = "0", "51", "5101", "5107"
ROSTERS = {CHENGDU: 10_000, MIANYANG: 2_000}
CUT_OFF = 50
"""People approved at 成都 while its line is cut."""

ARRIVE, NOTICE, CATCH_UP = 20.0, 30.0, 60.0
"""Seconds for one member to arrive at the top, to see that a line is cut, and to prove everything
after it is healed."""

AT_ONCE = 4
"""Officers who approve at the same time."""


async def play(build: Path, console: Console) -> None:
    """The whole story; what it finds is in `build`/demo-report.json.

    Raises:
        Refusal: if anything is not as promised, with the reason in one line.
    """
    folder, report = build / "demo", Report(build / "demo-report.json", console)
    shutil.rmtree(folder, ignore_errors=True)
    with report.kept():
        async with asyncio.timeout(STORY), Network(folder, proxied=[CHENGDU]) as network:
            await Story(network, folder, report).tell()
    console.print(
        f"[bold green]the story holds[/]  {report.facts['seconds']:.1f} s; {report.file}",
        soft_wrap=True,
    )


class Story:
    """Its steps, in their order."""

    def __init__(self, network: Network, folder: Path, report: Report) -> None:
        self._network, self._folder, self._report = network, folder, report
        self._crowd = Crowd(seed=2026)
        self._expected = {NATION: 0, PROVINCE: 0, CHENGDU: 0, MIANYANG: 0}
        """Members of each node by now."""
        self._worker = ""
        """The member who joins at a 街道, and of whom the chapters tell."""
        self._person: Person
        """Who that is."""

    @property
    def _nation(self) -> Node:
        return self._network.nodes[NATION]

    @property
    def _chengdu(self) -> Node:
        return self._network.nodes[CHENGDU]

    async def tell(self) -> None:
        """From nothing to the proof."""
        await self._grow()
        await guarded(self._network, self._go_on())

    async def _go_on(self) -> None:
        await self._join()
        await self._count_organizations()
        await self._import()
        await self._admit_one()
        await self._prove("the nation proves what was imported")
        await Chapters(self._network, self._report).tell(self._worker, self._person)
        await self._cut()
        await self._go_silent()
        network = await self._prove("the line is healed: the nation proves everything")
        await self._read_all()
        self._show(network)
        await self._recount()

    async def _grow(self) -> None:
        for codes in levels():
            with self._report.step(f"start {' '.join(codes)} and join them") as facts:
                await self._network.start(*codes)
                for code in codes:
                    node = self._network.nodes[code]
                    self._report.say(f"{node.seat.name}  {node.facts['grpc']['membership']}")
                facts["nodes"] = [self._network.nodes[code].seat.name for code in codes]

    async def _join(self) -> None:
        with self._report.step("four nodes are one network") as facts:
            network = await self._network.whole()
            facts["nodes"] = len(network.nodes)

    async def _count_organizations(self) -> None:
        with self._report.step("each node holds its part of the tree") as facts:
            nodes = self._network.nodes
            counts = await together(*(organizations(node) for node in nodes.values()))
            for node, count in zip(nodes.values(), counts, strict=True):
                facts[node.seat.name] = count
                self._report.say(f"{node.seat.name}: {count:,} organisations")
                check(count > 0, "the tree", f"{node.seat.name} holds no organisation")

    async def _import(self) -> None:
        total = sum(ROSTERS.values())
        with self._report.step(f"import {total:,} people at two cities at once") as facts:
            began = time.monotonic()
            with progress(self._report.console) as bars:
                await together(
                    *(self._import_at(code, count, bars) for code, count in ROSTERS.items())
                )
            rate = total / (time.monotonic() - began)
            facts |= {"people": total, "people_a_second": round(rate)}
            told = f"{total:,} checked, committed by another officer, admitted"
            self._report.say(f"{told}: {rate:,.0f} a second")

    async def _import_at(self, code: str, count: int, bars: Progress) -> None:
        node = self._network.nodes[code]
        bar = bars.add_task(node.seat.name, total=count)
        content = roster(
            self._crowd.people(count, code),
            approval=f"{node.seat.name[:2]}工发〔2025〕12号",
            approved=date(2025, 3, 8),
        )
        async for found in imported(node, content):
            bars.update(bar, completed=found.done_rows)
        step = f"the roster of {node.seat.name}"
        state = pb.Roster.State.Name(found.state)
        check(found.state == pb.Roster.DONE, step, f"is {state}: {found.refuse_message}")
        check(
            found.admitted_rows == count, step,
            f"{found.admitted_rows:,} of {count:,} admitted, {found.refused_rows:,} refused",
        )  # fmt: skip
        self._expected[code] += count

    async def _admit_one(self) -> None:
        with self._report.step("one worker joins at a 街道, and the nation reads it") as facts:
            street = await a_street(self._chengdu)
            person = self._crowd.person(street.code)
            self._worker = member = await admitted(self._chengdu, street.name, person)
            self._person = person
            began = time.monotonic()
            copy = await until(
                f"{member} at the nation", lambda: member_at(self._nation, member), within=ARRIVE
            )
            took = time.monotonic() - began
            self._expected[CHENGDU] += 1
            facts |= {"organization": street.display_name, "seconds_to_the_nation": round(took, 3)}
            self._report.say(f"{street.display_name} {street.code}: {member} after {took:.2f} s")
            where = copy.provenance
            check(where.copy and where.origin == self._chengdu.name, member, "is no copy of 成都's")
            check(copy.organization == street.name, member, "has another organisation")
            check(not copy.HasField("person"), member, "shows a person at the nation")
            self._report.say(f"at the nation: a copy of {where.origin}, without a name or a number")

    async def _cut(self) -> None:
        with self._report.step("the line of 成都 is cut; it goes on alone") as facts:
            for line in self._network.lines[CHENGDU]:
                await line.cut()
            await self._approve_alone(CUT_OFF // 2, facts)
            await self._unheard(facts)

    async def _go_silent(self) -> None:
        with self._report.step("the line comes back and falls silent: bytes vanish") as facts:
            await self._heal()
            count = self._expected[CHENGDU]
            await self._nation.shows(
                f"{count:,} members of 成都 at the nation",
                lambda found: (
                    shown(found, CHENGDU).members == count and shown(found, CHENGDU).connected
                ),
                within=CATCH_UP,
            )
            for line in self._network.lines[CHENGDU]:
                await line.half_open()
            await self._approve_alone(CUT_OFF - CUT_OFF // 2, facts)
            await self._unheard(facts)
            swallowed = await until("bytes to be swallowed", self._swallowed, within=NOTICE)
            facts["swallowed_bytes"] = swallowed
            self._report.say(f"{swallowed:,} bytes swallowed")
            await self._heal()

    async def _swallowed(self) -> int:
        return sum(line.swallowed_bytes for line in self._network.lines[CHENGDU])

    async def _heal(self) -> None:
        for line in self._network.lines[CHENGDU]:
            await line.heal()

    async def _approve_alone(self, count: int, facts: dict[str, Any]) -> None:
        street = await a_street(self._chengdu)
        before = len(await members(self._chengdu))
        gate = asyncio.Semaphore(AT_ONCE)

        async def approve(person: Person) -> None:
            async with gate:
                await admitted(self._chengdu, street.name, person)

        await together(*map(approve, self._crowd.people(count, street.code)))
        self._expected[CHENGDU] += count
        after = len(await members(self._chengdu))
        check(
            after == before + count, "alone", f"成都 has {after:,} members, not {before + count:,}"
        )
        facts |= {"approved_alone": count, "members_at_the_city": after}
        self._report.say(f"成都 approves {count} alone: {after:,} members")

    async def _unheard(self, facts: dict[str, Any]) -> None:
        """The nation shows that it does not hear of 成都, and still hears of the others."""
        network = await self._nation.shows(
            "the nation to show 成都 as not connected, and the others as connected",
            lambda found: (
                [n.connected for n in found.nodes]
                == [n.node.organization_code != CHENGDU for n in found.nodes]
            ),
            within=NOTICE,
        )
        chengdu = shown(network, CHENGDU)
        facts["members_at_the_nation"] = chengdu.members
        covered = f"{network.nodes[0].covered_nodes} of {network.nodes[0].subtree_nodes}"
        self._report.say(f"the nation: 成都 not connected, {chengdu.members:,} members; {covered}")
        check(chengdu.members < self._expected[CHENGDU], "cut", "members came through a cut line")

    async def _prove(self, title: str) -> sync_pb2.Network:
        with self._report.step(title) as facts:
            network = await self._nation.shows(
                f"COMPLETE for all, with {self._in_words()}", self._proved, within=CATCH_UP
            )
            total = network.nodes[0].subtree_members
            facts["members"] = total
            self._report.say(f"{total:,} members, every node COMPLETE")
        return network

    def _in_words(self) -> str:
        """How many members each node should have by now."""
        nodes = self._network.nodes
        return ", ".join(
            f"{count:,} at {nodes[c].seat.name}" for c, count in self._expected.items()
        )

    def _proved(self, network: sync_pb2.Network) -> bool:
        return {n.node.organization_code: n.members for n in network.nodes} == self._expected and (
            all(
                n.verdict == log_pb2.COMPLETE and n.connected and not n.lag_entries
                for n in network.nodes
            )
        )

    async def _read_all(self) -> None:
        with self._report.step("read every member at the nation") as facts:
            expected = sum(self._expected.values())
            cities = [self._network.nodes[code] for code in ROSTERS]
            *owned, read = await together(*(members(node) for node in (*cities, self._nation)))
            facts["read"] = len(read)
            copies = sum(member.provenance.copy for member in read.values())
            check(len(read) == copies == expected, "members", f"{copies:,} copies of {expected:,}")
            same = {name: state(m) for own in owned for name, m in own.items()} == {
                name: state(m) for name, m in read.items()
            }
            check(same, "members", "the nation reads something else than the cities")
            self._report.facts["counts"] = {
                "expected": expected, "read_at_the_nation": len(read),
                "members": {self._network.nodes[c].seat.name: n for c, n in self._expected.items()},
            }  # fmt: skip
            self._report.say(f"[bold]read at the nation: {len(read):,} of {expected:,}[/]")

    def _show(self, network: sync_pb2.Network) -> None:
        self._report.facts["network"] = as_facts(network)
        self._report.console.print(picture(network), voices_table(network), proof_table(network))

    async def _recount(self) -> None:
        with self._report.step("an independent recount of all databases") as facts:
            endpoints, log = self._folder / "endpoints.json", self._folder / "verify.log"
            self._network.write_endpoints(endpoints)
            self._report.write()
            code = await run_verify(endpoints, self._report.file, log)
            lines = log.read_text(encoding="utf-8").splitlines()
            self._report.say(f"{len(lines) - 1} tables of records at their holders")
            self._report.say(lines[-1] if lines else "")
            facts |= {"exit_code": code, "lines": lines}
            check(code == 0, "recount", lines[-1] if lines else "it said nothing")


@contextmanager
def progress(console: Console) -> Iterator[Progress]:
    """Bars below the step."""
    columns = (
        TextColumn("          {task.description}"), BarColumn(24), MofNCompleteColumn(),
        TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as bars:
        yield bars


async def run_verify(endpoints: Path, report: Path, log: Path) -> int:
    """Run the recount in a process of its own; its exit code."""
    return await processes.run_once(
        [sys.executable, "-m", "node.verify", endpoints, report], user="", log=log
    )
