"""`asyncup retry FILE`: the rows of a dead-letter file are sent again, as they are now; every one is accounted for."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from asyncup.checkpoints.files import StateFolder
from tests.conftest import Bucket, Database, Program, Run
from tests.e2e.test_sync import check_shape

FAILING = 40


@pytest.fixture
def docs(database: Database) -> Database:
    """Rows with a composite key, odd characters in it; every tenth has no body."""
    database.sql(
        "CREATE TABLE docs (tenant text, id int, live bool DEFAULT true, content text, PRIMARY KEY (tenant, id));"
        "INSERT INTO docs SELECT E'o''b\\\\\"\\t\\n😀', n, true, CASE WHEN n % 10 > 0 THEN 'body ' || n END "
        f"FROM generate_series(1, {FAILING * 10}) n"
    )
    return database


def command(bucket: Bucket) -> list[str]:
    """A job whose options all have to be the same again, or its rows would come to other objects."""
    return [
        "--table=docs",
        "--where=live -- only these",
        f"--to=s3://{bucket.name}/{{id:04d}}.txt",
        "--body=content",
        "--on-null=fail",
        "--allow-collisions",
    ]


def failed(program: Program, *arguments: str, rows: int = FAILING) -> Path:
    """The dead-letter file of a sync with failing rows."""
    run = program("sync", *arguments, "--output=json")
    assert run.code == 3, run.stderr
    assert run.summary["failed"] == rows
    return Path(program.folder, run.summary["dead_letters"])


def ids(file: Path) -> list[int]:
    return [int(json.loads(line)["key"][-1]) for line in file.read_text().splitlines()[1:]]


def counted(run: Run) -> tuple[int, ...]:
    """Rows, put, skipped, failed."""
    check_shape(run.summary)
    return tuple(run.summary[name] for name in ("rows", "put", "skipped", "failed"))


def test_rows_are_sent_as_they_are_now_and_those_that_fail_again_can_be_retried_again(
    connected: Program, docs: Database, bucket: Bucket
) -> None:
    file = failed(connected, *command(bucket))
    before = file.read_bytes()
    docs.sql(
        "UPDATE docs SET content = 'mended ' || id WHERE id % 10 = 0 AND id <= 100;"
        "DELETE FROM docs WHERE id BETWEEN 101 AND 200;"
        "UPDATE docs SET live = false, content = 'hidden' WHERE id BETWEEN 201 AND 250"
    )
    objects = bucket.objects()

    run = connected("retry", str(file), "--output=json")
    assert run.code == 3, run.stderr
    assert counted(run) == (40, 10, 15, 15)
    assert (run.summary["status"], run.summary["checkpoint"], run.summary["resumed"]) == ("partial", None, False)
    assert run.summary["jobs"][0]["name"] == "public.docs"
    assert "15 rows are gone" in run.stderr
    assert bucket.objects() == objects | {f"{n:04d}.txt": b"mended %d" % n for n in range(10, 101, 10)}
    assert file.read_bytes() == before
    again = Path(connected.folder, run.summary["dead_letters"])
    assert again.name == "public.docs.dead-letters.retry-1.jsonl"
    assert ids(again) == list(range(260, 401, 10))

    docs.sql("UPDATE docs SET content = 'late ' || id WHERE content IS NULL AND id <> 400")
    text = connected("retry", str(again))
    assert text.code == 3, text.stderr
    last = again.with_name("public.docs.dead-letters.retry-2.jsonl")
    assert f"asyncup retry {last}" in text.stdout
    assert f"{again} may be deleted" in text.stdout
    docs.sql("UPDATE docs SET content = 'last' WHERE id = 400")
    end = connected("retry", str(last))
    assert end.code == 0, end.stderr
    assert f"Every row of {last} is settled; it may be deleted once its job is complete." in end.stdout
    assert bucket.objects()["0400.txt"] == b"last"
    assert len(bucket.objects()) == 400 - 10 - 5
    assert sorted(path.name for path in file.parent.glob("*.jsonl")) == sorted([file.name, again.name, last.name])


def test_the_rows_of_a_query_are_read_by_its_key_through_the_query(
    connected: Program, docs: Database, bucket: Bucket
) -> None:
    file = failed(
        connected,
        "--query=SELECT id, max(content) AS text FROM docs GROUP BY id -- all",
        "--key=id",
        f"--to=s3://{bucket.name}/{{id}}",
        "--body=text",
        "--on-null=fail",
    )
    docs.sql("UPDATE docs SET content = 'mended'; DELETE FROM docs WHERE id = 10")
    run = connected("retry", str(file), "--output=json")
    assert run.code == 0, run.stderr
    assert counted(run) == (40, 39, 1, 0)
    assert run.summary["dead_letters"] is None
    assert bucket.objects()["400"] == b"mended"


@pytest.mark.parametrize("kept", ["s3://{bucket}/state/kept", "postgres:public.state"])
def test_letters_in_s3_and_in_postgres_are_retried_from_there_and_fail_again_to_there(
    connected: Program, docs: Database, bucket: Bucket, kept: str
) -> None:
    state = kept.format(bucket=bucket.name)
    first = connected("sync", *command(bucket), f"--state={state}", "--output=json")
    assert first.code == 3, first.stderr
    docs.sql("UPDATE docs SET content = 'mended' WHERE content IS NULL AND id <> 400")
    run = connected("retry", first.summary["dead_letters"], "--output=json")
    assert run.code == 3, run.stderr
    assert counted(run) == (40, 39, 0, 1)
    again = run.summary["dead_letters"]
    assert again != first.summary["dead_letters"]
    assert "public.docs.retry-" in again
    docs.sql("UPDATE docs SET content = 'mended' WHERE content IS NULL")
    end = connected("retry", again, "--output=json")
    assert end.code == 0, end.stderr
    assert counted(end) == (1, 1, 0, 0)
    assert bucket.objects()["0400.txt"] == b"mended"
    assert not (connected.folder / ".asyncup").exists()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_after_an_interruption_the_same_command_sends_what_is_left(
    connected: Program, docs: Database, bucket: Bucket, signum: signal.Signals
) -> None:
    docs.sql("INSERT INTO docs SELECT 't', n FROM generate_series(1001, 2500) n")
    file = failed(connected, *command(bucket), "--dead-letters=letters", rows=1500 + FAILING)
    before, objects = file.read_bytes(), len(bucket.objects())
    docs.sql("UPDATE docs SET content = 'mended' WHERE id > 1010")  # some fail before the signal comes
    retry = ["retry", "letters", "--dead-letters=again.jsonl", "--output=json"]
    process = connected.start(*retry, "--concurrency=2")
    connected.interrupt(process, when=lambda: len(bucket.objects()) > objects + 20, signum=signum)
    run = connected.finish(process)
    assert file.read_bytes() == before
    if signum is signal.SIGKILL:
        assert run.code == -signum
    else:
        assert run.code == 128 + signum
        assert run.summary["status"] == "interrupted"
        assert counted(run)[0] < 1500
    end = connected(*retry)
    assert end.code == 3, end.stderr
    assert counted(end) == (1540, 1490, 0, 50)
    assert set(ids(connected.folder / "again.jsonl")) == {*range(10, 401, 10), *range(1001, 1011)}


def test_a_retry_is_refused_while_another_run_of_the_job_is_in_progress(
    connected: Program, docs: Database, bucket: Bucket
) -> None:
    file = failed(connected, *command(bucket))
    lock = StateFolder(file.parent).lock("public.docs")
    run = connected("retry", str(file), "--output=json")
    lock.release()
    assert run.code == 2
    assert run.summary["error"]["op"] == "lock job"
    check_shape(run.summary)


def test_rows_that_fail_again_never_go_over_other_rows_or_other_files(
    connected: Program, docs: Database, bucket: Bucket
) -> None:
    file = failed(connected, *command(bucket))
    precious, elsewhere = connected.folder / "precious", connected.folder / "elsewhere.jsonl"
    precious.write_text("no letters\n")
    elsewhere.write_text(file.read_text().replace("{id:04d}.txt", "x/{id}", 1))
    for taken, reason in ((file, "to be retried"), (precious, "not a dead-letter file"), (elsewhere, "another job")):
        before = taken.read_bytes()
        run = connected("retry", str(file), f"--dead-letters={taken}", "--output=json")
        assert run.code == 2, taken
        assert reason in run.summary["error"]["message"]
        assert taken.read_bytes() == before


def test_what_is_no_dead_letter_file_is_refused(asyncup: Program) -> None:
    run = asyncup("retry", "no-such-file", "--output=json")
    assert run.code == 2
    check_shape(run.summary)
    assert run.summary["error"]["message"] == "there is no such file"


def test_what_is_no_file_is_refused_and_not_waited_for(asyncup: Program) -> None:
    os.mkfifo(asyncup.folder / "pipe")
    for place in ("pipe", "/dev/zero", "."):
        run = asyncup("retry", place, "--output=json")
        assert run.code == 2
        assert "in its summary" in run.summary["error"]["hint"]


def test_a_file_without_rows_is_complete_without_a_database(asyncup: Program) -> None:
    job = {"name": "public.t", "key": ["id"]}
    (asyncup.folder / "file").write_text(json.dumps({"kind": "asyncup dead letters", "version": 1, "job": job}) + "\n")
    run = asyncup("retry", "file", "--output=json")
    assert run.code == 0, run.stderr
    assert counted(run) == (0, 0, 0, 0)


def test_a_last_line_that_a_crash_cut_short_is_said_and_left_out(
    connected: Program, docs: Database, bucket: Bucket
) -> None:
    file = failed(connected, *command(bucket))
    file.write_bytes(file.read_bytes()[:-30])
    docs.sql("UPDATE docs SET content = 'mended' WHERE content IS NULL")
    run = connected("retry", str(file), "--output=json")
    assert run.code == 0, run.stderr
    assert counted(run) == (FAILING - 1, FAILING - 1, 0, 0)
    assert "cut short by a crash" in run.stderr
