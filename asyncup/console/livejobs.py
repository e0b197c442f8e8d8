"""The live view of several jobs: a line for each that is under way, one for all; those that have ended scroll by above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from asyncup.console.jobs import Board, Running
from asyncup.console.plain import EventFilter
from asyncup.console.text import Redactor, count, duration, shown, size
from asyncup.events import Draining, Event, Finished, OfJob, Planned, Progress

#: Lines of a screen that are left for the total and for what scrolls by.
_OTHER_LINES = 4
#: Seconds between two frames: each job tells of itself four times a second.
_FRAME_SECONDS = 0.2


class LiveJobs:
    """Redraws a few times a second."""

    def __init__(self, stream: TextIO, redact: Redactor, labels: Sequence[str], *, traces: bool = False) -> None:
        self._console = Console(file=stream, highlight=False)
        self._redact = redact
        self._board = Board(labels, traces=traces)
        self._live: Live | None = None
        self._next = 0.0

    def on_event(self, event: Event) -> None:
        if isinstance(event, OfJob):
            self._take(event.label, event.event)
        elif isinstance(event, Finished):
            self.close()
        elif not isinstance(event, (Planned, Progress)) and (line := EventFilter().line(event)) is not None:
            self._print(line)

    def close(self) -> None:
        """Give the terminal back: the cursor is shown and the view is gone."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _take(self, label: str, event: Event) -> None:
        line = self._board.take(label, event)
        if self._live is None and isinstance(event, Planned):
            self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False)
            self._live.start()
        if self._live is not None and (line is not None or self._board.seconds >= self._next):
            self._next = self._board.seconds + _FRAME_SECONDS
            self._live.update(self._frame(), refresh=line is None)
        if line is not None:
            self._print(line if isinstance(event, Draining) else f"{shown(label)}: {line}")

    def _print(self, line: str) -> None:
        self._console.print(Text(self._redact(line)), soft_wrap=True)

    def _frame(self) -> RenderableType:
        running = self._board.running
        most = max(1, self._console.height - _OTHER_LINES)
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(8, self._console.width // 4))
        table.add_column()
        for _ in range(3):
            table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for label, job in list(running.items())[:most]:
            table.add_row(*self._cells(label, job))
        total = Text(self._board.totals(), style="bold", no_wrap=True, overflow="ellipsis")
        hidden = len(running) - most
        return Group(table, *([Text(f"and {hidden} more", style="dim")] if hidden > 0 else []), total)

    def _cells(self, label: str, job: Running) -> tuple[RenderableType, ...]:
        progress, rates, estimate = job.progress, job.rates, job.plan.estimated_rows
        name = Text(self._redact(shown(label)), style="bold")
        if progress is None:
            return name, Text(""), Text(""), Text(""), Text(""), Text("beginning", style="dim")
        done = job.plan.settled_before + progress.counts.rows
        width = 16 if self._console.width >= 80 else 6
        bar: RenderableType = Text("")
        if estimate:
            bar = ProgressBar(total=estimate, completed=min(done, estimate), width=width)
        share = f"{rates.share:.0%}" if rates.share is not None else count(done)
        left = f"about {duration(rates.eta)} left" if rates.eta is not None else ""
        left = "finishing" if self._board.is_draining else left
        failed = f"{count(progress.counts.failed)} failed  " if progress.counts.failed else ""
        return (
            name,
            bar,
            Text(share),
            Text(f"{rates.objects:,.0f}/s"),
            Text(f"{size(rates.bytes)}/s"),
            Text.assemble((failed, "bold red"), (left, "cyan")),
        )
