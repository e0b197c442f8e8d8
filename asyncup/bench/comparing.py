"""A benchmark kept in a file, and a later one held against it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from asyncup.benchmark import BENCHMARK_VERSION, Benchmark, Change
from asyncup.errors import GateMissed, UsageError

#: What is compared: where it is, and whether less of it is better. How fast a stage is by itself depends on what else the
#: machine does; the CPU that it takes much less, but not that of a run which mostly waits.
FIGURES = (
    ("read", "cpu_us", True),
    ("render", "cpu_us", True),
    ("send", "cpu_us", True),
    ("whole", "rows_per_second", False),
)


def read_benchmark(path: Path) -> Mapping[str, Any]:
    """What `--save` has written.

    Raises:
        UsageError: it cannot be read, or is something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise UsageError(
            "read flags", "--compare", f"{path} cannot be read: {exc.strerror}", "give a file of --save"
        ) from exc
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("benchmarks"), dict):
        raise UsageError("read flags", "--compare", f"{path} is no benchmark", "give a file that --save has written")
    if found.get("version") != BENCHMARK_VERSION:
        raise UsageError("read flags", "--compare", f"{path} is of another version of asyncup", "save a new one")
    kept: dict[str, Any] = found["benchmarks"]
    if not all(map(_is_whole, kept.values())):
        raise UsageError("read flags", "--compare", f"{path} is no benchmark", "give a file that --save has written")
    return kept


def _is_whole(one: Any) -> bool:
    """Whether everything is there that is compared: each stage that was measured, with its number."""
    return isinstance(one, dict) and all(
        one.get(stage) is None or (isinstance(one[stage], dict) and isinstance(one[stage].get(figure), int | float))
        for stage, figure, _ in FIGURES
    )


def save(path: Path, found: Mapping[str, Benchmark]) -> None:
    """Write benchmarks by the names of their jobs, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    kept = {"version": BENCHMARK_VERSION, "benchmarks": {name: one.to_json() for name, one in found.items()}}
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def compared(now: Benchmark, before: Mapping[str, Any], name: str, most: float | None) -> Benchmark:
    """The same benchmark beside an earlier one. Where a figure is worse by more than `most`, a share, it has missed its gate."""
    changes = tuple(_changes(now.to_json(), before, most))
    worse = [change for change in changes if change.is_worse]
    error = None
    if worse and most is not None:
        named = ", ".join(f"{change.figure} by {change.share:.1%}" for change in worse)
        error = GateMissed(
            "compare",
            name,
            f"worse by more than the {most:.1%} of --max-regression: {named}",
            "run it again on a quiet machine; if it stays so, find out what has changed, or save a new benchmark",
        )
    return replace(now, changes=changes, compared=name, error=error)


def _asked(found: Mapping[str, Any]) -> tuple[Any, ...]:
    """Who took the objects of a benchmark, and how late and how many of them."""
    swept = found.get("sweep") or {}
    late = swept.get("latency_ms")
    return swept.get("against"), None if late is None else round(late), swept.get("requests_per_second_limit")


def _changes(now: Mapping[str, Any], before: Mapping[str, Any], most: float | None) -> Iterator[Change]:
    for stage, figure, less_is_better in FIGURES:
        old, new = (one[stage][figure] if one.get(stage) else None for one in (before, now))
        if not old or not new:
            continue
        if stage == "whole" and _asked(now) != _asked(before):
            continue  # of another destination
        share = new / old - 1 if less_is_better else 1 - new / old
        yield Change(f"{stage}.{figure}", old, new, share, most is not None and share > most)
