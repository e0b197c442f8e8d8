"""Where a value lies on an axis, and which values are named there: round ones, few enough to be read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: Units of time: seconds in one, up to how many of them it is the right one, and steps beside 1, 2 and 5.
_TIMES: tuple[tuple[str, float, float, tuple[float, ...]], ...] = (
    ("s", 1.0, 180.0, ()),
    ("min", 60.0, 180.0, (15.0, 30.0)),
    ("h", 3600.0, 96.0, (3.0, 6.0, 12.0, 24.0)),
    ("d", 86400.0, math.inf, (7.0,)),
)


def number(value: float) -> str:
    """A tick or a figure, with as many digits as tell it from its neighbours: `1,500`, `2.5`, `0.02`."""
    if abs(value) >= 100 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a chart.

    Attributes:
        label: what it shows, with its unit: `objects/s`. That of time gets its unit when its length is known.
        kind: `linear`, `log`, or `time` for seconds that are shown as minutes, hours or days where they are many.
        form: how a value on it is written.
        least: it reaches down to this at least; None where it begins with the smallest value.
        most: it reaches up to this at least.
    """

    label: str
    kind: str = "linear"
    form: Callable[[float], str] = number
    least: float | None = 0.0
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis for values from `low` to `high`; `ticks` are the values that are named, each with its name."""

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    is_log: bool = False

    def share(self, value: float) -> float:
        """How far along the axis a value lies, 0 to 1."""
        if self.is_log:
            low, high, value = math.log(self.low), math.log(self.high), math.log(max(value, self.low))
        else:
            low, high = self.low, self.high
        return min(1.0, max(0.0, (value - low) / (high - low)))


def scale_of(axis: Axis, values: Sequence[float], *, ticks: int = 5, is_tight: bool = False) -> Scale:
    """The scale that all values lie on; it ends with a tick, unless it is `tight` and ends with the values."""
    if axis.kind == "log":
        return _logarithmic(axis, [value for value in values if value > 0], is_tight=is_tight)
    found = [value for value in (*values, axis.least, axis.most) if value is not None]
    low, high = min(found, default=0.0), max(found, default=1.0)
    if high <= low:
        high = low + (abs(low) or 1.0)
    unit, label, form = 1.0, axis.label, axis.form
    extra: tuple[float, ...] = ()
    if axis.kind == "time":
        name, unit, _, extra = next(time for time in _TIMES if high / time[1] <= time[2])
        label, form = f"{axis.label} ({name})", number
    step = _step((high - low) / unit / ticks, extra) * unit
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    named = [(count * step, form(count * step / unit)) for count in range(first, last + 1)]
    if is_tight:
        slack = (high - low) * 1e-6
        named = [tick for tick in named if low - slack <= tick[0] <= high + slack]
    else:
        low, high = named[0][0], named[-1][0]
    return Scale(label, low, high, tuple(named))


def _logarithmic(axis: Axis, values: Sequence[float], *, is_tight: bool) -> Scale:
    """Ticks at powers of ten; between them at 2 and 5 where there are few."""
    low, high = min(values, default=1.0), max(values, default=10.0)
    if not is_tight:
        low, high = min(low, high / 10), max(high, low * 10)
    if high <= low:
        low, high = low / 2, high * 2
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    parts = (1,) if last - first > 4 else (1, 2, 5)
    named = [part * 10.0**power for power in range(first, last + 1) for part in parts]
    if not is_tight:
        low = max((tick for tick in named if tick <= low * 1.0001), default=low)
        high = min((tick for tick in named if tick >= high * 0.9999), default=high)
    shown = tuple((tick, axis.form(tick)) for tick in named if low * 0.999 <= tick <= high * 1.001)
    return Scale(axis.label, low, high, shown, is_log=True)


def _step(rough: float, extra: Sequence[float]) -> float:
    """The smallest round step that is not below `rough`: 1, 2 or 5 of a power of ten, or one of `extra`."""
    power = 10.0 ** math.floor(math.log10(rough))
    usual = next(part * power for part in (1, 2, 5, 10) if part * power >= rough * 0.999)
    return min([usual, *(step for step in extra if step >= rough)])
