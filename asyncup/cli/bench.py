"""`asyncup bench`: measure a job, find its knee, and say what it would take."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asyncup.cli import sync
from asyncup.cli.jobs import ChosenJob, Stage, choose, in_turn
from asyncup.cli.options import shares
from asyncup.cli.running import Run, present
from asyncup.errors import AsyncupError, DestinationRefused, UsageError
from asyncup.events import Event, Notice
from asyncup.values import environment, parse_duration

if TYPE_CHECKING:
    from asyncup.bench.benching import Wishes
    from asyncup.benchmark import Benchmark
    from asyncup.cli.presentation import View
    from asyncup.flow.interrupt import Interrupt

HELP = """Takes the flags of the sync, and the names of jobs. Measures how fast the database can be read, how fast rows render, \
how fast this machine signs and sends, and how fast the destination takes it; names the bottleneck; raises the number of requests in \
flight until more bring no more; and reckons time and price of the whole table. Nothing is written anywhere: objects go to a simulator on \
this machine, unless --against bucket is given. It takes half a minute.

Exit codes: 0 measured; 1 a server cannot be reached, or a figure is worse than --max-regression allows; 2 only another \
configuration mends it; 130 and 143 interrupted."""

#: A knee of fewer is not worth a flag: auto finds it before the first page is sent.
_WORTH = 8
_HOW, _GATE = "How to measure", "What it is held against"


def _option(name: str, text: str, metavar: str, panel: str = _HOW) -> Any:
    return typer.Option(
        f"--{name.replace('_', '-')}",
        envvar=environment(name),
        show_envvar=False,
        help=text,
        metavar=metavar,
        show_default=False,
        rich_help_panel=panel,
    )


@shares(sync.sync, tuple(name for name in sync.OF_JOBS if name != "metrics"))
def bench(
    duration: Annotated[
        str, _option("duration", "Of each of some twenty measurements. Default: 1.5s.", "DURATION")
    ] = "1.5s",
    against: Annotated[
        str,
        _option(
            "against",
            "What takes the objects: a simulator on this machine, or the real bucket, below a prefix that is removed again. "
            "Default: simulator.",
            "simulator|bucket",
        ),
    ] = "simulator",
    latency: Annotated[
        str | None,
        _option(
            "latency",
            "How late the simulator answers: 30ms, or lognormal:MEDIAN,SIGMA. Default: as late as the bucket answers a HEAD.",
            "DURATION",
        ),
    ] = None,
    request_limit: Annotated[
        str | None,
        _option(
            "request_limit",
            "Requests a second that the simulator takes, 0 for any number. Default: 3500 for AWS, as for one prefix, else 0.",
            "N",
        ),
    ] = None,
    rows: Annotated[
        str | None, _option("rows", "For how many rows to reckon. Default: the planner's estimate.", "N")
    ] = None,
    target: Annotated[
        str | None,
        _option("target", "Say how many prefixes and machines it takes to be done in this time.", "DURATION"),
    ] = None,
    save: Annotated[str | None, _option("save", "Keep the figures in this file.", "FILE.json", _GATE)] = None,
    compare: Annotated[
        str | None, _option("compare", "Show the figures beside those of this file.", "FILE.json", _GATE)
    ] = None,
    max_regression: Annotated[
        str | None,
        _option("max_regression", "Exit 1 where a figure is worse by more than this: 10%.", "PERCENT", _GATE),
    ] = None,
    **options: Any,
) -> int:
    def prepare(stage: Stage) -> Run:
        chosen = choose(options, sync.given(options), stage)
        from asyncup.bench import benching
        from asyncup.benchmark import Benchmark
        from asyncup.report import Several

        wishes = _wishes(duration, against, latency, request_limit, rows, target)
        gate = _Gate.of(save, compare, max_regression)

        async def one(job: ChosenJob, view: View, interrupt: Interrupt) -> Benchmark:
            watching = _Quiet(view) if options["quiet"] or options["progress"] == "none" else view
            found = await benching.bench(job.config, wishes, watching, interrupt)
            job.explain(found.error)
            return gate.judged(replace(found, command=_next(options, job, found)))

        async def every(view: View, interrupt: Interrupt) -> Benchmark | Several[Benchmark]:
            parts = gate.kept(await in_turn(chosen, one, lambda signum: Benchmark(signal=signum), view, interrupt))
            return parts[0][1] if len(parts) == 1 else Several(tuple(parts), worst=(2, 1))

        return every

    def failed(error: AsyncupError) -> Benchmark:
        from asyncup.benchmark import Benchmark

        return Benchmark(error=error)

    return present(prepare, options, failed)


class _Quiet:
    """Passes on only what a person should know: what was measured by and by is progress."""

    def __init__(self, view: View) -> None:
        self._view = view

    def on_event(self, event: Event) -> None:
        if not (isinstance(event, Notice) and event.is_routine):
            self._view.on_event(event)


@dataclass(frozen=True, slots=True)
class _Gate:
    """Where benchmarks are kept, and what they are held against: by how much, a share, none of their figures may be worse."""

    save: str | None
    compare: str | None
    before: Mapping[str, Any]
    most: float | None

    @classmethod
    def of(cls, save: str | None, compare: str | None, max_regression: str | None) -> _Gate:
        """Raises UsageError: a file is not there, or none; or a value makes no sense."""
        from asyncup.bench.comparing import read_benchmark

        if max_regression is not None and compare is None:
            raise UsageError(
                "read flags", "--max-regression", "there is nothing to compare with", "add --compare FILE.json"
            )
        if save is not None and not Path(save).parent.is_dir():
            raise UsageError(
                "read flags", "--save", f"there is no folder {Path(save).parent}", "make it, or name another"
            )
        if save is not None and Path(save).exists() and not Path(save).is_file():  # which must not be replaced
            raise UsageError("read flags", "--save", f"{save} is no file", "name another")
        if save is not None and not os.access(Path(save).parent, os.W_OK):
            raise UsageError(
                "read flags", "--save", f"{Path(save).parent} may not be written to", "name another folder"
            )
        before = {} if compare is None else read_benchmark(Path(compare))
        return cls(save, compare, before, _share(max_regression))

    def judged(self, found: Benchmark) -> Benchmark:
        """A benchmark beside the one that it is compared with."""
        from asyncup.bench.comparing import compared

        if self.compare is None or found.error is not None or found.signal is not None:
            return found
        if found.name in self.before:
            return compared(found, self.before[found.name], self.compare, self.most)
        known = ", ".join(self.before) or "nothing"
        error = UsageError("compare", self.compare, f"it has no job {found.name}", f"it has {known}: save a new one")
        return replace(found, error=error)

    def kept(self, parts: Sequence[tuple[str, Benchmark]]) -> Sequence[tuple[str, Benchmark]]:
        """The same, saved if that was asked for; those that were measured to their end."""
        from asyncup.bench.comparing import save

        found = {part.name: part for _, part in parts if part.whole is not None and part.signal is None}
        if self.save is None or not found:
            return parts
        try:
            save(Path(self.save), found)
        except OSError as exc:
            lost = DestinationRefused("save", self.save, f"it cannot be written: {exc.strerror}", "give another file")
            return [(name, replace(part, error=part.error or lost)) for name, part in parts]
        return [(name, replace(part, saved=self.save)) for name, part in parts]


def _next(values: Mapping[str, Any], job: ChosenJob, found: Benchmark) -> str | None:
    """The sync to type. A knee that is the bucket's own goes with it; the simulator's latency is not that of PUTs there."""
    from asyncup.benchmark import BUCKET
    from asyncup.cli.following import Following

    if found.whole is None:
        return None
    given = sync.given(values)
    if found.sweep is not None and found.sweep.against == BUCKET and (found.sweep.knee or 0) >= _WORTH:
        given = {name: value for name, value in given.items() if name != "max_concurrency"}
        given["concurrency"] = found.sweep.knee
    return Following({"config": values["config"]}, given, [job.name]).again()


def _wishes(
    duration: str, against: str, latency: str | None, request_limit: str | None, rows: str | None, target: str | None
) -> Wishes:
    """How to measure.

    Raises:
        UsageError: a value makes no sense.
    """
    from asyncup.bench.benching import Wishes
    from asyncup.bench.simulator.delay import parse_latency
    from asyncup.benchmark import BUCKET, SIMULATOR

    if against not in (SIMULATOR, BUCKET):
        raise UsageError("read flags", "--against", f"{against!r} is none of {SIMULATOR}, {BUCKET}")
    for name, value in (("--latency", latency), ("--request-limit", request_limit)):
        if value is not None and against == BUCKET:
            raise UsageError(
                "read flags", name, "is for the simulator, and --against bucket asks the real one", "leave it out"
            )
    seconds = _parsed("--duration", duration, parse_duration, "write it as 1.5s")
    if not 0.2 <= seconds <= 600:
        raise UsageError("read flags", "--duration", "must be from 0.2s to 10m")
    if latency is not None:
        _parsed("--latency", latency, parse_latency, "write it as 30ms, or lognormal:20ms,0.5")
    return Wishes(
        seconds=seconds,
        against=against,
        latency=latency,
        limit=None
        if request_limit is None
        else float(_parsed("--request-limit", request_limit, _count, "write it as 3500")),
        rows=None if rows is None else _parsed("--rows", rows, _count, "write it as 1000000"),
        target=None if target is None else _parsed("--target", target, parse_duration, "write it as 1h"),
    )


def _parsed(option: str, text: str, parse: Any, hint: str) -> Any:
    try:
        return parse(text)
    except ValueError as exc:
        raise UsageError("read flags", option, str(exc) or f"{text!r} makes no sense", hint) from exc


def _count(text: str) -> int:
    """A number that is not negative. Raises ValueError."""
    number = int(text)
    if number < 0:
        raise ValueError("must not be negative")
    return number


def _share(text: str | None) -> float | None:
    """`10%` or `0.1` as a share.

    Raises:
        UsageError: it is neither.
    """
    if text is None:
        return None
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < 100:
        raise UsageError("read flags", "--max-regression", f"{text!r} is no share", "write it as 10%")
    return share
