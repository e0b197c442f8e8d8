"""One seed from its first run to its last: crashes, signals and resumes in between, everything watched."""

from __future__ import annotations

import asyncio
import gc
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import asyncup.app
from asyncup.config import Config
from asyncup.flow.channel import Channel
from asyncup.flow.interrupt import Interrupt
from asyncup.model import Checkpoint
from asyncup.pipeline import Pipeline
from asyncup.report import COMPLETE, PARTIAL, Report
from tests.simulation.bucket import SimulatedSink
from tests.simulation.database import Body, SimulatedDatabase
from tests.simulation.disk import Disk, Inode, Stage
from tests.simulation.invariants import Invariants, Violation, survived
from tests.simulation.kept import CHECKPOINT, Kept, KeptInFolder, SimulatedDocuments, StateBucket
from tests.simulation.loop import Crash, Standstill, VirtualLoop
from tests.simulation.scenario import RunPlan, Scenario, draw
from tests.simulation.seams import Now

#: No run takes longer: seconds for each row, when all of them fail one after the other, and for all that is around them.
SECONDS_FOR_ROW, SECONDS_AROUND = 400.0, 4000.0
MAX_STEPS = 400_000


@dataclass(slots=True)
class Ended:
    """What became of a seed. Equal hashes are equal traces; `violation` is None when every guarantee held.

    `readers` is how many ranges were read at a time at most.
    """

    seed: int
    digest: int = 0
    steps: int = 0
    runs: int = 0
    readers: int = 0
    rows: int = 0
    seconds: float = 0.0
    violation: str | None = None
    ends: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def configuration(plan: RunPlan, scenario: Scenario) -> Config:
    """The flags of a run."""
    return Config.of(
        dsn="postgresql://simulated",
        table="public.t",
        to="s3://bucket/o/{id}",
        body="body",
        name="job",
        on_null=scenario.on_null,
        allow_collisions=True,
        state="/state" if scenario.state == "folder" else "s3://state/here/",
        concurrency=None if plan.auto else plan.concurrency,
        max_concurrency=plan.concurrency if plan.auto else None,
        max_rate=plan.max_rate,
        max_bandwidth=plan.max_bandwidth,
        memory=plan.memory,
        readers=plan.readers,
        max_attempts=plan.max_attempts,
        max_failures=plan.max_failures,
        drain_timeout=plan.drain_timeout,
        page_size=plan.page_size,
        restart=plan.restart,
    )


class Run:
    """One process: it begins with what the disk and the bucket hold, and ends somehow."""

    pipeline_class: Callable[..., Any] = Pipeline

    def __init__(self, scenario: Scenario, plan: RunPlan, dice: random.Random, world: World) -> None:
        self.scenario, self.plan, self.dice, self.disk = scenario, plan, dice, world.disk
        now, disk, objects = world.now, world.disk, world.objects
        self.watch = watch = Invariants(scenario, plan, disk, world.kept, objects)
        self.documents = SimulatedDocuments(world.bucket, plan, dice, watch)
        self.loop = watch.loop = VirtualLoop(dice, now, self._look)
        self.loop.step_seconds, self.loop.pauses = plan.step_seconds, plan.pauses
        self.loop.thread_seconds = lambda: plan.disk_seconds * dice.random()
        self.loop.set_exception_handler(self._unhandled)
        self.database = SimulatedDatabase(scenario, plan, dice, watch)
        self.sink = SimulatedSink(scenario, plan, dice, watch, objects)
        self.interrupt: Interrupt
        self.report: Report | None = None
        self._task: asyncio.Task[Report] | None = None
        self._frozen = False
        self.until = now
        self._jumps = [0.0, 0.0]
        self._events: list[tuple[float, Callable[[], Any]]] = []
        self._next = float("inf")
        self._latest = now + SECONDS_FOR_ROW * len(scenario.rows) + SECONDS_AROUND
        disk.dead, disk.operations, disk.crash_at = False, 0, 0
        disk.fails = self._disk_fails
        disk.replaced, disk.happened = self._replaced, watch.note

    def _disk_fails(self, operation: str) -> bool:
        rate = self.plan.disk_fault_rate
        return bool(rate) and self.dice.random() < rate

    def _replaced(self, name: str, inode: Inode) -> None:
        if name.endswith(CHECKPOINT):
            self.watch.checkpoint_written(json.loads(bytes(inode.content)))

    # --- clocks -----------------------------------------------------------------------------------------------

    def monotonic(self) -> float:
        return self.loop._now + self._jump(0)

    def perf_counter(self) -> float:
        return self.loop._now + self._jump(1)

    def thread_time(self) -> float:
        return self.loop.steps * 1e-5

    def wall(self) -> float:
        return self.dice.random() * 2e9

    def timestamp(self) -> str:
        return f"20{self.dice.randint(10, 40)}-01-01T00:00:{self.dice.random() * 60:09.6f}Z"

    def _jump(self, clock: int) -> float:
        """These clocks need not agree with the loop's; they never go back."""
        if self.plan.clock_jumps and self.dice.random() < self.plan.clock_jumps:
            self._jumps[clock] += self.dice.choice([0.001, 1.0, 60.0, 3600.0])
        return self._jumps[clock]

    # --- the run ----------------------------------------------------------------------------------------------

    def go(self) -> str:
        """Run until the end, and say which it was: a status, `crash`, `cancelled`, or `frozen` for none yet.

        Raises:
            Violation: a guarantee does not hold.
        """
        if self._task is None:
            self._task = self.loop.create_task(self._main())
            self._plan_events(self._task)
        Now.run, Stage.disk = self, self.disk
        Body.forget()
        end = ""
        try:
            with _Constants(self.plan):
                end = self._run(self._task)
        finally:
            self.until = self.loop._now
            if end != "frozen":
                self.watch.over = self.disk.dead = True
                self.loop.bury()
        return end

    def thaw(self, now: float) -> None:
        """Others have gone on meanwhile."""
        self.watch.note("thaw")
        self.watch.thawed = self.watch.held_otherwise = True  # nobody has counted what it holds
        self.loop.paused += now - self.loop._now
        self.loop._now = now
        self._latest += now - self.until
        self.disk.dead = False
        self.disk.replaced, self.disk.happened = self._replaced, self.watch.note

    def _run(self, task: asyncio.Task[Report]) -> str:
        loop, watch = self.loop, self.watch
        try:
            self.report = loop.run_until_complete(task)
        except Crash:
            return "crash"
        except Frozen:
            return "frozen"
        except Standstill:
            raise watch.violated("the run hangs: nothing is ready, and nobody waits for time to pass") from None
        except asyncio.CancelledError:
            if not self.plan.cancels:
                raise watch.violated("the run was cancelled by nobody") from None
            if left := loop.open_tasks():
                raise watch.violated(f"tasks are left behind: {[task.get_name() for task in left]}") from None
            return "cancelled"
        except Violation:
            raise
        except Exception as exc:
            raise watch.violated(f"the run ends with {exc!r} instead of a report") from exc
        if watch.errors:
            raise watch.violated(watch.errors[0])
        watch.ended(self.report, self.database.open_connections)
        return self.report.status

    async def _main(self) -> Report:
        self.interrupt = Interrupt()
        return await asyncup.app.execute(configuration(self.plan, self.scenario), self.watch, self.interrupt)

    def built(self, pipeline: Any, checkpoint: Checkpoint) -> None:
        """The pipeline is there, and has not begun: give it the bounds that a small run meets."""
        self.watch.begins(pipeline, checkpoint)
        pipeline._streams_from = self.plan.streams_from
        if self.plan.parcels is not None:
            pipeline._parcels = Channel(self.plan.parcels)

    def _look(self) -> None:
        loop = self.loop
        if loop.steps >= self._next:
            self._happen()
        if loop.crashed:
            raise Crash
        if self._frozen:
            self._frozen = False
            raise Frozen
        self.watch.look()
        if loop._now > self._latest:
            raise self.watch.violated("the run does not end")
        if loop.steps > MAX_STEPS:
            raise self.watch.violated("the run goes round in circles")

    def _unhandled(self, loop: Any, context: dict[str, Any]) -> None:
        self.watch.errors.append(f"{context['message']}: {context.get('exception')!r}")

    # --- what happens to it -----------------------------------------------------------------------------------

    def _plan_events(self, task: asyncio.Task[Any]) -> None:
        plan, loop = self.plan, self.loop
        happenings: list[tuple[tuple[str, float], Callable[[], Any]]] = [
            *((moment, self._signal) for moment in plan.signals),
            *((moment, lambda: self._cancel(task)) for moment in plan.cancels),
        ]
        if plan.crash is not None:
            if plan.crash[0] == "disk":
                self.disk.crash_at = int(plan.crash[1])
            else:
                happenings.append((plan.crash, self._crash))
        if plan.freeze is not None:
            happenings.append((("step", plan.freeze), self._freeze))
        for (unit, value), happen in happenings:
            if unit == "time":
                loop.call_later(value, happen)
            else:
                self._events.append((value, happen))
        self._events.sort(key=lambda event: event[0])
        self._next = self._events[0][0] if self._events else float("inf")

    def _happen(self) -> None:
        while self._events and self._events[0][0] <= self.loop.steps:
            happen = self._events.pop(0)[1]
            if happen in (self._crash, self._freeze):
                happen()
            else:
                self.loop.call_soon(happen)  # as the loop hears of signals
        self._next = self._events[0][0] if self._events else float("inf")

    def _signal(self) -> None:
        self.watch.signalled()
        self.interrupt.request(self.dice.choice([2, 15]))

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        self.watch.note("cancel")
        task.cancel()

    def _crash(self) -> None:
        self.watch.note("crash")
        self.loop.crashed = True

    def _freeze(self) -> None:
        self.watch.note("freeze")
        self._frozen = True


class Frozen(Exception):
    """The process stands still; others do not."""


class World:
    """What there is whether a run goes on or not."""

    def __init__(self, scenario: Scenario, dice: random.Random) -> None:
        self.disk, self.bucket, self.objects, self.now = Disk(dice), StateBucket(), set[int](), 0.0
        self.kept: Kept = KeptInFolder(self.disk) if scenario.state == "folder" else self.bucket


def simulate(
    seed: int, *, trace: bool = False, pipeline_class: Callable[..., Any] = Pipeline, divided: bool = True
) -> Ended:
    """Play a seed; within `seams.simulated()`. The same seed gives the same trace, on any machine."""
    scenario, dice = draw(seed, divided=divided), random.Random(~seed & 0xFFFFFFFF)
    ended, world = Ended(seed, rows=len(scenario.rows)), World(scenario, dice)
    frozen: Run | None = None
    collecting = gc.isenabled()
    gc.disable()  # what is garbage in a cycle is to be seen, not collected at a moment of its own
    try:
        for number, plan in enumerate(scenario.runs):
            world.now += plan.gap
            run = Run(scenario, plan, dice, world)
            run.pipeline_class = pipeline_class
            if trace:
                run.watch.lines = ended.lines
                ended.lines.append(f"--- run {number}: {plan}")
            end = _play(run, world, ended)
            if number == len(scenario.runs) - 1 and end not in (COMPLETE, PARTIAL):
                error = run.report.error if run.report is not None else None
                raise Violation(f"nothing went wrong in the last run, and it is {end}: {error}")
            if frozen is not None:
                frozen.thaw(world.now)
                _play(frozen, world, ended)
            frozen = run if end == "frozen" else None
    except Violation as violation:
        ended.violation = f"run {ended.runs - 1}: {violation}"
    finally:
        ended.seconds = world.now
        if collecting:
            gc.enable()
    return ended


def _play(run: Run, world: World, ended: Ended) -> str:
    """Run until the run ends or stands still, and look at what it leaves."""
    before = run.loop.steps
    try:
        end = run.go()
        world.now = run.until
        if end != "frozen":
            world.disk.crash(power=run.plan.power and end == "crash")
        survived(run.scenario, world.kept, world.objects, world.now, None if run.watch.thawed else run.watch.finished)
        ended.ends.append(end)
    finally:
        ended.runs += 1
        ended.readers = max(ended.readers, run.watch.ranges.most if run.watch.ranges is not None else 0)
        ended.steps += run.loop.steps - before
        ended.digest = hash((ended.digest, run.watch.digest, run.loop.steps))
    return end


class _Constants:
    """Bounds of the pipeline that only large runs would meet, made small."""

    def __init__(self, plan: RunPlan) -> None:
        self._values = {
            "TICKET_ROWS": plan.ticket_rows,
            "TICKET_BYTES": plan.ticket_bytes,
            "MAX_LETTERS": plan.max_letters,
            "PROGRESS_SECONDS": plan.beat,
            "LOOK_SECONDS": plan.look,
            "STREAMS": plan.streams,
            "SLICE_BYTES": plan.slice_bytes,
            "WINDOW": plan.window,
        }

    def __enter__(self) -> None:
        import asyncup.pipeline as module

        self._before = {name: getattr(module, name) for name in self._values}
        for name, value in self._values.items():
            setattr(module, name, value)

    def __exit__(self, *_: object) -> None:
        import asyncup.pipeline as module

        for name, value in self._before.items():
            setattr(module, name, value)
