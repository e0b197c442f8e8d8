"""`python -m tests.simulation --seeds A:B [--jobs N]`: play seeds, print those that fail, and the first with its trace."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.run import Ended, simulate
from tests.simulation.seams import simulated

#: Seeds that a process plays in one go.
SLICE = 250


def play(seeds: range, *, trace: bool = False) -> tuple[list[Ended], int, float]:
    """Play seeds in this process; those that failed, the steps of all, and the virtual seconds."""
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
    return failed, steps, seconds


def slices(seeds: range) -> Iterator[range]:
    for start in range(seeds.start, seeds.stop, SLICE):
        yield range(start, min(start + SLICE, seeds.stop))


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="0:1000", help="A:B, from A up to B; or one seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--trace", action="store_true", help="print the trace of every seed that fails")
    parser.add_argument("--most", type=int, default=20, help="stop after so many failures")
    options = parser.parse_args()
    first, colon, last = options.seeds.partition(":")
    seeds = range(int(first), int(last) if colon else int(first) + 1)
    began, failed, steps, virtual = time.monotonic(), [], 0, 0.0
    if len(seeds) == 1:
        options.trace, results = True, iter([play(seeds, trace=True)])
        if not results:
            return 1
    elif options.jobs > 1:
        results = ProcessPoolExecutor(options.jobs).map(play, slices(seeds))
    else:
        results = map(play, slices(seeds))
    for found, some_steps, some_seconds in results:
        steps, virtual = steps + some_steps, virtual + some_seconds
        for ended in found:
            failed.append(ended)
            print(f"seed {ended.seed}: {ended.violation} (runs: {ended.ends}, {ended.rows} rows)", flush=True)
        if len(failed) >= options.most:
            break
    if failed and options.trace:
        again = play(range(failed[0].seed, failed[0].seed + 1), trace=True)[0]
        print("\n".join(again[0].lines if again else []))
    took = time.monotonic() - began
    print(
        f"{len(seeds)} seeds, {len(failed)} failed, {steps:,} steps, {virtual / 3600:,.1f} h simulated in {took:.1f} s"
    )
    sys.stdout.flush()
    if options.jobs > 1:
        os._exit(bool(failed))  # without waiting for slices that nobody wants any more
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
