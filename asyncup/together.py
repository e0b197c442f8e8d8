"""The composition root of several jobs in one process: each as it would be alone, all of them under bounds that they share.

A job that cannot begin, or cannot go on, does not end the others, unless that was asked for. One request to stop drains all of
them, a second one ends all at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asyncup.app import Job, execute
from asyncup.config import Config
from asyncup.destinations import most_connections
from asyncup.errors import UsageError
from asyncup.events import Draining, Event, Finished, Notice, OfJob, Progress
from asyncup.flow.histogram import Histogram
from asyncup.flow.interrupt import Interrupt
from asyncup.flow.sharing import Bounds, Sharing
from asyncup.flow.tally import Tally
from asyncup.protocols import Observer
from asyncup.report import ABORTED, INTERRUPTED, JobReport, Latency, Report
from asyncup.settings import SHARED

#: Jobs at a time, where nobody says how many: each has connections to its database.
AT_A_TIME = 8
#: What a job that `--fail-fast` ends is told, in place of a signal.
_NO_SIGNAL = 15


@dataclass(frozen=True, slots=True)
class Together:
    """How several jobs run together. `whole` says in its memory, concurrency and rates what all may use; the rest of it nothing."""

    whole: Config
    at_a_time: int = AT_A_TIME
    fail_fast: bool = False

    @property
    def bounds(self) -> Bounds:
        """What all jobs may use together."""
        whole = self.whole
        in_flight = whole.concurrency or whole.max_concurrency or most_connections()
        return Bounds(whole.memory, in_flight, whole.max_rate, whole.max_bandwidth)


def whole_of(options: Mapping[str, Any]) -> Config:
    """What all jobs share, of options.

    Raises:
        UsageError: there is another one among them, or one is wrong.
    """
    for option in options:
        if option not in SHARED:
            raise UsageError("read options", option, "jobs do not share it", f"shared are {', '.join(SHARED)}")
    return Config.of(**options, table="any", to="null:")


def label_of(config: Config) -> str:
    """What a job is called before its source is known; one with a name is called by it."""
    return config.job_name(config.table or config.query_name())


async def sync_together(configs: Sequence[Config], how: Together, observer: Observer, interrupt: Interrupt) -> Report:
    """Run jobs together; how each of them ended is in the report, in their order.

    Raises:
        UsageError: two of them would have one state.
    """
    check_apart(configs)
    report = await _Team(configs, how, observer, interrupt).run()
    observer.on_event(Finished(report))
    return report


def check_apart(configs: Sequence[Config]) -> None:
    """Refuse jobs that would get in each other's way.

    Raises:
        UsageError: two of them would have one state.
    """
    names = Counter((config.state, label_of(config)) for config in configs)
    letters = Counter(config.dead_letters for config in configs if config.dead_letters is not None)
    for path, count in letters.items():
        if count > 1:
            raise UsageError(
                "read jobs", path, f"{count} jobs would write their dead letters there", "give each a file of its own"
            )
    for (state, name), count in names.items():
        if count > 1:
            raise UsageError(
                "read jobs",
                name,
                f"{count} jobs have this name, and so one checkpoint in {state}",
                "give each a name, a shard or a state of its own",
            )


class _Team:
    """The jobs of one run."""

    def __init__(self, configs: Sequence[Config], how: Together, observer: Observer, interrupt: Interrupt) -> None:
        self._configs = configs
        self._observer = observer
        self._interrupt = interrupt
        self._fail_fast = how.fail_fast
        self._sharing = Sharing(how.bounds, runs=len(configs), places=how.at_a_time)
        self._places = asyncio.Semaphore(self._sharing.places)
        self._branches: list[Interrupt] = []
        self._tallies: list[Tally] = []
        self._in_flight: dict[str, int] = {}
        self._peak = 0
        self._has_failed = False

    async def run(self) -> Report:
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._run(config), name=f"asyncup-job-{label_of(config)}") for config in self._configs
            ]
        jobs = [task.result() for task in tasks]
        latencies = Histogram()
        for tally in self._tallies:
            latencies.add(tally.latency)
        return Report.of(
            jobs,
            seconds=time.perf_counter() - begun,
            latency=Latency(*(round(latencies.percentile(share) * 1000, 3) for share in (0.5, 0.95, 0.99))),
            most=self._sharing.bounds.in_flight,
            peak=max([self._peak, *(job.peak for job in jobs)]),
            signal=self._interrupt.signal,
        )

    async def _run(self, config: Config) -> JobReport:
        """One job, as soon as there is a place for it. Only cancellation is raised."""
        label = label_of(config)
        async with self._places:
            if self._interrupt.draining or self._has_failed:
                self._sharing.pass_over()
                return JobReport(label, INTERRUPTED, destination=config.to)
            share = self._sharing.join(config.memory)
            branch = self._interrupt.branch()
            self._branches.append(branch)
            observer = _OfJob(label, self)
            try:
                job = Job(config, observer, branch, share)
                self._tallies.append(job.tally)
                report = await execute(config, observer, branch, job=job)
            finally:
                self._branches.remove(branch)
                self._in_flight.pop(label, None)
                share.leave()
        ended = report.job or JobReport(label, report.status, error=report.error, destination=config.to)
        if ended.status == ABORTED and self._fail_fast and not self._has_failed:
            self._end_others(label)
        return ended

    def _end_others(self, label: str) -> None:
        self._has_failed = True
        if self._branches:
            self._observer.on_event(
                Notice(f"{label} has failed, and so --fail-fast ends the others: they may be resumed")
            )
        for branch in self._branches:
            branch.request(_NO_SIGNAL)

    def tell(self, label: str, event: Event) -> None:
        """Hand an event of a job on."""
        if isinstance(event, Progress):
            self._in_flight[label] = event.in_flight
            self._peak = max(self._peak, sum(self._in_flight.values()))
        if isinstance(event, Draining) and not self._interrupt.draining:
            return  # no signal came; why they end was said
        self._observer.on_event(OfJob(label, event))


class _OfJob:
    """An observer that says which job an event is of."""

    def __init__(self, label: str, team: _Team) -> None:
        self._label = label
        self._team = team

    def on_event(self, event: Event) -> None:
        self._team.tell(self._label, event)
