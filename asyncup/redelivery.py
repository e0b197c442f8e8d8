"""The composition root of `asyncup retry`: a job that reads the rows of dead letters alone, and keeps no checkpoint.

While it runs it has the job, as a sync has: nobody writes to the letters or sends an older version of a row meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from asyncup.again import TORN, check_job, configuration, failing_again
from asyncup.app import Job, execute
from asyncup.checkpoints.deadletters import KIND, VERSION, DeadLetterFile
from asyncup.checkpoints.letters import LetterFile
from asyncup.config import Config
from asyncup.errors import AsyncupError, StateRefused
from asyncup.events import Finished, Notice, Waiting
from asyncup.flow.interrupt import Interrupt
from asyncup.flow.retry import Interrupted, Retrier, RetryPolicy
from asyncup.model import Checkpoint, Counts, timestamp
from asyncup.protocols import Lease, Observer, Source
from asyncup.report import COMPLETE, JobReport, Report
from asyncup.resolved import Plan
from asyncup.sources.chosen import ChosenRows
from asyncup.state import Access, hold_job, keeping, open_state, read_letters

#: Letters that are fetched from elsewhere before they are written to a file.
_TOGETHER = 1000


async def retry(location: str, options: Mapping[str, Any], observer: Observer, interrupt: Interrupt) -> Report:
    """Send the rows of dead letters again; `options` go over those that the letters hold. All that happens is reported."""
    opened = await _opened(location, options, observer, interrupt)
    if isinstance(opened, Report):
        return _ended(opened, observer)
    with closing(opened):
        if not opened.job:
            return _ended(Report(error=_says_nothing(opened)), observer)
        if not opened.letters:
            report = Report(JobReport(opened.job["name"], COMPLETE, retried=location))
            return _ended(report, observer)
        try:
            config = configuration(opened.job, location, options)
        except AsyncupError as exc:
            return _ended(Report(error=exc), observer)
        return await execute(config, observer, interrupt, job=Redelivery(config, observer, interrupt, opened))


def _says_nothing(letters: LetterFile) -> StateRefused:
    return StateRefused(
        "open dead letters",
        letters.location,
        f"it is {'cut short in its first line' if letters.torn else 'empty'}: it is not a whole dead-letter file",
        "give the file that a run with failed rows names in its summary",
    )


def _ended(report: Report, observer: Observer) -> Report:
    observer.on_event(Finished(report))
    return report


class Redelivery(Job):
    """A job for the rows of `letters` alone."""

    may_have_put = True
    reads_pages = False

    def __init__(self, config: Config, observer: Observer, interrupt: Interrupt, letters: LetterFile) -> None:
        super().__init__(config, observer, interrupt)
        self._retried = letters
        self._chosen: ChosenRows
        self._letters_before = 0

    @property
    def _rows(self) -> Source:
        return self._chosen

    async def run(self) -> JobReport:
        """See `Job.run`."""
        report = await super().run()
        return replace(
            report,
            retried=self._retried.location,
            gone=self._chosen.gone,
            dead_letters=report.dead_letters if self._letters.letters > self._letters_before else None,
        )

    async def _open_state(self) -> None:
        config, source, retried = self._config, self._source, self._retried
        fingerprint = self._fingerprint()
        check_job(retried.job, retried.location, fingerprint)
        name = config.job_name(source.relation.label)
        self._lease = await hold_job(self._state_request(name))
        retried.check_unchanged()
        self._chosen = ChosenRows(source, retried.take)
        self._checkpoints = None
        self._checkpoint = Checkpoint(name, fingerprint, None, Counts(), False, timestamp(), timestamp())
        if is_elsewhere(retried.location) and config.dead_letters is None:
            await self._open_letters_elsewhere(name, fingerprint)
        else:
            await self._open_letters(name, fingerprint)
        self.plan = Plan(
            name=name,
            source=f"{retried.location} ({source.relation.label})",
            key=tuple(column.name for column in source.key.columns),
            destination=config.to,
            estimated_rows=retried.letters,
            resumed=False,
            settled_before=0,
            fingerprint=fingerprint,
            checkpoint=None,
            priced=self._priced,
        )

    async def _open_letters(self, name: str, fingerprint: dict[str, Any]) -> None:
        """Open a file for the rows that fail again."""
        path, before = await asyncio.to_thread(failing_again, self._retried, self._config.dead_letters, fingerprint)
        file = DeadLetterFile(path, {"name": name, **fingerprint, "options": self._config.kept()})
        await asyncio.to_thread(file.open, keep=before)
        self._closers.append(lambda: asyncio.to_thread(file.close))
        self._letters, self._letters_before = file, file.letters

    async def _open_letters_elsewhere(self, name: str, fingerprint: dict[str, Any]) -> None:
        """Keep the rows that fail again where the job's state is, under a name of their own, which nothing else has."""
        request = self._state_request(f"{name}.retry-{timestamp().replace(':', '')}")
        state = await keeping(self._lease, open_state(request, fingerprint))
        self._letters = state.letters
        self._lease = _Leases([lease for lease in (self._lease, state.lease) if lease is not None])


class _Leases:
    """Several leases, kept as one."""

    def __init__(self, leases: list[Lease]) -> None:
        self._leases = leases

    async def keep(self) -> None:
        """See `Lease.keep`."""
        for lease in self._leases:
            await lease.keep()


def is_elsewhere(location: str) -> bool:
    """Whether dead letters are no file: they are in S3 or in Postgres."""
    return location.startswith(("s3://", "postgres:"))


async def _opened(
    location: str, options: Mapping[str, Any], observer: Observer, interrupt: Interrupt
) -> LetterFile | Report:
    """The letters, or how it ended before there were any."""
    task = asyncio.current_task()
    interrupt.attach_task()
    try:
        if is_elsewhere(location):
            letters = await _fetched(location, options, observer, interrupt)
        else:
            letters = await asyncio.to_thread(LetterFile.open, Path(location))
    except AsyncupError as exc:
        return Report(error=exc)
    except (asyncio.CancelledError, Interrupted):
        if not interrupt.draining:
            raise
        if task is not None:
            task.uncancel()
        return Report(signal=interrupt.signal)
    finally:
        interrupt.detach()
    if letters.torn and letters.job:
        observer.on_event(Notice(f"the last line of {location} was cut short by a crash: {TORN}"))
    if letters.repeated:
        observer.on_event(
            Notice(f"{letters.repeated:,} of the lines of {location} are of rows that it has before: left out")
        )
    return letters


async def _fetched(location: str, options: Mapping[str, Any], observer: Observer, interrupt: Interrupt) -> LetterFile:
    """Letters in S3 or Postgres, copied to a file that goes with this process: they are looked through before they are sent.

    Raises:
        AsyncupError: they cannot be read.
    """
    config = Config.of(**{**options, "table": "none", "to": "null:"})  # for the connections alone
    retrier = Retrier(
        RetryPolicy(max_attempts=config.max_attempts),
        interrupt.sleep,
        lambda error, attempt, delay: observer.on_event(Waiting(str(error), delay, attempt)),
    )
    file = await asyncio.to_thread(_temporary)
    try:
        async with read_letters(location, Access.of(config), retrier) as (job, letters):
            await asyncio.to_thread(file.write, _line({"kind": KIND, "version": VERSION, "job": job}))
            async for lines in _several(letters):
                await asyncio.to_thread(file.writelines, lines)
        await asyncio.to_thread(file.seek, 0)
        return await asyncio.to_thread(LetterFile.of, location, file)
    except BaseException:
        file.close()
        raise


async def _several(letters: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[list[bytes], None]:
    lines: list[bytes] = []
    async for letter in letters:
        lines.append(_line(letter))
        if len(lines) == _TOGETHER:
            yield lines
            lines = []
    yield lines


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _temporary() -> BinaryIO:
    return cast("BinaryIO", tempfile.TemporaryFile(prefix="asyncup-"))
