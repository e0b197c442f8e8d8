"""`python -m tests.simulation --seeds A:B [--jobs N]`: play seeds and print those that fail; one seed alone with its trace."""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import sys
import time
from collections.abc import Iterator

from tests.simulation.known import KNOWN
from tests.simulation.play import Played, play, slices
from tests.simulation.run import simulate
from tests.simulation.seams import simulated


def show(seed: int, *, divided: bool) -> bool:
    """Play one seed and print its trace; whether it failed."""
    with simulated():
        ended = simulate(seed, trace=True, divided=divided)
    print(*ended.lines, sep="\n")
    print(
        f"seed {seed}: {ended.violation or 'every guarantee held'}; {ended.ends}, trace {ended.digest & (1 << 64) - 1:016x}"
    )
    return ended.violation is not None


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="0:1000", help="A:B, from A up to B; or one seed, which is traced")
    parser.add_argument("--undivided", action="store_true", help="the one seed is of `seeds.FOUND`")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--most", type=int, default=20, help="stop after so many failures")
    parser.add_argument("--strict", action="store_true", help="overlook nothing of what `known.py` lists")
    options = parser.parse_args()
    if options.strict:
        KNOWN.clear()
    first, colon, last = options.seeds.partition(":")
    if not colon:
        return int(show(int(first), divided=not options.undivided))
    seeds = range(int(first), int(last))
    began, failures, played, steps, virtual = time.monotonic(), 0, 0, 0, 0.0
    with contextlib.ExitStack() as stack:
        results: Iterator[Played] = map(play, slices(seeds))
        if options.jobs > 1:
            pool = stack.enter_context(
                multiprocessing.get_context("spawn").Pool(options.jobs, KNOWN.clear if options.strict else None)
            )
            results = pool.imap_unordered(play, slices(seeds))
        for found, some, some_steps, some_seconds in results:
            played, steps, virtual = played + some, steps + some_steps, virtual + some_seconds
            for ended in found:
                failures += 1
                print(f"seed {ended.seed}: {ended.violation} (runs: {ended.ends}, {ended.rows} rows)", flush=True)
            if failures >= options.most:
                break
    took = time.monotonic() - began
    print(f"{played:,} seeds, {failures} failed, {steps:,} steps, {virtual / 3600:,.1f} h simulated in {took:.1f} s")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
