"""The live view: a few calm lines that show where the run stands, on a terminal that can redraw them."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from asyncup.console.plain import EventFilter, headline, lagging
from asyncup.console.rates import RateMeter, Rates
from asyncup.console.text import Redactor, count, duration, size
from asyncup.events import Draining, Event, Finished, Planned, Progress
from asyncup.resolved import Plan


class LiveView:
    """Redraws on every progress event; other events scroll by above."""

    def __init__(self, stream: TextIO, redact: Redactor, *, traces: bool = False) -> None:
        self._console = Console(file=stream, highlight=False)
        self._redact = redact
        self._filter = EventFilter(traces=traces)
        self._live: Live | None = None
        self._plan: Plan | None = None
        self._rates: RateMeter | None = None
        self._draining = False

    def on_event(self, event: Event) -> None:
        if isinstance(event, Planned):
            self._plan, self._rates = event.plan, RateMeter(event.plan)
            self._console.print(Text(self._redact(headline(event.plan))), soft_wrap=True)
            self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False)
            self._live.start()
        elif isinstance(event, Progress):
            if self._live is not None and self._plan is not None and self._rates is not None:
                self._live.update(self._frame(self._plan, event, self._rates.add(event)), refresh=True)
        elif isinstance(event, Finished):
            self.close()
        else:
            self._draining = self._draining or isinstance(event, Draining)
            line = self._filter.line(event)
            if line is not None:
                self._console.print(Text(self._redact(line)), soft_wrap=True)

    def close(self) -> None:
        """Give the terminal back: the cursor is shown and the view is gone."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _frame(self, plan: Plan, progress: Progress, rates: Rates) -> RenderableType:
        counts, estimate = progress.counts, plan.estimated_rows
        done = plan.settled_before + counts.rows
        head: RenderableType
        if estimate and rates.share is not None:
            left = (
                "finishing" if self._draining else f"about {duration(rates.eta)} left" if rates.eta is not None else ""
            )
            row = Table.grid(padding=(0, 1))
            row.add_column()
            row.add_column(no_wrap=True, overflow="ellipsis")
            row.add_row(
                ProgressBar(
                    total=estimate, completed=min(done, estimate), width=24 if self._console.width >= 80 else 8
                ),
                Text.assemble(
                    (f"{rates.share:.0%}", "bold"),
                    "  ",
                    (left, "cyan"),
                    f"  {count(done)} of {count(estimate)} rows by the planner's estimate",
                ),
            )
            head = row
        else:
            head = Text.assemble((count(done), "bold"), " rows   ", (duration(progress.seconds), "cyan"))
        figures = Text.assemble(
            (f"{rates.objects:,.0f}", "bold"),
            f" {plan.counted}/s   ",
            (size(rates.bytes), "bold"),
            "/s   ",
            (size(progress.memory), "bold"),
            " held   ",
            (f"{progress.in_flight}", "bold"),
            f" of {progress.limit} in flight",
            (f" ({progress.reason})" if progress.reason and plan.settles == "put" else "", "dim"),
            (lagging(progress), "yellow"),
        )
        account = Text.assemble(
            (count(counts.put), "green"),
            f" {plan.settles}   ",
            f"{count(counts.skipped)} skipped   ",
            (count(counts.failed), "bold red" if counts.failed else ""),
            " failed   " if plan.settles == "put" else " missing or different   ",
            (count(progress.retries), "yellow" if progress.retries else ""),
            " retries   ",
            f"{count(progress.throttled)} throttled",
        )
        for line in (figures, account):
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(head, figures, account)
