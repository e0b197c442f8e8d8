"""The report of `bench`: the four questions, the levels of concurrency as curves, what bounds a run, what it would take."""

from __future__ import annotations

from datetime import datetime

from asyncup.benchmark import Benchmark, Pace, Projection, Sweep
from asyncup.console.benchmark import asked, benchmark_lines, bound
from asyncup.console.report.about import About, told
from asyncup.console.report.charts import Axis, Mark, Series, line_chart
from asyncup.console.report.elements import Element, Node, el
from asyncup.console.report.page import (
    BAD,
    GOOD,
    NUMBERS,
    WARN,
    Column,
    Section,
    badge,
    facts,
    figure_of,
    page,
    preformatted,
    table,
    tiles,
    value,
)
from asyncup.console.text import count, duration, plural, size
from asyncup.report import ABORTED, COMPLETE, INTERRUPTED, Several
from asyncup.version import __version__

_STATES = {
    COMPLETE: ("measured", GOOD),
    ABORTED: ("not as it should be", BAD),
    INTERRUPTED: ("interrupted", WARN),
}


def bench_page(about: About, found: Benchmark | Several[Benchmark], ended: datetime, exit_code: int) -> Element:
    """The whole page."""
    parts = found.parts if isinstance(found, Several) else (("", found),)
    words, kind = _STATES[found.status]
    header: list[Node] = [el("h1", "asyncup bench ", badge(words, kind))]
    if isinstance(found, Benchmark):
        header.append(tiles(_tiles(found)))
        header.append(None if found.error is None else told(found.error))
    header.append(facts("What ran", [*about.facts(ended, exit_code), *_machine(parts[0][1])]))
    sections = []
    for number, (name, part) in enumerate(parts, 1):
        content: list[Node] = [el("p", "From ", value(part.source), " to ", value(part.destination), ".")]
        if isinstance(found, Several):
            content += [tiles(_tiles(part)), None if part.error is None else told(part.error)]
        content += _measured(part)
        title = f"Job {name}" if isinstance(found, Several) else "What was measured"
        sections.append(Section(title, content, f"job-{number}", "job" if isinstance(found, Several) else None))
    sections.append(about.configuration())
    return page(f"asyncup bench: {words}", header, sections, f"Made by asyncup {__version__}.")


def _tiles(found: Benchmark) -> list[tuple[Node, str]]:
    entries: list[tuple[Node, str]] = []
    if found.whole is not None:
        rate = found.whole.pace.rate
        entries.append((figure_of("rows_per_second", round(rate, 1), f"{rate:,.0f}"), "rows/s, all together"))
    if found.sweep is not None:
        knee = found.sweep.knee
        entries.append(
            ("not reached" if knee is None else figure_of("knee", knee, count(knee)), "requests at the knee")
        )
    if found.bottleneck is not None:
        entries.append((bound(found, found.bottleneck), "bottleneck"))
    if found.projection is not None:
        projected = found.projection
        entries.append((duration(projected.seconds), f"for {count(projected.rows)} rows"))
        if projected.dollars is not None:
            entries.append((f"${projected.dollars:,.2f}", "for the requests"))
    return entries


def _machine(found: Benchmark) -> list[tuple[str, Node]]:
    known = found.machine
    return [("Machine", f"{known.get('processor')}, {known.get('cores')} cores")] if known else []


def _measured(found: Benchmark) -> list[Node]:
    content: list[Node] = []
    if found.read is not None:
        content.append(_stages(found))
    if found.unmeasured is not None:
        content.append(el("p", found.unmeasured, "."))
    if found.failed:
        content.append(
            el(
                "p",
                f"{plural(found.failed, 'row')} failed while it was measured; the first: ",
                value(found.failure or ""),
            )
        )
    if found.sweep is not None and found.sweep.steps:
        content += _sweep(found.sweep)
    if found.rates:
        content.append(_bounds(found))
    if found.projection is not None:
        content.append(facts("What all rows would take", _projection(found.projection)))
    if found.changes:
        content.append(_changes(found))
    if lines := [line for line in benchmark_lines(found) if line.startswith("Next: ")]:
        content.append(preformatted(lines))
    return content


def _stages(found: Benchmark) -> Element:
    rows: list[list[Node]] = []
    stages: list[tuple[str, Pace | None, str]] = [
        ("the database gives", found.read, "rows"),
        ("rendering makes", found.render, "rows"),
        ("this machine signs and sends", found.send, "objects"),
        ("all together", None if found.whole is None else found.whole.pace, "rows"),
    ]
    for label, pace, counted in stages:
        if pace is not None:
            rows.append(
                [label, f"{pace.rate:,.0f} {counted}/s", f"{size(pace.bytes_rate)}/s", f"{pace.cpu_us:,.1f} µs"]
            )
    columns = [Column("Stage"), Column("Speed", NUMBERS), Column("Bytes", NUMBERS), Column("CPU for one", NUMBERS)]
    start = found.start_up
    caption = "How fast each stage is by itself"
    if start is not None:
        caption += f"; before the first row, {start.seconds:.2f} s: {start.imports:.2f} importing, {start.prepare:.2f} connecting and checking"
    return table(caption, columns, rows)


def _sweep(found: Sweep) -> list[Node]:
    marks = [] if found.knee is None else [Mark(float(found.knee), f"knee: {found.knee}")]
    across = Axis("requests in flight", kind="log", least=None)

    def curve(label: str, values: list[float]) -> Series:
        points = [(float(step.concurrency), one) for step, one in zip(found.steps, values, strict=True)]
        return Series(label, points, "dots")

    charts = [
        line_chart(
            "Objects a second",
            [curve("objects/s", [step.pace.rate for step in found.steps])],
            across,
            Axis("objects/s"),
            marks=marks,
            note=f"Asked: {asked(found)}.",
        ),
        line_chart(
            "How long requests took",
            [curve("p50", [step.p50 for step in found.steps]), curve("p99", [step.p99 for step in found.steps])],
            across,
            Axis("milliseconds"),
            marks=marks,
        ),
    ]
    columns = [
        Column("In flight", NUMBERS),
        Column("Objects/s", NUMBERS),
        Column("p50", NUMBERS),
        Column("p99", NUMBERS),
        Column("Throttled", NUMBERS),
    ]
    rows: list[list[Node]] = [
        [
            count(step.concurrency),
            f"{step.pace.rate:,.0f}",
            f"{step.p50:,.1f} ms",
            f"{step.p99:,.1f} ms",
            count(step.throttled),
        ]
        for step in found.steps
    ]
    return [el("div", charts, class_="charts"), table("Levels of concurrency", columns, rows)]


def _bounds(found: Benchmark) -> Element:
    columns = [Column("What bounds a run"), Column("Rows/s", NUMBERS)]
    ordered = sorted(found.rates.items(), key=lambda one: one[1])
    return table(
        "The slowest is the bottleneck", columns, [[bound(found, name), f"{rate:,.0f}"] for name, rate in ordered]
    )


def _projection(found: Projection) -> list[tuple[str, Node]]:
    rows: list[tuple[str, Node]] = [
        ("Rows", f"{count(found.rows)}, {found.basis}"),
        ("Time", f"about {duration(found.seconds)}, start-up included"),
        ("Objects", f"{count(found.objects)}, {size(found.bytes)}"),
        ("Requests", count(found.requests)),
    ]
    if found.dollars is not None and found.dollars_per_month is not None:
        rows.append(("Price", f"${found.dollars:,.2f}, then ${found.dollars_per_month:,.2f} a month"))
    rows.append(
        ("Prefixes at this speed", f"{count(found.prefixes_now)}, of {count(round(found.prefix_rate))} writes/s each")
    )
    if found.target is not None:
        if found.prefixes is not None:
            rows.append((f"Prefixes for {duration(found.target)}", count(found.prefixes)))
        if found.machines is not None:
            rows.append((f"Machines for {duration(found.target)}", count(found.machines)))
    return rows


def _changes(found: Benchmark) -> Element:
    columns = [Column("Figure"), Column("Before", NUMBERS), Column("Now", NUMBERS), Column("Change", NUMBERS)]
    rows: list[list[Node]] = []
    for change in found.changes:
        words = f"{abs(change.share):.1%} {'worse' if change.share > 0 else 'better'}"
        told_of = el("span", words, class_=BAD) if change.is_worse else words
        rows.append([change.figure, f"{change.before:,.2f}", f"{change.now:,.2f}", told_of])
    return table(f"Beside {found.compared}", columns, rows)
