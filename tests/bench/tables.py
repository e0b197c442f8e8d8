"""Results as tables: for a terminal, or in Markdown for the README."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from tests.bench.clients import ASYNCUP
from tests.bench.compare import Change, size
from tests.bench.figures import Figure, Load, Results
from tests.bench.sections import SECTIONS

#: From this share of a core on, it is the simulator that objects per second were limited by.
BUSY = 0.9

_Ours = Mapping[Load, Figure]
_COLUMNS: dict[str, tuple[str, Callable[[Figure, _Ours], str]]] = {
    "client": ("client", lambda one, _: one.peer),
    "size": ("size", lambda one, _: size(one.load.size)),
    "in_flight": ("in flight", lambda one, _: f"{one.load.in_flight:,}"),
    "cpu": ("CPU µs/object", lambda one, _: short(one.cpu_us)),
    "runs": ("its runs", lambda one, _: f"{short(min(one.cpu_us_runs))} to {short(max(one.cpu_us_runs))}"),
    "ratio": ("× asyncup", lambda one, ours: short(one.cpu_us / ours[one.load].cpu_us) if one.load in ours else ""),
    "speed": ("objects/s", lambda one, _: short(one.objects_per_second) + ("*" if one.server_busy >= BUSY else "")),
    "throughput": ("MB/s", lambda one, _: short(one.objects_per_second * one.load.size / (1 << 20))),
    "share": ("of the limit", lambda one, _: "" if one.share is None else f"{one.share:.1%}"),
}
_LEFT = ("client",)


def render(results: Results, *, markdown: bool) -> None:
    """Print every section, with what one needs to know to believe it."""
    for section in SECTIONS:
        figures = [one for one in results.figures if one.section == section.name]
        if not figures:
            continue
        ours = {one.load: one for one in figures if one.peer == ASYNCUP.name}
        heads = [_COLUMNS[name][0] for name in section.shows]
        lines = [[_COLUMNS[name][1](one, ours) for name in section.shows] for one in figures]
        _table(section.title, heads, lines, [name in _LEFT for name in section.shows], markdown=markdown)
        if any(one.server_busy >= BUSY for one in figures) and "speed" in section.shows:
            print(
                "\\* the simulator was busy all the time, and the limit.\n"
                if markdown
                else "* the simulator was the limit\n"
            )
    if results.start_up is not None:
        lines = [
            ["`asyncup --version`", f"{results.start_up.version_seconds:.3f} s"],
            ["a sync of one row, CPU", f"{results.start_up.one_row_cpu_seconds:.2f} s"],
        ]
        _table("Start-up", ["what", "figure"], lines, [True, False], markdown=markdown)
    for name, reason in results.skipped.items():
        print(f"Not measured: {name}: {reason}")
    machine, versions = results.machine, results.versions
    print(f"Measured {results.date} on {machine['cores']} × {machine['cpu']}, {machine['system']}: ", end="")
    print(", ".join(f"{name} {version}" for name, version in versions.items()) + ".")
    print(results.method)


def render_changes(changes: Sequence[Change], *, markdown: bool) -> None:
    """Print old beside new."""
    lines = [
        [one.section, one.what, one.unit, short(one.old), short(one.new), f"{one.ratio:.2f}", _verdict(one)]
        for one in changes
    ]
    heads = ["section", "what", "figure", "old", "new", "new/old", ""]
    _table("Compared", heads, lines, [True, True, True, False, False, False, True], markdown=markdown)


def _verdict(change: Change) -> str:
    return "worse" if change.regression > 0.05 else "better" if change.regression < -0.05 else ""


def short(number: float) -> str:
    """Three digits that mean something, and no decimals behind thousands."""
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def _table(
    title: str, heads: Sequence[str], lines: Sequence[Sequence[str]], left: Sequence[bool], *, markdown: bool
) -> None:
    if markdown:
        print(f"### {title}\n")
        print("| " + " | ".join(heads) + " |")
        print("|" + "|".join("---" if one else "---:" for one in left) + "|")
        for line in lines:
            print("| " + " | ".join(line) + " |")
        print()
        return
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for head, is_left in zip(heads, left, strict=True):
        table.add_column(head, justify="left" if is_left else "right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    Console(width=140, highlight=False).print(table)
