"""A step of a pipeline: a dry run, gates, logs that a machine reads, and what GitHub and GitLab are told."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from asyncup.cli.main import run
from tests.conftest import Bucket, Database, Program
from tests.e2e.test_terminal import on_terminal
from tests.unit.test_ci_guard import commands

ON_GITHUB = {"CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": "summary.md", "GITHUB_OUTPUT": "out"}
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


@pytest.mark.parametrize("wrong", ["--expect-rows=five", "--nonsense"])
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


def test_on_github_rows_say_nothing_that_the_runner_obeys(
    connected: Program, database: Database, bucket: Bucket
) -> None:
    database.sql(
        "CREATE TABLE docs (id text PRIMARY KEY); INSERT INTO docs VALUES (E'x\n::set-output name=a::b'), ('##[error]c'), ('d')"
    )
    (connected.folder / "shout.py").write_text(
        "def shout(record):\n    print('::add-mask::a'); print('a ##[group]b')\n    raise ValueError('no\\n::error::' + record['id'])\n"
    )
    run = connected(
        *("sync", "--table=docs", f"--to=s3://{bucket.name}/{{id}}", "--transform=shout:shout", "--executor=loop"),
        *("-v", "--output=json", "--max-failures=5"),
        **ON_GITHUB,
    )
    assert (run.code, run.summary["failed"]) == (3, 3), run.stderr
    assert commands(run.stdout) == []
    annotated = commands(run.stderr)
    assert [line.split("::")[1].split()[0] for line in annotated] == ["error", "warning", "warning"]
    assert all(line.startswith("::") for line in annotated)
    assert not set(run.stderr) & {"\r", "\x1b"}
    assert ": :add-mask::a\na # #[group]b\n" in run.stderr
    assert "\n  : :error::" in run.stderr
    summary, output = ((connected.folder / name).read_text() for name in ("summary.md", "out"))
    assert summary.startswith("### asyncup sync <code>public&#46;docs</code>: complete, but rows failed\n")
    assert "asyncup retry .asyncup/public.docs.dead-letters.jsonl" in summary
    assert {"status=partial", "rows=3", "put=0", "failed=3", "exit_code=3"} <= set(output.splitlines())


def test_a_log_of_json_stays_one_on_github_and_a_row_in_it_is_no_command(
    connected: Program, database: Database
) -> None:
    database.sql("CREATE TABLE docs (id text PRIMARY KEY); INSERT INTO docs VALUES ('##[error]c')")
    to = ["--to=null:{id}", "--transform=json:dumps", "--executor=loop"]
    run = connected(
        "sync", "--table=docs", *to, "--log-format=json", "--output=json", **ON_GITHUB | {"GITHUB_OUTPUT": "no/out"}
    )
    lines = told(run.stderr)
    assert commands(run.stdout + run.stderr) == []
    (failed,) = (line for line in lines if line["event"] == "row_failed")
    assert failed["key"] == ["##[error]c"]
    assert [line["event"] for line in lines[-2:]] == ["finished", "notice"]
    assert lines[-1]["message"].startswith("GITHUB_OUTPUT cannot be written")
    assert run.code == 3


@pytest.mark.skipif(os.name == "nt", reason="there is no /dev/full")
def test_on_gitlab_the_run_is_a_section_and_a_junit_file_that_cannot_be_written_fails_the_step(
    connected: Program, database: Database, bucket: Bucket
) -> None:
    database.sql("CREATE TABLE docs (id int PRIMARY KEY); INSERT INTO docs SELECT generate_series(1, 5)")
    job = ["--table=docs", f"--to=s3://{bucket.name}/{{id}}"]
    on_gitlab = {"CI": "true", "GITLAB_CI": "true"}
    sent = connected("sync", *job, **on_gitlab)
    shape = r"\x1b\[0Ksection_start:\d+:(\w+)\n\x1b\[0Kasyncup: the run\n.*\n\x1b\[0Ksection_end:\d+:\1\n\x1b\[0K\n"
    assert re.fullmatch(shape, sent.stderr, re.DOTALL), sent.stderr
    assert connected("verify", *job, "--junit=/dev/full").code == 1
    database.sql("INSERT INTO docs VALUES (6)")
    missing = connected("verify", *job, "--junit=out.xml")
    root = ET.parse(connected.folder / "out.xml").getroot()
    assert (missing.code, root.get("tests"), root.get("failures")) == (4, "3", "1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["verify", "--table=a", "--to=null:", "--junit=no/x.xml"],
            "::error title=asyncup%3A UsageError::there is no folder no%0A",
        ),
        (["sync", "--tabel=x\n::error::y"], "::error title=asyncup%3A UsageError::"),
    ],
)
def test_a_command_line_that_is_wrong_is_annotated_too(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in ON_GITHUB.items():
        monkeypatch.setenv(name, value)
    assert run(arguments) == 2
    err = capsys.readouterr().err
    assert len(commands(err)) == 1
    assert commands(err)[0].startswith(said)
    assert "exit_code=2\n" in (tmp_path / "out").read_text()


@pytest.mark.skipif(os.name == "nt", reason="there is no pty")
def test_on_a_terminal_too_nothing_is_live_in_ci(connected: Program, database: Database) -> None:
    database.sql("CREATE TABLE docs (id int PRIMARY KEY); INSERT INTO docs SELECT generate_series(1, 5)")
    seen = on_terminal(connected, "sync", "--table=docs", "--to=null:", columns=100, CI="true")
    assert "\x1b" not in seen
    assert "Complete: 5 rows" in seen
