"""The composition root of `asyncup plan`: a job that is prepared as a run prepares it, and then only looked at.

Nothing is sent, and nothing is written: no lock, no checkpoint, no lease, no table, no folder. What a step is refused for
is noted, and the steps that do not need its result go on, so that all that is to be mended is known at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from asyncup.app import Job, execute, import_drivers
from asyncup.checkpoints.deadletters import DeadLetterFile
from asyncup.checkpoints.files import unwritable
from asyncup.commandline import command_line
from asyncup.config import Config
from asyncup.destinations import Destination, limits_of, parse_destination
from asyncup.errors import AsyncupError, DestinationRefused, StateRefused
from asyncup.events import Event, Notice, Waiting
from asyncup.flow.interrupt import Interrupt
from asyncup.planning.findings import Findings
from asyncup.preflight import DestinationFacts, Preflight, SampledRow, SourceFacts, StateFacts, TemplateFacts
from asyncup.pricing import PREFIX_RATE, times_at
from asyncup.protocols import Observer
from asyncup.render.headertemplates import HeaderTemplates
from asyncup.render.renderer import Renderer
from asyncup.render.template import parse_template
from asyncup.render.uniqueness import unique_key
from asyncup.report import COMPLETE, JobReport, Report
from asyncup.resolved import Plan
from asyncup.values import secrets_of

if TYPE_CHECKING:
    from asyncup.checkpoints.places import Entry
    from asyncup.packing.formats import RowPacking
    from asyncup.planning.sampling import Rehearsal, Sample
    from asyncup.sources.connection.session import Session
    from asyncup.sources.planner.survey import Survey


async def plan(config: Config, observer: Observer, interrupt: Interrupt, known: Collection[str] = ()) -> Preflight:
    """Find out what a run of this configuration would do. Errors are in the answer, all that could be found.

    `known` are options that a configuration file says, so that no command has to.
    """
    looking = Planning(config, observer, interrupt, known)
    report = await execute(looking.as_run, looking.listener, interrupt, job=looking)
    return looking.preflight(report)


class Planning(Job):
    """A job that is looked at."""

    sends = False

    def __init__(self, config: Config, observer: Observer, interrupt: Interrupt, known: Collection[str] = ()) -> None:
        self._findings = Findings()
        self._known = known
        self.listener = _Listener(observer, self._findings)
        self.as_run = config
        # what spares existing objects would stand between us and the sink; what it needs is said instead
        super().__init__(replace(config, if_exists="overwrite"), self.listener, interrupt)
        self._session: Session | None = None
        self._packing: RowPacking | None = None
        self._has_sink = False

    async def prepare(self) -> None:
        """Look at everything.

        Raises:
            AsyncupError: the first reason why a run would not begin.
        """
        destination, headers = Destination("", "", parse_template("")), HeaderTemplates()
        with self._findings.noting():
            await self._name_objects()
            destination = parse_destination(self._config.to)
        with self._findings.noting():
            headers = self._header_templates()
        await asyncio.to_thread(import_drivers, destination.kind)
        survey = await self._look_at_source(destination, headers)
        if destination.kind:
            self._limits = limits_of(self._config, destination)
            with self._findings.noting():
                await self._open_sink(destination)
        if survey is not None:
            with self._findings.noting():
                await self._open_state()
            await self._try_rows(survey, destination, headers)
            self._tell_access()
        found = self._findings.so_far
        if self._findings.reasons:
            raise self._findings.reasons[0]
        self.plan = Plan(
            name=found.state.name or "",
            source=self._source.relation.label,
            key=tuple(column.name for column in self._source.key.columns),
            destination=self._config.to,
            estimated_rows=found.rows.estimate,
            resumed=bool(found.state.resumes),
            settled_before=found.state.rows or 0,
            fingerprint={},
            checkpoint=None,
        )

    async def run(self) -> JobReport:
        """Nothing is left to be done."""
        return JobReport(self.plan.name, COMPLETE)

    def preflight(self, report: Report) -> Preflight:
        """What was found. An error that is no refusal of a step is the only reason."""
        reasons = self._findings.reasons
        if report.error is not None and report.error not in reasons:
            reasons = (report.error, *reasons)
        command = self._command()
        return replace(
            self._findings.so_far,
            looked=report.error is None and report.signal is None,
            reasons=reasons,
            signal=report.signal,
            command=command,
            notices=tuple(dict.fromkeys(self._findings.notices)),
        )

    def _command(self) -> str:
        """The sync to type. What may hold a secret stays out of it."""
        config = self.as_run
        options, left_out = config.kept(), []
        if config.dsn is not None and not secrets_of(config.dsn):
            options = {"dsn": config.dsn, **options}
        elif config.dsn is not None and "dsn" not in self._known:
            left_out.append("--dsn, which has a password")
        if config.password_command is not None and "password_command" not in self._known:
            left_out.append("--password-command")
        if left_out:
            self._findings.notices.append(f"the command leaves out {' and '.join(left_out)}: give it again")
        if config.restart:
            options["restart"] = True
        return command_line("sync", options)

    # --- the source ---------------------------------------------------------------------------------------------

    def _open_session(self) -> Session:
        self._session = super()._open_session()
        return self._session

    async def _look_at_source(self, destination: Destination, headers: HeaderTemplates) -> Survey | None:
        """Resolve the source and say what it is; None when it cannot be."""
        from asyncup.planning.reckoning import key_of
        from asyncup.planning.refusals import note_refusals
        from asyncup.sources.planner.survey import Survey, look_at_relation, look_at_server

        config, findings = self._config, self._findings
        try:
            await self._open_source(destination, headers)
        except AsyncupError as reason:
            if self._session is None:
                findings.note(reason)
            else:
                request = self._request(headers.columns() | dict.fromkeys(destination.template.names, "--to"))
                template = destination.template if destination.kind not in ("", "null") else None
                await note_refusals(findings, reason, self._session, request, config, template, headers)
            return None
        source, session = self._source, self._session
        assert session is not None  # noqa: S101 - opening the source made it
        relation = source.relation
        findings.tell(source=SourceFacts(label=relation.label))
        findings.permit(select=True)
        try:
            server = await look_at_server(session)
            survey = Survey()
            if config.table is not None:
                survey = await look_at_relation(session, relation.sql, relation.label)
        except AsyncupError as reason:
            self._findings.note(reason)
            return None
        self._findings.tell(
            source=SourceFacts(
                relation.label,
                survey.kind,
                server.version,
                server.database,
                server.host,
                server.port,
                server.role,
                server.standby,
                survey.bytes,
            ),
            key=key_of(source.key, survey, config.key),
        )
        return survey

    def _tell_access(self) -> None:
        access, config = self._source.access, self._config
        if config.snapshot and not access.at_once:
            self._findings.notices.append(
                "with --snapshot the run cannot be resumed, and the database's vacuum waits for its end"
            )
        self._findings.tell(
            access=replace(
                self._findings.so_far.access,
                index=access.index,
                indexes=access.indexes,
                sorts=access.sorts,
                scans=access.scans,
                at_once=access.at_once,
                reason=access.reason,
                mend=access.mend,
                readers=config.readers,
                shard=config.shard,
            )
        )

    # --- the destination ----------------------------------------------------------------------------------------

    async def _open_sink(self, destination: Destination) -> None:
        """See `Job._open_sink`; folders are not made, and of S3 it is asked what can be asked without writing."""
        mode = self.as_run.if_exists
        facts = DestinationFacts(destination.kind, destination.place or None, if_exists=mode)
        self._findings.tell(destination=facts)
        if destination.kind == "file":
            fault = await asyncio.to_thread(unwritable, Path(destination.place))
            self._findings.permit(put=fault is None)
            if fault is not None:
                raise DestinationRefused(
                    "open directory", destination.place, fault, "give a folder that can be written to"
                )
            self._has_sink = True
            return
        await super()._open_sink(destination)
        self._has_sink = True
        if destination.kind == "s3":
            await self._look_at_bucket(destination, facts)

    async def _look_at_bucket(self, destination: Destination, facts: DestinationFacts) -> None:
        from asyncup.planning.reckoning import needs_of
        from asyncup.sinks.s3 import S3Sink
        from asyncup.sinks.s3.listing import S3Objects

        sink, objects, mode = self._sink, self._objects, self.as_run.if_exists
        assert isinstance(sink, S3Sink) and isinstance(objects, S3Objects)  # noqa: S101, PT018 - those of S3
        route = await sink.route()
        facts = replace(
            facts,
            region=route.region,
            endpoint=sink.endpoint_url,
            url=route.url,
            lane=route.lane,
            addressing=route.addressing,
            needs=needs_of(mode, honours=sink.honours_conditions),
        )
        self._findings.tell(destination=facts)
        listed = await objects.first(destination.template.literals[0])
        self._findings.permit(list=listed is not None)
        if listed is not None:
            self._findings.tell(destination=replace(facts, listed=listed[0], more=listed[1]))
        elif mode == "different":
            raise DestinationRefused(
                "list", f"s3://{destination.place}", "listing is not permitted", "the credentials need s3:ListBucket"
            )

    # --- the state ----------------------------------------------------------------------------------------------

    async def _open_state(self) -> None:
        """Look at what a run would find of its state, and whether it could go on from there."""
        from asyncup.state import look_at_job

        config = self._config
        name = config.job_name(self._source.relation.label)
        self._findings.tell(state=StateFacts(name=name, place=config.state))
        entry = await look_at_job(self._state_request(name))
        await self._say_overlap(name)
        checkpoint = entry.checkpoint
        counts = None if checkpoint is None else checkpoint.counts
        facts = StateFacts(
            name=name,
            place=config.state,
            checkpoint=None if config.is_trial else entry.location,
            found=checkpoint is not None,
            finished=checkpoint is not None and checkpoint.finished,
            resumes=False,
            rows=0 if counts is None else counts.rows,
            watermark=None if checkpoint is None else checkpoint.watermark,
            saved=None if checkpoint is None else checkpoint.saved,
            lock=None if entry.holder is None else str(entry.holder),
            dead_letters=config.dead_letters or entry.letters,
        )
        self._findings.tell(state=facts)
        if entry.holder is not None:
            self._findings.note(
                StateRefused(
                    "lock job",
                    name,
                    f"another run of this job is in progress: {entry.holder}",
                    "wait for it, or give this run a --name of its own",
                )
            )
        await self._look_at_checkpoint(entry, facts)

    async def _look_at_checkpoint(self, entry: Entry, facts: StateFacts) -> None:
        """Say whether a run would go on from the checkpoint.

        Raises:
            StateRefused: it could not.
        """
        from asyncup.state import check_finished, first_increment, look_at_letters, to_go_on_from

        config, access, name = self._config, self._source.access, facts.name or ""
        if entry.error is not None and not config.restart:
            raise entry.error
        found = None if config.is_trial or config.restart else entry.checkpoint
        fingerprint = self._fingerprint()
        if found is not None and not self._has_sink:  # the endpoint, which is part of it, is not known
            fingerprint["endpoint"] = found.fingerprint.get("endpoint")
        try:
            if found is not None and (config.snapshot or access.at_once):
                check_finished(found)
                found = None
            has_key = self._config.key is not None
            self._checkpoint = to_go_on_from(found, name, fingerprint, has_key=has_key)
            if (notice := first_increment(found, fingerprint)) is not None:
                self._findings.notices.append(notice)
        except StateRefused:
            self._findings.tell(state=replace(facts, fits=False))
            raise
        with self._findings.noting():
            await look_at_letters(self._state_request(name), entry, self._checkpoint)
        self._letters = DeadLetterFile(Path(entry.letters), {})  # never opened: those before us are not counted
        await self._begin_increment()
        await self._divide()
        resumes, mark = self._checkpoint.has_begun, self._checkpoint.mark
        facts = replace(
            facts,
            resumes=resumes,
            fits=True if resumes else None,
            incremental=mark.get("column"),
            lo=mark.get("lo"),
            hi=mark.get("hi"),
        )
        ranges = len(self._checkpoint.ranges) or 1
        self._findings.tell(state=facts, access=replace(self._findings.so_far.access, ranges=ranges))

    # --- rows and what they would take ----------------------------------------------------------------------------

    async def _try_rows(self, survey: Survey, destination: Destination, headers: HeaderTemplates) -> None:
        """Check the template, read a few rows, render them, and reckon from them."""
        from asyncup.planning.sampling import draw, rehearse

        source = self._source
        renderer: Renderer | None = None
        if destination.kind:
            by = unique_key(destination.template, source.shape, self._unique_keys)
            self._findings.tell(template=TemplateFacts(destination.template.text, None, tuple(by or ())))
            with self._findings.noting():
                self._check_template(destination)
                is_unique = by is not None or destination.kind == "null"
                self._findings.tell(template=replace(self._findings.so_far.template, unique=is_unique))
            with self._findings.noting():
                _, self._packing = self._open_packing(destination, headers)
                renderer = self._renderer
            with self._findings.noting():
                await self._look_at_recipe()
        try:
            sample = await draw(source, survey, limit=self._config.limit)
        except AsyncupError as reason:
            self._findings.note(reason)
            return
        self._findings.tell(
            access=replace(
                self._findings.so_far.access,
                page_rows=sample.page_rows,
                page_milliseconds=round(sample.milliseconds, 2),
            )
        )
        await self._estimate_rows(survey, sample)
        if renderer is not None:
            leading = len(destination.template.literals[0])
            self._reckon(rehearse(sample, source, renderer, leading), sample, destination)

    async def _look_at_recipe(self) -> None:
        """Say what is not known of rows that are not sent as they stand.

        Raises:
            ConfigError: the user's function is not there.
        """
        config, notices = self._config, self._findings.notices
        if config.pack is not None:
            notices.append(
                "each pack is named by its first row; sizes are those of rows, and how many packs there are is an estimate"
            )
        if config.transform is not None:
            from asyncup.transforms.finding import find

            found = await asyncio.to_thread(find, config.transform)
            notices.append(f"{found.name} was found and not called: sizes are those of rows before it")
        if config.compress != "none":
            notices.append("sizes are those before compression")

    async def _estimate_rows(self, survey: Survey, sample: Sample) -> None:
        from asyncup.planning.reckoning import rows_of

        source, state = self._source, self._findings.so_far.state
        rows = rows_of(source.estimated_rows, survey, sample, self._config)
        if state.resumes and rows.estimate is not None:
            rows = replace(rows, left=max(0, rows.estimate - (state.rows or 0)))
            if state.watermark is not None and not sample.whole:
                with self._findings.noting():
                    behind = await source.estimated_behind(state.watermark)
                    rows = replace(rows, left=rows.left if behind is None else behind)
        self._findings.tell(rows=rows)

    def _reckon(self, rehearsal: Rehearsal, sample: Sample, destination: Destination) -> None:
        """Bytes, requests, price and time, from what became of the sample."""
        from asyncup.planning.reckoning import bytes_of, groups_of, packs_of, price_of, requests_for
        from asyncup.recipes import small_packs

        config, findings, source = self._config, self._findings, self._source
        rows = findings.so_far.rows.left
        size, is_s3, prefixes = bytes_of(rows, rehearsal, sample), destination.kind == "s3", rehearsal.prefixes
        findings.tell(
            sample=rehearsal.shown if config.pack is None else self._first_pack(rehearsal.shown),
            trial=rehearsal.trial,
            bytes=size,
            template=replace(
                findings.so_far.template,
                leading_prefixes=len(prefixes),
                prefixes=prefixes[:5],
                prefix_rate=PREFIX_RATE if is_s3 and self._priced else None,
            ),
        )
        if rehearsal.shared and destination.kind != "null":
            findings.notices.append(
                f"rows of the sample share object keys ({rehearsal.shared:,}), of which the later row wins"
            )
        if rows is None or destination.kind == "null":
            return
        objects = round(rows * rehearsal.trial.put / rehearsal.trial.rows) if rehearsal.trial.rows else rows
        if config.pack is not None:
            groups = groups_of(sample, [source.shape.index(name) for name in config.pack_by], rows)
            objects = packs_of(objects, size.estimate, config, groups)
            key = [column.name for column in source.key.columns]
            if (notice := small_packs(config, key, rows, groups)) is not None:
                findings.notices.append(notice)
        times = times_at(objects, size.estimate, max_rate=config.max_rate, max_bandwidth=config.max_bandwidth)
        findings.tell(times=times)
        if is_s3:
            from asyncup.sinks.s3.settings import PART_BYTES

            packs = None if config.pack is None else (objects, size.estimate)
            requests = requests_for(rows, rehearsal, findings.so_far.destination, PART_BYTES, packs)
            price = price_of(requests, size.estimate, priced=self._priced, storage_class=config.storage_class)
            findings.tell(requests=requests, price=price)

    def _first_pack(self, rows: Sequence[SampledRow]) -> tuple[SampledRow, ...]:
        """The first pack, of which a sample of rows tells the key and the headers, and no size."""
        encoding = None if self._packing is None else self._packing.content_encoding
        own = {} if encoding is None else {"content-encoding": encoding}
        first = next((row for row in rows if row.outcome == "put"), None)
        return () if first is None else (replace(first, size=None, headers={**first.headers, **own}),)


class _Listener:
    """An observer that keeps notices, to be shown in their place, and hands on only what people wait for."""

    def __init__(self, observer: Observer, findings: Findings) -> None:
        self._observer = observer
        self._findings = findings

    def on_event(self, event: Event) -> None:
        if isinstance(event, Notice):
            self._findings.notices.append(event.message)
        elif isinstance(event, Waiting):
            self._observer.on_event(event)
