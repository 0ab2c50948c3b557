"""What is brought and what strikes when: all of it follows from a seed."""

from dataclasses import dataclass
from enum import Enum
from random import Random

NATION, PROVINCE, CITY = "0", "51", "5101"
"""The codes of the nodes."""
PARTS = ("membership", "sync", "nats", "postgres")
KILLED = [(node, part) for node in (CITY, PROVINCE) for part in PARTS]
AIMED = (
    (CITY, "membership", "roster_rows"),  # between a roster's count and its results
    (CITY, "membership", "entries"),  # between outbox and log
    (CITY, "sync", "frames"),  # between a log's cursor and its frame
    (PROVINCE, "sync", "frames"),  # between a stream's cursor and its frame
    (PROVINCE, "membership", "members"),  # between the cursor of the copies and the copies
    (PROVINCE, "membership", "sums"),
)
"""Services that are killed while they write to a table."""

QUICK, LONG = 1_500, 10_000
"""People on the rosters of a run."""
LONG_EVERY = 5
"""Of so many seeds, the last makes a long run, with several faults in a row."""


class Kind(Enum):
    """What happens to a victim."""

    KILL = "kill"
    """SIGKILL."""
    FREEZE = "freeze"
    """SIGSTOP, and SIGCONT after a while."""
    CUT = "cut"
    """The line between city and province is reset, and refuses for a while."""
    SILENCE = "silence"
    """It stands, and swallows every byte for a while."""
    WIPE = "wipe"
    """Every NATS is killed and its JetStream folder removed."""


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind
    at: float
    """It strikes when this share of the load is acknowledged."""
    delay: float = 0.0
    """Seconds after that."""
    lasts: float = 0.0
    """Seconds; 0 for what is struck once and comes back by itself."""
    node: str = ""
    """The code of the node; empty for the line, and for all nodes."""
    part: str = ""
    table: str = ""
    """If not empty: of the part's database; it strikes while the part waits to write to it."""

    def __str__(self) -> str:
        what = " ".join(filter(None, [self.kind.value, self.node, self.part, self.table]))
        while_ = f" for {self.lasts} s" if self.lasts else ""
        return f"{what}{while_} at {self.at:.0%} + {self.delay} s"


@dataclass(frozen=True, slots=True)
class Plan:
    """One run."""

    seed: int
    rosters: tuple[int, ...]
    """The sizes of the rosters, in their order."""
    singles: int
    """People who apply and are approved one by one meanwhile."""
    faults: tuple[Fault, ...]
    deadline: float
    """Seconds that the run may take."""

    @property
    def people(self) -> int:
        return sum(self.rosters) + self.singles


def plan(seed: int) -> Plan:
    """The run of a seed.  Eighteen seeds in a row begin with each fault once."""
    random = Random(seed)
    if seed % LONG_EVERY == LONG_EVERY - 1:
        sizes, count, singles = pieces(random, LONG), random.randint(3, 6), 200
    else:
        sizes, count, singles = pieces(random, QUICK), 1, 60
    shares = sorted(round(random.uniform(0.01, 0.8), 3) for _ in range(count))
    faults = [_fault(random, seed if n == 0 else random.randrange(FAULTS), at)
              for n, at in enumerate(shares)]  # fmt: skip
    return Plan(seed, sizes, singles, tuple(faults), deadline=180 + 90.0 * count)


def pieces(random: Random, people: int) -> tuple[int, ...]:
    """So many people on rosters of 3 % to 15 % of them each; the last has at most 5 %."""
    sizes: list[int] = []
    last = people * random.randint(30, 50) // 1000
    while (left := people - last - sum(sizes)) > 0:
        sizes.append(min(left, people * random.randint(30, 150) // 1000))
    return (*sizes, last)


def _fault(random: Random, number: int, at: float) -> Fault:
    """One of eighteen: eight kills, a cut, a silence, a freeze, a wipe, six aimed kills."""
    kind = KINDS[number % FAULTS]
    node, part, table = "", "", ""
    if number % FAULTS >= FAULTS - len(AIMED):
        node, part, table = AIMED[number % FAULTS - FAULTS]
    elif kind is Kind.KILL:
        node, part = KILLED[number % FAULTS]
    elif kind is Kind.FREEZE:
        node, part = random.choice(KILLED)
    once = kind in (Kind.KILL, Kind.WIPE)
    return Fault(
        kind, at, delay=round(random.uniform(0, 0.3), 3),
        lasts=0.0 if once else round(random.uniform(1, 8), 1), node=node, part=part, table=table,
    )  # fmt: skip


KINDS = [Kind.KILL] * 8 + [Kind.CUT, Kind.SILENCE, Kind.FREEZE, Kind.WIPE] + [Kind.KILL] * 6
FAULTS = len(KINDS)
