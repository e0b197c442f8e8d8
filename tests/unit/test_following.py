"""The commands to type next: with what was typed, without what the environment says, and without secrets."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest

from asyncup.cli.following import Following
from asyncup.model import Counts
from asyncup.report import COMPLETE, INTERRUPTED, JobReport, Latency, Report, Verdict

GIVEN: dict[str, Any] = {
    "table": "docs",
    "where": "name <> 'it''s'",
    "to": "s3://b/a b/{id}",
    "concurrency": 20,
    "restart": True,
}
JOB = JobReport("docs", COMPLETE, Counts(put=5), checkpoint=".asyncup/docs.json", destination="s3://b/a b/{id}")
TYPED = """--table docs --where 'name <> '"'"'it'"'"''"'"'s'"'"'' --to 's3://b/a b/{id}'"""


def following(
    job: JobReport | None = JOB,
    given: dict[str, Any] = GIVEN,
    jobs: list[str | None] | None = None,
    **values: Any,
) -> dict[str, Any]:
    return Following({"config": None, **values}, given, jobs or [None]).of_report(Report(job))


def test_what_was_typed_is_typed_again_and_quoted() -> None:
    found = following()
    assert found["again"] == f"asyncup sync {TYPED} --concurrency 20"
    assert found["check"] == f"asyncup verify {TYPED}"
    assert found["left_out"] == ()


def test_a_run_that_kept_nothing_starts_over_as_it_was_told_to() -> None:
    assert following(replace(JOB, status=INTERRUPTED, checkpoint=None))["again"].endswith(" --concurrency 20 --restart")


def test_after_a_dry_run_comes_the_run() -> None:
    dry = {**GIVEN, "dry_run": True}
    assert following(replace(JOB, dry_run=True), dry) == {
        **following(),
        "check": None,
        "again": following(None)["again"],
    }
    assert "--dry-run" in following(replace(JOB, dry_run=True, status=INTERRUPTED), dry)["again"]


def test_what_the_environment_says_stays_there_unless_it_was_typed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCUP_CONCURRENCY", "20")
    monkeypatch.setenv("ASYNCUP_CONFIG", "x.toml")
    assert following(config="x.toml")["again"] == f"asyncup sync {TYPED}"
    monkeypatch.setattr(sys, "argv", ["asyncup", "sync", "--concurrency=20", "--config", "x.toml"])
    assert following(config="x.toml")["again"] == f"asyncup sync --config x.toml {TYPED} --concurrency 20"


@pytest.mark.parametrize(
    ("option", "value"), [("dsn", "postgresql://u:hidden@h/d"), ("dsn", "host=h password=hidden"), ("password_command", "pass hidden")]
)  # fmt: skip
def test_secrets_are_left_out_and_it_is_said_which(option: str, value: str) -> None:
    found = following(given={**GIVEN, option: value})
    assert "hidden" not in str(found)
    assert found["left_out"] == (f"--{option.replace('_', '-')}",)
    assert following(given={**GIVEN, "dsn": "postgresql://u@h/d"})["again"].startswith("asyncup sync --table docs")
    assert "--dsn postgresql://u@h/d" in following(given={**GIVEN, "dsn": "postgresql://u@h/d"})["again"]


def test_a_job_of_a_file_is_named_and_its_file_too() -> None:
    found = following(given={}, jobs=["docs"], config="my jobs.toml", report="run.html", at_a_time=8, fail_fast=False)
    assert found["again"] == "asyncup sync docs --config 'my jobs.toml' --report run.html"
    assert found["check"] == "asyncup verify docs --config 'my jobs.toml'"


@pytest.mark.parametrize("place", ["null:", "python:my.sink:factory"])
def test_where_nobody_can_look_nothing_is_compared(place: str) -> None:
    assert following(replace(JOB, destination=place))["check"] is None


def test_of_several_jobs_those_that_are_left_are_named_or_all_of_them() -> None:
    jobs = [replace(JOB, name=name) for name in "ab"]
    report = Report.of(jobs, seconds=1.0, latency=Latency(), most=1, peak=1)
    some = Following({"config": None, "every": True, "at_a_time": 3}, {}, ["a", "b"])
    assert some.of_jobs(report, ["b"])["again"] == "asyncup sync b --jobs 3"
    assert some.of_jobs(report, ["a", "b"]) == {
        "again": "asyncup sync --all --jobs 3",
        "check": "asyncup verify --all",
        "left_out": (),
    }


def test_differences_are_mended_wherever_the_last_run_ended_and_bytes_by_sending_all() -> None:
    typed = Following({"config": None}, {**GIVEN, "limit": 5}, [None])
    different = Verdict(complete=True, rows=5, different=1)
    assert typed.of_verdict(different, deep=False)["mend"] == (
        f"asyncup sync {TYPED} --concurrency 20 --if-exists different --restart"
    )
    assert "--if-exists overwrite --restart" in typed.of_verdict(different, deep=True)["mend"]
    assert typed.of_verdict(Verdict(complete=True, extra=1), deep=False)["mend"] is None
    assert typed.of_verdict(Verdict(rows=5), deep=True)["again"].endswith(" --limit 5 --deep")


def test_a_retry_names_its_file_and_whose_connections_it_takes() -> None:
    typed = Following({"config": "x.toml"}, {"concurrency": 5})
    assert typed.of_retry("it's.jsonl", "docs")["again"] == (
        """asyncup retry 'it'"'"'s.jsonl' --config x.toml --concurrency 5 --job docs"""
    )
