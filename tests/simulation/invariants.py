"""What has to hold after every step of a run, and at its end: the guarantees of the design, one by one.

The watch knows the truth from the world's side: which rows were handed out, which uploads were acknowledged, what the
disk holds for certain. It never asks the pipeline what it believes, except to compare.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from asyncup.errors import AsyncupError, StateLost, Unreachable
from asyncup.events import Draining, Progress, RowFailed
from asyncup.model import Checkpoint, Counts, Key, Range, Reach, Streamed, Upload
from asyncup.pipeline import FIRST_SECONDS
from asyncup.report import ABORTED, COMPLETE, INTERRUPTED, PARTIAL, Report
from tests.simulation.database import Body
from tests.simulation.disk import Disk
from tests.simulation.kept import Broken, Kept
from tests.simulation.known import KNOWN
from tests.simulation.ranges import Ranges, number_of, reaches_of
from tests.simulation.scenario import RunPlan, Scenario

if TYPE_CHECKING:
    from tests.simulation.loop import VirtualLoop

#: No attempt of a row begins later than this after its first one failed.
RETRY_SECONDS = 180.0
#: What it may wait for its turn on top of that.
QUEUE_SECONDS = 600.0
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
        self.base = Counts()
        self.ranges: Ranges | None = None
        self.divided: tuple[Reach, ...] = ()
        self.read_until = 0.0
        self.is_draining = False
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
        self._counts = Counts()
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

    def begins(self, pipeline: Any, checkpoint: Checkpoint) -> None:
        """The pipeline is made: it goes on from a checkpoint, which must be the one that is kept."""
        self.pipeline, self.base = pipeline, checkpoint.counts
        self.ranges = Ranges(self.scenario, checkpoint, self.plan.readers, self.violated)
        self._counts = self.base
        if self.thawed:
            return
        value, found = json.loads(json.dumps(asdict(checkpoint))), self.kept.checkpoint()
        if found is None or found["finished"]:
            wanted = self.divided
            if (checkpoint.ranges, checkpoint.watermark, checkpoint.counts) != (wanted, None, Counts()):
                raise self.violated(f"it begins with {checkpoint} instead of {wanted}")
            return
        for name in ("watermark", "counts", "ranges"):
            if found[name] != value[name]:
                raise self.violated(f"it goes on from {name} {value[name]}, and the checkpoint is {found}")

    def range_begins(self, part: Range, after: Key | None) -> None:
        """A reader begins with a range."""
        assert self.ranges is not None
        self.ranges.begin(part, after)
        self.note("range", self.ranges.reading)

    def range_ends(self, part: Range, *, is_read: bool) -> None:
        """A reader is done with a range, to its end or not."""
        assert self.ranges is not None
        self.ranges.end(part, is_read=is_read)
        self.read_until = self.now()

    def delivered_page(self, part: Range, rows: Any, shape: Any) -> None:
        """A page is handed to the pipeline."""
        assert self.ranges is not None
        numbers = [number_of(shape.key(row)) for row in rows]
        self.ranges.deliver(part, numbers)
        if self.is_draining:
            raise self.violated("a page is read though a drain has begun")
        self.delivered += numbers
        self.note("page", len(numbers))

    def attempt(self, number: int, upload: Upload, in_flight: int) -> None:
        """An upload reaches the sink."""
        self.note("put", number)
        row = self.scenario.rows[number - 1]
        if not isinstance(upload.body, Streamed) and upload.body != (row.body or b""):
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

    def read_whole(self, number: int, body: bytes) -> None:
        """A body was read slice by slice while it was sent."""
        if body != self.scenario.rows[number - 1].body:
            raise self.violated(f"row {number} was sent with other bytes")

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
            self.is_draining = True
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
        if Body.total and not self.held_otherwise:
            self._look_at_memory(Body.total)
        known = len(self.acked) + len(self.failed)
        if known != self._sum or not self.loop.steps & 63:
            self._sum = known
            self._look_at_counts()

    def _look_at_memory(self, total: int) -> None:
        if total > self.pipeline.budget.used:
            raise self.violated(f"{total} bytes of bodies in memory, {self.pipeline.budget.used} accounted for")
        if total > self.plan.memory and len(set(Body.alive.values())) > 1:
            raise self.violated(f"{total} bytes of bodies in memory, {self.plan.memory} allowed")

    def _look_at_counts(self) -> None:
        watermark = self.pipeline.watermark
        counts, put, failed = watermark.counts - self.base, 0, 0
        for track in watermark.tracks:
            for ticket in track.tickets:
                put += ticket.outcomes[0]
                failed += ticket.outcomes[2]
        put, failed = put + counts.put, failed + counts.failed
        if put != len(self.acked):
            raise self.violated(f"{put} rows are reported as put, {len(self.acked)} were acknowledged")
        if failed != len(self.failed):
            raise self.violated(f"{failed} rows are reported as failed, {len(self.failed)} did")

    def checkpoint_written(self, value: dict[str, Any]) -> None:
        """There is another checkpoint: it must not be ahead of what is certain."""
        if self.over:
            return  # from beyond the end of the run; what it says is looked at as what the next one finds
        counts, reaches = Counts(**value["counts"]), reaches_of(value)
        places = [number_of(reach.watermark) for reach in reaches]
        self.note("checkpoint", sum(places))
        if self.ranges is None:
            return  # what was found, written again with another lease
        lines = self.kept.letters(certain=True)
        if len(lines) < counts.failed:
            raise self.violated(f"the checkpoint counts {counts.failed} failed rows, {len(lines)} letters are durable")
        written = set(lines[self._counts.failed : counts.failed])

        def how(number: int) -> Counts | None:
            if number in self.acked:
                return Counts(1, 0, 0, self.acked[number])
            if number in written:
                return Counts(0, 0, 1, 0)
            return Counts(0, 1, 0, 0) if self.may_skip(number) else None

        found = self._counts + self.ranges.settle(reaches, how)
        if found != counts:
            raise self.violated(f"the checkpoint at row {places} counts {counts}, and it is {found}")
        self._counts = found
        self.finished = value if value["finished"] else None
        if self.finished and not all(reach.finished for reach in reaches):
            raise self.violated("the checkpoint is finished, and one of its ranges is not")

    def may_skip(self, number: int) -> bool:
        row = self.scenario.rows[number - 1]
        is_null = row.body is None and self.scenario.on_null == "skip"
        return is_null or (row.gone_at is not None and row.gone_at <= self.now())

    # --- at the end -------------------------------------------------------------------------------------------

    def ended(self, report: Report, connections: Sequence[object]) -> None:
        """The run says how it ended; `connections` to the database are open."""
        self.note("end", report.exit_code)
        if left := self.loop.open_tasks():
            raise self.violated(f"tasks are left behind: {[task.get_name() for task in left]}")
        if self.disk.descriptors() or self.disk.locks or connections:
            raise self.violated("files, locks or connections are left open")
        if self.ranges is not None and self.ranges.reading:
            raise self.violated(f"{self.ranges.reading} ranges are still being read")
        self._deadlines()
        self._told(report)
        if report.job is None:
            if self.acked:
                raise self.violated("rows were sent, and the report knows of none")
            return
        self._counted(report)
        if report.status in (COMPLETE, PARTIAL):
            self._complete(report)
        elif report.exit_code in (0, 3):
            raise self.violated(f"exit code {report.exit_code} for a run that is {report.status}")

    def _told(self, report: Report) -> None:
        """What ended the run is said, and is so."""
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
        if self.first_signal is None and (pipeline.budget.used or pipeline.limiter.in_flight):
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
            elif row.number not in letters and not self.may_skip(row.number) and self._is_promised(row.number):
                raise self.violated(f"row {row.number} is not in the bucket")

    def _is_promised(self, number: int) -> bool:
        """Whether the row came soon enough; where partitions are not read by themselves it may be behind the cursor."""
        comes_at = self.scenario.comes_at(number)
        return not comes_at or (self.ranges is not None and self.ranges.by_leaf and comes_at <= self.read_until)

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
    lines = kept.letters(certain=False)
    failed = value["counts"]["failed"]
    if len(lines) < failed:
        raise Violation(f"after a crash {len(lines)} of {failed} letters are left")
    letters = set(lines[:failed])
    for reach in reaches_of(value):
        part, at = reach.part, number_of(reach.watermark)
        for number in scenario.members(part):
            row = scenario.rows[number - 1]
            skipped = row.body is None and scenario.on_null == "skip"
            skipped = skipped or (part.leaf is None and scenario.comes_at(number) > 0)  # it came behind the cursor
            skipped = skipped or (row.gone_at is not None and row.gone_at <= now)
            passed = reach.finished or number <= at
            if passed and number not in objects and number not in letters and not skipped:
                raise Violation(f"after a crash the checkpoint is at row {at} of {part}, and row {number} is lost")
