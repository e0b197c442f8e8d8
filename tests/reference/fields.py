"""docs/reference/json.md and log-events.md: the fields that the code writes, each with its meaning.

The fields are those of objects that the code makes here, with everything in them that there may be. A field without a meaning,
and a meaning without a field, is an error: then the page would not be what the code gives.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from asyncup.benchmark import Benchmark, Change, Pace, Projection, StartUp, Step, Sweep, Whole
from asyncup.checkpoints.lease import Holder
from asyncup.checkpoints.owner import Owner
from asyncup.checkpoints.places import Entry
from asyncup.cli.init import Started
from asyncup.cli.resolving import Known, Shown, ShownJob
from asyncup.console.logged import JsonView, LogLines, LogRecords, Printed
from asyncup.console.text import Redactor
from asyncup.errors import UsageError
from asyncup.events import (
    Alike,
    Busy,
    Draining,
    Event,
    Finished,
    JobState,
    Listing,
    LiveState,
    Notice,
    OfJob,
    Planned,
    Progress,
    RowFailed,
    Waiting,
)
from asyncup.model import Checkpoint, Counts, DeadLetter, Range, Reach
from asyncup.overview import Overview, Standing
from asyncup.preflight import AccessFacts, KeyColumn, KeyFacts, Preflight, SampledRow, Trial
from asyncup.pricing import Rate
from asyncup.report import Difference, JobReport, Report, Several, Verdict
from asyncup.resolved import Plan
from asyncup.sources.tables import Table
from asyncup.starter.proposing import Proposal
from tests.reference import meanings
from tests.reference.tables import code, page, table

_ERROR = UsageError("read flags", "--key", "names no column", "give one")
#: What an error is, wherever one stands.
_OF_ERROR = ("type", "op", "subject", "message", "hint")


def paths_of(value: Any, opaque: Mapping[str, str], at: str = "") -> Iterator[str]:
    """The fields of a JSON object by their paths: `latency_ms.p50`, `jobs[].name`. Below an `opaque` one nothing is looked at."""
    if at in opaque or (isinstance(value, dict) and tuple(value) == _OF_ERROR):
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            path = f"{at}.{name}" if at else name
            yield path
            yield from paths_of(inner, opaque, path)
    elif isinstance(value, list) and value:
        yield from paths_of(value[0], opaque, f"{at}[]")


def fields_table(value: Any, known: Mapping[str, str], opaque: Mapping[str, str] | None = None) -> str:
    """A table of every field of an object, in its order.

    Raises:
        KeyError: one has no meaning, or a meaning has no field.
    """
    found = list(paths_of(value, opaque or {}))
    if strange := sorted(set(found) ^ set(known)):
        raise KeyError(f"fields and meanings differ: {', '.join(strange)}; mend tests/reference/meanings.py")
    return table(("field", "meaning"), ((code(path), known[path]) for path in found))


def _report() -> dict[str, Any]:
    job = JobReport(name="documents", status="complete", resumed=True, dry_run=True, packs=1, error=_ERROR)
    return Report(job, _ERROR).to_json()


def _plan() -> dict[str, Any]:
    return Preflight(
        reasons=(_ERROR,),
        key=KeyFacts((KeyColumn("id", "bigint", False),)),
        access=AccessFacts(indexes=("documents_pkey",)),
        sample=(SampledRow(("1",), "docs/1.pdf", 1, {"content-type": "application/pdf"}, "put"),),
        trial=Trial(reasons=(("its key is empty", 1),)),
        times=(Rate(100.0, "a slow server, or far away", 1.0, None),),
    ).to_json()


def _bench() -> dict[str, Any]:
    pace = Pace(1, 1, 1.0, 1.0)
    return Benchmark(
        start_up=StartUp(0.1, 0.1),
        read=pace,
        render=pace,
        send=pace,
        sweep=Sweep("simulator", (Step(1, pace, 1.0, 1.0),)),
        whole=Whole(pace, pace, 1, ""),
        projection=Projection(1, "", 1.0, 1, 1, 1, None, None, 3500.0, 1),
        changes=(Change("send", 1.0, 1.0, 0.0),),
        error=_ERROR,
    ).to_json()


def _verdict() -> dict[str, Any]:
    return Verdict(
        differences=(Difference("missing", ("1",), "docs/1.pdf", "there is no such object", 2, ("2",)),), error=_ERROR
    ).to_json()


def _status() -> dict[str, Any]:
    checkpoint = Checkpoint(
        name="documents",
        fingerprint={"table": "public.documents", "to": "s3://my-bucket/{id}"},
        watermark=("1",),
        counts=Counts(),
        finished=False,
        started="",
        saved="",
        mark={"rule": "time", "column": "updated_at"},
        ranges=(Reach(Range(), None, False),),
    )
    holder = Holder(Owner("", "host", 1, "", "", "", ""))
    entry = Entry("documents", "", "", checkpoint, holder, _ERROR)
    return Overview(".asyncup", (Standing(entry),), error=_ERROR).to_json()


def _init() -> dict[str, Any]:
    looked = Table("documents", "public", "documents", "", "table", readable=True, rows=1, bytes=1)
    return Started(tables=(Proposal(looked, "documents").to_json(),), error=_ERROR).to_json()


def _shown() -> dict[str, Any]:
    job = ShownJob("documents", ("jobs", "documents"), {"limit": Known(10, "flag", "flag --limit")}, _ERROR)
    return Shown("asyncup.toml", (job,), _ERROR).to_json()


def json_page() -> str:
    several = Several((("documents", Verdict()),), worst=(1, 2, 4), sums=()).to_json()
    assert list(several["jobs"][0]) == ["name", *Verdict().to_json()]
    return page(
        "JSON",
        meanings.OF_JSON,
        "## An error",
        table(("field", "meaning"), ((code(name), meanings.ERROR[name]) for name in _OF_ERROR)),
        "## sync, retry",
        meanings.OF_SYNC,
        fields_table(_report(), meanings.SYNC, {"jobs[]": ""}),
        "## plan",
        meanings.OF_PLAN,
        fields_table(_plan(), meanings.PLAN, {"sample[].headers": ""}),
        "## bench",
        meanings.OF_BENCH,
        fields_table(_bench(), meanings.BENCH, {"machine": "", "rows_per_second": ""}),
        "## verify",
        meanings.OF_VERIFY,
        fields_table(_verdict(), meanings.VERIFY),
        "## status",
        fields_table(_status(), meanings.STATUS),
        "## init",
        fields_table(_init(), meanings.INIT),
        "## config show",
        fields_table(_shown(), meanings.SHOWN),
    )


def _logged(event: Event) -> dict[str, Any]:
    """The line of an event."""
    stream = io.StringIO()
    view = JsonView(LogLines(stream, Redactor()), clock=lambda: 0.0)
    if isinstance(event, Progress):
        view.on_event(Planned(PLAN))
        stream.seek(stream.truncate(0))
    view.on_event(event)
    line: dict[str, Any] = json.loads(stream.getvalue())
    return line


PLAN = Plan("documents", "public.documents", ("id",), "s3://b/{id}", 1, False, 0, {}, "", dry_run=True)
_PROGRESS = Progress(Counts(), 10.0, 0, 0, 0, 0, 0, 0)
_LETTER = DeadLetter(("1",), "docs/1.pdf", "RowRefused", "put", "", 1, "")
_LINES: tuple[Event, ...] = (
    Planned(PLAN),
    _PROGRESS,
    Waiting("", 0.0, 1),
    Listing(0),
    RowFailed(_LETTER),
    Notice(""),
    Draining("SIGINT", 0, 0.0),
    LiveState(
        "running",
        0.0,
        (JobState("documents", "running", PLAN, _PROGRESS, 0.0, 0.0, 0.0),),
        (Alike("send", 1, (("place", 1),)),),
        (("MainThread", 1),),
        ("stack",),
    ),
    Finished(Report()),
)
_FIRST = ("time", "level", "event", "job")


def log_page() -> str:
    lines = [_logged(event) for event in _LINES]
    error = io.StringIO()
    refused = UsageError("put", "docs/1.pdf", "")
    refused.request_id, refused.host_id = "4442587FB7D0A2F9", "x"
    LogLines(error, Redactor()).error(refused, deep=True)
    lines.append(json.loads(error.getvalue()))
    log = io.StringIO()
    LogRecords(LogLines(log, Redactor())).emit(_record())
    lines.append(json.loads(log.getvalue()))
    printed = io.StringIO()
    Printed(LogLines(printed, Redactor())).write("x\n")
    lines.append(json.loads(printed.getvalue()))
    parts = [meanings.OF_LOGS, table(("field", "meaning"), ((code(name), meanings.LINE[name]) for name in _FIRST))]
    for line in lines:
        name = line["event"]
        assert tuple(line)[:4] == _FIRST
        own = {field: value for field, value in line.items() if field not in _FIRST}
        level, when = meanings.EVENTS[name]
        parts += [f"## {name}", f"Level {level}. {when}"]
        if name == "finished":
            assert set(own) - {"exit_code"} == set(Report().to_json()) - {"version", "jobs"}
        else:
            parts.append(fields_table(own, meanings.LOGS[name], {"request": "", "tasks[].places": "", "threads": ""}))
    assert {line["event"] for line in lines} == set(meanings.EVENTS)
    assert {type(event) for event in _LINES} == set(get_args(Event)) - {OfJob, Busy}  # the latter is for a screen
    return page("Log lines", *parts)


def _record() -> logging.LogRecord:
    record = logging.LogRecord("asyncup.s3", logging.WARNING, "", 0, "", (), (ValueError, ValueError(""), None))
    record.request = {"method": "PUT"}
    return record
