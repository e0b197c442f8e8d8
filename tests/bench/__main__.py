"""`scripts/bench`: asyncup beside other clients, on a simulator that answers in microseconds."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import sys
from pathlib import Path

from asyncup.embedded.server import EmbeddedError
from tests.bench import tables
from tests.bench.bench import Effort, open_bench, say
from tests.bench.compare import compare, regressed
from tests.bench.figures import Results
from tests.bench.machine import describe_machine, versions
from tests.bench.measure import ClientFailed
from tests.bench.sections import NAMES, SECTIONS, START_UP


def main() -> int:
    """Measure, print, write; 1 when asyncup got worse than in the file to compare with, 2 when it cannot be measured."""
    options = _options()
    try:
        old = None if options.compare is None else _read(options.compare)
        new = _measure(options) if options.show is None else _read(options.show)
    except (ClientFailed, EmbeddedError, ValueError) as exc:
        say(str(exc))
        return 2
    except KeyboardInterrupt:
        return 130
    if options.show is None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(new.as_json(), indent=1, ensure_ascii=False) + "\n")
    markdown = options.format == "markdown"
    tables.render(new, markdown=markdown)
    if old is None:
        return 0
    changes = compare(old, new)
    tables.render_changes(changes, markdown=markdown)
    if old.machine != new.machine:
        say(f"the old figures are from another machine: {old.machine}")
    worse = regressed(changes, options.max_regression)
    for change in worse:
        say(f"worse by {change.regression:.0%}: {change.what}, {change.unit}")
    return 1 if worse else 0


def _measure(options: argparse.Namespace) -> Results:
    cores = _pin() if options.pin else None
    if options.quick:
        effort = Effort(options.runs or 1, 0.8, 1.0, options.etag, cores)
    else:
        effort = Effort(options.runs or 3, 1.0, 1.5, options.etag, cores)
    with open_bench(effort) as (bench, rows):
        figures = [one for section in SECTIONS if section.name in options.only for one in bench.section(section)]
        start_up = bench.start_up() if START_UP in options.only else None
        return Results(
            date=dt.datetime.now(dt.timezone.utc).date().isoformat(),
            method=_method(effort),
            machine=describe_machine(),
            versions=versions(rows),
            figures=tuple(figures),
            start_up=start_up,
            skipped=bench.skipped,
        )


def _pin() -> frozenset[int] | None:
    """Take all cores but one for the servers, which inherit them; returns the one left for the clients."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    client, *servers = sorted(os.sched_getaffinity(0))
    if not servers:
        return None
    os.sched_setaffinity(0, servers)
    return frozenset([client])


def _method(effort: Effort) -> str:
    pinned = "clients on one core, the servers on others" if effort.cores else "clients and servers share all cores"
    return (
        "Client, simulator and Postgres are processes of one machine that talk over loopback; "
        f"{pinned}. CPU is user and system time of the client process alone, per object, start-up subtracted: the slope "
        "between a run with few objects and one with many; objects/s likewise. "
        f"{f'Medians of {effort.runs} runs, in turns' if effort.runs > 1 else 'One run of each'}. asyncup reads its bodies from Postgres (jsonb; bytea from 256 KB on) "
        "and keeps a checkpoint, s5cmd reads files, the others put one body from memory again and again. "
        + ("The simulator gives back the MD5 of each body, as S3 does." if effort.etag == "md5" else "")
    ).strip()


def _read(path: Path) -> Results:
    try:
        return Results.from_json(json.loads(path.read_text()))
    except OSError as exc:
        raise ValueError(f"{path}: {exc.strerror}") from exc
    except (ValueError, LookupError, TypeError) as exc:  # JSON's errors are ValueErrors
        raise ValueError(f"{path} does not hold what scripts/bench writes with --json: {exc}") from exc


def _share(text: str) -> float:
    try:
        return float(text.rstrip("%")) / 100
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no share, such as 10%") from None


def _sections(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in NAMES:
            raise argparse.ArgumentTypeError(f"there is no section {name}; there is {', '.join(NAMES)}")
    return names


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of runs")
    return int(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "--only", type=_sections, default=list(NAMES), metavar="SECTION,…", help=f"of {', '.join(NAMES)}; default: all"
    )
    parser.add_argument("--runs", type=_positive, metavar="N", help="runs of each client; default: 3")
    parser.add_argument("--quick", action="store_true", help="one short run each: a trial, no figures to quote")
    parser.add_argument(
        "--json", type=Path, default=Path("build/bench.json"), metavar="FILE", help="default: build/bench.json"
    )
    parser.add_argument("--format", choices=("text", "markdown"), default="text")
    parser.add_argument("--show", type=Path, metavar="FILE", help="measure nothing; print what is in this file")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="show old figures beside the new ones")
    parser.add_argument(
        "--max-regression",
        type=_share,
        default=0.1,
        metavar="10%",
        help="exit with 1 when a figure of asyncup got worse than in --compare by more than this; default: 10%%",
    )
    parser.add_argument(
        "--etag", choices=("md5", "fixed"), default="md5", help="what the simulator answers; default: md5"
    )
    parser.add_argument("--pin", action=argparse.BooleanOptionalAction, default=True, help="one core for the clients")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
