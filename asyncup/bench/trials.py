"""Trials: the pipeline of a real run for a few seconds, with any of its stages left out, measured while it is under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from asyncup.benchmark import Pace
from asyncup.errors import AsyncupError
from asyncup.flow.gate import Limits
from asyncup.flow.interrupt import Interrupt
from asyncup.flow.retry import Retrier, RetryPolicy
from asyncup.flow.retrybudget import RetryBudget
from asyncup.flow.tally import Tally
from asyncup.making.recipe import Recipe
from asyncup.model import Checkpoint, Counts, DeadLetter, timestamp
from asyncup.pipeline import Parts, Pipeline
from asyncup.protocols import Renderer, Silence, Sink, Source
from asyncup.report import Latency

#: The part of a trial in which it gets under way, and is not measured; how often one is looked at.
BEGINNING, LOOKS = 0.25, 40


@dataclass(frozen=True, slots=True)
class Stages:
    """What a trial is made of."""

    source: Source
    renderer: Renderer
    sink: Sink
    limits: Limits
    recipe: Recipe | None = None
    #: how many bytes there were, where they are not those that were put
    bytes: Callable[[], int] | None = None
    #: whether only what was put counts: of rows that were made before, none can fail but for who takes them
    only_put: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it. `pace` is that of the time in which it was under way, `begun` of all of it.

    `ended` says that its source came to its end, `failure` what the first row failed for, if one did, `retried` what an
    attempt failed for last, if one did.
    """

    pace: Pace
    begun: Pace
    latency: Latency
    settled: int
    throttled: int
    limit: int
    reason: str
    failed: int
    failure: str | None
    ended: bool
    retried: AsyncupError | None = None


class _Letters:
    """Dead letters that are counted, and the first one is told."""

    location = "nowhere"

    def __init__(self) -> None:
        self.count = 0
        self.first: DeadLetter | None = None

    async def append(self, letters: Sequence[DeadLetter]) -> None:
        self.first = self.first or next(iter(letters), None)
        self.count += len(letters)


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where a trial stood at a moment: seconds of a clock, of CPU, and what was settled."""

    at: float
    cpu: float
    rows: int
    bytes: int


class _Meter:
    """Takes down where a trial stands, every now and then, from `begin` to `end`."""

    def __init__(self, seconds: float, size: Callable[[], int] | None, *, only_put: bool) -> None:
        self._every = seconds / LOOKS
        self._size = size
        self._only_put = only_put
        self._timer: asyncio.TimerHandle | None = None
        self._settled: Callable[[], Counts] = Counts
        self.marks: list[_Mark] = []

    def begin(self, settled: Callable[[], Counts]) -> None:
        self._settled = settled
        self._look()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._take()

    def _look(self) -> None:
        self._take()
        self._timer = asyncio.get_running_loop().call_later(self._every, self._look)

    def _take(self) -> None:
        counts = self._settled()
        size = counts.bytes if self._size is None else self._size()
        rows = counts.put if self._only_put else counts.rows
        self.marks.append(_Mark(time.perf_counter(), time.process_time(), rows, size))


class Trials:
    """Runs them, one after another; `memory` in bytes, `drain` in seconds."""

    def __init__(self, interrupt: Interrupt, policy: RetryPolicy, *, memory: int, drain: float, readers: int) -> None:
        self._interrupt = interrupt
        self._policy = policy
        self._memory = memory
        self._drain = drain
        self._readers = readers

    def ending(self) -> Interrupt:
        """What ends one trial, as a signal would, and is ended by what ends all of them."""
        return self._interrupt.branch()

    async def run(self, stages: Stages, seconds: float, ending: Interrupt | None = None) -> Trial:
        """One, for so many seconds, or until its source ends. `ending` ends it earlier.

        Raises:
            AsyncupError: it cannot go on.
        """
        interrupt, letters, tally = ending or self.ending(), _Letters(), Tally()
        meter = _Meter(seconds, stages.bytes, only_put=stages.only_put)
        retried: AsyncupError | None = None

        def on_retry(error: AsyncupError, attempt: int, delay: float) -> None:  # noqa: ARG001 - it is counted
            nonlocal retried
            retried = error
            tally.retry(error)

        budget = RetryBudget(lambda: tally.attempts - tally.retries)
        pipeline = Pipeline(
            Parts(
                source=stages.source,
                renderer=stages.renderer,
                sink=stages.sink,
                sending=Retrier(self._policy, interrupt.sleep, on_retry, budget=budget),
                dead_letters=letters,
                checkpoints=None,
                checkpoint=Checkpoint("bench", {}, None, Counts(), False, timestamp(), timestamp()),
                observer=Silence(),
                tally=tally,
                interrupt=interrupt,
                readers=self._readers,
                recipe=stages.recipe,
            ),
            limits=stages.limits,
            memory=self._memory,
            drain_timeout=self._drain,
            max_failures=None,
        )
        timer = asyncio.get_running_loop().call_later(seconds, interrupt.expire)
        meter.begin(pipeline.watermark.settled)
        try:
            ended = await pipeline.run()
        finally:
            timer.cancel()
            meter.end()
        pace, begun = _paces(meter.marks, seconds)
        first = letters.first
        return Trial(
            pace,
            begun,
            Latency.of(tally.latency),
            pipeline.watermark.settled().rows,
            tally.throttled,
            pipeline.gate.level.limit,
            pipeline.gate.level.reason,
            letters.count,
            None if first is None else f"row ({', '.join(part or 'NULL' for part in first.key)}): {first.message}",
            ended,
            retried,
        )


def _paces(marks: Sequence[_Mark], seconds: float) -> tuple[Pace, Pace]:
    """While it was under way, and all of it; the end, when the last ones are waited for, is in neither."""
    begun = marks[0]
    under_way = [mark for mark in marks[1:] if mark.at - begun.at <= seconds]
    last = under_way[-1] if under_way else marks[-1]
    first = next((mark for mark in under_way if mark.at - begun.at >= seconds * BEGINNING), begun)
    if first is last or last.rows == first.rows:
        first, last = begun, marks[-1]
    return _pace(first, last), _pace(begun, last)


def _pace(first: _Mark, last: _Mark) -> Pace:
    return Pace(last.rows - first.rows, last.bytes - first.bytes, last.at - first.at, last.cpu - first.cpu)
