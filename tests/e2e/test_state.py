"""What a run keeps for the next one: checkpoint, fingerprint, lock, dead letters."""

from __future__ import annotations

import json
import signal
import stat
from pathlib import Path

import pytest

from tests.conftest import Bucket, Database, Program
from tests.e2e.test_sync import check_shape

ROWS = 3000


@pytest.fixture
def docs(database: Database) -> Database:
    database.sql(
        "CREATE TABLE docs (id bigint PRIMARY KEY, content text NOT NULL, name text NOT NULL UNIQUE);"
        f"INSERT INTO docs SELECT n, 'body ' || n, 'n' || n FROM generate_series(1, {ROWS}) n"
    )
    return database


def state(program: Program) -> Path:
    return program.folder / ".asyncup"


def interrupted(program: Program, *arguments: str) -> None:
    """Leave an unfinished checkpoint behind: two uploads at a time are slow enough to be interrupted."""
    process = program.start(*arguments, "--concurrency=2")
    checkpoint = state(program) / "public.docs.json"
    program.interrupt(process, when=checkpoint.exists, signum=signal.SIGINT)
    assert program.finish(process).code == 130


def test_another_configuration_does_not_resume_and_says_what_differs(
    connected: Program, docs: Database, bucket: Bucket
) -> None:
    to = f"--to=s3://{bucket.name}/{{id}}"
    interrupted(connected, "sync", "--table=docs", to, "--body=content")
    changed = ["--where=id > 0", "--body=name", "--key=name", "--content-type=text/plain"]
    changed.append(f"--to=s3://{bucket.name}/x/{{id}}")
    run = connected("sync", "--table=docs", *changed, "--output=json")
    assert run.code == 2
    check_shape(run.summary)
    error = run.summary["error"]
    assert error["type"] == "StateRefused"
    for field in ("where", "body", "key", "content_type", "to"):
        assert f"{field}: was " in error["message"]
    assert "--restart" in error["hint"]
    assert connected("sync", "--table=docs", to, "--body=content").code == 0


def test_restart_begins_again_with_another_configuration(connected: Program, docs: Database, bucket: Bucket) -> None:
    interrupted(connected, "sync", "--table=docs", f"--to=s3://{bucket.name}/a/{{id}}", "--body=content")
    run = connected(
        "sync", "--table=docs", f"--to=s3://{bucket.name}/b/{{id}}", "--body=name", "--restart", "--output=json"
    )
    assert run.code == 0, run.stderr
    assert (run.summary["put"], run.summary["resumed"]) == (ROWS, False)


def test_a_finished_job_starts_a_new_full_run_whatever_the_flags(connected: Program, docs: Database) -> None:
    assert connected("sync", "--table=docs", "--to=null:").code == 0
    run = connected("sync", "--table=docs", "--to=null:x/{id}", "--output=json")
    assert run.code == 0, run.stderr
    assert (run.summary["rows"], run.summary["resumed"]) == (ROWS, False)


def test_a_second_run_of_a_job_is_refused_while_the_first_runs(
    connected: Program, docs: Database, bucket: Bucket
) -> None:
    docs.sql("INSERT INTO docs SELECT n, 'body', 'n' || n FROM generate_series(100001, 200000) n")  # enough to do
    command = ["sync", "--table=docs", f"--to=s3://{bucket.name}/{{id}}"]
    first = connected.start(*command, "--concurrency=2")
    while not (state(connected) / "public.docs.json").exists():
        assert first.poll() is None
    second = connected(*command, "--output=json")
    assert second.code == 2
    assert second.summary["error"]["op"] == "lock job"
    assert "another run of this job is in progress" in second.summary["error"]["message"]
    assert connected(*command[:2], "--to=null:", "--name=other").code == 0, "another name is another job"
    first.send_signal(signal.SIGINT)
    assert connected.finish(first).code == 130


def test_a_trial_leaves_no_checkpoint_and_does_not_touch_one(
    connected: Program, docs: Database, bucket: Bucket
) -> None:
    command = ["sync", "--table=docs", f"--to=s3://{bucket.name}/{{id}}", "--body=content"]
    run = connected(*command, "--limit=10", "--output=json")
    assert run.code == 0, run.stderr
    assert (run.summary["rows"], run.summary["checkpoint"]) == (10, None)
    assert not list(state(connected).glob("*.json"))
    interrupted(connected, *command)
    before = (state(connected) / "public.docs.json").read_bytes()
    assert connected(*command, "--limit=10").code == 0
    assert (state(connected) / "public.docs.json").read_bytes() == before


def test_state_is_private_and_ignored_by_git(connected: Program, docs: Database) -> None:
    assert connected("sync", "--table=docs", "--to=null:", "--state=kept/here").code == 0
    folder = connected.folder / "kept" / "here"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "public.docs.json").stat().st_mode) == 0o600
    assert (folder / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize("name", ["a/b", "../up", ".hidden", "ä" * 100, 'quo"ted name', "x" * 300])
def test_any_job_name_is_kept_inside_the_state_folder(connected: Program, docs: Database, name: str) -> None:
    run = connected("sync", "--table=docs", "--to=null:", f"--name={name}", "--output=json")
    assert run.code == 0, run.stderr
    assert run.summary["jobs"][0]["name"] == name
    checkpoint = Path(connected.folder, run.summary["checkpoint"])
    assert checkpoint.parent == state(connected)
    assert json.loads(checkpoint.read_text())["name"] == name


def test_a_broken_checkpoint_is_refused_with_the_way_on(connected: Program, docs: Database) -> None:
    state(connected).mkdir()
    (state(connected) / "public.docs.json").write_text('{"version": 99}')
    run = connected("sync", "--table=docs", "--to=null:", "--output=json")
    assert run.code == 2
    assert "--restart" in run.summary["error"]["hint"]
    assert connected("sync", "--table=docs", "--to=null:", "--restart").code == 0


def test_failed_rows_are_in_the_dead_letter_file_and_the_exit_code_says_so(
    connected: Program, database: Database, bucket: Bucket
) -> None:
    database.sql(
        "CREATE TABLE docs (id int PRIMARY KEY, name text UNIQUE NOT NULL);"
        "INSERT INTO docs SELECT n, CASE WHEN n % 100 = 0 THEN E'tab\\t' || n ELSE 'n' || n END "
        "FROM generate_series(1, 500) n"
    )
    command = ["sync", "--table=docs", f"--to=s3://{bucket.name}/{{name}}", "--output=json"]
    run = connected(*command)
    assert run.code == 3, run.stderr
    check_shape(run.summary)
    summary = run.summary
    assert (summary["status"], summary["put"], summary["failed"]) == ("partial", 495, 5)
    header, *letters = map(json.loads, Path(connected.folder, summary["dead_letters"]).read_text().splitlines())
    assert header["job"]["table"] == "public.docs"
    assert header["job"]["to"] == f"s3://{bucket.name}/{{name}}"
    assert database.server.environment["PGPASSWORD"] not in json.dumps(header)
    assert [letter["key"] for letter in letters] == [["100"], ["200"], ["300"], ["400"], ["500"]]
    assert {letter["error"] for letter in letters} == {"RowRefused"}
    assert all("control character" in letter["message"] for letter in letters)
    assert run.stderr.count(" failed: ") == 5

    database.sql("UPDATE docs SET name = 'mended' || id WHERE id % 100 = 0")
    again = connected(*command)
    assert again.code == 0, again.stderr
    assert again.summary["dead_letters"] is None
    assert not Path(connected.folder, summary["dead_letters"]).exists()


def test_failures_of_an_interrupted_run_are_not_forgotten_by_the_one_that_resumes(
    connected: Program, database: Database, bucket: Bucket
) -> None:
    database.sql(
        f"CREATE TABLE docs (id int PRIMARY KEY, content text); INSERT INTO docs SELECT n, "
        f"CASE WHEN n > 10 THEN 'x' END FROM generate_series(1, {ROWS}) n"
    )
    command = ["sync", "--table=docs", f"--to=s3://{bucket.name}/{{id}}", "--body=content", "--on-null=fail"]
    interrupted(connected, *command)
    run = connected(*command, "--output=json")
    assert run.code == 3, "ten rows failed, if not in this run"
    assert (run.summary["status"], run.summary["failed"]) == ("partial", 0)
    assert run.summary["jobs"][0]["total"] == ROWS
    letters = Path(connected.folder, run.summary["dead_letters"]).read_text().splitlines()[1:]
    assert len(letters) == 10


@pytest.mark.parametrize("first", [[], ["--dead-letters=mine"]])
def test_a_run_that_would_lose_the_letters_of_the_one_before_is_refused(
    connected: Program, database: Database, bucket: Bucket, first: list[str]
) -> None:
    database.sql(
        f"CREATE TABLE docs (id int PRIMARY KEY, content text); INSERT INTO docs SELECT n, "
        f"CASE WHEN n > 10 THEN 'x' END FROM generate_series(1, {ROWS}) n"
    )
    command = ["sync", "--table=docs", f"--to=s3://{bucket.name}/{{id}}", "--body=content", "--on-null=fail"]
    interrupted(connected, *command, *first)
    before = connected.folder / (first[0].partition("=")[2] if first else ".asyncup/public.docs.dead-letters.jsonl")
    assert before.exists()
    other = connected(*command, "--dead-letters=other", "--output=json")
    assert other.code == 2, other.stderr
    assert str(before.relative_to(connected.folder)) in other.summary["error"]["message"]
    assert "--restart" in other.summary["error"]["hint"]
    assert not (connected.folder / "other").exists()
    kept = before.read_bytes()
    before.unlink()
    gone = connected(*command, *first, "--output=json")
    assert gone.code == 2, gone.stderr
    before.write_bytes(kept)
    run = connected(*command, *first, "--output=json")
    assert run.code == 3, run.stderr
    assert len(Path(connected.folder, run.summary["dead_letters"]).read_text().splitlines()) == 11


def test_the_dead_letters_of_a_resumed_run_are_those_of_its_rows_and_no_others(
    connected: Program, database: Database, bucket: Bucket
) -> None:
    """What failed above the watermark is sent again: its letter stands only if it fails again."""
    database.sql(
        "CREATE TABLE docs (id int PRIMARY KEY, content text);"
        "INSERT INTO docs SELECT n, CASE WHEN n NOT IN (603, 2000) THEN 'x' END FROM generate_series(1, 3000) n"
    )
    command = ["sync", "--table=docs", f"--to=s3://{bucket.name}/{{id}}", "--body=content", "--on-null=fail"]
    # rows are rendered no further ahead of those that were sent than this
    first = connected(*command, "--max-failures=1", "--output=json", "--concurrency=8")
    assert first.code == 1
    assert first.summary["failed"] == 2
    assert first.summary["dead_letters"] is not None
    database.sql("UPDATE docs SET content = 'mended' WHERE id = 2000")
    second = connected(*command, "--output=json")
    assert second.code == 3, second.stderr
    assert second.summary["jobs"][0]["total"] == 3000
    letters = Path(connected.folder, second.summary["dead_letters"]).read_text().splitlines()[1:]
    assert [json.loads(letter)["key"] for letter in letters] == [["603"]]


def test_restart_forgets_the_old_checkpoint_at_once(connected: Program, docs: Database, bucket: Bucket) -> None:
    """Killed before its first save, a restarted run must not fall back to what it was told to forget."""
    command = ["sync", "--table=docs", f"--to=s3://{bucket.name}/{{id}}", "--body=content"]
    interrupted(connected, *command)
    process = connected.start(*command, "--restart", "--concurrency=1")
    while (state(connected) / "public.docs.json").exists():
        assert process.poll() is None
    process.kill()
    connected.finish(process)
    run = connected(*command, "--output=json")
    assert (run.summary["resumed"], run.summary["rows"]) == (False, ROWS)


def test_a_checkpoint_does_not_resume_against_another_server(
    connected: Program, docs: Database, bucket: Bucket, servers_folder: Path
) -> None:
    from asyncup.embedded.s3 import embedded_s3

    command = ["sync", "--table=docs", f"--to=s3://{bucket.name}/{{id}}"]
    interrupted(connected, *command)
    with embedded_s3(servers_folder / "elsewhere") as other:
        other.make_bucket(bucket.name)
        run = connected(*command, "--output=json", **other.environment)
    assert run.code == 2
    assert "endpoint: was " in run.summary["error"]["message"]


def test_a_trial_never_takes_the_dead_letters_of_the_job(connected: Program, database: Database) -> None:
    database.sql("CREATE TABLE t (id int PRIMARY KEY, b text); INSERT INTO t VALUES (1, 'x'), (2, NULL)")
    command = ["sync", "--table=t", "--to=null:", "--body=b", "--on-null=fail", "--dead-letters=dl"]
    assert connected(*command, "--limit=2").code == 3
    assert connected(*command).code == 3, "the letters of a trial give way"
    before = (connected.folder / "dl").read_text()
    assert connected(*command, "--limit=2").code == 2
    assert (connected.folder / "dl").read_text() == before


def test_max_failures_ends_the_run(connected: Program, database: Database, bucket: Bucket) -> None:
    database.sql("CREATE TABLE t (id int PRIMARY KEY, b text); INSERT INTO t SELECT n FROM generate_series(1, 2000) n")
    command = ["sync", "--table=t", f"--to=s3://{bucket.name}/{{id}}", "--body=b", "--on-null=fail", "--output=json"]
    run = connected(*command, "--max-failures=100")
    assert run.code == 1
    check_shape(run.summary)
    assert (run.summary["status"], run.summary["error"]["type"]) == ("aborted", "TooManyFailures")


def test_a_dead_letter_file_is_never_written_over_something_else(connected: Program, docs: Database) -> None:
    precious = connected.folder / "precious.txt"
    precious.write_text("not dead letters\n")
    run = connected("sync", "--table=docs", "--to=null:", f"--dead-letters={precious}")
    assert run.code == 2
    assert precious.read_text() == "not dead letters\n"


def test_a_dead_letter_file_that_cannot_be_written_ends_the_run(connected: Program, docs: Database) -> None:
    run = connected("sync", "--table=docs", "--to=null:", "--dead-letters=missing/folder/file.jsonl", "--output=json")
    assert run.code == 2
    assert run.summary["error"]["op"] == "open dead letters"
