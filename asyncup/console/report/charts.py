"""Charts as SVG that stands in a page: curves and histograms, drawn once, with nothing to run in the browser.

Each is a figure with its title, its legend and, for whoever cannot see it, a sentence about its curves. Colours are those of the
page's style sheet (`page.STYLE`), and lines differ in their dashes too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from asyncup.console.report.elements import Element, Trusted, el, length
from asyncup.console.report.scales import Axis, Scale, number, scale_of

#: The size of a drawing, and what its axes take of it. It is shown as wide as there is room for.
WIDTH, HEIGHT = 480.0, 220.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 14.0, 24.0, 38.0
#: Curves that a style sheet has colours for.
COLOURS = 4


@dataclass(frozen=True, slots=True)
class Series:
    """One curve: points from left to right, with a gap where a value is None.

    Attributes:
        label: what the legend calls it.
        points: where it goes through.
        kind: `line`; `step`, where a value holds until the next point; or `dots`, a line with its points marked.
    """

    label: str
    points: Sequence[tuple[float, float | None]]
    kind: str = "line"


@dataclass(frozen=True, slots=True)
class Mark:
    """A place on the horizontal axis that has a name: a percentile, a knee."""

    x: float
    label: str


def line_chart(
    title: str, series: Sequence[Series], x: Axis, y: Axis, *, marks: Sequence[Mark] = (), note: str | None = None
) -> Element:
    """A figure with up to four curves over one axis. Without any value it says so, in place of a drawing."""
    shown = [one for one in series if any(value is not None for _, value in one.points)]
    if not shown:
        return _figure(title, (), el("p", note or "Nothing was measured.", class_="none"), None)
    across = scale_of(x, [place for one in shown for place, _ in one.points], ticks=6, is_tight=True)
    up = scale_of(y, [value for one in shown for _, value in one.points if value is not None])
    curves = [part for one in shown for part in _curve(one, series.index(one) % COLOURS, across, up)]
    told = "; ".join(_told(one, y) for one in shown)
    drawing = _drawing(title, f"{told}.", across, up, [*_marked(marks, across), *curves])
    return _figure(title, [(series.index(one) % COLOURS, one.label) for one in shown], drawing, note)


def histogram(
    title: str,
    bars: Sequence[tuple[float, float, float]],
    x: Axis,
    y: Axis,
    *,
    marks: Sequence[Mark] = (),
    note: str | None = None,
) -> Element:
    """A figure with one bar for each `(from, to, how many)`. One that is there at all is high enough to be seen."""
    counted = [bar for bar in bars if bar[2]]
    if not counted:
        return _figure(title, (), el("p", note or "Nothing was measured.", class_="none"), None)
    across = scale_of(x, [edge for bar in counted for edge in bar[:2]], ticks=6, is_tight=True)
    # names of marks stand above the bars
    up = scale_of(y, [count * (1.3 if marks else 1.0) for _, _, count in counted])
    drawn = []
    for low, high, count in counted:
        left, right = _x(low, across), _x(high, across)
        top = min(_y(count, up), HEIGHT - _BOTTOM - 1.5)
        drawn.append(
            el(
                "rect",
                el("title", f"{x.form(low)} to {x.form(high)}: {y.form(count)}"),
                x=left + 0.5,
                y=top,
                width=max(1.0, right - left - 1),
                height=HEIGHT - _BOTTOM - top,
                class_="bar",
            )
        )
    most = max(counted, key=lambda bar: bar[2])
    told = (
        f"{y.form(sum(bar[2] for bar in counted))} in all, from {x.form(counted[0][0])} to {x.form(counted[-1][1])}; "
        f"most of them, {y.form(most[2])}, from {x.form(most[0])} to {x.form(most[1])}."
    )
    return _figure(title, (), _drawing(title, told, across, up, [*drawn, *_marked(marks, across)]), note)


def _figure(title: str, legend: Iterable[tuple[int, str]], drawing: Element, note: str | None) -> Element:
    keys = [el("li", el("span", class_=f"key c{colour}"), label) for colour, label in legend]
    return el(
        "figure",
        el("figcaption", title),
        el("ul", *keys, class_="legend") if keys else None,
        drawing,
        el("p", note, class_="note") if note is not None and drawing.name == "svg" else None,
    )


def _drawing(title: str, told: str, across: Scale, up: Scale, inside: Sequence[Element]) -> Element:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    grid = []
    for value, name in up.ticks:
        height = _y(value, up)
        grid.append(el("line", x1=_LEFT, x2=right, y1=height, y2=height, class_="grid"))
        grid.append(el("text", name, x=_LEFT - 6, y=height + 4, class_="end"))
    for value, name in _apart(across):
        place = _x(value, across)
        grid.append(el("line", x1=place, x2=place, y1=bottom, y2=bottom + 4, class_="axis"))
        grid.append(el("text", name, x=place, y=bottom + 17, class_="middle"))
    return el(
        "svg",
        el("title", title),
        el("desc", told),
        *grid,
        el("line", x1=_LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"),
        el("text", up.label, x=2.0, y=12.0),
        el("text", across.label, x=right, y=HEIGHT - 4, class_="end"),
        *inside,
        viewBox=f"0 0 {length(WIDTH)} {length(HEIGHT)}",
        role="img",
    )


def _apart(scale: Scale) -> Iterator[tuple[float, str]]:
    """The ticks whose names do not run into each other."""
    end = -1e9
    for value, name in scale.ticks:
        place, half = _x(value, scale), len(name) * 3.6
        if place - half > end + 4 and place + half < WIDTH:
            end = place + half
            yield value, name


def _curve(series: Series, colour: int, across: Scale, up: Scale) -> Iterator[Element]:
    path = []
    for is_there, run in itertools.groupby(series.points, lambda point: point[1] is not None):
        if is_there:
            path.append(_path([(_x(x, across), _y(y or 0.0, up)) for x, y in run], is_step=series.kind == "step"))
    yield el("path", d=Trusted("".join(path)), class_=f"curve c{colour}")
    if series.kind == "dots":
        for x, y in series.points:
            if y is not None:
                yield el("circle", cx=_x(x, across), cy=_y(y, up), r=3, class_=f"dot c{colour}")


def _path(places: Sequence[tuple[float, float]], *, is_step: bool) -> str:
    """The commands of a path through places: https://www.w3.org/TR/SVG2/paths.html#PathData."""
    (x, y), *rest = places
    parts, before = [f"M{length(x)} {length(y)}"], length(y)
    for x, y in rest:
        across, up = length(x), length(y)
        if is_step:
            parts.append(f"H{across}" if up == before else f"H{across}V{up}")
        else:
            parts.append(f"L{across} {up}")
        before = up
    return "".join(parts)


def _marked(marks: Sequence[Mark], across: Scale) -> Iterator[Element]:
    """Lines for places with a name; each name on the side where there is room, below that of the one before."""
    end, row = -1e9, 0
    for mark in sorted(marks, key=lambda mark: mark.x):
        place, width = _x(mark.x, across), len(mark.label) * 6.4
        is_left = place + width > WIDTH - _RIGHT
        begin = place - width - 4 if is_left else place + 4
        row = row + 1 if begin < end else 0
        end = max(end, begin + width)
        yield el("line", x1=place, x2=place, y1=_TOP - 6, y2=HEIGHT - _BOTTOM, class_="mark")
        yield el(
            "text",
            mark.label,
            x=place - 4 if is_left else place + 4,
            y=_TOP + 4 + 14 * row,
            class_="end" if is_left else None,
        )


def _told(series: Series, y: Axis) -> str:
    values = [value for _, value in series.points if value is not None]
    return f"{series.label} between {y.form(min(values))} and {y.form(max(values))}"


def _x(value: float, scale: Scale) -> float:
    return _LEFT + scale.share(value) * (WIDTH - _LEFT - _RIGHT)


def _y(value: float, scale: Scale) -> float:
    return HEIGHT - _BOTTOM - scale.share(value) * (HEIGHT - _TOP - _BOTTOM)


__all__ = ["Axis", "Mark", "Series", "histogram", "line_chart", "number"]
