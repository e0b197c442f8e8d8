"""A step of a pipeline: a dry run, gates, and logs that a machine reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asyncup.cli.main import run
from tests.conftest import Bucket, Database, Program

SECRET = "sesame-open-please"


def told(stderr: str) -> list[dict[str, Any]]:
    """Every line of stderr, each of which must be an object."""
    return [json.loads(line) for line in stderr.splitlines()]


def test_a_step_that_tries_and_gates_and_logs(connected: Program, database: Database, bucket: Bucket) -> None:
    database.sql("CREATE TABLE docs (id int PRIMARY KEY); INSERT INTO docs SELECT generate_series(1, 50)")
    (connected.folder / "shout.py").write_text("def shout(record):\n    print('a row')\n    return 'x'\n")
    arguments = [
        "sync",
        "--table=docs",
        f"--to=s3://{bucket.name}/{{id}}",
        "--transform=shout:shout",
        "--executor=loop",
    ]
    log = ["--output=json", "--log-format=json"]
    dry = connected(*arguments, *log, "--dry-run", "--expect-rows=50:50", ASYNCUP_LIMITS="5")
    assert (dry.code, dry.summary["dry_run"], dry.summary["put"], bucket.objects()) == (0, True, 50, {})
    events = [line["event"] for line in told(dry.stderr)]
    assert [events[0], events[-1], events.count("printed")] == ["notice", "finished", 50]

    missed = connected(*arguments, *log, ASYNCUP_EXPECT_ROWS=":49")
    assert (missed.code, missed.summary["status"], missed.summary["put"]) == (1, "aborted", 50)
    assert missed.summary["error"]["type"] == "GateMissed"
    assert [line["event"] for line in told(missed.stderr)[-2:]] == ["finished", "error"]
    assert len(bucket.objects()) == 50


def test_several_jobs_log_under_their_names_and_a_wrong_flag_is_a_line_too(asyncup: Program) -> None:
    (asyncup.folder / "asyncup.toml").write_text(
        f"[defaults]\ndsn = 'postgresql://u:{SECRET}@127.0.0.1:1/d'\nto = 'null:'\n"
        "[jobs.one]\ntable = 'a'\n[jobs.two]\ntable = 'b'\n"
    )
    ended = asyncup("sync", "--all", "--dry-run", "--timeout=200ms", "--log-format=json", "--output=json")
    assert (ended.code, ended.summary["dry_run"], ended.summary["error"]["type"]) == (1, True, "OutOfTime")
    assert SECRET not in ended.stderr + ended.stdout
    assert {line["job"] for line in told(ended.stderr) if line["event"] == "error"} == {"one", "two"}


@pytest.mark.parametrize("wrong", ["--expect-rows=5", "--nonsense"])
def test_a_command_line_that_is_wrong_is_a_line_too(
    wrong: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["asyncup", wrong])
    code = run(["sync", "--table=a", "--to=null:", "--dry-run", "--log-format=json", "--output=json", wrong])
    out, err = capsys.readouterr()
    (line,) = told(err)
    assert (code, json.loads(out)["dry_run"], line["level"], line["event"], line["type"]) == (
        *(2, True, "error", "error", "UsageError"),
    )
