"""Finds the knee: levels of concurrency, each twice the one before, until more brings no more; then some around the bend."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence

from asyncup.benchmark import THROTTLED, Step, knee_of

Measure = Callable[[int], Awaitable[Step | None]]

#: A level that brings less than this times the one before is no growth.
GROWTH = 1.15
#: Levels that are looked at around the bend.
AROUND = 3


async def sweep(measure: Measure, most: int) -> tuple[tuple[Step, ...], int | None]:
    """Measure levels up to `most`; the steps in their order, and the knee if there is one. `measure` gives None to stop."""
    steps: list[Step] = []
    level = 1
    while True:
        step = await measure(level)
        if step is None:
            return _sorted(steps), None
        steps.append(step)
        if level >= most or _is_enough(steps):
            break
        level = min(most, level * 2)
    for _ in range(AROUND):
        closer = _closer(steps, most)
        if closer is None:
            break
        step = await measure(closer)
        if step is None:
            return _sorted(steps), None
        steps.append(step)
    return _sorted(steps), knee_of(steps)


def _is_enough(steps: Sequence[Step]) -> bool:
    """Whether the last level was throttled, or the last two brought no more than the one before them: one may be chance."""
    last = steps[-1]
    if last.throttled > THROTTLED * (last.pace.count + last.throttled):
        return True
    return len(steps) > 2 and max(step.pace.rate for step in steps[-2:]) < GROWTH * steps[-3].pace.rate


def _closer(steps: Sequence[Step], most: int) -> int | None:
    """The next level to look at: the knee itself, as it is known by now, or halfway from what was looked at before it."""
    knee = knee_of(steps)
    if knee is None:
        return None
    looked = sorted(step.concurrency for step in steps)
    wanted = min(knee, most)
    if all(abs(wanted - level) > 0.1 * wanted for level in looked):
        return wanted
    between = (_halfway(one, other) for one, other in _around(wanted, looked))
    return next((level for level in between if level is not None and level not in looked), None)


def _around(wanted: int, looked: Sequence[int]) -> list[tuple[int | None, int | None]]:
    """The gaps behind a level and before it."""
    below = max((level for level in looked if level < 0.95 * wanted), default=None)
    above = min((level for level in looked if level > 1.05 * wanted), default=None)
    return [(wanted, above), (below, wanted)]


def _halfway(one: int | None, other: int | None) -> int | None:
    """A level between two, if they are far from each other."""
    return None if one is None or other is None or other <= 1.25 * one else round(math.sqrt(one * other))


def _sorted(steps: Sequence[Step]) -> tuple[Step, ...]:
    return tuple(sorted(steps, key=lambda step: step.concurrency))
