"""What one seed asks for: a table, and the runs that are to copy it, each with its flags, its faults and its end.

The last run is calm: nothing fails in it that can mend, so that it has to complete.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from asyncup.model import Key, Range

#: What a PUT may come to, with the weight of each. `after` has stored the object, `late` will.
FAULTS = {
    "lost": 6,
    "lost-after": 4,
    "lost-late": 2,
    "fault": 5,
    "fault-after": 2,
    "throttled": 5,
    "unreachable": 2,
    "corrupted": 2,
    "stale": 1,
    "refused": 0.3,
    "surprise": 0.2,
    "slow": 2,
    "timeout": 1,
}
#: What a statement may come to.
TROUBLES = {"shutdown": 4, "reset": 4, "closed": 2, "serialization": 2, "cancelled": 1, "commit": 2, "broken": 0.2}


@dataclass(frozen=True, slots=True)
class RowPlan:
    """One row. `poison` is `sink` or `template` when it can never become an object; `gone_at` is when it is deleted."""

    number: int
    body: bytes | None
    poison: str | None = None
    gone_at: float | None = None


@dataclass(slots=True)
class RunPlan:
    """One run. Times are seconds from its beginning, steps are the loop's; an event has one of them."""

    readers: int = 1
    ranges: tuple[Range, ...] = ()  # in which the table is divided, by a run that begins anew
    concurrency: int = 4
    auto: bool = False  # find the level; `concurrency` is the most then
    max_rate: float | None = None
    max_bandwidth: int | None = None
    memory: int = 10_000_000
    max_attempts: int = 10
    max_failures: int | None = None
    drain_timeout: float = 30.0
    page_size: int | None = None
    page_bytes: int | None = None
    ticket_rows: int = 500
    ticket_bytes: int = 4 << 20
    max_letters: int = 1000
    parcels: int | None = None
    latency: str = "fixed"
    latency_seconds: float = 0.01
    read_seconds: float = 0.005
    disk_seconds: float = 0.005
    step_seconds: float = 0.0
    beat: float = 0.25  # between two looks of the keeper
    look: float = 0.025  # between two of the steersman
    pauses: tuple[float, float] = (0.0, 0.0)
    clock_jumps: float = 0.0
    parts_from: int = 1 << 40
    streams_from: int | None = None  # larger bodies are read while they are sent, so many at a time, in slices
    streams: int = 2
    slice_bytes: int = 8 << 20
    window: int = 64 << 20
    fault_rate: float = 0.0
    faults: dict[str, float] = field(default_factory=dict)
    outages: list[tuple[float, float]] = field(default_factory=list)
    trouble_rate: float = 0.0
    database_outages: list[tuple[float, float]] = field(default_factory=list)
    hangs: float = 0.0
    disk_fault_rate: float = 0.0
    state_trouble_rate: float = 0.0
    freeze: float | None = None  # the step at which it stands still, until the next run has ended
    gap: float = 1.0  # before it begins
    signals: list[tuple[str, float]] = field(default_factory=list)
    cancels: list[tuple[str, float]] = field(default_factory=list)
    crash: tuple[str, float] | None = None
    power: bool = False
    restart: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that a seed decides beforehand."""

    seed: int
    rows: list[RowPlan]
    runs: list[RunPlan]
    on_null: str
    proven: bool
    state: str  # where it is kept: folder or s3
    phases: int  # rows from this number on have NULL in their key; 0 for none
    leaves: tuple[float, ...] = ()  # when each partition came; they take the rows in turn
    renamed_at: float | None = None  # when they get other names
    _members: dict[Range, list[int]] = field(default_factory=dict)

    def key(self, number: int) -> Key:
        """A row's pagination key."""
        text = f"{number:06d}"
        if not self.phases:
            return (text,)
        return (text if number < self.phases else None, text)

    def leaf(self, number: int) -> int | None:
        """The partition that a row is in, by its oid: the place of it in `leaves`, from 1."""
        return number % len(self.leaves) + 1 if self.leaves else None

    def comes_at(self, number: int) -> float:
        """When a row comes: with its partition."""
        leaf = self.leaf(number)
        return 0.0 if leaf is None else self.leaves[leaf - 1]

    def members(self, part: Range) -> list[int]:
        """The rows of a range, in key order."""
        found = self._members.get(part)
        if found is None:
            numbers = range(1, len(self.rows) + 1)
            found = self._members[part] = [number for number in numbers if self._is_in(part, number)]
        return found

    def _is_in(self, part: Range, number: int) -> bool:
        if part.leaf is not None and part.leaf != self.leaf(number):
            return False
        is_null = bool(self.phases) and number >= self.phases
        if part.nulls is not None and part.nulls != is_null:
            return False
        place = _ordered(self.key(number))
        above = part.lower is None or place >= _ordered(part.lower)
        return above and (part.upper is None or place < _ordered(part.upper))


def _ordered(key: Key) -> tuple[int, ...]:
    """What compares as the server compares keys; NULLs are last."""
    return tuple(10**9 if text is None else int(text) for text in key)


def draw(seed: int, *, divided: bool = True) -> Scenario:
    """The scenario of a seed; read as a whole by one reader, and sent as a whole, unless it may be `divided`."""
    dice = random.Random(seed)
    count = _count(dice)
    memory = dice.choice([2_500, 8_000, 40_000, 300_000, 10_000_000])
    rows = _rows(dice, count, memory)
    runs = [_run(dice, count, memory) for _ in range(dice.choice([0, 1, 1, 1, 2, 2, 3, 4]))]
    runs.append(_calm(dice, memory))
    state = "s3" if dice.random() < 0.25 else "folder"
    if state == "s3":
        _lease(runs, dice, count)
    proven = dice.random() < 0.7
    phases = dice.randint(1, count) if count and proven and dice.random() < 0.15 else 0
    scenario = Scenario(seed, rows, runs, dice.choice(["skip", "skip", "empty", "fail"]), proven, state, phases)
    if divided:  # with dice of its own: without it a seed gives the same scenario as ever
        more = random.Random(seed + (1 << 40))
        _stream(runs, more, max((len(row.body) for row in rows if row.body is not None), default=0))
        return _divide(scenario, more, count) if proven else scenario
    return scenario


def _stream(runs: list[RunPlan], dice: random.Random, largest: int) -> None:
    """Have some runs read large bodies while they send them, the `largest` in a few slices."""
    for run in runs:
        run.streams_from = dice.choice([None, 100, 1000])
        run.streams = dice.choice([1, 2, 2, 3])
        run.slice_bytes = dice.choice([max(50, largest // 10), max(50, largest // 3), 8 << 20])
        run.window = dice.choice([largest // 8, largest // 2, 64 << 20])


def _divide(scenario: Scenario, dice: random.Random, count: int) -> Scenario:
    """Give runs their readers and ranges, as many and as good as they come, and the table partitions."""
    late = dice.choice([0.0, 10 ** dice.uniform(-0.5, 1.2)])
    leaves = tuple(dice.choice([0.0, late]) for _ in range(dice.choice([0, 0, 0, 0, 1, 2, 3])))
    for run in scenario.runs:
        run.readers = dice.choice([1, 2, 2, 3, 4])
        run.ranges = tuple(_ranges(dice, count, scenario.phases, len(leaves)))
    renamed_at = dice.choice([None, 10 ** dice.uniform(-1, 2)])
    return replace(scenario, leaves=leaves, renamed_at=renamed_at)


def _ranges(dice: random.Random, count: int, phases: int, leaves: int) -> Iterable[Range]:
    """Ranges that have all keys there may be: bounds may lie where no row is, or two of them between the same rows."""
    for leaf in range(1, leaves + 1) if leaves else (None,):
        bounds = []
        for _ in range(dice.choice([0, 1, 1, 2, 3, 7])):
            number = dice.randint(0, count + 2)
            key = (f"{number:06d}",)
            bounds.append((*key, f"{max(0, number + dice.randint(-1, 1)):06d}") if phases else key)
        nulls = False if bounds and phases else None
        for lower, upper in itertools.pairwise([None, *sorted(set(bounds)), None]):
            yield Range(lower, upper, nulls, leaf)
        if nulls is False:
            yield Range(nulls=True, leaf=leaf)


def _lease(runs: list[RunPlan], dice: random.Random, count: int) -> None:
    """Runs whose state is in a bucket: requests fail and come late, leases run out, and a run may outlive its own."""
    for run in runs[:-1]:
        run.gap = dice.choice([1.0, 20.0, 62.0, 300.0])
        run.state_trouble_rate = dice.choice([0.0, 0.0, 0.02, 0.2])
        if run.crash is None and not run.cancels and not run.hangs and dice.random() < 0.3:
            run.freeze = _step(dice, count)
    runs[-1].gap = 300.0


def _count(dice: random.Random) -> int:
    shape = dice.random()
    if shape < 0.05:
        return dice.randint(0, 2)
    return int(2 ** dice.uniform(0, 5)) if shape < 0.93 else int(2 ** dice.uniform(5, 8.3))


def _rows(dice: random.Random, count: int, memory: int) -> list[RowPlan]:
    nulls, poison, gone = (dice.choice([0.0, 0.0, 0.0, share]) for share in (0.1, 0.08, 0.05))
    sizes = dice.choice(["tiny", "tiny", "mixed", "mixed", "large"])
    horizon = 10 ** dice.uniform(-2, 1.5)
    rows = []
    for number in range(1, count + 1):
        size = dice.randint(0, 60)
        if sizes == "mixed" and dice.random() < 0.1:
            size = dice.randint(100, 1500)
        elif sizes == "large" and dice.random() < 0.3:
            size = int(min(memory, 60_000) * dice.random() ** 2 * 1.5)
        body = None if nulls and dice.random() < nulls else (b"%06d" % number * (size // 6 + 1))[:size]
        rows.append(
            RowPlan(
                number,
                body,
                dice.choice(["sink", "template"]) if poison and dice.random() < poison else None,
                dice.random() * horizon if gone and dice.random() < gone else None,
            )
        )
    return rows


def _run(dice: random.Random, count: int, memory: int) -> RunPlan:
    """A run in which something may happen."""
    run = _calm(dice, memory)
    run.max_attempts = dice.choice([1, 2, 3, 5, 10, 10])
    run.max_failures = dice.choice([None, None, None, 0, 1, 5])
    run.drain_timeout = dice.choice([0.0, 0.1, 1.0, 30.0])
    run.restart = dice.random() < 0.03
    if dice.random() < 0.7:
        run.fault_rate = dice.choice([0.02, 0.1, 0.3, 0.7])
        kinds = dice.sample(list(FAULTS), dice.randint(1, len(FAULTS)))
        run.faults = {kind: FAULTS[kind] for kind in FAULTS if kind in kinds}
    if dice.random() < 0.1:
        run.outages = [_span(dice)]
    if dice.random() < 0.3:
        run.trouble_rate = dice.choice([0.02, 0.1, 0.4])
    if dice.random() < 0.1:
        run.database_outages = [_span(dice)]
    if dice.random() < 0.1:
        run.disk_fault_rate = dice.choice([0.01, 0.1])
    _interfere(run, dice)
    _end(run, dice, count)
    return run


def _interfere(run: RunPlan, dice: random.Random) -> None:
    """Disturb the machine, and cut objects into parts."""
    if dice.random() < 0.2:
        run.pauses = (dice.choice([0.001, 0.02]), dice.choice([0.2, 3.0, 100.0]))
    if dice.random() < 0.2:
        run.clock_jumps = dice.choice([0.001, 0.02])
    if dice.random() < 0.3:
        run.parts_from = dice.randint(0, 2000)


def _end(run: RunPlan, dice: random.Random, count: int) -> None:
    """Decide how the run may be ended from outside."""
    end = dice.random()
    if end < 0.35:
        run.signals = [_moment(dice, count) for _ in range(dice.choice([1, 1, 2, 3]))]
    elif end < 0.45:
        run.cancels = [_moment(dice, count) for _ in range(dice.choice([1, 2]))]
    if end < 0.25 and dice.random() < 0.4:
        run.hangs = dice.choice([0.02, 0.3, 1.0])
        first = 10 ** dice.uniform(-1, 2)
        run.signals.append(("time", first))  # somebody has to end it
        if dice.random() < 0.5:
            run.signals.append(("time", first + dice.random() * 5))
    if 0.45 < end < 0.85 or dice.random() < 0.15:
        run.crash = ("disk", dice.randint(1, 30)) if dice.random() < 0.4 else _moment(dice, count)
        run.power = dice.random() < 0.5


def _calm(dice: random.Random, memory: int) -> RunPlan:
    page_bytes = None if memory >= 300_000 and dice.random() < 0.5 else max(600, memory // 4)
    return RunPlan(
        concurrency=int(2 ** dice.uniform(0, 5)),
        auto=dice.random() < 0.4,
        max_rate=dice.choice([3.0, 50.0, 700.0]) if dice.random() < 0.1 else None,
        max_bandwidth=dice.choice([1000, 100_000]) if dice.random() < 0.1 else None,
        memory=memory,
        page_size=dice.choice([None, None, 1, 2, 7, 50]),
        page_bytes=page_bytes,
        ticket_rows=dice.choice([1, 2, 5, 30, 500]),
        ticket_bytes=dice.choice([200, 4000, 4 << 20]),
        max_letters=dice.choice([1, 3, 1000]),
        parcels=dice.choice([None, 1, 3, 16]),
        latency=dice.choice(["none", "turns", "fixed", "steps", "uniform", "tail"]),
        latency_seconds=10 ** dice.uniform(-4, 0.3),
        read_seconds=dice.choice([0.0, 0.001, 0.02, 0.5]),
        disk_seconds=dice.choice([0.0, 0.001, 0.02, 0.4, 2.0]),
        beat=dice.choice([0.25, 1.0, 5.0]),
        look=dice.choice([0.025, 0.5, 5.0, 5.0]),
        step_seconds=dice.choice([0.0, 0.0, 1e-6, 1e-4]),
    )


def _span(dice: random.Random) -> tuple[float, float]:
    start = dice.choice([0.0, 10 ** dice.uniform(-3, 1)])
    return start, start + 10 ** dice.uniform(-1, 2.7)


def _moment(dice: random.Random, count: int) -> tuple[str, float]:
    if dice.random() < 0.7:
        return "step", _step(dice, count)
    return "time", 10 ** dice.uniform(-3, 1.5)


def _step(dice: random.Random, count: int) -> int:
    return int(2 ** dice.uniform(0, 6 + (count + 1).bit_length()))
