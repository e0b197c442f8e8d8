"""What a benchmark came to, on one screen: the four questions, the levels of concurrency, what bounds a run, what it would take."""

from __future__ import annotations

from asyncup.benchmark import BUCKET, DATABASE, DESTINATION, MACHINE, TRANSFORM, Benchmark, Projection, Step, Sweep
from asyncup.console.text import count, duration, plural, shown, size

_BOUNDS = {
    DATABASE: "the database",
    TRANSFORM: "the transform",
    MACHINE: "one core of this machine",
    DESTINATION: "the destination",
}
_ADVICE = {
    DATABASE: "more --readers, a machine nearer to the database, or narrower rows",
    TRANSFORM: "more cores, or --shard on several machines",
    MACHINE: "--shard on several machines, or --readers and jobs in several processes",
    DESTINATION: "more prefixes that are written to at the same time, or a bucket nearer to this machine",
}
#: Below this share of the bottleneck, what a run came to is worth a line.
_REACHED = 0.85
#: Columns that a plot takes, and its lines.
_WIDTH, _HEIGHT = 72, 12


def benchmark_lines(found: Benchmark, *, plots: bool = False) -> list[str]:
    """What a person reads at the end. Empty where nothing was measured."""
    if found.read is None:
        return []
    lines = [f"{shown(found.source)} → {shown(found.destination)}", "", *_stages(found)]
    if found.unmeasured is not None:
        lines.append(f"  {shown(found.unmeasured)}")
    if found.failed:
        lines.append(
            f"  {plural(found.failed, 'row')} failed while it was measured; the first: {shown(found.failure or '')}"
        )
    if found.sweep is not None and found.sweep.steps:
        lines += ["", *_sweep(found.sweep)]
        if plots:
            lines += _plot(found.sweep)
    lines += ["", *_bounds(found)]
    if found.projection is not None:
        lines += _projection(found.projection)
    lines += _comparison(found)
    if found.command is not None:
        lines += ["", f"Next: {found.command}"]
    return lines


def _stages(found: Benchmark) -> list[str]:
    rows: list[tuple[str, str]] = []
    if (start := found.start_up) is not None:
        rows.append(
            (
                "start-up",
                f"{start.seconds:.2f} s: {start.imports:.2f} importing, {start.prepare:.2f} connecting and checking",
            )
        )
    for label, pace, counted, what in (
        ("the database gives", found.read, "rows", "a row"),
        ("rendering makes", found.render, "rows", "a row"),
        ("this machine signs and sends", found.send, "objects", "an object"),
    ):
        if pace is not None:
            rows.append(
                (
                    label,
                    f"{pace.rate:,.0f} {counted}/s, {size(pace.bytes_rate)}/s, {pace.cpu_us:,.1f} µs of CPU for {what}",
                )
            )
    if found.sweep is not None:
        who = "the bucket" if found.sweep.against == BUCKET else "the simulator"
        rows.append((f"{who} takes", f"{found.sweep.best:,.0f} objects/s{_at_knee(found.sweep)}"))
    if (whole := found.whole) is not None:
        level = f", {plural(whole.limit, 'request')} in flight" if found.sweep is not None else ""
        rows.append(
            (
                "all together",
                f"{whole.pace.rate:,.0f} rows/s, {size(whole.pace.bytes_rate)}/s, {whole.pace.cpu_us:,.1f} µs of CPU a row{level}",
            )
        )
    width = max(len(label) for label, _ in rows)
    return [f"  {label:{width}}  {text}" for label, text in rows]


def _at_knee(found: Sweep) -> str:
    return f", from {found.knee} in flight on" if found.knee is not None else ", and more with more in flight"


def asked(found: Sweep) -> str:
    """Who took the objects, in words."""
    if found.against == BUCKET:
        return "the bucket itself"
    limit = f" and takes {found.limit:,.0f} requests/s" if found.limit else ""
    latency = f"{found.latency or 0:,.1f} ms ({found.basis})"
    return f"a simulator on this machine, over plain HTTP, which answers after {latency}{limit}"


def _sweep(found: Sweep) -> list[str]:
    lines = [f"  asked: {asked(found)}", "  in flight  objects/s       p50       p99  throttled"]
    return [*lines, *(_step(step, found.knee) for step in found.steps)]


def _step(step: Step, knee: int | None) -> str:
    throttled = count(step.throttled) if step.throttled else ""
    mark = "  ← the knee" if knee is not None and step.concurrency == knee else ""
    return f"  {step.concurrency:9,}  {step.pace.rate:9,.0f}  {step.p50:5,.0f} ms  {step.p99:5,.0f} ms  {throttled:>9}{mark}".rstrip()


def _plot(found: Sweep) -> list[str]:
    """Objects a second over requests in flight, drawn with characters; nothing where the library is not there."""
    try:
        import plotext  # noqa: PLC0415 - of the extra `report`
    except ImportError:
        return ["  (with the extra `report` this is drawn as a curve: pip install '.[report]' in a checkout)"]
    figure = plotext.figure
    figure.clear()
    figure.theme("clear")
    figure.plot_size(_WIDTH, _HEIGHT)
    curve = figure.signal(
        [step.concurrency for step in found.steps], [step.pace.rate for step in found.steps], marker="braille"
    )
    curve.lines(True)
    figure.draw(curve)
    for axis, most in (("x", found.steps[-1].concurrency), ("y", max(step.pace.rate for step in found.steps))):
        places = [most * share / 4 for share in range(5)]
        figure.ruler(axis).lim(0, most)
        figure.ruler(axis).ticks(places, [f"{place:,.0f}" for place in places])
    figure.label("requests in flight", "x")
    figure.label("objects/s", "y")
    return ["", *(f"  {line.rstrip()}" for line in plotext.uncolorize(str(figure.build())).splitlines())]


def bound(found: Benchmark, name: str) -> str:
    """What may bound a run, in words. A simulator is as fast as it was told to be, which the real bucket need not be."""
    is_simulated = name == DESTINATION and found.sweep is not None and found.sweep.against != BUCKET
    return "the destination, as it was simulated" if is_simulated else _BOUNDS[name]


def _bounds(found: Benchmark) -> list[str]:
    bottleneck = found.bottleneck
    if bottleneck is None:
        return []
    others = sorted(((rate, name) for name, rate in found.rates.items() if name != bottleneck))
    rest = ", ".join(f"{bound(found, name)} {rate:,.0f}" for rate, name in others)
    lines = [
        f"Bottleneck: {bound(found, bottleneck)}, {found.rates[bottleneck]:,.0f} rows/s" + (f"; {rest}" if rest else "")
    ]
    whole, least = found.whole, found.rates[bottleneck]
    if whole is not None and whole.pace.rate < _REACHED * least:
        why = f" with {whole.limit:,} in flight ({whole.reason})" if found.sweep is not None else ""
        lines.append(f"  all together reached {whole.pace.rate / least:.0%} of that{why}")
    advice = _ADVICE[bottleneck]
    if bottleneck == DESTINATION and found.sweep is not None and found.sweep.against != BUCKET:
        lines.append("  the real bucket may give more or less: --against bucket measures it")
    if bottleneck == DESTINATION and found.sweep is not None and found.sweep.knee is None:
        advice = "more in flight: the sweep ended before more brought no more"
    return [*lines, f"  what helps: {advice}"]


def _projection(found: Projection) -> list[str]:
    rows = f"{plural(found.rows, 'row')} ({found.basis})"
    price = ""
    if found.dollars is not None:
        price = f", ${found.dollars:,.2f}; then ${found.dollars_per_month or 0:,.2f} a month for {size(found.bytes)}"
    lines = [f"{rows}: about {duration(found.seconds)}, {plural(found.requests, 'request')}{price}"]
    if found.prefixes_now > 1 and found.dollars is not None:
        lines.append(
            f"  S3 takes {found.prefix_rate:,.0f} writes/s for each prefix at first: so fast it needs {found.prefixes_now}"
        )
    if found.target is not None and found.prefixes is None:
        lines.append(f"  in {duration(found.target)}: it cannot be; start-up alone takes as long")
    elif found.target is not None:
        prefixes = (
            "" if found.prefixes is None else f"{plural(found.prefixes, 'prefix')}".replace("prefixs", "prefixes")
        )
        machines = "" if found.machines is None else f" and {plural(found.machines, 'machine')} such as this"
        lines.append(f"  in {duration(found.target)}: {prefixes}{machines}")
    return lines


def _comparison(found: Benchmark) -> list[str]:
    if found.compared is None:
        return []
    width = max((len(change.figure) for change in found.changes), default=0)
    lines = ["", f"Beside {shown(found.compared)}:"]
    for change in found.changes:
        word = "worse" if change.share > 0 else "better"
        mark = "  ← too much" if change.is_worse else ""
        lines.append(
            f"  {change.figure:{width}}  {change.before:,.2f} → {change.now:,.2f}, {abs(change.share):.1%} {word}{mark}"
        )
    return lines
