"""The composition root: the one place that knows concrete classes and puts them together.

`prepare` turns a configuration into a job that is resolved, checked and locked; `execute` prepares a job, runs it and
reports how it ended, whatever happened.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncup.config import Config
from asyncup.errors import AsyncupError, InternalError, StateRefused, UsageError
from asyncup.events import Finished, Notice, Planned, Waiting
from asyncup.flow.interrupt import Interrupt
from asyncup.flow.retry import Interrupted, Retrier, RetryPolicy
from asyncup.flow.tally import Tally
from asyncup.model import Checkpoint, Counts, timestamp
from asyncup.pipeline import Parts, Pipeline
from asyncup.plan import Plan, fingerprint_difference
from asyncup.protocols import Observer, Sink
from asyncup.render.contenttype import fallback_content_type
from asyncup.render.headertemplates import HeaderTemplates
from asyncup.render.renderer import Renderer
from asyncup.render.template import Template, parse_template
from asyncup.render.uniqueness import check_uniqueness
from asyncup.report import ABORTED, COMPLETE, INTERRUPTED, PARTIAL, JobReport, Latency, Report

#: ARNs that stand for a bucket: access points, those of several regions, of Outposts and of Object Lambda; slash or end.
#: Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-points-naming.html
_ACCESS_POINT = re.compile(
    r"(arn:aws[a-z-]*:(?:"
    r"s3:[a-z0-9-]*:[0-9]{12}:accesspoint[:/][A-Za-z0-9.-]+"
    r"|s3-object-lambda:[a-z0-9-]+:[0-9]{12}:accesspoint[:/][A-Za-z0-9-]+"
    r"|s3-outposts:[a-z0-9-]+:[0-9]{12}:outpost[:/][A-Za-z0-9-]+[:/]accesspoint[:/][A-Za-z0-9-]+"
    r"))(/|\Z)"
)


@dataclass(frozen=True, slots=True)
class Destination:
    """`--to`, taken apart. `place` is the bucket or the directory, empty for null."""

    kind: str
    place: str
    template: Template


def parse_destination(to: str) -> Destination:
    """Take `s3://bucket/{template}`, `file:///dir/{template}` or `null:` apart. A bucket may be an access point's ARN.

    Raises:
        UsageError, TemplateRefused: it is none of them.
    """
    if to.startswith("null:"):
        return Destination("null", "", parse_template(to.removeprefix("null:") or "row"))
    if to.startswith("s3://"):
        bucket, slash, rest = _bucket(to)
        if not bucket or "{" in bucket:
            raise UsageError(
                "read flags",
                "--to",
                f"{to!r} names no bucket",
                "write it as s3://bucket/{id}.json; one bucket for all rows",
            )
        if not slash or not rest:
            raise UsageError(
                "read flags",
                "--to",
                f"{to!r} has no template for the object keys",
                f"such as s3://{bucket}/{{id}}.json",
            )
        return Destination("s3", bucket, parse_template(rest))
    if to.startswith("file:///"):
        whole = parse_template(to.removeprefix("file://"))
        folder, _, first = whole.literals[0].rpartition("/")
        if {".", ".."} & set(folder.split("/")):
            raise UsageError(
                "read flags", "--to", f"the folder {folder} has a '.' or '..' segment", "write its path in full"
            )
        return Destination("file", folder or "/", dataclasses.replace(whole, literals=(first, *whole.literals[1:])))
    raise UsageError(
        "read flags",
        "--to",
        f"{to!r} is no destination",
        "write s3://bucket/{id}.json, file:///folder/{id}.json, or null: to send nothing",
    )


def _bucket(to: str) -> tuple[str, str, str]:
    """The bucket, the slash and the template of an `s3://` destination.

    Raises:
        UsageError: it begins as an ARN, and is none of an access point.
    """
    rest = to.removeprefix("s3://")
    if not rest.startswith("arn:"):
        return rest.partition("/")
    arn = _ACCESS_POINT.match(rest)
    if arn is None:
        raise UsageError(
            "read flags",
            "--to",
            f"{to!r} names no access point",
            "write it as s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/{id}.json",
        )
    return arn[1], arn[2], rest[arn.end() :]


class Job:
    """A job that is ready to run, and holds its connections and its lock until it is closed."""

    def __init__(self, config: Config, observer: Observer, interrupt: Interrupt) -> None:
        from asyncup.sources.postgres import PostgresSource

        self._config = config
        self._observer = observer
        self._interrupt = interrupt
        self._tally = Tally()
        self._policy = RetryPolicy(max_attempts=config.max_attempts)
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self._source: PostgresSource
        self._renderer: Renderer
        self._sink: Sink
        self._endpoint: str | None = None
        self._priced = False
        self._sending = Retrier(self._policy, interrupt.sleep, self._on_retry)
        self._sending_parts = Retrier(self._policy, interrupt.sleep, self._on_part_retry)
        self.plan: Plan

    async def prepare(self) -> None:
        """Resolve and check everything that can be, without sending an object.

        Raises:
            AsyncupError: the run cannot begin.
        """
        config = self._config
        destination = parse_destination(config.to)
        headers = HeaderTemplates.parse(
            content_type=config.content_type,
            cache_control=config.cache_control,
            content_disposition=config.content_disposition,
            content_language=config.content_language,
            metadata=config.metadata,
            tags=config.tag,
        )
        await asyncio.to_thread(_import_drivers, destination.kind)
        await self._open_source(destination, headers)
        self._check_template(destination)
        body_type = self._source.body_type
        self._renderer = Renderer(
            self._source.shape,
            destination.template,
            headers=headers,
            fallback=fallback_content_type(config.body_column, body_type),
            on_null=config.on_null,
            allow_collisions=config.allow_collisions or destination.kind == "null",
        )
        await self._open_sink(destination)
        await self._open_state()

    async def run(self) -> JobReport:
        """Run the prepared job. Errors are reported, not raised; only cancellation is."""
        config, tally = self._config, self._tally
        pipeline = Pipeline(
            Parts(
                source=self._source,
                renderer=self._renderer,
                sink=self._sink,
                sending=self._sending,
                dead_letters=self._letters,
                checkpoints=self._checkpoints,
                checkpoint=self._checkpoint,
                observer=self._observer,
                tally=tally,
                interrupt=self._interrupt,
            ),
            concurrency=config.concurrency,
            memory=config.memory,
            drain_timeout=config.drain_timeout,
            max_failures=config.max_failures,
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
        return JobReport(
            name=self.plan.name,
            status=status,
            counts=pipeline.watermark.settled(),
            attempts=tally.attempts,
            retries=tally.retries,
            throttled=tally.throttled,
            seconds=pipeline.seconds,
            latency=Latency(*(round(latency.percentile(share) * 1000, 3) for share in (0.5, 0.95, 0.99))),
            limit=config.concurrency,
            peak=pipeline.limiter.peak,
            resumed=self.plan.resumed,
            settled_before=self.plan.settled_before,
            checkpoint=self.plan.checkpoint if pipeline.saved else None,
            dead_letters=self._letters.location if self._letters.letters else None,
            error=error,
            priced=self.plan.priced,
            destination=self.plan.destination,
        )

    async def close(self) -> None:
        """Give back connections, files and the lock, in reverse order."""
        for closer in reversed(self._closers):
            await closer()

    async def _open_source(self, destination: Destination, headers: HeaderTemplates) -> None:
        from asyncup.sources.postgres import PostgresSource, Request, Session, connection_string

        config = self._config
        asked_by = headers.columns() | dict.fromkeys(destination.template.names, "--to")
        session = Session(connection_string(config.dsn), Retrier(self._policy, self._interrupt.sleep, self._on_waiting))
        self._closers.append(session.close)
        self._source = await PostgresSource.resolve(
            session,
            Request(
                table=config.table,
                query=config.query,
                query_name=config.query_name() if config.query is not None else "",
                key=config.key,
                columns=tuple(asked_by),
                asked_by=asked_by,
                body=config.body_column,
                where=config.where,
                limit=config.limit,
                page_size=config.page_size,
                memory=config.memory,
            ),
        )
        for notice in self._source.notices:
            self._observer.on_event(Notice(notice))

    def _check_template(self, destination: Destination) -> None:
        """Refuse a template under which two rows could have one place; where nothing is kept, any will do.

        Raises:
            TemplateRefused: two rows could have the same one.
        """
        if destination.kind == "null" or self._config.allow_collisions:
            return
        source = self._source
        keys = source.relation.unique_keys
        if source.relation.is_query:
            keys = (tuple(column.name for column in source.key.columns),)
        check_uniqueness(destination.template, source.shape, keys)

    async def _open_sink(self, destination: Destination) -> None:
        config = self._config
        if destination.kind == "s3":
            from asyncup.sinks.s3 import S3Settings, S3Sink

            sink = await S3Sink.open(
                S3Settings(
                    bucket=destination.place,
                    endpoint_url=config.endpoint_url,
                    region=config.region,
                    profile=config.profile,
                    addressing=config.addressing,
                    ca_bundle=config.ca_bundle,
                    no_sign_request=config.no_sign_request,
                    connections=config.concurrency,
                    attempt_timeout=config.attempt_timeout,
                    storage_class=config.storage_class,
                    sse=config.sse,
                    sse_kms_key_id=config.sse_kms_key_id,
                    acl=config.acl,
                    request_payer=config.request_payer,
                    expected_bucket_owner=config.expected_bucket_owner,
                    checksum=config.checksum,
                    s3_client=config.s3_client,
                    verify_etag=not config.no_verify_etag,
                ),
                self._sending_parts,
                lambda text: self._observer.on_event(Notice(text)),
            )
            self._sink, self._priced, self._endpoint = sink, sink.is_aws, sink.endpoint_url
        elif destination.kind == "file":
            from asyncup.sinks.directory import DirectorySink

            self._sink = DirectorySink(Path(destination.place), threads=min(config.concurrency, 64))
        else:
            from asyncup.sinks.null import NullSink

            self._sink = NullSink()
        self._closers.append(self._sink.close)
        checking = Retrier(self._policy, self._interrupt.sleep, self._on_waiting)
        await checking.run(lambda _: self._sink.check(), None)
        self._sending.answered = self._sending_parts.answered = True

    async def _open_state(self) -> None:
        from asyncup.checkpoints.deadletters import TRIAL, DeadLetterFile
        from asyncup.checkpoints.file import FileCheckpoints
        from asyncup.checkpoints.files import StateFolder

        config, source = self._config, self._source
        name = config.name or source.relation.label
        state_name = name + TRIAL if config.is_trial else name
        folder = StateFolder(Path(config.state))
        await asyncio.to_thread(folder.prepare)
        lock = await asyncio.to_thread(folder.lock, state_name)
        self._closers.append(lambda: asyncio.to_thread(lock.release))
        self._checkpoints = None if config.is_trial else FileCheckpoints(folder.file(name, ".json"))
        fingerprint = self._fingerprint()
        found = None
        if self._checkpoints is not None and config.restart:
            await self._checkpoints.forget()  # now, not with the first save: a crash in between must not bring it back
        elif self._checkpoints is not None:
            found = await self._checkpoints.load()
            if found is not None and found.finished:
                found = None  # a finished one starts a new full run
        if found is not None:
            self._check_fingerprint(found, fingerprint)
        self._checkpoint = found or Checkpoint(name, fingerprint, None, Counts(), False, timestamp(), timestamp())
        letters = Path(config.dead_letters) if config.dead_letters else folder.file(state_name, ".dead-letters.jsonl")
        self._letters = DeadLetterFile(letters, {"name": state_name, **fingerprint})
        await asyncio.to_thread(self._letters.open, keep=self._checkpoint.counts.failed)
        self._closers.append(lambda: asyncio.to_thread(self._letters.close))
        self.plan = Plan(
            name=name,
            source=source.relation.label,
            key=tuple(column.name for column in source.key.columns),
            destination=config.to,
            estimated_rows=source.estimated_rows if config.limit is None else config.limit,
            resume_after=self._checkpoint.watermark,
            settled_before=self._checkpoint.counts.rows,
            fingerprint=fingerprint,
            checkpoint=self._checkpoints.location if self._checkpoints is not None else None,
            priced=self._priced,
        )

    def _fingerprint(self) -> dict[str, Any]:
        config, source = self._config, self._source
        what = {"table": source.relation.label} if config.query is None else {"query": config.query}
        return {
            **what,
            "database": source.relation.database,
            "endpoint": self._endpoint,
            "where": config.where,
            "key": [column.name for column in source.key.columns],
            "to": config.to,
            "body": config.body_column,
            "on_null": config.on_null,
            **config.stored_with_object(),
        }

    def _check_fingerprint(self, found: Checkpoint, fingerprint: dict[str, Any]) -> None:
        differences = fingerprint_difference(found.fingerprint, fingerprint)
        if differences:
            raise StateRefused(
                "resume",
                found.name,
                "the unfinished checkpoint was written by another configuration: " + "; ".join(differences),
                "give the same flags as before to finish it, or --restart to start over (or another --name to keep both)",
            )

    def _on_waiting(self, error: AsyncupError, attempt: int, delay: float) -> None:
        self._observer.on_event(Waiting(str(error), delay, attempt))

    def _on_retry(self, error: AsyncupError, attempt: int, delay: float) -> None:
        self._tally.retry(error)
        self._on_waiting(error, attempt, delay)

    def _on_part_retry(self, error: AsyncupError, attempt: int, delay: float) -> None:
        self._tally.attempts += 1  # a part has attempts of its own; the pipeline counts those of whole objects
        self._on_retry(error, attempt, delay)


async def execute(config: Config, observer: Observer, interrupt: Interrupt) -> Report:
    """Prepare, run and close one job; whatever happens is in the report."""
    job = Job(config, observer, interrupt)
    task = asyncio.current_task()
    interrupt.attach(drain=lambda: _cancel(task), abort=lambda: _cancel(task))
    try:
        try:
            await job.prepare()
        finally:
            interrupt.detach()
        observer.on_event(Planned(job.plan))
        job_report = await job.run()
        report = Report(job_report, job_report.error, interrupt.signal)
    except AsyncupError as exc:
        report = Report(error=exc)
    except (asyncio.CancelledError, Interrupted):
        if not interrupt.draining:
            raise
        if task is not None:
            task.uncancel()
        report = Report(signal=interrupt.signal)
    except Exception as exc:  # noqa: BLE001 - the report says it, and that it is ours
        error = InternalError(
            "run", "asyncup", f"an unexpected {type(exc).__name__}: {exc}", "this is a defect of asyncup: report it"
        )
        error.__cause__ = exc
        report = Report(error=error)
    finally:
        await job.close()
    observer.on_event(Finished(report))
    return report


def _import_drivers(kind: str) -> None:
    """Import what takes long to import, in a thread: a caller's event loop goes on meanwhile."""
    import asyncup.sources.postgres

    if kind == "s3":
        import asyncup.sinks.s3  # noqa: F401


def _cancel(task: asyncio.Task[Any] | None) -> None:
    if task is not None:
        task.cancel()
