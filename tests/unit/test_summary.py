"""The closing words: one JSON object in every outcome, and for people what happened, what it cost and what is next."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from asyncup.console.summary import error_text, json_summary, summary_lines
from asyncup.console.text import Redactor, wrapped
from asyncup.console.verdict import verdict_lines
from asyncup.errors import AsyncupError, ConnectionLost, DestinationRefused
from asyncup.model import Counts
from asyncup.report import (
    ABORTED,
    COMPLETE,
    INTERRUPTED,
    NO_OBJECT,
    PARTIAL,
    Difference,
    JobReport,
    Latency,
    Report,
    Verdict,
)

JOB = JobReport(
    "public.docs",
    COMPLETE,
    Counts(put=1000, skipped=20, failed=3, bytes=5_000_000),
    attempts=1010,
    retries=7,
    throttled=2,
    seconds=4.0,
    latency=Latency(1.25, 20.0, 300.5),
    limit=64,
    peak=60,
    checkpoint=".asyncup/public.docs.json",
    destination="s3://bucket/{id}",
)


def lines(**changes: object) -> list[str]:
    return summary_lines(Report(replace(JOB, **changes)))  # type: ignore[arg-type]


def test_a_complete_run_says_what_it_did_and_what_it_cost_and_nothing_is_next() -> None:
    assert lines() == [
        "Complete: 1,023 rows in 4.0s: 1,000 put, 20 skipped, 3 failed",
        "  5.0 MB, 250 objects/s; latency p50 1.2 ms, p95 20.0 ms, p99 300.5 ms",
        "  1,010 PUT requests, 7 of them retries, 2 throttled",
    ]


def test_the_level_is_said_and_why_it_is_there() -> None:
    assert "  at most 60 in flight; the limit at the end was 64: more brings nothing" in lines(
        level="more brings nothing"
    )
    assert "  at most 60 in flight; the limit was 64: fixed for file:" in lines(level="fixed for file:")


def test_where_nothing_is_sent_there_is_no_latency_and_no_request() -> None:
    assert lines(destination="null:", level="fixed for null:", skips=("the body is NULL",)) == [
        "Complete: 1,023 rows in 4.0s: 1,000 put, 20 skipped, 3 failed",
        "  20 skipped: the body is NULL",
        "  5.0 MB, 250 objects/s; nothing was sent (null:)",
    ]


def test_only_a_destination_that_takes_requests_is_said_to_have_cost_some() -> None:
    assert "requests" not in "".join(lines(destination="file:///out/{id}"))


def test_where_requests_are_billed_the_summary_says_about_how_much() -> None:
    assert "; about $5.00 at $0.005 for 1,000 (S3 Standard, us-east-1)" in "".join(
        lines(priced=True, attempts=1_000_000)
    )
    assert "$" not in "".join(lines(priced=False, attempts=1_000_000))


def test_a_resumed_run_says_how_much_all_its_runs_did() -> None:
    assert "  3,023 rows over all runs since this checkpoint began" in lines(resumed=True, settled_before=2000)


@pytest.mark.parametrize(("gone", "said"), [(0, ""), (1, "  1 row is gone"), (1200, "  1,200 rows are gone")])
def test_a_retry_says_how_many_rows_are_gone(gone: int, said: str) -> None:
    assert "".join(line for line in lines(retried="file", gone=gone) if " gone" in line).startswith(said)
    assert any(" gone" in line for line in lines(retried="file", gone=gone)) == bool(gone)


def test_a_run_that_put_nothing_speaks_of_no_speed_and_no_requests() -> None:
    assert lines(counts=Counts(skipped=1), attempts=0, seconds=0.0) == [
        "Complete: 1 row in 0.0s: 0 put, 1 skipped, 0 failed"
    ]


@pytest.mark.parametrize(
    ("changes", "opening", "last"),
    [
        (
            {"status": PARTIAL, "dead_letters": "x.dead-letters.jsonl"},
            "Complete, but rows failed: ",
            "  asyncup retry x.dead-letters.jsonl",
        ),
        (
            {"status": INTERRUPTED},
            "Interrupted: ",
            "Next: run the same command again; it resumes from the checkpoint .asyncup/public.docs.json.",
        ),
        (
            {"status": ABORTED, "error": ConnectionLost("put", "o", "reset")},
            "Aborted: ",
            "Next: run the same command again; it resumes from the checkpoint .asyncup/public.docs.json.",
        ),
        (
            {"status": INTERRUPTED, "restarted": True},
            "Interrupted: ",
            "Next: run it again without --restart; it resumes from the checkpoint .asyncup/public.docs.json.",
        ),
        (
            {"status": INTERRUPTED, "checkpoint": None},
            "Interrupted: ",
            "Next: run the same command again; it starts from the beginning.",
        ),
        (
            {"status": PARTIAL},
            "Complete, but rows failed: ",
            "Next: mend the cause, then run the same command again; it copies every row anew.",
        ),
        (
            {"status": PARTIAL, "dead_letters": "it's.jsonl", "retried": "old.jsonl"},
            "Complete, but rows failed: ",
            """  asyncup retry 'it'"'"'s.jsonl'""",
        ),
        (
            {"status": INTERRUPTED, "checkpoint": None, "retried": "old.jsonl"},
            "Interrupted: ",
            "Next: run the same command again; it sends every row of old.jsonl.",
        ),
        (
            {"status": COMPLETE, "retried": "old.jsonl"},
            "Complete: ",
            "Every row of old.jsonl is settled; it may be deleted once its job is complete.",
        ),
        (
            {"status": COMPLETE, "retried": "old.jsonl", "counts": Counts()},
            "Complete: ",
            "old.jsonl holds no rows; it may be deleted once its job is complete.",
        ),
    ],
)
def test_a_run_that_is_not_complete_says_what_to_do_next(changes: dict[str, object], opening: str, last: str) -> None:
    said = lines(**changes)
    assert said[0].startswith(opening)
    assert said[-1] == last
    assert (f"  the failed rows are in {changes.get('dead_letters')}" in said) == ("dead_letters" in changes)


def test_running_again_is_not_advised_where_only_another_configuration_helps() -> None:
    refusal = DestinationRefused("put", "o", "AccessDenied", "ask for s3:PutObject")
    assert not any("Next:" in line for line in lines(status=ABORTED, error=refusal, counts=Counts()))
    assert lines(status=ABORTED, error=refusal)[-1] == (
        "Next: mend that first, or it ends there again; the same command then resumes from the checkpoint "
        ".asyncup/public.docs.json, other flags need --restart."
    )


def test_a_run_that_never_began_says_no_more_than_its_error() -> None:
    refusal = DestinationRefused("check", "s3://b", "there is no such bucket", "check --to")
    assert summary_lines(Report(error=refusal)) == []
    assert error_text(Report(error=refusal)) == [
        "error: there is no such bucket",
        "  where: check s3://b",
        "  hint:  check --to",
    ]
    assert summary_lines(Report(signal=2)) == ["Interrupted before anything was read."]
    assert error_text(Report(signal=2)) == []


@pytest.mark.parametrize(
    "report",
    [
        Report(JOB),
        Report(replace(JOB, resumed=True, settled_before=5)),
        Report(error=DestinationRefused("check", "s3://b", 'no "such"\nbucket \x1b \udcff é')),
        Report(signal=15),
    ],
)
def test_the_json_summary_is_one_line_of_ascii_that_reads_back_as_the_report(report: Report) -> None:
    text = json_summary(report, Redactor())
    assert text.isascii()
    assert "\n" not in text
    assert json.loads(text) == report.to_json()


DRY = replace(JOB, dry_run=True, requests=1000, attempts=0, retries=0, throttled=0, checkpoint=None, level="", peak=0)


def test_a_dry_run_says_what_would_be_put_and_claims_no_request_and_no_latency() -> None:
    assert summary_lines(Report(replace(DRY, priced=True, counts=Counts(put=1000, bytes=5_000_000)))) == [
        "Dry run complete: 1,000 rows in 4.0s: 1,000 would be put, 0 skipped, 0 failed",
        (
            "  5.0 MB, 250 objects/s read and made ready on this machine; nothing was sent, so neither the network nor the "
            "destination is in that figure"
        ),
        "  it would take 1,000 PUT requests or more; about $0.01 at $0.005 for 1,000 (S3 Standard, us-east-1)",
        "Next: run the same command without --dry-run.",
    ]
    failed = summary_lines(Report(replace(DRY, status=PARTIAL, dead_letters="x.jsonl")))
    assert failed[0].startswith("Dry run complete, but rows failed: ")
    assert failed[-2:] == [
        "  the failed rows are in x.jsonl",
        "Next: run the same command without --dry-run, once the cause is mended for which rows failed.",
    ]


def test_a_dry_run_that_ends_early_has_sent_nothing_whatever_it_counted() -> None:
    error = DestinationRefused("put", "o", "no")
    assert Report(replace(DRY, status=ABORTED, error=error), error).exit_code == 2
    assert Report(replace(JOB, status=ABORTED, error=error), error).exit_code == 1


@pytest.mark.parametrize(
    ("places", "broken", "said"),
    [
        (["a.json", "b.json"], False, ["Next: run the jobs that are not complete again; they go on from their checkpoints:", "  asyncup sync"]),
        (["a.json", None], False, ["Next: run the jobs that are not complete again; those with a checkpoint go on from it, the others begin anew:", "  asyncup sync"]),
        ([None, None], False, ["Next: run the jobs that are not complete again; they begin anew:", "  asyncup sync"]),
        (["a.json", None], True, ["Next: mend b (see its error), then:", "  asyncup sync"]),
    ],
)  # fmt: skip
def test_of_several_jobs_those_that_only_configuration_mends_are_to_be_mended_first(
    places: list[str | None], broken: bool, said: list[str]
) -> None:
    jobs = [
        replace(JOB, name=name, status=INTERRUPTED, checkpoint=place) for name, place in zip("ab", places, strict=True)
    ]
    if broken:
        jobs[1] = replace(jobs[1], status=ABORTED, error=DestinationRefused("put", "o", "no such bucket"))
    report = replace(Report.of(jobs, seconds=4.0, latency=Latency(), most=64, peak=0), again="asyncup sync")
    assert summary_lines(report)[-len(said) :] == said


def test_packs_are_counted_beside_their_rows() -> None:
    assert lines(packs=4)[0] == "Complete: 1,023 rows in 4.0s: 1,000 put in 4 packs, 20 skipped, 3 failed"
    assert Report(replace(JOB, packs=4)).to_json()["packs"] == 4
    assert "packs" not in Report(JOB).to_json()


def test_several_dry_runs_name_no_retry_and_no_checkpoint() -> None:
    jobs = [replace(DRY, name="docs", status=PARTIAL, dead_letters="x"), replace(DRY, name="pages", status=INTERRUPTED)]
    report = Report.of(jobs, seconds=4.0, latency=Latency(), most=64, peak=0, signal=2)
    told = summary_lines(report)
    assert told[0] == (
        "Dry run of 2 jobs in 4.0s, 1 interrupted, 1 with failed rows: 2,046 rows: 2,000 would be put, 40 skipped, 6 failed"
    )
    assert told[-1] == "Next: run the jobs that are not complete again; they begin anew."
    assert not any("retry" in line for line in told)


AGAIN, CHECK = "asyncup sync --table docs --to 's3://b/{id}'", "asyncup verify --table docs --to 's3://b/{id}'"
REFUSED = DestinationRefused("put", "o", "AccessDenied", "ask for s3:PutObject")
LOST = ConnectionLost("put", "o", "reset")


@pytest.mark.parametrize(
    ("job", "error", "words", "command"),
    [
        (JOB, None, "Next: compare the rows with their objects:", CHECK),
        (replace(JOB, status=INTERRUPTED), None, "Next: run this again; it resumes from the checkpoint .asyncup/public.docs.json:", AGAIN),
        (replace(JOB, status=INTERRUPTED, restarted=True, checkpoint=None), None, "Next: run this again; it starts from the beginning:", AGAIN),
        (replace(JOB, status=ABORTED, error=LOST), LOST, "Next: run this again; it resumes from the checkpoint .asyncup/public.docs.json:", AGAIN),
        (replace(JOB, status=ABORTED, counts=Counts(), error=REFUSED), REFUSED, "Next: mend that, then run this again:", AGAIN),
        (replace(JOB, status=PARTIAL, dead_letters="x.jsonl"), None, "Next: mend the cause, then send those rows again:", "asyncup retry x.jsonl"),
        (replace(JOB, dry_run=True, counts=Counts(put=1)), None, "Next: send them:", AGAIN),
        (None, LOST, "Next: once that can be reached, run this again:", AGAIN),
        (None, None, "Next: run this again:", AGAIN),
    ],
)  # fmt: skip
def test_every_ending_is_followed_by_the_command_to_type_next(
    job: JobReport | None, error: AsyncupError | None, words: str, command: str
) -> None:
    report = Report(job, error, again=AGAIN, check=CHECK)
    assert summary_lines(report)[-2:] == [words, f"  {command}"]
    if command in (AGAIN, CHECK):
        told = summary_lines(replace(report, left_out=("--dsn",)))
        assert told[-2:] == [words[:-1] + ", with --dsn as before:", f"  {command}"]


@pytest.mark.parametrize(
    ("verdict", "words", "command"),
    [
        (Verdict(complete=True, rows=5, different=1, mend=AGAIN), "Next: make objects as their rows are:", AGAIN),
        (Verdict(complete=True, rows=5, extra=2), "Next: see whether the 2 extra objects, of no row, may go; asyncup deletes nothing.", None),
        (Verdict(rows=5, signal=2, again=CHECK), "Next: run this again:", CHECK),
        (Verdict(error=LOST, again=CHECK), "Next: run this again:", CHECK),
    ],
)  # fmt: skip
def test_a_comparison_ends_with_what_mends_the_differences(verdict: Verdict, words: str, command: str | None) -> None:
    assert verdict_lines(verdict)[-2 if command else -1 :] == [words, *([f"  {command}"] if command else [])]


def test_nothing_is_advised_where_all_is_the_same_or_the_error_says_it() -> None:
    assert len(verdict_lines(Verdict(complete=True, rows=5, objects=5))) == 1
    assert verdict_lines(Verdict(error=REFUSED, again=CHECK)) == []
    assert summary_lines(Report(error=REFUSED, again=AGAIN)) == []


def test_the_worst_endings_fit_a_screen() -> None:
    error = DestinationRefused("put", "o", "no such bucket", "create it")
    jobs = [
        replace(JOB, name=f"job-{number}", status=PARTIAL, dead_letters=f".asyncup/job-{number}.dead-letters.jsonl")
        for number in range(20)
    ]
    jobs += [replace(JOB, name=f"bad-{number}", status=ABORTED, error=error) for number in range(20)]
    report = replace(Report.of(jobs, seconds=4.0, latency=Latency(), most=64, peak=0), again="asyncup sync bad-0")
    told = [*error_text(report), *summary_lines(report)]
    assert sum(len(wrapped(line, 80)) for line in told) <= 24, told
    differences = tuple(Difference("missing", (str(n),), f"d/{n}", NO_OBJECT) for n in range(50))
    verdict = Verdict(complete=True, rows=50, missing=50, differences=differences, by_size=3, skipped=3, mend=AGAIN)
    assert sum(len(wrapped(line, 80)) for line in verdict_lines(verdict)) <= 24
