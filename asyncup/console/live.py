"""The live view: a few calm lines that show where the run stands, on a terminal that can redraw them."""

from __future__ import annotations

from typing import TextIO

from rich.text import Text

from asyncup.console.layout import Painter, cell, milliseconds, packed
from asyncup.console.opening import Opening
from asyncup.console.plain import EventFilter, headline, lagging
from asyncup.console.rates import RateMeter, Rates
from asyncup.console.screen import Screen
from asyncup.console.text import Redactor, calm, count, duration, size, wrapped
from asyncup.events import Busy, Draining, Event, Finished, Listing, Planned, Progress
from asyncup.resolved import Plan

#: From so many columns on lines begin with what they are about.
_LABELLED = 64
_LABEL = 11
#: The longest bar.
_BAR = 40
#: Which lines there is no room for on a low terminal, the first to go first.
_LEAST_FIRST = ("in flight", "rows", "speed", "account")


class LiveView:
    """Redraws on every progress event that changes something; other events scroll by above."""

    def __init__(self, stream: TextIO, redact: Redactor, *, traces: bool = False, screen: Screen | None = None) -> None:
        self._screen = screen or Screen(stream)
        self._painter = Painter(stream)
        self._redact = redact
        self._filter = EventFilter(traces=traces)
        self._plan: Plan | None = None
        self._rates: RateMeter | None = None
        self._draining = False
        self._screen.open()
        self._opening = Opening(lambda words: self._draw([Text(words, style="dim")] if words else []))

    def on_event(self, event: Event) -> None:
        if isinstance(event, Planned):
            self._opening.end()
            self._plan, self._rates = event.plan, RateMeter(event.plan)
            self._say(headline(event.plan))
        elif isinstance(event, Progress):
            if self._plan is not None and self._rates is not None:
                self._draw(self.frame(self._plan, event, self._rates.add(event)))
        elif isinstance(event, Finished):
            self.close()
        elif isinstance(event, Busy):
            self._opening.tell(event.words)
        elif isinstance(event, Listing):
            self._opening.tell(f"listing the destination: {count(event.objects)} objects")
        else:
            self._draining = self._draining or isinstance(event, Draining)
            line = self._filter.line(event)
            if line is not None:
                self._say(line)

    def close(self) -> None:
        """Give the terminal back: the cursor is shown and the view is gone."""
        self._opening.end()
        self._screen.close()

    def _say(self, line: str) -> None:
        self._screen.say("\n".join(wrapped(self._redact(line), self._screen.width)))

    def _draw(self, texts: list[Text]) -> None:
        self._screen.draw(self._painter.lines(texts, self._screen.width))

    def frame(self, plan: Plan, progress: Progress, rates: Rates) -> list[Text]:
        """The lines of this moment, for the terminal as it is."""
        width, height = self._screen.width, self._screen.height
        indent = " " * _LABEL if width >= _LABELLED else ""
        parts = self._parts(plan, progress, rates, is_labelled=bool(indent))
        lines = {name: packed(cells, width, indent) for name, cells in parts.items()}
        for name in lines if indent else ():
            if name != "account":
                lines[name][0] = Text.assemble((f"{name:{_LABEL}}", "dim"), lines[name][0][_LABEL:])
        head = self._head(plan, rates, width)
        for name in _LEAST_FIRST:
            if len(head) + sum(map(len, lines.values())) > height:
                lines.pop(name, None)
        return [*head, *(line for some in lines.values() for line in some)]

    def _head(self, plan: Plan, rates: Rates, width: int) -> list[Text]:
        """How much is done, where that can be known, and how long the rest takes."""
        if not plan.estimated_rows or rates.share is None:
            return []
        share = Text(f"{rates.share:4.0%}  ", style="bold")
        left = f"about {calm(rates.eta)} left" if rates.eta is not None else ""
        left = "finishing" if self._draining else left
        room = min(_BAR, width - share.cell_len - 2 - len("about 59m55s left"))
        bar = self._painter.bar(rates.share, room) if room >= 8 else Text()
        return [Text.assemble(share, bar, "  " if bar else "", (left, "cyan"))]

    def _parts(self, plan: Plan, progress: Progress, rates: Rates, *, is_labelled: bool) -> dict[str, list[Text]]:
        """What there is to say, by the lines' names, in cells."""
        counts, estimate = progress.counts, plan.estimated_rows
        done = plan.settled_before + counts.rows
        wide = len(count(max(done, estimate or 0)))
        of = f" of about {count(estimate)}" if estimate and done <= estimate else " rows"
        rows = [cell(count(done), of, right=wide), cell(duration(progress.seconds), " so far", right=6, style="cyan")]
        is_put = plan.settles == "put"
        bad = " failed" if is_put else " missing or different"
        account = [
            cell(count(counts.put), f" {plan.settles}", right=wide, style="green"),
            cell(count(counts.skipped), " skipped", width=11, style=""),
            cell(count(counts.failed), bad, width=2 + len(bad), style="bold red" if counts.failed else ""),
        ]
        if _is_sent(plan):
            account += [
                cell(count(progress.retries), " retries", width=11, style="yellow" if progress.retries else ""),
                cell(count(progress.throttled), " throttled", style="yellow" if progress.throttled else ""),
            ]
        speed = [
            cell(f"{rates.objects:,.0f}", f" {plan.counted}/s", right=7),
            *([cell(size(rates.bytes), "/s", right=8)] if is_put or rates.bytes else []),
        ]
        if _is_sent(plan) and progress.latency.p50:
            speed.append(
                Text.assemble(
                    "latency ", cell(milliseconds(progress.latency.p50), ",", right=7), " p99 ",
                    cell(milliseconds(progress.latency.p99), "", right=7),
                )
            )  # fmt: skip
        limit = count(progress.limit)
        why = f", {progress.reason}" if progress.reason and is_put else ""
        sending = [
            cell(
                count(progress.in_flight),
                f" of {limit}{'' if is_labelled else ' in flight'}{why}",
                right=max(3, len(limit)),
                width=40 if is_labelled else 0,
            ),
            cell(size(progress.memory), " held", right=8),
        ]
        if late := lagging(progress):
            sending.append(Text(late.removeprefix(", "), style="yellow"))
        return {"rows": rows, "account": account, "speed": speed, "in flight": sending}


def _is_sent(plan: Plan) -> bool:
    """Whether there is somebody who answers, so that it can take time and fail."""
    return plan.settles == "put" and not plan.dry_run and not plan.destination.startswith("null:")
