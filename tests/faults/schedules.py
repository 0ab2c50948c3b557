"""What is brought and what strikes when: all of it follows from a seed.

The network is that of the demonstration, a tree and not a line of four: it has a top, a node in the
middle and leaves, which is every part that a node can play, and two leaves, so that what strikes
one child must not keep its sibling's streams from arriving, nor mix them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random

from node.proxy import Way

NATION, PROVINCE, CITY, SIBLING = "0", "51", "5101", "5107"
"""The codes of the nodes."""
NODES = (NATION, PROVINCE, CITY, SIBLING)
CITIES = (CITY, SIBLING)
"""The nodes at which people are brought."""
ANCESTORS = (NATION, PROVINCE)
"""The nodes that must prove it."""
LINES = (PROVINCE, CITY, SIBLING)
"""The lines, each by the code of the node below it."""
SERVICES, ENGINES = ("membership", "sync"), ("postgres", "nats")
PARTS = (*SERVICES, *ENGINES)
CARRIERS = ("grpc", "nats")
"""The two connections that a line consists of."""
TABLES = {
    **{(city, "membership", table): "outbox to log" for city in CITIES for table in ["entries"]},
    **{(city, "membership", table): "a roster's count to its results"
       for city in CITIES for table in ["roster_rows"]},
    **{(city, "sync", "frames"): "the cursor in a log to its frame" for city in CITIES},
    **{(node, "sync", "frames"): "the cursor of a stream to its frame" for node in ANCESTORS},
    **{(node, "membership", "members"): "the cursor of the copies to the copies"
       for node in ANCESTORS},
    **{(node, "membership", "sums"): "the copies to their sums" for node in ANCESTORS},
}  # fmt: skip
"""Where a service is killed while it writes: between which two steps of one transaction."""

QUICK, LONG = 800, 2_400
"""People on the rosters of each city in a run."""
LONG_EVERY = 5
"""Of so many seeds, the last makes a long run: every sort of fault three times instead of twice."""
SINGLES = 32
"""People who apply in each city one by one."""


class Kind(Enum):
    """What happens to a victim."""

    KILL = "kill"
    """SIGKILL."""
    FREEZE = "freeze"
    """SIGSTOP, and SIGCONT after a while."""
    CUT = "cut"
    """A line is reset, and refuses for a while."""
    HALF_OPEN = "half-open"
    """A line stands, and swallows every byte for a while: both ways or one, on both carriers or
    one."""
    WIPE = "wipe"
    """The NATS of a node, or of all, is killed and its JetStream folder removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    kind: Kind
    node: str = ""
    """The code of the node, or of the node below the line; empty for all nodes."""
    part: str = ""
    table: str = ""
    """If not empty: of the part's database; it strikes while the part waits to write to it."""
    again: tuple[float, ...] = ()
    """The part is killed again, so many seconds after each new start of it: it still recovers."""
    carriers: tuple[str, ...] = ()
    ways: tuple[Way, ...] = ()
    """Of a half-open line: what is swallowed."""
    lasts: float = 0.0
    """Seconds; 0 for what is struck once and comes back by itself."""

    def __str__(self) -> str:
        ways = [f"what goes {way.value}" for way in self.ways]
        words = [self.kind.value, self.node or "all", self.part, self.table, *self.carriers, *ways]
        words += [f"and {after} s after its next start" for after in self.again]
        return " ".join(filter(None, [*words, f"for {self.lasts} s" if self.lasts else ""]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """Faults that strike at once."""

    at: float
    """They strike when this share of the load is acknowledged."""
    delay: float
    """Seconds after that."""
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        return f"at {self.at:.0%} + {self.delay} s: {' | '.join(map(str, self.faults))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is brought to one city."""

    rosters: tuple[int, ...]
    """Their sizes, in their order."""
    singles: int
    """People who apply one by one; every fourth is turned down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run."""

    seed: int
    work: dict[str, Work]
    """By city."""
    waves: tuple[Wave, ...]

    @property
    def answers(self) -> int:
        """How much is answered: rows, and for each single an application and a decision."""
        return sum(sum(work.rosters) + 2 * work.singles for work in self.work.values())

    @property
    def deadline(self) -> float:
        """Seconds that the run may take."""
        return 120 + 30.0 * len(self.waves)


def plan(seed: int) -> Plan:
    """The run of a seed: every sort of fault at least twice, in any order, on any victim."""
    random = Random(seed)
    long = seed % LONG_EVERY == LONG_EVERY - 1
    work = {
        city: Work(rosters=pieces(random, LONG if long else QUICK), singles=SINGLES)
        for city in CITIES
    }
    sorts = [*SORTS] * (3 if long else 2)
    random.shuffle(sorts)
    step = 0.85 / len(sorts)
    waves = tuple(
        Wave(
            at=round(0.03 + step * (place + random.uniform(0, 0.8)), 3),
            delay=round(random.uniform(0, 0.3), 3),
            faults=sort(random),
        )
        for place, sort in enumerate(sorts)
    )
    return Plan(seed=seed, work=work, waves=waves)


def pieces(random: Random, people: int) -> tuple[int, ...]:
    """So many people on rosters of 3 % to 15 % of them each; the last has at most 5 %."""
    sizes: list[int] = []
    last = people * random.randint(30, 50) // 1000
    while (left := people - last - sum(sizes)) > 0:
        sizes.append(min(left, people * random.randint(30, 150) // 1000))
    return (*sizes, last)


def _lasts(random: Random, most: float) -> float:
    return round(random.uniform(0.5, most), 1)


def _kill(random: Random, parts: Sequence[str] = PARTS) -> Fault:
    return Fault(kind=Kind.KILL, node=random.choice(NODES), part=random.choice(parts))


def _kill_service(random: Random) -> tuple[Fault, ...]:
    return (_kill(random, SERVICES),)


def _kill_engine(random: Random) -> tuple[Fault, ...]:
    return (_kill(random, ENGINES),)


def _kill_writing(random: Random) -> tuple[Fault, ...]:
    node, part, table = random.choice(list(TABLES))
    return (Fault(kind=Kind.KILL, node=node, part=part, table=table),)


def _kill_again(random: Random) -> tuple[Fault, ...]:
    again = tuple(round(random.uniform(0, 1), 2) for _ in range(random.randint(1, 2)))
    first = _kill(random)
    return (Fault(kind=Kind.KILL, node=first.node, part=first.part, again=again),)


def _freeze(random: Random) -> tuple[Fault, ...]:
    node, part = random.choice(NODES), random.choice(PARTS)
    return (Fault(kind=Kind.FREEZE, node=node, part=part, lasts=_lasts(random, 5)),)


def _cut(random: Random) -> tuple[Fault, ...]:
    line = random.choice(LINES)
    return (Fault(kind=Kind.CUT, node=line, carriers=CARRIERS, lasts=_lasts(random, 4)),)


def _half_open(random: Random) -> tuple[Fault, ...]:
    carriers = random.choice([CARRIERS, CARRIERS, *((carrier,) for carrier in CARRIERS)])
    ways = random.choice([tuple(Way), *((way,) for way in Way)])
    return (
        Fault(
            kind=Kind.HALF_OPEN, node=random.choice(LINES), carriers=carriers, ways=ways,
            lasts=_lasts(random, 7),
        ),
    )  # fmt: skip


def _wipe_one(random: Random) -> tuple[Fault, ...]:
    return (Fault(kind=Kind.WIPE, node=random.choice(NODES), part="nats"),)


def _wipe_all(random: Random) -> tuple[Fault, ...]:
    return (Fault(kind=Kind.WIPE, part="nats"),)


def _two_at_once(random: Random) -> tuple[Fault, ...]:
    """Two kills at two nodes, or a kill while a line is disturbed."""
    first = _kill(random)
    if random.random() < 0.5:
        return (first, *random.choice([_cut, _half_open])(random))
    while (second := _kill(random)).node == first.node:
        pass
    return (first, second)


SORTS = (
    _kill_service, _kill_engine, _kill_writing, _kill_again, _freeze, _cut, _half_open, _wipe_one,
    _wipe_all, _two_at_once,
)  # fmt: skip
