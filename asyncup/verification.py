"""The composition root of `asyncup verify`: a job whose sink compares instead of sending, and which keeps no state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from asyncup.app import Job, execute
from asyncup.compare.index import ObjectIndex
from asyncup.compare.verifying import ComparingSink, Differences
from asyncup.config import Config
from asyncup.destinations import Destination, parse_destination
from asyncup.errors import UsageError
from asyncup.events import Event, RowFailed
from asyncup.flow.interrupt import Interrupt
from asyncup.model import Checkpoint, Counts, timestamp
from asyncup.overlap import state_keys
from asyncup.protocols import Observer
from asyncup.report import COMPLETE, PARTIAL, JobReport, Report, Verdict
from asyncup.resolved import Plan
from asyncup.sinks.walk import DirectoryObjects

#: Rows that are compared at a time, where nobody says how many.
CONCURRENCY = 64


async def verify(config: Config, observer: Observer, interrupt: Interrupt, *, deep: bool = False) -> Verdict:
    """Compare the rows of a job with the objects below the literal beginning of its template; nothing is changed.

    `deep` reads every object. With `--limit` and `--shard` no extra object is looked for, since not every row is read.
    """
    begun = time.perf_counter()
    job = Verification(config, observer, interrupt, deep=deep)
    report = await execute(config, observer, interrupt, job=job)
    return job.verdict(report, time.perf_counter() - begun)


class Verification(Job):
    """A job that compares. A row that fails is a difference; it is shown at the end, not when it is met."""

    compares = True

    def __init__(self, config: Config, observer: Observer, interrupt: Interrupt, *, deep: bool) -> None:
        # there is no level to find: to compare costs less than to read, unless every object is downloaded
        concurrency = config.concurrency or min(CONCURRENCY, config.max_concurrency or CONCURRENCY)
        chosen = replace(config, if_exists="overwrite", max_failures=None, concurrency=concurrency)
        chosen = replace(chosen, incremental=None, lag=None)  # every row is compared, however often it was sent
        if not deep:  # nothing is sent for a row
            chosen = replace(chosen, max_rate=None, max_bandwidth=None)
        super().__init__(chosen, _WithoutFailures(observer), interrupt)
        self._deep = deep
        self._index: ObjectIndex = ObjectIndex()
        self._is_state: Callable[[str], object] = lambda _: False
        self._differences = Differences(self._index, packed=config.pack is not None)
        self._found_extra = False
        self._comparing: ComparingSink | None = None

    @property
    def _is_part(self) -> bool:
        return self._config.limit is not None or self._config.shard is not None

    async def run(self) -> JobReport:
        """See `Job.run`; then look for the objects that no row has."""
        report = await super().run()
        if report.status in (COMPLETE, PARTIAL):
            self._found_extra = self._is_part or await self._differences.find_extra(
                self._is_state, lambda: self._interrupt.draining
            )
        return report

    def verdict(self, report: Report, seconds: float) -> Verdict:
        """What a finished run came to."""
        job, found = report.job, self._differences
        return Verdict(
            complete=report.error is None and self._found_extra,
            rows=job.counts.rows if job is not None else 0,
            skipped=job.counts.skipped if job is not None else 0,
            skips=job.skips if job is not None else (),
            objects=self._index.objects - found.state,
            missing=found.missing,
            different=found.different,
            extra=found.extra,
            differences=tuple(found.first),
            by_size=self._comparing.by_size if self._comparing is not None else 0,
            limited=self._is_part,
            seconds=seconds,
            error=report.error,
            signal=report.signal,
        )

    async def _open_sink(self, destination: Destination) -> None:
        if destination.kind == "null":
            raise UsageError(
                "read flags", "--to", "null: keeps nothing that rows could be compared with", "give the job's own --to"
            )
        if destination.kind == "python":
            raise UsageError(
                "read flags", "--to", "nobody knows which objects a python: sink holds", "compare them where they are"
            )
        if destination.kind == "s3":
            await super()._open_sink(destination)
            objects, check = self._objects, self._sink.check
        else:
            objects = DirectoryObjects(Path(destination.place))
            check = objects.check
            await check()
        assert objects is not None  # noqa: S101 - a bucket has objects
        self._objects = objects
        self._closers.append(self._index.close)
        self._sink = self._comparing = ComparingSink(self._index, objects, check, deep=self._deep)

    async def _open_state(self) -> None:
        source, name = self._source, self._config.name or self._source.relation.label
        destination = parse_destination(self._config.to)
        state = await asyncio.to_thread(
            state_keys,
            self._config.state,
            name,
            destination.kind,
            destination.place,
            destination.template.literals[0],
        )
        if state is not None:
            self._is_state = state.fullmatch
        self._checkpoints = None
        self._checkpoint = Checkpoint(name, {}, None, Counts(), False, timestamp(), timestamp())
        letters: Any = self._differences
        self._letters = letters
        self.plan = Plan(
            name=name,
            source=source.relation.label,
            key=tuple(column.name for column in source.key.columns),
            destination=self._config.to,
            estimated_rows=source.estimated_rows if self._config.limit is None else self._config.limit,
            resumed=False,
            settled_before=0,
            fingerprint={},
            checkpoint=None,
            counted="rows",
            settles="the same",
        )


class _WithoutFailures:
    """An observer that is not told of each row that fails."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def on_event(self, event: Event) -> None:
        if not isinstance(event, RowFailed):
            self._observer.on_event(event)
