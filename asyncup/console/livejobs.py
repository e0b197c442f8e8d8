"""The live view of several jobs: a line for each that is under way, and what all come to; those that have ended scroll by above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.text import Text

from asyncup.console.jobs import Board, Running
from asyncup.console.layout import Painter, cell, milliseconds, packed
from asyncup.console.opening import Opening
from asyncup.console.plain import EventFilter
from asyncup.console.screen import Screen
from asyncup.console.text import Redactor, calm, count, duration, shown, size, wrapped
from asyncup.events import Draining, Event, Finished, Listing, OfJob, Planned, Progress

#: Seconds between two frames: each job tells of itself four times a second.
_FRAME_SECONDS = 0.25
_GAP = 2
_NOTHING = Text()


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of every job. The smaller its `rank`, the narrower a terminal may be that still has room for it."""

    name: str
    rank: int
    width: int
    left: bool = False


#: In the order in which they stand.
_COLUMNS = (
    Column("bar", 9, 12, left=True),
    Column("done", 0, 5),
    Column("left", 2, 9),
    Column("failed", 1, 7),
    Column("objects/s", 3, 9),
    Column("bytes/s", 4, 10),
    Column("in flight", 5, 9),
    Column("p50", 10, 7),
    Column("p99", 6, 7),
    Column("retries", 7, 7),
    Column("throttled", 8, 9),
    Column("held", 12, 8),
    Column("level", 11, 29, left=True),
)


class LiveJobs:
    """Redraws a few times a second."""

    def __init__(
        self,
        stream: TextIO,
        redact: Redactor,
        labels: Sequence[str],
        *,
        traces: bool = False,
        screen: Screen | None = None,
    ) -> None:
        self._screen = screen or Screen(stream)
        self._painter = Painter(stream)
        self._redact = redact
        self._board = Board(labels, traces=traces)
        self._next = 0.0
        self._screen.open()
        self._opening = Opening(lambda words: self._draw([Text(words, style="dim")] if words else []))

    def on_event(self, event: Event) -> None:
        if isinstance(event, OfJob):
            self._take(event.label, event.event)
        elif isinstance(event, Finished):
            self.close()
        elif not isinstance(event, (Planned, Progress)) and (line := EventFilter().line(event)) is not None:
            self._say(line)

    def close(self) -> None:
        """Give the terminal back: the cursor is shown and the view is gone."""
        self._opening.end()
        self._screen.close()

    def _take(self, label: str, event: Event) -> None:
        if isinstance(event, Listing) and not self._board.running:
            self._opening.tell(f"listing the destination of {shown(label)}: {count(event.objects)} objects")
        line = self._board.take(label, event)
        if isinstance(event, Planned):
            self._opening.end()
        if line is not None:
            self._say(line if isinstance(event, Draining) else f"{shown(label)}: {line}")
        if self._board.running and (isinstance(event, Planned) or self._board.seconds >= self._next):
            self._next = self._board.seconds + _FRAME_SECONDS
            self._draw(self.frame())

    def _say(self, line: str) -> None:
        self._screen.say("\n".join(wrapped(self._redact(line), self._screen.width)))

    def _draw(self, texts: list[Text]) -> None:
        self._screen.draw(self._painter.lines(texts, self._screen.width))

    def frame(self) -> list[Text]:
        """The lines of this moment, for the terminal as it is."""
        running, width = self._board.running, self._screen.width
        totals = packed(self._totals(), width)
        room = max(1, self._screen.height - len(totals))
        totals = totals[: max(0, self._screen.height - 1)]
        names = max((Text(shown(label)).cell_len for label in running), default=0)
        names = min(max(8, names), max(8, width // 4 - 2))
        columns = _fitting(width - names)
        lines = [] if room < len(running) + 1 and room < 4 else [_header(columns, names)]
        fits = len(running) <= room - len(lines)
        most = room - len(lines) - (0 if fits else 1)
        lines += [self._line(label, job, columns, names) for label, job in list(running.items())[: max(0, most)]]
        if not fits:
            lines.append(
                Text(f"and {count(len(running) - max(0, most))} {'more' if most > 0 else 'under way'}", style="dim")
            )
        return [*lines, *totals]

    def _line(self, label: str, job: Running, columns: Sequence[Column], names: int) -> Text:
        name = Text(self._redact(shown(label)), style="bold")
        name.truncate(names, overflow="ellipsis", pad=True)
        figures, line = self._figures(job), Text().append_text(name)
        for column in columns:
            text = figures.get(column.name, _NOTHING)
            pad = " " * max(0, column.width - text.cell_len)
            line.append(" " * _GAP + ("" if column.left else pad)).append_text(text).append(pad if column.left else "")
        return line

    def _figures(self, job: Running) -> dict[str, Text]:
        progress, rates, estimate = job.progress, job.rates, job.plan.estimated_rows
        if progress is None:
            return {"left": Text("beginning", style="dim")}
        done, counts = job.plan.settled_before + progress.counts.rows, progress.counts
        left = calm(rates.eta) if rates.eta is not None else ""
        figures = {
            "done": Text(f"{rates.share:.0%}" if rates.share is not None else _short(done), style="bold"),
            "left": Text("finishing" if self._board.is_draining else left, style="cyan"),
            "failed": Text(count(counts.failed), style="bold red" if counts.failed else ""),
            "objects/s": Text(f"{rates.objects:,.0f}"),
            "bytes/s": Text(size(rates.bytes)),
            "in flight": Text(f"{progress.in_flight}/{progress.limit}"),
            "retries": Text(count(progress.retries), style="yellow" if progress.retries else ""),
            "throttled": Text(count(progress.throttled), style="yellow" if progress.throttled else ""),
            "held": Text(size(progress.memory)),
            "level": Text(progress.reason, style="dim"),
        }
        if estimate and rates.share is not None:
            figures["bar"] = self._painter.bar(rates.share, 12)
        if progress.latency.p50:
            figures["p50"] = Text(milliseconds(progress.latency.p50))
            figures["p99"] = Text(milliseconds(progress.latency.p99))
        return figures

    def _totals(self) -> list[Text]:
        """What all of them come to, in cells."""
        board = self._board
        under_way = [job.progress for job in board.running.values() if job.progress is not None]
        all_ = (*board.ended, *under_way)
        counts = [progress.counts for progress in all_]
        rates = [job.rates for job in board.running.values()]
        failed, retries = sum(one.failed for one in counts), sum(one.retries for one in all_)
        throttled = sum(one.throttled for one in all_)
        jobs = count(board.jobs)
        return [
            cell(duration(board.seconds), "", right=6, style="cyan"),
            cell(count(board.finished), f" of {jobs} ended", right=len(jobs)),
            cell(count(sum(one.rows for one in counts)), " rows", right=9),
            cell(count(failed), " failed", width=9, style="bold red" if failed else ""),
            cell(count(retries), " retries", width=11, style="yellow" if retries else ""),
            cell(count(throttled), " throttled", width=13, style="yellow" if throttled else ""),
            cell(f"{sum(one.objects for one in rates):,.0f}", " objects/s", right=7),
            cell(size(sum(one.bytes for one in rates)), "/s", right=8),
            cell(count(sum(one.in_flight for one in under_way)), " in flight", right=5),
            cell(size(sum(one.memory for one in under_way)), " held", right=8),
        ]


def _fitting(width: int) -> list[Column]:
    """The columns for which there is room, in the order in which they stand."""
    chosen, left = set(), width
    for column in sorted(_COLUMNS, key=lambda column: column.rank):
        left -= column.width + _GAP
        if left < 0:
            break
        chosen.add(column)
    return [column for column in _COLUMNS if column in chosen]


def _header(columns: Sequence[Column], names: int) -> Text:
    line = "job".ljust(names)
    for column in columns:
        name = "" if column.name == "bar" else column.name
        line += " " * _GAP + (name.ljust if column.left else name.rjust)(column.width)
    return Text(line, style="dim")


def _short(number: int) -> str:
    """A number in five columns."""
    for unit in ("", "k", "M", "G"):
        if number < (10_000 if not unit else 1000):
            return f"{number:.0f}{unit}"
        number //= 1000
    return f"{number}T"
