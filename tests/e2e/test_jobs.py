"""Jobs of a configuration file, alone and together: what arrives, what is said, and how one that fails leaves the others."""

from __future__ import annotations

import shlex
import signal
from typing import Any

import pytest

from tests.conftest import Bucket, Database, Program
from tests.e2e.test_sync import check_shape

ROWS = 150


@pytest.fixture
def shop(connected: Program, database: Database, bucket: Bucket) -> Program:
    """Two tables, and a file with a job for each, and one for a table that is not there."""
    for table in ("docs", "pages"):
        database.sql(
            f"CREATE TABLE {table} (id bigint PRIMARY KEY, content text NOT NULL);"
            f"INSERT INTO {table} SELECT n, '{table} ' || n FROM generate_series(1, {ROWS}) n"
        )
    write(
        connected,
        f"""
        [defaults]
        body = "content"
        max-attempts = 3

        [jobs.docs]
        table = "docs"
        to = "s3://{bucket.name}/${{PREFIX}}/{{id}}"

        [jobs.pages]
        table = "pages"
        to = "s3://{bucket.name}/pages/{{id}}"

        [jobs.lost]
        table = "no_such_table"
        to = "s3://{bucket.name}/lost/{{id}}"
        """,
    )
    connected.environment["PREFIX"] = "docs"
    return connected


def fill(database: Database, rows: int) -> None:
    for table in ("docs", "pages"):
        database.sql(f"INSERT INTO {table} SELECT n, '{table} ' || n FROM generate_series({ROWS + 1}, {rows}) n")


def write(program: Program, text: str, name: str = "asyncup.toml") -> None:
    (program.folder / name).write_text("\n".join(line.strip() for line in text.splitlines()))


def bodies(*tables: str, rows: int = ROWS) -> dict[str, bytes]:
    return {f"{table}/{n}": f"{table} {n}".encode() for table in tables for n in range(1, rows + 1)}


def of(summary: dict[str, Any], name: str) -> dict[str, Any]:
    (job,) = [job for job in summary["jobs"] if job["name"] == name]
    return job


def test_two_jobs_run_together_each_with_its_checkpoint(shop: Program, bucket: Bucket) -> None:
    run = shop("sync", "docs", "pages", "--concurrency=6", "--output=json")
    assert run.code == 0, run.stderr
    assert bucket.objects() == bodies("docs", "pages")
    summary = run.summary
    check_shape(summary)
    assert [job["name"] for job in summary["jobs"]] == ["docs", "pages"]
    assert [(job["status"], job["put"]) for job in summary["jobs"]] == [("complete", ROWS)] * 2
    assert (summary["status"], summary["put"], summary["error"]) == ("complete", 2 * ROWS, None)
    assert summary["bytes"] == sum(map(len, bodies("docs", "pages").values()))
    assert summary["concurrency"]["peak"] <= 6
    assert (shop.folder / ".asyncup" / "docs.json").is_file()
    assert (shop.folder / ".asyncup" / "pages.json").is_file()


def test_a_job_that_fails_leaves_the_others_to_their_end(shop: Program, bucket: Bucket) -> None:
    run = shop("sync", "--all", "--output=json")
    assert run.code == 1, run.stderr
    assert bucket.objects() == bodies("docs", "pages")
    check_shape(run.summary)
    assert (run.summary["status"], run.summary["error"]["type"]) == ("aborted", "SourceRefused")
    assert (of(run.summary, "lost")["status"], of(run.summary, "pages")["status"]) == ("aborted", "complete")
    assert "error: lost: " in run.stderr


def test_nothing_sent_by_any_job_is_a_matter_of_configuration(shop: Program, bucket: Bucket) -> None:
    run = shop("sync", "lost", "pages", "--fail-fast", "--jobs=1")
    assert run.code == 2, run.stderr
    assert bucket.objects() == {}
    assert "2 jobs" in run.stdout
    assert "1 aborted, 1 interrupted" in run.stdout
    assert "asyncup sync lost pages" in run.stdout


def test_one_signal_drains_every_job_and_the_same_command_finishes_them(
    shop: Program, database: Database, bucket: Bucket
) -> None:
    fill(database, 700)

    def stored() -> list[int]:
        return [len(list((bucket.folder / name).glob("*"))) for name in ("docs", "pages")]

    process = shop.start("sync", "docs", "pages", "--concurrency=4", "--max-rate=700", "--output=json")
    shop.interrupt(process, when=lambda: min(stored()) > 510, signum=signal.SIGINT)
    first = shop.finish(process)
    assert first.code == 130, first.stderr
    check_shape(first.summary)
    assert [job["status"] for job in first.summary["jobs"]] == ["interrupted", "interrupted"]
    assert stored() == [job["put"] for job in first.summary["jobs"]]
    assert first.stderr.count("SIGINT") == 1
    second = shop("sync", "docs", "pages", "--output=json")
    assert second.code == 0, second.stderr
    assert [(job["resumed"], job["total"]) for job in second.summary["jobs"]] == [(True, 700)] * 2
    assert bucket.objects() == bodies("docs", "pages", rows=700)


def test_shards_are_jobs(shop: Program, bucket: Bucket) -> None:
    write(
        shop,
        f"""
        [tool.asyncup.defaults]
        table = "docs"
        to = "s3://{bucket.name}/docs/{{id}}"
        body = "content"
        name = "docs"

        [tool.asyncup.jobs.first]
        shard = "0/2"

        [tool.asyncup.jobs.second]
        shard = "1/2"
        """,
        "pyproject.toml",
    )
    run = shop("sync", "--all", "--config=pyproject.toml", "--output=json")
    assert run.code == 0, run.stderr
    assert bucket.objects() == bodies("docs")
    assert [job["name"] for job in run.summary["jobs"]] == ["docs.0-of-2", "docs.1-of-2"]


def test_jobs_of_several_databases_fail_rows_retry_and_stand_by_their_names(
    shop: Program, database: Database, bucket: Bucket
) -> None:
    """No connection comes from the environment: each job has its own."""
    database.sql("CREATE DATABASE " + database.name + "_two")
    two = Database(database.server, database.name + "_two")
    try:
        two.sql(
            "CREATE TABLE docs (id bigint PRIMARY KEY, content text); INSERT INTO docs VALUES (1, 'one'), (2, NULL)"
        )
        write(
            shop,
            f"""
            [defaults]
            table = "docs"
            body = "content"
            on-null = "fail"

            [jobs.first]
            dsn = "${{FIRST}}"
            where = "id = 1"
            to = "s3://{bucket.name}/first/{{id}}"

            [jobs.second]
            dsn = "${{SECOND}}"
            to = "s3://{bucket.name}/second/{{id}}"
            """,
        )
        shop.environment |= {"PGDATABASE": "nowhere", "FIRST": database.dsn, "SECOND": two.dsn}
        run = shop("sync", "--all")
        assert run.code == 3, run.stdout + run.stderr
        assert bucket.objects() == {"first/1": b"docs 1", "second/1": b"one"}
        (command,) = [line.strip() for line in run.stdout.splitlines() if "asyncup retry" in line]
        status = shop("status")
        assert "asyncup sync first" in status.stdout
        assert command in status.stdout
        two.sql("UPDATE docs SET content = 'two' WHERE id = 2")
        retried = shop(*shlex.split(command)[1:])
        assert retried.code == 0, retried.stderr
        assert bucket.objects()["second/2"] == b"two"
    finally:
        database.sql(f"DROP DATABASE {two.name} WITH (FORCE)")


def test_plan_and_verify_take_names_of_jobs(shop: Program, bucket: Bucket) -> None:
    assert shop("sync", "docs").code == 0
    plan = shop("plan", "docs", "pages", "--output=json")
    assert plan.code == 0, plan.stderr
    assert [(job["name"], job["command"]) for job in plan.summary["jobs"]] == [
        ("docs", "asyncup sync docs"),
        ("pages", "asyncup sync pages"),
    ]
    verdict = shop("verify", "docs", "pages", "--output=json")
    assert verdict.code == 4, verdict.stderr
    assert (verdict.summary["status"], verdict.summary["missing"]) == ("different", ROWS)
    assert [job["status"] for job in verdict.summary["jobs"]] == ["same", "different"]
    assert verdict.summary["differences"][0]["job"] == "pages"


def test_a_password_in_the_file_is_nowhere_in_what_is_said(shop: Program, database: Database) -> None:
    dsn = database.dsn.replace("postgresql://", "postgresql://postgres:${SECRET_PART}hidden@", 1)
    write(shop, f'[jobs.docs]\ntable = "docs"\ndsn = "{dsn}"\nto = "null:"\nmemory = "lots"\n')
    run = shop("sync", "docs", "-vv", SECRET_PART="verysecret")
    assert run.code == 2
    assert "asyncup.toml [jobs.docs] memory" in run.stderr
    assert "hidden" not in run.stderr + run.stdout
    assert "verysecret" not in run.stderr + run.stdout
