"""Gates for pipelines: a run that is complete and misses one does not exit 0, whatever else it did."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from asyncup.config import Config
from asyncup.console.summary import summary_lines
from asyncup.errors import UsageError
from asyncup.gates import in_time, judged
from asyncup.model import Counts
from asyncup.report import ABORTED, COMPLETE, INTERRUPTED, PARTIAL, JobReport, Report

JOB = JobReport("docs", COMPLETE, Counts(put=90, skipped=10), seconds=2.0, destination="s3://b/{id}")


def config(**options: Any) -> Config:
    return Config.of(table="docs", to="null:", **options)


def end(job: JobReport, **options: Any) -> tuple[str, int, str | None]:
    """Status, exit code and message of a run with these gates."""
    found = judged(config(**options), job)
    return found.status, Report(found).exit_code, None if found.error is None else found.error.message


@pytest.mark.parametrize("expected", ["100:100", "1:", ":100", " 99 : 101 "])
def test_a_count_that_is_as_expected_changes_nothing(expected: str) -> None:
    assert end(JOB, expect_rows=expected) == (COMPLETE, 0, None)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ("101:", "100 rows, fewer than the 101 of --expect-rows"),
        (":99", "100 rows, more than the 99 of --expect-rows"),
        ("2000:3000", "100 rows, fewer than the 2,000 of --expect-rows"),
    ],
)
def test_another_count_is_exit_code_1_and_the_status_that_goes_with_it(expected: str, message: str) -> None:
    assert end(JOB, expect_rows=expected) == (ABORTED, 1, message)


def test_rows_are_counted_over_all_runs_of_a_checkpoint() -> None:
    assert end(replace(JOB, resumed=True, settled_before=900), expect_rows="1000:1000") == (COMPLETE, 0, None)


def test_a_rate_is_that_of_objects_put_over_the_run() -> None:
    assert end(JOB, min_rate=45) == (COMPLETE, 0, None)
    assert end(JOB, min_rate=45.1) == (ABORTED, 1, "45.0 objects a second, fewer than the 45.1 of --min-rate")
    assert end(JOB, min_rate=1e6) == (ABORTED, 1, "45.0 objects a second, fewer than the 1,000,000 of --min-rate")


@pytest.mark.parametrize("job", [replace(JOB, counts=Counts(skipped=5)), replace(JOB, dry_run=True)])
def test_where_nothing_was_sent_there_is_no_rate_to_judge(job: JobReport) -> None:
    assert end(job, min_rate=1e9)[0] == COMPLETE


def test_a_gate_says_more_than_rows_that_failed_and_a_run_that_did_not_come_to_its_end_is_not_judged() -> None:
    assert end(replace(JOB, status=PARTIAL, counts=Counts(put=9, failed=1)), expect_rows="11:")[:2] == (ABORTED, 1)
    assert end(replace(JOB, status=PARTIAL, counts=Counts(put=9, failed=1)), expect_rows="10:")[:2] == (PARTIAL, 3)
    assert end(replace(JOB, status=PARTIAL, counts=Counts(put=9, failed=1)), expect_rows="10")[:2] == (PARTIAL, 3)
    assert end(replace(JOB, status=PARTIAL, counts=Counts(put=9, failed=1)), expect_rows="9")[:2] == (ABORTED, 1)
    assert end(replace(JOB, status=INTERRUPTED), expect_rows="1000:", min_rate=1e9)[0] == INTERRUPTED


@pytest.mark.parametrize("text", [":", "", "-1:", "a:b", "5:4", "1:2:3", "1e3:", "9" * 19 + ":"])
def test_what_is_no_range_of_rows_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"range of rows|holds no number"):
        config(expect_rows=text)


@pytest.mark.parametrize("option", ["min_rate", "timeout"])
@pytest.mark.parametrize("value", ["0", "-1", "inf", "nan", "soon"])
def test_a_rate_or_a_time_that_means_nothing_is_refused(option: str, value: str) -> None:
    with pytest.raises(UsageError):
        config(**{option: value})


def test_people_read_that_all_is_settled_and_which_rows_to_send_again() -> None:
    missed = judged(config(expect_rows="1000:"), JOB)
    assert summary_lines(Report(missed, missed.error))[0].startswith("Complete, but a gate was missed: 100 rows")
    assert not any("Next" in line for line in summary_lines(Report(missed, missed.error)))
    failed = replace(JOB, status=PARTIAL, counts=Counts(put=9, failed=1), dead_letters="x.jsonl")
    assert summary_lines(Report(judged(config(expect_rows="1000:"), failed)))[-1].endswith("asyncup retry x.jsonl")


def test_a_run_whose_time_is_over_is_aborted_and_one_that_was_done_by_then_is_complete() -> None:
    options = config(timeout="1m30s")
    stopped = replace(JOB, status=INTERRUPTED, checkpoint=".asyncup/docs.json")
    late = in_time(options, Report(stopped, signal=15), has_expired=True)
    assert (late.status, late.exit_code, late.error and late.error.type) == (ABORTED, 1, "OutOfTime")
    assert late.error is not None
    assert late.error.message == "the time of 1m30s that --timeout gives is over"
    assert summary_lines(late)[-1] == (
        "Next: run the same command again; it resumes from the checkpoint .asyncup/docs.json."
    )
    assert in_time(options, Report(JOB, signal=15), has_expired=True).exit_code == 0
    assert in_time(options, Report(stopped, signal=15), has_expired=False).exit_code == 143
    before = in_time(options, Report(signal=15, dry_run=True), has_expired=True)
    assert (before.exit_code, before.to_json()["dry_run"], before.to_json()["error"]["type"]) == (1, True, "OutOfTime")
