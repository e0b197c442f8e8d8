"""The composition root of `asyncup bench`: a job whose stages are measured one by one, then all together; nothing is kept.

Four questions: how fast the database can be read, how fast rows render, how fast this machine signs and sends, and how fast the
destination takes it. By itself nothing is written anywhere: objects go to a simulator on this machine, which answers as late
as it is told to. Only where the real bucket was asked for they go there, below a prefix of their own, and are removed again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from asyncup.app import Job, execute, import_drivers
from asyncup.bench.machine import import_seconds, machine
from asyncup.bench.plays import Again, Collected, Kept, Ready, Scratch, Unrendered
from asyncup.bench.projecting import Sampled, project, rates_of
from asyncup.bench.served import Served, past_proxies, remove
from asyncup.bench.simulator.launch import simulator
from asyncup.bench.sweeping import sweep
from asyncup.bench.trials import Stages, Trial, Trials
from asyncup.benchmark import BUCKET, MACHINE, SIMULATOR, TRANSFORM, Benchmark, StartUp, Step, Sweep, Whole
from asyncup.config import Config
from asyncup.destinations import Destination, limits_of, most_connections, parse_destination
from asyncup.errors import AsyncupError, DestinationRefused, SourceRefused
from asyncup.events import Busy, Event, Finished, Notice, Planned
from asyncup.flow.ending import to_its_end
from asyncup.flow.gate import Limits
from asyncup.flow.interrupt import Interrupt
from asyncup.flow.retry import Retrier, sleep_on
from asyncup.model import STREAM_BYTES, Upload
from asyncup.pricing import PREFIX_RATE
from asyncup.protocols import Observer, Sink, Source
from asyncup.report import COMPLETE, JobReport
from asyncup.resolved import Plan
from asyncup.sinks.null import NullSink

#: So often a stage is measured; what cost the least CPU counts, since nothing makes it cost less than it does.
TIMES = 3
#: Requests in flight where a server that answers at once is asked.
AT_ONCE = 64
#: How often the bucket is asked, to learn how late it answers.
ASKED = 10
#: The whole takes so many times as long as another measurement: it has to find its level.
WHOLE = 5
#: Attempts of the lowest levels that make a measurement, and the most seconds that they may take.
FEW, MOST_SECONDS = 16, 5.0
#: Seconds for which a bucket that is away may come back, so that what was put there can be removed.
REMOVAL_SECONDS = 30.0
_KEYS = ("AKIAIOSFODNN7EXAMPLE", "of no use to anybody else")


@dataclass(frozen=True, slots=True)
class Wishes:
    """How to measure.

    Attributes:
        seconds: of each measurement.
        against: the simulator, or the bucket itself.
        latency: of the simulator, as it takes it; None to ask the bucket for it.
        limit: requests a second that the simulator takes, 0 for any number, None for what the bucket's provider says.
        rows: for how many rows to reckon; None for the planner's estimate.
        target: seconds in which they should be done, None for any.
    """

    seconds: float = 1.5
    against: str = SIMULATOR
    latency: str | None = None
    limit: float | None = None
    rows: int | None = None
    target: float | None = None


async def bench(config: Config, wishes: Wishes, observer: Observer, interrupt: Interrupt) -> Benchmark:
    """Measure one job. Errors are in the answer, with what was measured until then."""
    job = Bench(config, wishes, observer, interrupt)
    report = await execute(job.config, job.listener, interrupt, job=job)
    return replace(job.found, error=report.error, signal=interrupt.signal)


class _Listener:
    """Passes on what people should know; that a run is planned, or over, is not true of any here."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def on_event(self, event: Event) -> None:
        if not isinstance(event, (Planned, Finished)):
            self._observer.on_event(event)


class Bench(Job):
    """A job that is measured."""

    def __init__(self, config: Config, wishes: Wishes, observer: Observer, interrupt: Interrupt) -> None:
        # what looks at earlier runs, or at objects that are there, would be measured in their place; gates are a run's
        self.config = replace(
            config,
            if_exists="overwrite",
            incremental=None,
            lag=None,
            snapshot=False,
            limit=None,
            max_failures=None,
            timeout=None,
            expect_rows=None,
            min_rate=None,
            dry_run=False,
        )
        self._rows_wanted = wishes.rows if config.limit is None else min(wishes.rows or config.limit, config.limit)
        self.listener = _Listener(observer)
        super().__init__(self.config, self.listener, interrupt)
        self._wishes = wishes
        self._destination: Destination
        self._prepared = 0.0
        self._trials = Trials(
            interrupt, self._policy, memory=config.memory, drain=config.drain_timeout, readers=config.readers
        )
        self.found = Benchmark(machine=machine(), destination=config.to)

    async def prepare(self) -> None:
        """Resolve what can be without sending an object.

        Raises:
            AsyncupError: a sync could not begin either.
        """
        destination = parse_destination(self._config.to)
        await asyncio.to_thread(import_drivers, destination.kind)
        begun = time.perf_counter()
        await self._name_objects()
        self._destination = destination = parse_destination(self._config.to)
        headers = self._header_templates()
        await self._open_source(destination, headers)
        self._check_template(destination)
        await self._open_recipe(destination, headers)
        self._limits = limits_of(self._config, destination)
        if destination.kind == "s3" and (self._wishes.against == BUCKET or self._wishes.latency is None):
            await self._open_sink(destination)
        source = self._source
        label = source.relation.label
        self.plan = Plan(self._config.job_name(label), label, (), self._config.to, None, False, 0, {}, None)
        self._prepared = time.perf_counter() - begun
        self.found = replace(self.found, name=self.plan.name, source=label, destination=self._config.to)

    async def run(self) -> JobReport:
        """Measure everything, in the order of the questions; a signal ends it between two of them."""
        self._tell(start_up=StartUp(await asyncio.to_thread(import_seconds), self._prepared))
        if not self._goes_on():
            return self._over()
        self._observer.on_event(Busy("measuring how fast the database can be read"))
        await self._measure_reading()
        if not self._goes_on():
            return self._over()
        self._observer.on_event(Busy("measuring how fast rows render"))
        sampled, uploads, is_all = await self._measure_rendering()
        if self._goes_on():
            self._check(sampled, is_all=is_all)
            if self._destination.kind == "s3":
                with past_proxies():
                    async with self._served(uploads[0]) as served:
                        self._observer.on_event(Busy("measuring how fast this machine signs and sends"))
                        await self._measure_sending(served, uploads)
                        if self._goes_on():
                            await self._measure_destination(served, uploads, sampled)
            else:
                kind = self._destination.kind
                self._tell(
                    unmeasured=f"{kind}: has no requests to sign and send; the rest of a run was measured without it"
                )
                await self._measure_whole(NullSink(), sampled)
        return self._over()

    def _check(self, sampled: Sampled, *, is_all: bool) -> None:
        """See that there is something to measure; `is_all` says that the source came to its end.

        Raises:
            SourceRefused: there is none.
        """
        label, rows = self.found.source, sampled.rows
        if not rows and not is_all:
            raise SourceRefused("measure", label, "no row came in time", "give it more with --duration")
        if not rows:
            raise SourceRefused("measure", label, "there are no rows", "give a table, or a --where, that has some")
        if not sampled.objects:
            why = f"; the first that failed: {self.found.failure}" if self.found.failure else ""
            raise SourceRefused("measure", label, f"none of {rows:,} rows became an object{why}", "mend that first")

    # --- the four questions -------------------------------------------------------------------------------------

    async def _measure_reading(self) -> None:
        async def one() -> Trial:
            unrendered = Unrendered()
            stages = Stages(self._again(), unrendered, NullSink(), Limits(AT_ONCE), bytes=lambda: unrendered.bytes)
            return await self._trials.run(stages, self._wishes.seconds)

        trial = await self._best(one)
        if trial is not None:
            self._tell(read=trial.pace)
            self._say(f"reading: {trial.pace.rate:,.0f} rows/s, {trial.pace.cpu_us:,.1f} µs of CPU each")

    async def _measure_rendering(self) -> tuple[Sampled, list[Upload], bool]:
        ending = self._trials.ending()
        kept, collected = Kept(self._rows, ending.expire), Collected()
        stages = Stages(kept, self._renderer, collected, Limits(AT_ONCE), self._recipe)
        trial = await self._trials.run(stages, 2 * self._wishes.seconds, ending)
        self._tell(failed=trial.failed, failure=trial.failure)
        played = kept.played()
        if played.rows and self._goes_on():

            async def one() -> Trial:
                stages = Stages(Again(played), self._renderer, NullSink(), Limits(AT_ONCE), self._recipe)
                return await self._trials.run(stages, self._wishes.seconds)

            best = await self._best(one)
            if best is not None:
                self._tell(render=best.pace)
                self._say(f"rendering: {best.pace.rate:,.0f} rows/s, {best.pace.cpu_us:,.1f} µs of CPU each")
        sizes = tuple(len(upload.body) for upload in collected.uploads)
        return Sampled(trial.settled, collected.objects, collected.bytes, sizes), collected.uploads, trial.ended

    async def _measure_sending(self, served: Served, uploads: list[Upload]) -> None:
        ready = Ready(uploads)

        async def one() -> Trial:
            return await self._trials.run(
                Stages(Again(ready), ready.renderer, served.fast, Limits(AT_ONCE), only_put=True), self._wishes.seconds
            )

        trial = await self._best(one)
        if trial is not None:
            self._tell(send=trial.pace)
            self._say(f"signing and sending: {trial.pace.rate:,.0f} objects/s, {trial.pace.cpu_us:,.1f} µs of CPU each")

    async def _measure_destination(self, served: Served, uploads: list[Upload], sampled: Sampled) -> None:
        ready, latency, basis = Ready(uploads), None, None
        limit = self._wishes.limit if self._wishes.limit is not None else PREFIX_RATE if self._is_aws else 0.0
        if self._wishes.against == SIMULATOR:
            latency, basis = await self._latency()
            await served.slow_down(self._wishes.latency or f"{latency * 1000:.3f}ms", limit)

        async def measure(level: int) -> Step | None:
            if not self._goes_on():
                return None
            few = min(MOST_SECONDS, FEW * (latency or 0.0) / level)
            stages = Stages(Again(ready), ready.renderer, served.real, Limits(level), only_put=True)
            trial = await self._trials.run(stages, max(self._wishes.seconds, few))
            if not self._goes_on():
                return None
            self._check_answers(served, trial, throttled=trial.throttled)
            self._say(f"{level} in flight: {trial.pace.rate:,.0f} objects/s, p50 {trial.latency.p50:,.1f} ms")
            return Step(level, trial.pace, trial.latency.p50, trial.latency.p99, trial.throttled)

        most = self._config.max_concurrency or most_connections()
        self._observer.on_event(Busy("measuring how many requests in flight bring the most"))
        steps, knee = await sweep(measure, most)
        is_real = self._wishes.against == BUCKET
        found = Sweep(
            self._wishes.against,
            steps,
            knee,
            None if is_real or latency is None else latency * 1000,
            basis,
            None if is_real else limit or None,
        )
        self._tell(sweep=found)
        if self._goes_on():
            await self._measure_whole(served.real, sampled, served)

    def _check_answers(self, served: Served, trial: Trial, throttled: int = 0) -> None:
        """See that somebody took what was sent, or asked for less: who has gone away must not look like one who is slow.

        Raises:
            AsyncupError: nobody did.
        """
        served.check()
        if trial.failed:
            self._tell(failed=self.found.failed + trial.failed, failure=self.found.failure or trial.failure)
        if trial.pace.count or throttled:
            return
        why = trial.failure or (f"the last attempt failed: {trial.retried}" if trial.retried is not None else None)
        raise AsyncupError(
            "measure",
            self._config.to,
            f"nothing was put{'' if why is None else f'; {why}'}",
            "mend that first; or give it more time with --duration",
        )

    async def _measure_whole(self, sink: Sink, sampled: Sampled, served: Served | None = None) -> None:
        self._observer.on_event(Busy("measuring all of it together"))
        stages = Stages(self._again(), self._renderer, sink, self._limits, self._recipe)
        trial = await self._trials.run(stages, WHOLE * self._wishes.seconds)
        if not self._goes_on():
            return
        if served is not None:
            self._check_answers(served, trial)
        if not trial.pace.count:
            return
        whole = Whole(trial.pace, trial.begun, trial.limit, trial.reason)
        self._tell(whole=whole)
        self._say(f"all together: {trial.pace.rate:,.0f} rows/s, {trial.pace.cpu_us:,.1f} µs of CPU each")
        now = self.found
        transforms = self._recipe is not None and self._recipe.transform is not None
        rates = rates_of(now, sampled, transforms=transforms)
        rows, basis = self._source.estimated_rows, "the planner's estimate"
        if self._rows_wanted is not None:
            rows, basis = self._rows_wanted, "--rows" if self._wishes.rows is not None else "--limit"
        assert now.start_up is not None
        projection = None
        if rows:
            projection = project(
                rows,
                basis,
                now.start_up,
                whole,
                sampled,
                part_bytes=STREAM_BYTES,
                priced=self._is_aws,
                target=self._wishes.target,
                machine_rate=min((rates[name] for name in (MACHINE, TRANSFORM) if name in rates), default=None),
            )
        self._tell(rates=rates, projection=projection)

    # --- what they need -----------------------------------------------------------------------------------------

    def _again(self) -> Source:
        """The rows, from their beginning, again and again; what is read through one cursor once."""
        return self._rows if self._source.access.at_once else Again(self._source)

    async def _best(self, one: Callable[[], Awaitable[Trial]]) -> Trial | None:
        """Of several trials the one that cost the least CPU; None where none came to its end."""
        trials: list[Trial] = []
        for _ in range(TIMES):
            trial = await one()
            if not self._goes_on():
                return None
            if trial.pace.count:
                trials.append(trial)
        return min(trials, key=lambda trial: trial.pace.cpu_us, default=None)

    @property
    def _is_aws(self) -> bool:
        """Whether the real destination is AWS, as far as it was asked, or is not told to be another one."""
        if self._endpoint is not None:
            return self._priced
        given = self._config.endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return self._destination.kind == "s3" and given is None

    async def _latency(self) -> tuple[float, str]:
        """Seconds that the simulator is to take for an answer, and where they are from."""
        if self._wishes.latency is not None:
            from asyncup.bench.simulator.delay import parse_latency

            return parse_latency(self._wishes.latency).median, "--latency"
        taken = []
        for _ in range(ASKED):
            begun = time.perf_counter()
            await self._sink.check()
            taken.append(time.perf_counter() - begun)
        return statistics.median(taken), f"how late the bucket answered {ASKED} HEAD requests; a PUT takes longer"

    @asynccontextmanager
    async def _served(self, first: Upload) -> AsyncGenerator[Served]:
        """A simulator that answers at once, and what the destination is measured with: that, or the bucket."""
        from asyncup.sinks.s3 import S3Sink

        starting = simulator("--limit-depth=0")
        try:
            running = await asyncio.to_thread(starting.__enter__)
        except (OSError, RuntimeError) as exc:
            raise AsyncupError("start", "simulator", f"it did not start: {exc}", "run it again") from exc
        try:
            settings = replace(
                self._bucket_settings(self._bucket, AT_ONCE),
                endpoint_url=running.endpoint_url,
                region="us-east-1",
                profile=None,
                addressing="path",
                ca_bundle=None,
                keys=_KEYS,
            )
            if self._is_aws and settings.checksum is None:
                settings = replace(settings, checksum="crc32")  # as it would be there
            fast = await S3Sink.open(settings, self._sending_parts)
            try:
                await fast.check()
                if self._wishes.against == SIMULATOR:
                    yield Served(running, fast, fast)
                else:
                    async with self._scratch(first) as real:
                        yield Served(running, fast, real)
            finally:
                await fast.close()
        finally:
            await asyncio.to_thread(starting.__exit__, None, None, None)

    @property
    def _bucket(self) -> str:
        """A name for the simulator's bucket: it knows nothing of access points."""
        place = self._destination.place
        return "bench" if place.startswith("arn:") else place

    @asynccontextmanager
    async def _scratch(self, first: Upload) -> AsyncGenerator[Scratch]:
        """The real bucket, below a prefix of its own; what was put there is removed at the end, whatever happened.

        Raises:
            DestinationRefused: objects cannot be put there, or not be removed.
        """
        from asyncup.sinks.s3 import S3Sink

        assert isinstance(self._sink, S3Sink)
        folder, slash, _ = self._destination.template.literals[0].rpartition("/")
        prefix = f"{folder}{slash}asyncup-bench-{secrets.token_hex(4)}/"
        where = f"s3://{self._destination.place}/{prefix}"
        policy = replace(self._policy, elapsed=min(self._policy.elapsed, REMOVAL_SECONDS))
        removal = self._sink.removal(Retrier(policy, sleep_on, self._on_waiting))
        scratch = Scratch(self._sink, prefix)
        self._say(f"objects go below {where}, and are removed at the end")
        try:
            await scratch.put(first)
            await removal.remove(scratch.keys)
        except AsyncupError as error:
            if not error.needs_configuration:
                raise
            hint = (
                f"--against bucket needs s3:PutObject and s3:DeleteObject below {where}; without it nothing is written"
            )
            raise DestinationRefused(error.op, where, error.message, hint) from error
        try:
            yield scratch
        finally:
            await to_its_end(
                remove(removal, scratch.keys, where, self._interrupt, self._observer), "asyncup-bench-removal"
            )

    def _goes_on(self) -> bool:
        return self._interrupt.signal is None

    def _over(self) -> JobReport:
        return JobReport(self.plan.name, COMPLETE)

    def _tell(self, **found: object) -> None:
        self.found = dataclasses.replace(self.found, **found)  # type: ignore[arg-type]

    def _say(self, text: str) -> None:
        self._observer.on_event(Notice(text, is_routine=True))
