"""The report: its exit code, and a JSON object whose shape is the same in every outcome."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asyncup import errors
from asyncup.errors import (
    AsyncupError,
    ConnectionLost,
    DestinationRefused,
    InternalError,
    SourceRefused,
    TooManyFailures,
    Unreachable,
    UsageError,
)
from asyncup.model import Counts
from asyncup.report import (
    ABORTED,
    COMPLETE,
    INTERRUPTED,
    NO_OBJECT,
    PARTIAL,
    Difference,
    JobReport,
    Lag,
    Latency,
    Report,
    Several,
    Verdict,
)

#: The fields that the whole run and each of its jobs have, with their types.
FIELDS: dict[str, Any] = {
    "status": str,
    "rows": int,
    "put": int,
    "skipped": int,
    "failed": int,
    "bytes": int,
    "attempts": int,
    "retries": int,
    "throttled": int,
    "seconds": float,
    "objects_per_second": float,
    "latency_ms": {"p50": float, "p95": float, "p99": float},
    "loop_lag_ms": {"p99": float, "max": float},
    "concurrency": {"limit": int, "peak": int},
    "resumed": bool,
    "checkpoint": (str, None),
    "dead_letters": (str, None),
    "error": ({"type": str, "op": str, "subject": str, "message": str, "hint": (str, None)}, None),
}


def fits(value: Any, shape: Any) -> bool:
    """Whether a value has exactly the fields and the types of a shape."""
    if isinstance(shape, tuple):
        return any(value is None if option is None else fits(value, option) for option in shape)
    if isinstance(shape, dict):
        return (
            isinstance(value, dict)
            and value.keys() == shape.keys()
            and all(fits(value[name], part) for name, part in shape.items())
        )
    return type(value) is shape


def job(status: str, *, error: AsyncupError | None = None, **changes: Any) -> JobReport:
    return JobReport("public.docs", status, **{"counts": Counts(5, 2, 1, 900), **changes}, error=error)


def report(status: str, error: AsyncupError | None = None, signal: int | None = None, **changes: Any) -> Report:
    return Report(job(status, error=error, **changes), error, signal)


def e(kind: type[AsyncupError], hint: str | None = None) -> AsyncupError:
    return kind("put", "docs/1.pdf", "it went wrong", hint)


OUTCOMES = {
    "complete": (report(COMPLETE, counts=Counts(5, 2, 0, 900), checkpoint="x.json", seconds=1.5), 0, "complete"),
    "complete, nothing to do": (report(COMPLETE, counts=Counts()), 0, "complete"),
    "rows failed": (report(PARTIAL, dead_letters="x.jsonl"), 3, "partial"),
    "SIGINT": (report(INTERRUPTED, signal=2), 130, "interrupted"),
    "SIGTERM": (report(INTERRUPTED, signal=15), 143, "interrupted"),
    "SIGINT before a job began": (Report(signal=2), 130, "interrupted"),
    "SIGTERM before a job began": (Report(signal=15), 143, "interrupted"),
    "a wrong flag": (Report(error=e(UsageError, "such as --to")), 2, "aborted"),
    "no such table": (Report(error=e(SourceRefused)), 2, "aborted"),
    "a server that cannot be reached": (Report(error=e(Unreachable)), 1, "aborted"),
    "a defect": (Report(error=e(InternalError)), 1, "aborted"),
    "the first upload refused": (report(ABORTED, e(DestinationRefused), counts=Counts()), 2, "aborted"),
    "a later upload refused": (report(ABORTED, e(DestinationRefused)), 1, "aborted"),
    "refused after skipped and failed rows": (
        report(ABORTED, e(DestinationRefused), counts=Counts(0, 7, 7, 0)),
        2,
        "aborted",
    ),
    "the server lost in the middle": (report(ABORTED, e(Unreachable)), 1, "aborted"),
    "lost before anything was sent": (report(ABORTED, e(ConnectionLost), counts=Counts()), 1, "aborted"),
    "too many failures": (report(ABORTED, e(TooManyFailures)), 1, "aborted"),
    "an error while draining": (report(ABORTED, e(Unreachable), signal=2), 1, "aborted"),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_has_its_exit_code_its_status_and_every_field(outcome: str) -> None:
    made, code, status = OUTCOMES[outcome]
    value = made.to_json()
    assert made.exit_code == code
    assert value["status"] == made.status == status
    assert fits(value, {"version": int, **FIELDS, "jobs": list})
    assert value["version"] == 1
    assert (value["error"] is None) == (made.error is None)
    assert value["rows"] == value["put"] + value["skipped"] + value["failed"]
    assert len(value["jobs"]) == (made.job is not None)
    for part in value["jobs"]:
        assert fits(part, {"name": str, **FIELDS})
        assert {name: part[name] for name in FIELDS} == {name: value[name] for name in FIELDS}
    assert json.loads(json.dumps(value, allow_nan=False)) == value


@pytest.mark.parametrize(
    "kind", [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AsyncupError)]
)
def test_an_error_before_the_run_is_exit_2_exactly_when_only_another_configuration_mends_it(
    kind: type[AsyncupError],
) -> None:
    error = e(kind, "a hint")
    made = Report(error=error)
    assert made.exit_code == (2 if error.needs_configuration else 1)
    assert made.to_json()["error"] == {
        "type": kind.__name__,
        "op": "put",
        "subject": "docs/1.pdf",
        "message": "it went wrong",
        "hint": "a hint",
    }


def test_a_run_that_did_less_than_asked_is_never_exit_0() -> None:
    zero = [outcome for outcome, (made, _, _) in OUTCOMES.items() if made.exit_code == 0]
    assert zero == ["complete", "complete, nothing to do"]


def test_the_figures_of_a_job_are_those_of_the_run() -> None:
    value = report(
        COMPLETE,
        counts=Counts(put=30, skipped=2, failed=1, bytes=900),
        attempts=40,
        retries=9,
        throttled=3,
        seconds=2.00049,
        latency=Latency(1.0, 2.0, 3.0),
        lag=Lag(0.5, 7.5),
        limit=64,
        peak=12,
        checkpoint="a.json",
        dead_letters="a.jsonl",
    ).to_json()
    assert {name: value[name] for name in FIELDS} == {
        "status": "complete",
        "rows": 33,
        "put": 30,
        "skipped": 2,
        "failed": 1,
        "bytes": 900,
        "attempts": 40,
        "retries": 9,
        "throttled": 3,
        "seconds": 2.0,
        "objects_per_second": 15.0,
        "latency_ms": {"p50": 1.0, "p95": 2.0, "p99": 3.0},
        "loop_lag_ms": {"p99": 0.5, "max": 7.5},
        "concurrency": {"limit": 64, "peak": 12},
        "resumed": False,
        "checkpoint": "a.json",
        "dead_letters": "a.jsonl",
        "error": None,
    }


def test_a_resumed_job_carries_the_total_over_all_its_runs_and_the_run_s_own_rows() -> None:
    value = report(COMPLETE, resumed=True, settled_before=1000).to_json()
    assert value["rows"] == 8
    assert value["resumed"] is True
    assert value["jobs"][0]["total"] == 1008
    assert fits(value, {"version": int, **FIELDS, "jobs": list})
    assert fits(value["jobs"][0], {"name": str, **FIELDS, "total": int})


def together(*jobs: JobReport, signal: int | None = None) -> Report:
    return Report.of(jobs, seconds=2.0, latency=Latency(1.0, 2.0, 3.0), most=10, peak=7, signal=signal)


NOTHING = Counts()


@pytest.mark.parametrize(
    ("jobs", "signal", "code", "status"),
    [
        ((job(COMPLETE), job(COMPLETE)), None, 0, "complete"),
        ((job(COMPLETE), job(PARTIAL)), None, 3, "partial"),
        ((job(PARTIAL), job(INTERRUPTED), job(COMPLETE)), 15, 143, "interrupted"),
        ((job(COMPLETE), job(ABORTED, error=e(Unreachable))), None, 1, "aborted"),
        ((job(COMPLETE), job(ABORTED, error=e(UsageError), counts=NOTHING)), None, 1, "aborted"),
        ((job(COMPLETE, counts=NOTHING), job(ABORTED, error=e(UsageError), counts=NOTHING)), None, 2, "aborted"),
        (
            (job(ABORTED, error=e(UsageError), counts=NOTHING), job(ABORTED, error=e(Unreachable), counts=NOTHING)),
            None,
            1,
            "aborted",
        ),
        ((job(INTERRUPTED), job(ABORTED, error=e(Unreachable))), 2, 1, "aborted"),
    ],
)
def test_several_jobs_end_as_the_worst_of_them(
    jobs: tuple[JobReport, ...], signal: int | None, code: int, status: str
) -> None:
    report = together(*jobs, signal=signal)
    assert (report.exit_code, report.status, report.to_json()["status"]) == (code, status, status)


def test_several_jobs_are_summed_up_and_each_is_there() -> None:
    first, second = e(SourceRefused), e(Unreachable)
    jobs = (
        job(ABORTED, error=first, attempts=3, limit=6, peak=5, resumed=True, settled_before=10, checkpoint="a"),
        job(ABORTED, error=second, attempts=4, limit=6, peak=4, checkpoint="b", dead_letters="x"),
    )
    found = together(*jobs).to_json()
    assert [part["name"] for part in found["jobs"]] == ["public.docs"] * 2
    assert fits({name: found[name] for name in FIELDS}, FIELDS)
    assert (found["rows"], found["put"], found["bytes"], found["attempts"]) == (16, 10, 1800, 7)
    assert (found["concurrency"], found["seconds"]) == ({"limit": 10, "peak": 7}, 2.0)
    assert (found["resumed"], found["checkpoint"], found["dead_letters"]) == (True, None, "x")
    assert found["error"]["type"] == "SourceRefused"


def test_what_several_jobs_were_found_to_be_is_summed_up_by_the_worst() -> None:
    def verdict(missing: int = 0, **changes: Any) -> Verdict:
        differences = (Difference("missing", ("1",), "a", NO_OBJECT),) * missing
        return Verdict(
            **{"complete": True, "rows": 5, "objects": 5, "missing": missing, **changes}, differences=differences
        )

    def several(*verdicts: Verdict) -> Several[Verdict]:
        parts = tuple(zip("abc", verdicts, strict=False))
        return Several(parts, worst=(1, 2, 4), sums=("rows", "missing"))

    found = several(verdict(), verdict(2))
    assert (found.status, found.exit_code) == ("different", 4)
    told = found.to_json()
    assert (told["rows"], told["missing"], [part["name"] for part in told["jobs"]]) == (10, 2, ["a", "b"])
    assert [(one["job"], one["object_key"]) for one in told["differences"]] == [("b", "a")] * 2
    lost = verdict(complete=False, error=e(Unreachable))
    assert (several(verdict(1), lost).exit_code, several(verdict(1), lost).error) == (1, lost.error)
    assert several(lost, verdict(complete=False, signal=2)).exit_code == 130
    assert several(verdict(), verdict()).exit_code == 0
