"""What has to hold after every step of a run, and at its end: the guarantees of the design, one by one.

The watch knows the truth from the world's side: which rows were handed out, which uploads were acknowledged, what the
disk holds for certain. It never asks the pipeline what it believes, except to compare.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from asyncup.errors import AsyncupError, StateLost, Unreachable
from asyncup.events import Draining, Progress, RowFailed
from asyncup.model import Counts, Upload
from asyncup.pipeline import FIRST_SECONDS
from asyncup.report import ABORTED, COMPLETE, INTERRUPTED, PARTIAL, Report
from tests.simulation.disk import Disk
from tests.simulation.kept import Broken, Kept
from tests.simulation.known import KNOWN
from tests.simulation.scenario import RunPlan, Scenario
from tests.simulation.world import Body, number_of

if TYPE_CHECKING:
    from tests.simulation.loop import VirtualLoop

#: No attempt of a row begins later than this after its first one failed.
RETRY_SECONDS = 180.0
#: What it may wait for its turn on top of that.
QUEUE_SECONDS = 300.0
#: The second signal ends a run within this.
ABORT_SECONDS = 2.0
#: What a drained run gives a server that keeps its state: to save, and to take the lease back.
STATE_SECONDS = 10.0
_CODES: dict[str, int] = {}


class Violation(Exception):
    """A guarantee does not hold."""


class Invariants:
    """The watch over one run. `objects` are the rows whose bytes the bucket has."""

    def __init__(self, scenario: Scenario, plan: RunPlan, disk: Disk, kept: Kept, objects: set[int]) -> None:
        self.scenario, self.plan, self.disk, self.kept, self.objects = scenario, plan, disk, kept, objects
        self.base, self.base_at = Counts(), 0
        self.loop: VirtualLoop
        self.pipeline: Any = None
        self.over = False
        self.thawed = False
        self.digest = 0
        self.lines: list[str] | None = None
        self.delivered: list[int] = []
        self.acked: dict[int, int] = {}
        self.failed: set[int] = set()
        self.first_put_done = False
        self.first_signal: tuple[float, float] | None = None
        self.second_signal: tuple[float, float] | None = None
        self._attempts: dict[int, int] = {}
        self._first_failure: dict[int, float] = {}
        self._passed = 0
        self._counts = Counts()
        self._at = 0
        self._sum = 0
        self.finished: dict[str, Any] | None = None
        self.errors: list[str] = []
        #: Whether bodies are held for other reasons than those that the memory budget knows: a save that fails and ends the run
        #: knows the rows that waited for it.
        self.held_otherwise = plan.max_letters < 1000

    # --- what is told -----------------------------------------------------------------------------------------

    def now(self) -> float:
        return self.loop._now

    def note(self, what: str, number: int = 0) -> None:
        """Something happened: it becomes part of the trace, and of the hash that tells one trace from another."""
        code = _CODES.get(what)
        if code is None:
            code = _CODES[what] = zlib.crc32(what.encode())
        self.digest = hash((self.digest, code, number, self.loop._now, self.loop.steps))
        if self.lines is not None:
            self.lines.append(f"{self.loop.steps:7d} {self.loop._now:12.6f} {what} {number}")

    def begins(self, pipeline: Any, watermark: Any, counts: Counts) -> None:
        """The pipeline is made: it goes on from a checkpoint, which must be the one that is kept."""
        self.pipeline, self.base = pipeline, counts
        self.base_at = number_of(watermark) if watermark is not None else 0
        self._counts, self._at = self.base, self.base_at
        if not self.base_at or self.thawed:
            return
        found = self.kept.checkpoint() or {"watermark": None, "counts": None}
        if (found["watermark"], found["counts"]) != (list(watermark), asdict(counts)):
            raise self.violated(f"it goes on from row {self.base_at}, and the checkpoint is {found}")

    def delivered_page(self, rows: Any, shape: Any) -> None:
        """A page is handed to the pipeline."""
        for row in rows:
            number = number_of(shape.key(row))
            if number <= (self.delivered[-1] if self.delivered else self.base_at):
                raise self.violated(f"row {number} was read twice or out of order")
            self.delivered.append(number)
        self.note("page", len(rows))

    def attempt(self, number: int, upload: Upload, in_flight: int) -> None:
        """An upload reaches the sink."""
        self.note("put", number)
        row = self.scenario.rows[number - 1]
        if upload.body != (row.body or b""):
            raise self.violated(f"row {number} was sent with other bytes")
        if not self.first_put_done and self._first_failure:  # what it meets for so long seems to be its own
            self.first_put_done = self.now() - min(self._first_failure.values()) >= FIRST_SECONDS - 1e-6
        limit = self.plan.concurrency if self.first_put_done else 1
        if in_flight > limit:
            raise self.violated(f"{in_flight} uploads in flight, {limit} allowed")
        if number in self.acked or number in self.failed:
            raise self.violated(f"row {number} was sent again though it was settled")
        self._attempts[number] = self._attempts.get(number, 0) + 1
        if self._attempts[number] > self.plan.max_attempts:
            raise self.violated(f"row {number} had attempt {self._attempts[number]} of {self.plan.max_attempts}")
        began = self._first_failure.get(number)
        seconds = RETRY_SECONDS + 1 + self.loop.paused + QUEUE_SECONDS * ("late attempts" in KNOWN)
        if began is not None and self.now() - began > seconds:
            raise self.violated(f"row {number} was tried again {self.now() - began:.0f} s after it first failed")

    def refusal(self, number: int, error: AsyncupError) -> None:
        """An attempt failed."""
        self.note(error.type, number)
        self._first_failure.setdefault(number, self.now())
        if isinstance(error, Unreachable):  # bounded by time, not by attempts
            self._attempts[number] -= 1

    def acknowledged(self, number: int, size: int) -> None:
        """The sink has said that it holds an object."""
        self.note("acknowledged", number)
        if number not in self.objects:
            raise self.violated(f"the harness is wrong: row {number} was acknowledged and is not stored")
        self.acked[number] = size
        self.first_put_done = True

    def on_event(self, event: Any) -> None:
        """See `protocols.Observer`."""
        if isinstance(event, RowFailed):
            number = number_of(event.letter.key)
            self.note("failed", number)
            if number in self.failed or number in self.acked:
                raise self.violated(f"row {number} failed though it was settled")
            self.failed.add(number)
            if self.plan.max_failures is not None and len(self.failed) > self.plan.max_failures:
                self.held_otherwise = True  # the error that ends the run knows the row
            self.first_put_done = self.first_put_done or number in self._attempts
        elif isinstance(event, Progress):
            counts = event.counts
            if counts.rows != counts.put + counts.skipped + counts.failed:
                raise self.violated("the progress does not add up")
        elif isinstance(event, Draining):
            self.note("draining", event.in_flight)

    def signalled(self) -> None:
        """A signal arrives."""
        self.note("signal")
        moment = self.now(), self.loop.paused + self.loop.threaded
        if self.first_signal is None:
            self.first_signal = moment
        elif self.second_signal is None:
            self.second_signal = moment

    # --- after every step -------------------------------------------------------------------------------------

    def look(self) -> None:
        """Compare what the pipeline holds and says with what is."""
        if self.errors:
            raise self.violated(self.errors[0])
        pipeline = self.pipeline
        if pipeline is None:
            return
        total = Body.total
        if total and not self.held_otherwise:
            if total > pipeline.budget.used:
                raise self.violated(f"{total} bytes of bodies in memory, {pipeline.budget.used} accounted for")
            if total > self.plan.memory and total != max(Body.alive.values()):
                raise self.violated(f"{total} bytes of bodies in memory, {self.plan.memory} allowed")
        known = len(self.acked) + len(self.failed)
        if known != self._sum or not self.loop.steps & 63:
            self._sum = known
            put = failed = 0
            for ticket in pipeline.watermark._tickets:
                put += ticket.outcomes[0]
                failed += ticket.outcomes[2]
            counts = pipeline.watermark.counts
            put, failed = put + counts.put - self.base.put, failed + counts.failed - self.base.failed
            if put != len(self.acked):
                raise self.violated(f"{put} rows are reported as put, {len(self.acked)} were acknowledged")
            if failed != len(self.failed):
                raise self.violated(f"{failed} rows are reported as failed, {len(self.failed)} did")

    def checkpoint_written(self, value: dict[str, Any]) -> None:
        """There is another checkpoint: it must not be ahead of what is certain."""
        if self.over:
            return  # from beyond the end of the run; what it says is looked at as what the next one finds
        counts = Counts(**value["counts"])
        at = number_of(value["watermark"]) if value["watermark"] is not None else 0
        self.note("checkpoint", at)
        if self.pipeline is None:
            return  # what was found, written again with another lease
        if at < self._at:
            raise self.violated(f"the watermark went back from {self._at} to {at}")
        lines = self.kept.letters(certain=True)
        if len(lines) < counts.failed:
            raise self.violated(f"the checkpoint counts {counts.failed} failed rows, {len(lines)} letters are durable")
        written = set(lines[self._counts.failed : counts.failed])
        found, passed = self._counts, self._passed
        while passed < len(self.delivered) and self.delivered[passed] <= at:
            number = self.delivered[passed]
            passed += 1
            if number in self.acked:
                found += Counts(1, 0, 0, self.acked[number])
            elif number in written:
                found += Counts(0, 0, 1, 0)
            elif self.may_skip(number):
                found += Counts(0, 1, 0, 0)
            else:
                raise self.violated(f"the checkpoint is at row {at}, and row {number} is not settled")
        if found != counts:
            raise self.violated(f"the checkpoint at row {at} counts {counts}, and it is {found}")
        self._counts, self._passed, self._at = found, passed, at
        self.finished = value if value["finished"] else None

    def may_skip(self, number: int) -> bool:
        row = self.scenario.rows[number - 1]
        is_null = row.body is None and self.scenario.on_null == "skip"
        return is_null or (row.gone_at is not None and row.gone_at <= self.now())

    # --- at the end -------------------------------------------------------------------------------------------

    def ended(self, report: Report) -> None:
        """The run says how it ended."""
        self.note("end", report.exit_code)
        if left := self.loop.open_tasks():
            raise self.violated(f"tasks are left behind: {[task.get_name() for task in left]}")
        if self.disk.descriptors() or self.disk.locks:
            raise self.violated("files or locks are left open")
        self._deadlines()
        if report.status == INTERRUPTED and self.first_signal is None:
            raise self.violated("it says that it was interrupted, and nobody did")
        if report.status == ABORTED and report.error is None:
            raise self.violated("it says that it was aborted, and not by what")
        if (
            report.error is not None
            and report.error.type == "InternalError"
            and "a defect in a sink" not in str(report.error)
        ):
            raise self.violated(f"{report.error}") from report.error
        if report.job is None:
            if self.acked:
                raise self.violated("rows were sent, and the report knows of none")
            return
        self._counted(report)
        if report.status in (COMPLETE, PARTIAL):
            self._complete(report)
        elif report.exit_code in (0, 3):
            raise self.violated(f"exit code {report.exit_code} for a run that is {report.status}")

    def _deadlines(self) -> None:
        """A drain ends within its timeout, an abort within its own; what the disk and the machine took is not ours."""
        state = STATE_SECONDS if self.scenario.state == "s3" else 0.0
        for moment, seconds in (
            (self.first_signal, self.plan.drain_timeout + ABORT_SECONDS + state),
            (self.second_signal, ABORT_SECONDS),
        ):
            if moment is not None:
                began, lost = moment
                lost = self.loop.paused + self.loop.threaded - lost + self.plan.disk_seconds + 0.5
                if self.now() - began > seconds + lost:
                    raise self.violated(f"it ended {self.now() - began:.2f} s after a signal, of {seconds:.2f}")

    def _counted(self, report: Report) -> None:
        """rows = put + skipped + failed, each of them true."""
        assert report.job is not None
        counts = report.job.counts
        if counts.rows != counts.put + counts.skipped + counts.failed:
            raise self.violated("the report does not add up")
        if (counts.put, counts.failed) != (len(self.acked), len(self.failed)):
            raise self.violated(f"the report says {counts}; {len(self.acked)} were put, {len(self.failed)} failed")
        if counts.bytes != sum(self.acked.values()):
            raise self.violated(f"the report says {counts.bytes} bytes")
        unsettled = [number for number in self.delivered if number not in self.acked and number not in self.failed]
        if counts.skipped > len([number for number in unsettled if self.may_skip(number)]):
            raise self.violated("more rows were skipped than there was a reason for")
        unsaved = isinstance(report.error, StateLost) or "could not be saved" in str(report.error)
        if not unsaved and not self.thawed:  # then the next run may have put them away
            letters = self.kept.letters(certain=True)
            if missing := self.failed.difference(letters):
                raise self.violated(f"rows {sorted(missing)[:5]} failed, and no letter of them is durable")
        if report.job.total != counts.rows + self.base.rows and report.job.resumed:
            raise self.violated("the total is not that of all runs")

    def _complete(self, report: Report) -> None:
        """A run that says it is complete has done everything."""
        assert report.job is not None
        counts = report.job.counts
        if counts.rows != len(self.delivered):
            raise self.violated(f"{len(self.delivered)} rows were read, {counts.rows} are settled, and it is complete")
        if not self.finished:
            raise self.violated("it is complete, and the checkpoint is not")
        if (report.status == PARTIAL) != bool(counts.failed + self.base.failed):
            raise self.violated(f"{report.status} with {counts.failed} failed rows")
        pipeline = self.pipeline
        if pipeline.budget.used or (pipeline.limiter.in_flight and self.first_signal is None):
            raise self.violated(f"at the end {pipeline.budget!r}, {pipeline.limiter!r}")
        if Body.alive and not self.held_otherwise:
            raise self.violated(f"{len(Body.alive)} bodies are still in memory after the last row")
        if not self.thawed:
            self.bucket_is_whole(set(self.kept.letters(certain=True)))

    def bucket_is_whole(self, letters: set[int]) -> None:
        """The bucket holds what an uninterrupted run would have left."""
        for row in self.scenario.rows:
            if row.number in self.objects:
                if row.poison is not None or (row.body is None and self.scenario.on_null != "empty"):
                    raise self.violated(f"row {row.number} has an object that should not be")
            elif row.number not in letters and not self.may_skip(row.number):
                raise self.violated(f"row {row.number} is not in the bucket")

    def violated(self, message: str) -> Violation:
        """A violation, kept: whoever catches exceptions on the way must not hide it."""
        self.errors.append(message)
        return Violation(message)


def survived(scenario: Scenario, kept: Kept, objects: set[int], now: float, finished: dict[str, Any] | None) -> None:
    """What an earlier run left must be true: every row that the checkpoint has passed is settled for ever.

    Raises:
        Violation: it is not.
    """
    try:
        value = kept.checkpoint()
    except Broken:
        raise Violation("after a crash the checkpoint cannot be read") from None
    if value is None or (value["finished"] and value != finished):
        return  # of a run before: the next one begins anew, and has put its dead letters away
    at = number_of(value["watermark"]) if value["watermark"] is not None else 0
    lines = kept.letters(certain=False)
    failed = value["counts"]["failed"]
    if len(lines) < failed:
        raise Violation(f"after a crash {len(lines)} of {failed} letters are left")
    letters = set(lines[:failed])
    for row in scenario.rows[:at]:
        skipped = (row.body is None and scenario.on_null == "skip") or (row.gone_at is not None and row.gone_at <= now)
        if row.number not in objects and row.number not in letters and not skipped:
            raise Violation(f"after a crash the checkpoint is at row {at}, and row {row.number} is lost")
