"""Many seeds, one after the other."""

from __future__ import annotations

import gc
from collections.abc import Iterator

from tests.simulation.run import Ended, simulate
from tests.simulation.seams import simulated

#: Seeds that a process plays in one go.
SLICE = 250
#: What a slice comes to: the seeds that failed, how many were played, the steps of all, and the virtual seconds.
Played = tuple[list[Ended], int, int, float]


def play(seeds: range, *, trace: bool = False) -> Played:
    """Play seeds in this process."""
    failed, steps, seconds = [], 0, 0.0
    with simulated():
        for seed in seeds:
            ended = simulate(seed, trace=trace)
            steps += ended.steps
            seconds += ended.seconds
            if ended.violation is not None:
                failed.append(ended)
            if not seed % 50:
                gc.collect()
    return failed, len(seeds), steps, seconds


def slices(seeds: range) -> Iterator[range]:
    for start in range(seeds.start, seeds.stop, SLICE):
        yield range(start, min(start + SLICE, seeds.stop))
