"""The composition root: the one place that knows concrete classes and puts them together.

`prepare` turns a configuration into a job that is resolved, checked and locked; `execute` prepares a job, runs it and
reports how it ended, whatever happened.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncup.config import SUFFIXES, Config
from asyncup.destinations import FILES, Destination, check_folder, limits_of, parse_destination
from asyncup.errors import AsyncupError, InternalError
from asyncup.events import Finished, Listing, Notice, Planned, Waiting
from asyncup.flow.ending import Grace
from asyncup.flow.gate import Limits
from asyncup.flow.interrupt import Interrupt
from asyncup.flow.retry import Interrupted, Retrier, RetryPolicy
from asyncup.flow.retrybudget import RetryBudget
from asyncup.flow.sharing import Share
from asyncup.flow.tally import Tally
from asyncup.gates import in_time, judged
from asyncup.making.recipe import Recipe
from asyncup.model import STREAM_BYTES, Counts, Listed
from asyncup.pipeline import Parts, Pipeline
from asyncup.protocols import CheckpointStore, KeptLetters, Lease, Objects, Observer, Sink, Source
from asyncup.recipes import Rows, check_increments, columns_of, headers_of, open_packing, open_recipe, small_packs
from asyncup.render.contenttype import fallback_content_type
from asyncup.render.headertemplates import HeaderTemplates
from asyncup.render.renderer import Renderer
from asyncup.render.uniqueness import check_uniqueness
from asyncup.report import ABORTED, COMPLETE, INTERRUPTED, PARTIAL, JobReport, Lag, Latency, Report
from asyncup.resolved import Plan
from asyncup.values import parse_shard

if TYPE_CHECKING:
    from asyncup.compare.index import ObjectIndex
    from asyncup.packing.formats import RowPacking
    from asyncup.sinks.s3 import S3Settings
    from asyncup.sources.connection.session import Session
    from asyncup.sources.postgres import Request
    from asyncup.state import StateRequest


class Job:
    """A job that is ready to run, and holds its connections and its lock until it is closed."""

    #: whether it reads rows to send them, or only looks
    sends = True
    #: whether it compares with what is there, and sends nothing
    compares = False
    #: whether another run may have put the rows that this one begins with
    may_have_put = False
    #: whether rows are read in the order of their keys
    reads_pages = True

    def __init__(self, config: Config, observer: Observer, interrupt: Interrupt, share: Share | None = None) -> None:
        from asyncup.sources.postgres import PostgresSource

        self._config = config
        self._observer = observer
        self._interrupt = interrupt
        self._share = share
        self._tally = Tally()
        self._policy = RetryPolicy(max_attempts=config.max_attempts)
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self._source: PostgresSource
        self._renderer: Renderer
        self._recipe: Recipe | None = None
        self._sink: Sink
        self._limits: Limits
        self._objects: Objects | None = None
        self._index: ObjectIndex | None = None
        self._letters: KeptLetters
        self._checkpoints: CheckpointStore | None
        self._lease: Lease | None = None
        self._endpoint: str | None = None
        self._unsent: Callable[[], int] = int
        self._priced = False
        budget = RetryBudget(lambda: self._tally.attempts - self._tally.retries)
        self._sending = Retrier(self._policy, interrupt.sleep, self._on_retry, budget=budget)
        self._sending_parts = Retrier(
            self._policy, interrupt.sleep, self._on_part_retry, budget=budget, on_success=self._tally.part
        )
        self.plan: Plan

    @property
    def tally(self) -> Tally:
        """What the run has done so far beside settling rows."""
        return self._tally

    async def prepare(self) -> None:
        """Resolve and check everything that can be, without sending an object.

        Raises:
            AsyncupError: the run cannot begin.
        """
        await self._name_objects()
        config = self._config
        destination = parse_destination(config.to)
        headers = self._header_templates()
        await asyncio.to_thread(import_drivers, destination.kind)
        await self._open_source(destination, headers)
        self._check_template(destination)
        await self._open_recipe(destination, headers)
        self._limits = limits_of(config, destination)
        if self._share is not None:
            self._limits = self._share.within(self._limits)
        await self._open_sink(destination)
        await self._open_state()
        await self._list(destination)

    async def run(self) -> JobReport:
        """Run the prepared job. Errors are reported, not raised; only cancellation is."""
        config, tally = self._config, self._tally
        pipeline = Pipeline(
            Parts(
                source=self._rows,
                renderer=self._renderer,
                sink=self._sink,
                sending=self._sending,
                dead_letters=self._letters,
                checkpoints=self._checkpoints,
                checkpoint=self._checkpoint,
                observer=self._observer,
                tally=tally,
                interrupt=self._interrupt,
                lease=self._lease,
                streams_from=STREAM_BYTES if self._streams else None,
                recipe=self._recipe,
                readers=config.readers,
                further=self._source.further,
            ),
            limits=self._limits,
            memory=self._memory,
            drain_timeout=config.drain_timeout,
            max_failures=config.max_failures,
            share=self._share,
        )
        error: AsyncupError | None = None
        try:
            complete = await pipeline.run()
        except AsyncupError as exc:
            complete, error = False, exc
        if error is not None:
            status = ABORTED
        elif not complete:
            status = INTERRUPTED
        else:
            status = PARTIAL if pipeline.watermark.counts.failed else COMPLETE
        latency = tally.latency
        report = JobReport(
            name=self.plan.name,
            status=status,
            counts=pipeline.watermark.settled(),
            attempts=tally.attempts,
            retries=tally.retries,
            throttled=tally.throttled,
            seconds=pipeline.seconds,
            latency=Latency.of(latency),
            latencies=latency.spread(),
            limit=pipeline.gate.level.limit,
            peak=pipeline.limiter.peak,
            level=pipeline.gate.level.reason,
            lag=Lag(*(round(late * 1000, 1) for late in (pipeline.lag.latenesses.percentile(0.99), pipeline.lag.most))),
            resumed=self.plan.resumed,
            settled_before=self.plan.settled_before,
            checkpoint=self.plan.checkpoint if pipeline.saved else None,
            dead_letters=self._letters.location if self._letters.letters else None,
            error=error,
            priced=self.plan.priced,
            counted=self.plan.counted,
            destination=self.plan.destination,
            restarted=config.restart,
            skips=_reasons_to_skip(config),
            packs=pipeline.packs,
        )
        if (notice := small_packs(config, self.plan.key, report.counts.put, report.packs)) is not None:
            self._observer.on_event(Notice(notice))
        return judged(config, self._as_dry(report) if config.dry_run else report)

    def _as_dry(self, report: JobReport) -> JobReport:
        """The report of a run that has sent nothing: there were no attempts, and nobody answered."""
        return dataclasses.replace(
            report,
            dry_run=True,
            requests=self._unsent(),
            attempts=0,
            retries=0,
            throttled=0,
            latency=Latency(),
            latencies=(),
            limit=0,
            peak=0,
            level="",
        )

    @property
    def _memory(self) -> int:
        """Bytes that this run may hold; where it has a share, that may grow later."""
        return self._config.memory if self._share is None else self._share.budget.capacity

    @property
    def _rows(self) -> Source:
        """What is read."""
        return self._source.at_once() if self._source.access.at_once else self._source

    async def close(self) -> None:
        """Give back connections, files and the lock, in reverse order."""
        for closer in reversed(self._closers):
            await closer()

    def _header_templates(self) -> HeaderTemplates:
        config = self._config
        return HeaderTemplates.parse(
            content_type=config.content_type,
            cache_control=config.cache_control,
            content_disposition=config.content_disposition,
            content_language=config.content_language,
            metadata=config.metadata,
            tags=config.tag,
        )

    @property
    def _streams(self) -> bool:
        """Whether bodies that are too large to be held are read while they are sent."""
        config, source = self._config, self._source
        if source.access.at_once or config.transform is not None or config.pack is not None:
            return False
        return config.compress == "none" or self._only_sends

    @property
    def _only_sends(self) -> bool:
        """Whether objects are sent without being compared with what is there: that takes bodies whose size is known."""
        return self.sends and not self.compares and self._config.if_exists == "overwrite"

    async def _open_recipe(self, destination: Destination, headers: HeaderTemplates) -> None:
        """Find out how rows become uploads.

        Raises:
            ConfigError: they cannot, as it was asked for.
        """
        config = self._config
        rows, packing = self._open_packing(destination, headers)
        shortens = packing is not None and config.limit is not None and not config.dry_run
        if shortens and self._only_sends and destination.kind != "null":
            self._observer.on_event(
                Notice(
                    "--limit: a pack that ends early replaces one of its name that holds more rows; "
                    "--if-exists fail, or another prefix, spares what is there"
                )
            )
        if self._recipe is not None and self._recipe.transform is not None:
            await self._recipe.transform.close()
        self._recipe = await open_recipe(
            config,
            rows,
            packing,
            streams=self._only_sends,
            say=lambda text: self._observer.on_event(Notice(text, is_routine=True)),
        )
        if self._recipe is not None and self._recipe.transform is not None:
            self._closers.append(self._recipe.transform.close)

    def _open_packing(self, destination: Destination, headers: HeaderTemplates) -> tuple[Rows, RowPacking | None]:
        """Make the renderer, and find out what packs are made of, if there are any.

        Raises:
            ConfigError: rows cannot be rendered or packed as it was asked for.
        """
        config, source = self._config, self._source
        rows = Rows(
            key=tuple(column.name for column in source.key.columns),
            shape=source.shape,
            columns=source.relation.columns,
            body=None if config.body_column is None else source.relation.column(config.body_column),
            large_object=config.is_large_object,
            unique_keys=self._unique_keys,
        )
        check_increments(config, destination.template, rows)
        packing = open_packing(config, rows)
        self._renderer = self._make_renderer(destination, headers_of(headers, packing))
        return rows, packing

    def _make_renderer(self, destination: Destination, headers: HeaderTemplates) -> Renderer:
        config = self._config
        transformed = config.transform is not None
        return Renderer(
            self._source.shape,
            destination.template,
            headers=headers,
            fallback=fallback_content_type(
                "" if transformed else config.body_column, "" if transformed else self._source.body_type
            ),
            suffix=SUFFIXES[config.compress],
            on_null=config.on_null,
            allow_collisions=config.allow_collisions or destination.kind == "null",
        )

    async def _open_source(self, destination: Destination, headers: HeaderTemplates) -> None:
        from asyncup.sources.postgres import PostgresSource

        asked_by = columns_of(self._config) | headers.columns() | dict.fromkeys(destination.template.names, "--to")
        session = self._open_session()
        if self._config.snapshot and self.sends:
            session = await session.freeze()
            self._observer.on_event(
                Notice(
                    "everything is read as of now, through a transaction that stays open: "
                    f"{'' if self.compares else 'this run cannot be resumed, and '}the database's vacuum waits for its end"
                )
            )
        self._source = await PostgresSource.resolve(session, self._request(asked_by))
        self._closers.append(self._source.close)
        for notice in self._source.notices:
            self._observer.on_event(Notice(notice))

    async def _name_objects(self) -> None:
        """Give `--to python:…` that has no template the one that names all columns of the key."""
        from asyncup.sources.postgres import PostgresSource

        config = self._config
        if not config.to.startswith("python:"):
            return
        from asyncup.sinks.targets import parse_target, with_key

        if parse_target(config.to)[1] is not None:
            return
        key = config.key
        if key is None:
            request = dataclasses.replace(self._request({}), incremental=None)
            source = await PostgresSource.resolve(self._open_session(), request)
            key = tuple(column.name for column in source.key.columns)
            await source.close()
        self._config = dataclasses.replace(config, to=with_key(config.to, key))

    def _open_session(self) -> Session:
        from asyncup.sources.connection.login import Login
        from asyncup.sources.connection.session import Session

        config = self._config
        retrier = Retrier(self._policy, self._interrupt.sleep, self._on_waiting)
        session = Session(Login.of(config.dsn, config.password, config.password_command), retrier)
        self._closers.append(session.close)
        return session

    def _request(self, asked_by: Mapping[str, str]) -> Request:
        """What to read; `asked_by` says of each column that templates name which flag it is from."""
        from asyncup.sources.postgres import Request

        config = self._config
        return Request(
            table=config.table,
            query=config.query,
            query_name=config.query_name() if config.query is not None else "",
            key=config.key,
            columns=tuple(asked_by),
            asked_by=asked_by,
            body=config.body_column,
            large_object=config.is_large_object,
            where=config.where,
            limit=config.limit,
            page_size=config.page_size,
            memory=self._memory,
            readers=config.readers,
            shard=None if config.shard is None else parse_shard(config.shard),
            allow_sort=config.allow_sort or not self.reads_pages,
            incremental=config.incremental_column,
        )

    def _check_template(self, destination: Destination) -> None:
        """Refuse a template under which two rows could have one place; where nothing is kept, any will do.

        Raises:
            TemplateRefused: two rows could have the same one.
        """
        if destination.kind == "null" or self._config.allow_collisions:
            return
        check_uniqueness(destination.template, self._source.shape, self._unique_keys)

    @property
    def _unique_keys(self) -> tuple[tuple[str, ...], ...]:
        """The keys that tell rows apart, of which a template has to name one."""
        source = self._source
        if source.relation.is_query:
            return (tuple(column.name for column in source.key.columns),)
        return source.relation.unique_keys

    async def _open_sink(self, destination: Destination) -> None:
        config, asked = self._config, limits_of(self._config, destination)
        widest = asked.concurrency or asked.most  # a share of that may grow
        if destination.kind == "s3":
            from asyncup.sinks.s3 import S3Sink

            grace = Grace(config.drain_timeout)
            self._interrupt.watch(grace.interrupted)
            sink = await S3Sink.open(
                self._bucket_settings(destination.place, widest),
                self._sending_parts,
                lambda text: self._observer.on_event(Notice(text)),
                grace,
                sends=not config.dry_run,
            )
            self._unsent = lambda: sink.unsent
            self._sink, self._priced, self._endpoint = sink, sink.is_aws, sink.endpoint_url
            self._objects = sink.objects(Retrier(self._policy, self._interrupt.sleep, self._on_waiting))
            honours = sink.honours_conditions
        elif destination.kind == "file":
            from asyncup.sinks.directory import DirectorySink
            from asyncup.sinks.walk import DirectoryObjects

            folder = Path(destination.place)
            if config.dry_run:
                from asyncup.sinks.unsent import UnsentSink

                self._sink = UnsentSink(lambda: check_folder(folder))
            else:
                self._sink = DirectorySink(folder, threads=min(widest, FILES))
            self._objects, honours = DirectoryObjects(folder), True
        elif destination.kind == "python":
            from asyncup.sinks.targets import open_target

            grace = Grace(config.drain_timeout)
            self._interrupt.watch(grace.interrupted)
            self._sink = await open_target(
                destination.place, threads=widest, attempt_timeout=config.attempt_timeout, grace=grace
            )
            if config.dry_run:
                from asyncup.sinks.unsent import UnsentSink

                self._sink = UnsentSink(self._sink.check, self._sink.close)
            honours = None
        else:
            from asyncup.sinks.null import NullSink

            self._sink, honours = NullSink(), None
        if config.if_exists != "overwrite" and self._objects is not None:  # where nothing is kept, nothing exists
            # whoever sends nothing has to look for each object, as where nobody refuses to replace one
            self._spare_existing(self._objects, False if config.dry_run else honours)
        self._closers.append(self._sink.close)
        checking = Retrier(self._policy, self._interrupt.sleep, self._on_waiting)
        await checking.run(lambda _: self._sink.check(), None)
        self._sending.answered = self._sending_parts.answered = True

    def _bucket_settings(self, bucket: str, connections: int) -> S3Settings:
        """How the bucket is reached, and what objects in it are given."""
        from asyncup.state import Access

        config = self._config
        return dataclasses.replace(
            Access.of(config).settings(bucket, connections=connections),
            storage_class=config.storage_class,
            sse=config.sse,
            sse_kms_key_id=config.sse_kms_key_id,
            acl=config.acl,
            request_payer=config.request_payer,
            expected_bucket_owner=config.expected_bucket_owner,
            checksum=config.checksum,
            s3_client=config.s3_client,
            verify_etag=not config.no_verify_etag,
        )

    def _spare_existing(self, objects: Objects, honours: bool | None) -> None:
        """Put `--if-exists` around the sink. `honours`: whether the destination is known to refuse a replacement."""
        from asyncup.compare.existing import CreatingSink, DifferentSink
        from asyncup.compare.index import ObjectIndex

        chosen = self._config.if_exists
        if chosen == "different":
            self._index = ObjectIndex()
            self._sink = DifferentSink(self._sink, objects, self._index)
            return
        self._sink = CreatingSink(
            self._sink,
            objects,
            fails=chosen == "fail",
            honours=honours,
            resumed=lambda: self.plan.resumed or self.may_have_put,
            say=lambda text: self._observer.on_event(Notice(text)),
        )

    async def _list(self, destination: Destination) -> None:
        """List what is below the template's literal beginning, for whoever compares with it."""
        if self._index is not None and self._objects is not None:
            from asyncup.state import keeping

            pages = self._objects.pages(destination.template.literals[0])
            is_folder = self._config.dry_run and destination.kind == "file"
            if is_folder and not await asyncio.to_thread(Path(destination.place).exists):
                pages = _none()  # a run would make it
            listing = self._index.fill(
                pages,
                lambda number: self._observer.on_event(Listing(number)),
            )
            await keeping(self._lease, listing)

    async def _open_state(self) -> None:
        from asyncup.state import open_state

        config, source = self._config, self._source
        name = config.job_name(source.relation.label)
        fingerprint = self._fingerprint()
        resumable = not (config.snapshot or source.access.at_once)
        if source.access.at_once:
            self._observer.on_event(
                Notice(_why_at_once(source.relation.label, source.access.reason, source.access.mend))
            )
        state = await open_state(self._state_request(name), fingerprint, resumable=resumable)
        self._checkpoints, self._checkpoint = state.checkpoints, state.checkpoint
        self._letters, self._lease = state.letters, state.lease
        await self._begin_increment()
        await self._divide()
        await self._say_overlap(name)
        self.plan = Plan(
            name=name,
            source=source.relation.label,
            key=tuple(column.name for column in source.key.columns),
            destination=config.to,
            estimated_rows=source.estimated_rows if config.limit is None else config.limit,
            resumed=self._checkpoint.has_begun,
            settled_before=self._checkpoint.counts.rows,
            fingerprint=self._checkpoint.fingerprint,
            checkpoint=self._checkpoints.location if self._checkpoints is not None else None,
            priced=self._priced,
            counted="objects" if config.pack is None else "rows",
            dry_run=config.dry_run,
        )

    async def _begin_increment(self) -> None:
        """Pin the bounds of an incremental run, or take those of the unfinished one that it goes on with.

        Raises:
            SourceRefused: the server does not show enough for bounds that miss nothing.
        """
        from asyncup.state import keeping

        config, checkpoint = self._config, self._checkpoint
        column = config.incremental_column
        if column is None:
            return
        key = checkpoint.fingerprint["key"]
        if key != [one.name for one in self._source.key.columns]:
            await keeping(self._lease, self._source.page_by(column, key))
            await self._open_recipe(parse_destination(config.to), self._header_templates())
            text = f"an index has come or gone since the last run: this one goes on by its key ({', '.join(key)})"
            self._observer.on_event(Notice(text, is_routine=True))
        pinning = self._source.begin_increment(column, checkpoint.mark, config.lag, goes_on=checkpoint.has_begun)
        begun = await keeping(self._lease, pinning)
        for notice in begun.notices:
            self._observer.on_event(Notice(notice))
        for remark in begun.remarks:
            self._observer.on_event(Notice(remark, is_routine=True))
        mark = begun.mark.to_json()
        if not begun.goes_on:
            mark["letters"] = self._letters.letters
            checkpoint = dataclasses.replace(checkpoint, watermark=None, ranges=(), counts=Counts())
        self._checkpoint = dataclasses.replace(checkpoint, mark=mark)

    async def _divide(self) -> None:
        """Decide in which parts the source is read. A run that goes on keeps the parts of the one that began."""
        from asyncup.state import keeping

        checkpoint, source, say = self._checkpoint, self._source, self._observer.on_event
        if (notice := await source.widen()) is not None:
            say(Notice(notice))
        if not checkpoint.has_begun:
            self._checkpoint = dataclasses.replace(checkpoint, ranges=await keeping(self._lease, source.divide()))
        elif not checkpoint.ranges and self._config.readers > 1:
            say(Notice("the unfinished checkpoint was begun with one range of keys, so one reader finishes it"))

    async def _say_overlap(self, name: str) -> None:
        """Say that state is kept among the objects, where whoever reads them meets it."""
        from asyncup.overlap import state_keys

        to = parse_destination(self._config.to)
        leading = to.template.literals[0]
        if await asyncio.to_thread(state_keys, self._config.state, name, to.kind, to.place, leading) is not None:
            self._observer.on_event(
                Notice(
                    f"--state {self._config.state} lies among the objects of --to: whoever lists them sees checkpoints and "
                    "dead letters too; give another --state, or a template that begins elsewhere"
                )
            )

    def _fingerprint(self) -> dict[str, Any]:
        config, source = self._config, self._source
        what = {"table": source.relation.label} if config.query is None else {"query": config.query}
        return {
            **what,
            "database": source.relation.database,
            "endpoint": self._endpoint,
            "where": config.where,
            "shard": config.shard,
            "key": [column.name for column in source.key.columns],
            "to": config.to,
            "body": config.body_column,
            **({"large_object": True} if config.is_large_object else {}),
            **({} if config.incremental is None else {"incremental": config.incremental_column}),
            "on_null": config.on_null,
            **config.made_of_rows(),
            **config.stored_with_object(),
        }

    def _state_request(self, name: str) -> StateRequest:
        from asyncup.state import StateRequest

        return StateRequest(
            self._config,
            name,
            self._interrupt,
            Retrier(self._policy, self._interrupt.sleep, self._on_waiting),
            self._on_waiting,
            lambda text: self._observer.on_event(Notice(text)),
            self._closers,
        )

    def _on_waiting(self, error: AsyncupError, attempt: int, delay: float) -> None:
        self._observer.on_event(Waiting(str(error), delay, attempt))

    def _on_retry(self, error: AsyncupError, attempt: int, delay: float) -> None:
        self._tally.retry(error)
        self._on_waiting(error, attempt, delay)

    def _on_part_retry(self, error: AsyncupError, attempt: int, delay: float) -> None:
        self._tally.attempts += 1  # a part has attempts of its own; the pipeline counts those of whole objects
        self._tally.retries += 1
        self._on_retry(error, attempt, delay)


async def execute(
    config: Config,
    observer: Observer,
    interrupt: Interrupt,
    job: Job | None = None,
) -> Report:
    """Prepare, run and close one job; whatever happens is in the report.

    `job` is another kind of it, made for the same configuration, observer and interrupt.
    """
    job = job or Job(config, observer, interrupt)
    task, ending = asyncio.current_task(), None
    interrupt.attach_task()
    if config.timeout is not None and job.sends and not job.compares:
        ending = asyncio.get_running_loop().call_later(config.timeout, interrupt.expire)
    try:
        try:
            await job.prepare()
        finally:
            interrupt.detach()
        observer.on_event(Planned(job.plan))
        job_report = await job.run()
        report = Report(job_report, job_report.error, interrupt.signal)
    except AsyncupError as exc:
        report = Report(error=exc, dry_run=config.dry_run)
    except (asyncio.CancelledError, Interrupted):
        if not interrupt.draining:
            raise
        if task is not None:
            task.uncancel()
        report = Report(signal=interrupt.signal, dry_run=config.dry_run)
    except Exception as exc:  # noqa: BLE001 - the report says it, and that it is ours
        error = InternalError(
            "run", "asyncup", f"an unexpected {type(exc).__name__}: {exc}", "this is a defect of asyncup: report it"
        )
        error.__cause__ = exc
        report = Report(error=error, dry_run=config.dry_run)
    finally:
        if ending is not None:
            ending.cancel()
        await job.close()
    report = in_time(config, report, has_expired=interrupt.has_expired)
    observer.on_event(Finished(report))
    return report


async def _none() -> AsyncGenerator[Sequence[Listed], None]:
    """What is listed of a folder that is not there."""
    nothing: tuple[Sequence[Listed], ...] = ()
    for page in nothing:
        yield page


def _reasons_to_skip(config: Config) -> tuple[str, ...]:
    """Why a row may be skipped, for people."""
    exists = {"skip": "the object is there already", "different": "the object is the same already"}
    return (
        *(["the body is NULL"] if config.on_null == "skip" and config.transform is None else []),
        *(["nothing came of the transform"] if config.transform is not None else []),
        *([exists[config.if_exists]] if config.if_exists in exists else []),
    )


def _why_at_once(label: str, reason: str | None, mend: str | None) -> str:
    with_index = "" if mend is None else f"{mend.rstrip(';')} would give its pages; "
    return (
        f"{label} is read through one cursor in one transaction, since {reason}: a run that is interrupted begins anew; "
        f"{with_index}with --allow-sort it is read page by page and resumes, but each page reads or sorts all rows behind it"
    )


def import_drivers(kind: str) -> None:
    """Import what takes long to import, in a thread: a caller's event loop goes on meanwhile."""
    import asyncup.sources.postgres

    if kind == "s3":
        import asyncup.sinks.s3  # noqa: F401
