"""The composition root of several jobs in one process: each as it would be alone, all of them under bounds that they share.

A job that cannot begin, or cannot go on, does not end the others, unless that was asked for. One request to stop drains all of
them, a second one ends all at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from asyncup.app import Job, execute
from asyncup.config import Config
from asyncup.destinations import most_connections, parse_destination
from asyncup.errors import UsageError
from asyncup.events import Draining, Event, Finished, Notice, OfJob, Planned, Progress
from asyncup.flow.histogram import Histogram
from asyncup.flow.interrupt import Interrupt
from asyncup.flow.sharing import Bounds, Sharing
from asyncup.flow.tally import Tally
from asyncup.gates import out_of_time
from asyncup.protocols import Observer
from asyncup.report import ABORTED, INTERRUPTED, JobReport, Latency, Report
from asyncup.resolved import Plan
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


def labels_of(configs: Sequence[Config]) -> tuple[str, ...]:
    """What each of several jobs is called while they run; those of one name have their states behind it."""
    names = [label_of(config) for config in configs]
    return tuple(
        name if names.count(name) == 1 else f"{name} ({config.state})"
        for name, config in zip(names, configs, strict=True)
    )


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
        bounds = how.bounds
        if all(config.only_signs for config in configs):  # rates are those of requests
            bounds = replace(bounds, rate=None, bandwidth=None)
        self._timeout = how.whole.timeout
        self._sharing = Sharing(bounds, runs=len(configs), places=how.at_a_time)
        self._places = asyncio.Semaphore(self._sharing.places)
        self._branches: list[Interrupt] = []
        self._tallies: list[Tally] = []
        self._in_flight: dict[str, int] = {}
        self._planned: list[tuple[str, Config, Plan]] = []
        self._peak = 0
        self._has_failed = False

    async def run(self) -> Report:
        begun, ending = time.perf_counter(), None
        if self._timeout is not None:
            ending = asyncio.get_running_loop().call_later(self._timeout, self._interrupt.expire)
        try:
            jobs = await self._run_all()
        finally:
            if ending is not None:
                ending.cancel()
        latencies = Histogram()
        for tally in self._tallies:
            latencies.add(tally.latency)
        if all(config.dry_run for config in self._configs):
            latencies = Histogram()  # nobody has answered
        return Report.of(
            jobs,
            seconds=time.perf_counter() - begun,
            latency=Latency.of(latencies),
            most=self._sharing.bounds.in_flight,
            peak=0
            if all(config.dry_run for config in self._configs)
            else max([self._peak, *(job.peak for job in jobs)]),
            signal=None if self._interrupt.has_expired else self._interrupt.signal,
        )

    async def _run_all(self) -> list[JobReport]:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._run(config, label), name=f"asyncup-job-{label}")
                for config, label in zip(self._configs, labels_of(self._configs), strict=True)
            ]
        return [task.result() for task in tasks]

    async def _run(self, config: Config, label: str) -> JobReport:
        """One job, as soon as there is a place for it. Only cancellation is raised."""
        async with self._places:
            if self._interrupt.draining or self._has_failed:
                self._sharing.pass_over()
                name, late = label_of(config), self._interrupt.has_expired
                return JobReport(
                    name,
                    ABORTED if late else INTERRUPTED,
                    destination=config.to,
                    error=out_of_time(self._timeout, name) if late else None,
                    dry_run=config.dry_run,
                )
            share = self._sharing.join(config.memory)
            branch = self._interrupt.branch()
            self._branches.append(branch)
            observer = _OfJob(label, config, self)
            try:
                job = Job(config, observer, branch, share)
                self._tallies.append(job.tally)
                report = await execute(config, observer, branch, job=job)
            finally:
                self._branches.remove(branch)
                self._in_flight.pop(label, None)
                share.leave()
        ended = report.job or JobReport(
            label_of(config), report.status, error=report.error, destination=config.to, dry_run=config.dry_run
        )
        is_news = not self._has_failed and not self._interrupt.draining
        if ended.status == ABORTED and self._fail_fast and is_news:
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

    def tell(self, label: str, config: Config, event: Event) -> None:
        """Hand an event of a job on."""
        if isinstance(event, Planned):
            self._compare(label, config, event.plan)
        if isinstance(event, Progress):
            self._in_flight[label] = event.in_flight
            self._peak = max(self._peak, sum(self._in_flight.values()))
        if isinstance(event, Draining) and not self._interrupt.draining:
            return  # no signal came; why they end was said
        self._observer.on_event(OfJob(label, event))

    def _compare(self, label: str, config: Config, plan: Plan) -> None:
        """Say that a job writes where another one does, where nothing in the template tells their rows apart.

        Refused it is not: their keys may be of one sequence.
        """
        for other, its, known in self._planned:
            is_same = (its.to, its.endpoint_url, plan.key) == (config.to, config.endpoint_url, known.key)
            is_one_source = (its.dsn, known.source) == (config.dsn, plan.source)
            if is_same and not is_one_source and _names_no_more_than(plan.key, config):
                self._observer.on_event(
                    Notice(
                        f"{other} and {label} both write to {config.to}: where they have rows of one key, the later one "
                        "replaces the other's object; give each a prefix of its own"
                    )
                )
                break
        self._planned.append((label, config, plan))


def _names_no_more_than(key: Sequence[str], config: Config) -> bool:
    """Whether an object key is made of a row's pagination key alone. Of null: nobody minds."""
    destination = parse_destination(config.to)
    return destination.kind != "null" and set(destination.template.names) <= set(key)


class _OfJob:
    """An observer that says which job an event is of."""

    def __init__(self, label: str, config: Config, team: _Team) -> None:
        self._label = label
        self._config = config
        self._team = team

    def on_event(self, event: Event) -> None:
        self._team.tell(self._label, self._config, event)
