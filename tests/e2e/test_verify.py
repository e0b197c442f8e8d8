"""`asyncup verify` as people run it: what it says, its exit codes, its JSON, signals."""

from __future__ import annotations

import os
import shlex
import signal
from typing import Any

import pytest

from tests.conftest import Bucket, Database, Program, Run
from tests.moto_server import MotoBucket, MotoServer

FIELDS = {
    "version": int,
    "status": str,
    "rows": int,
    "objects": int,
    "missing": int,
    "different": int,
    "extra": int,
    "differences": list,
    "error": (dict, type(None)),
}


def verdict(run: Run) -> dict[str, Any]:
    """The JSON of a run, of the shape that every outcome has."""
    summary = run.summary
    assert list(summary) == list(FIELDS)
    for name, kind in FIELDS.items():
        assert isinstance(summary[name], kind), name
    assert summary["version"] == 1
    for difference in summary["differences"]:
        assert list(difference) == ["kind", "key", "object_key", "reason"]
        assert (difference["key"] is None) == (difference["kind"] == "extra")
    if summary["error"] is not None:
        assert list(summary["error"]) == ["type", "op", "subject", "message", "hint"]
    return summary


@pytest.fixture
def docs(database: Database) -> Database:
    """40 rows, every tenth without a body."""
    database.sql(
        "CREATE TABLE docs (id int PRIMARY KEY, content bytea);"
        "INSERT INTO docs SELECT n, CASE WHEN n % 10 > 0 THEN convert_to('body ' || n, 'UTF8') END "
        "FROM generate_series(1, 40) n"
    )
    return database


def flags(to: str, *more: str) -> list[str]:
    return ["--table=docs", f"--to={to}", "--body=content", *more]


def test_a_copy_is_the_same_until_rows_and_objects_part(connected: Program, docs: Database, bucket: Bucket) -> None:
    to = f"s3://{bucket.name}/d/{{id}}.txt"
    assert connected("sync", *flags(to)).code == 0
    same = connected("verify", *flags(to, "--output=json"))
    assert same.code == 0, same.stderr
    counts = {"missing": 0, "different": 0, "extra": 0, "differences": [], "error": None}
    assert verdict(same) == {"version": 1, "status": "same", "rows": 40, "objects": 36, **counts}
    docs.sql(
        "INSERT INTO docs VALUES (0, 'new'); DELETE FROM docs WHERE id = 14;"
        "UPDATE docs SET content = convert_to('BODY 13', 'UTF8') WHERE id = 13"
    )
    for more in ((), ("--deep",)):
        run = connected("verify", *flags(to, "--output=json", *more))
        assert run.code == 4, run.stderr
        summary = verdict(run)
        assert [summary[name] for name in ("status", "rows", "objects")] == ["different", 40, 36]
        assert [summary[name] for name in ("missing", "different", "extra")] == [1, 1, 1]
        assert sorted((one["kind"], one["key"], one["object_key"]) for one in summary["differences"]) == [
            ("different", ["13"], "d/13.txt"),
            ("extra", None, "d/14.txt"),
            ("missing", ["0"], "d/0.txt"),
        ]
    run = connected("verify", *flags(to))
    lines = run.stdout.splitlines()
    assert run.code == 4
    assert lines[0].startswith("Different: 40 rows and 36 objects")
    assert lines[0].endswith("1 missing, 1 different, 1 extra")
    assert "4 rows skipped (the body is NULL)" in lines[1]
    assert sorted(line.split()[0] for line in lines[2:5]) == ["different", "extra", "missing"]
    assert "failed" not in run.stdout + run.stderr
    assert "the 1 extra object, of no row, will stay" in lines[5]
    assert connected(*shlex.split(lines[6])[1:]).stdout.startswith("Complete: 40 rows")
    mended = verdict(connected("verify", *flags(to, "--output=json")))
    assert [mended[name] for name in ("missing", "different", "extra")] == [0, 0, 1]


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (["--to=s3://no-such-bucket-here/{id}"], 2, "the bucket's name"),
        (["--to=file:///no/such/folder/{id}"], 2, "--to"),
        (["--to=null:{id}"], 2, "--to"),
        (["--to=s3://bucket/{id}", "--limit=0"], 2, None),
        (["--to=s3://bucket/{id}", "--no-such-flag"], 2, "asyncup verify --help"),
        (["--to=s3://bucket/{id}", "--progress=loud"], 2, None),
    ],
)
def test_what_cannot_be_verified_is_aborted_with_the_json_of_a_verdict(
    connected: Program, docs: Database, arguments: list[str], code: int, hint: str | None
) -> None:
    run = connected("verify", "--table=docs", "--body=content", "--output=json", *arguments)
    summary = verdict(run)
    assert (run.code, summary["status"]) == (code, "aborted"), run.stderr
    assert hint is None or hint in summary["error"]["hint"]


def test_flags_about_state_are_taken_and_leave_nothing_and_the_environment_counts(
    connected: Program, docs: Database
) -> None:
    connected.environment |= {"ASYNCUP_TABLE": "docs", "ASYNCUP_TO": f"file://{connected.folder}/d/{{id}}"}
    assert connected("sync", "--body=content", "--state=there").code == 0
    before = sorted(os.listdir(connected.folder))
    given = [
        "--state=here",
        "--name=mine",
        "--restart",
        "--dead-letters=letters",
        "--if-exists=fail",
        "--max-failures=0",
    ]
    run = connected("verify", "--body=content", *given, ASYNCUP_DEEP="1", ASYNCUP_OUTPUT="json")
    assert (run.code, verdict(run)["status"]) == (0, "same")
    assert sorted(os.listdir(connected.folder)) == before


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_listing_ends_a_verification_with_its_own_exit_code(
    asyncup: Program, docs: Database, moto: MotoServer, moto_bucket: MotoBucket, signum: int
) -> None:
    asyncup.environment = {**docs.server.environment, "PGDATABASE": docs.name, **moto.environment}
    with moto.holding(lambda asked: "list-type=2" in asked) as hold:
        process = asyncup.start("verify", *flags(f"s3://{moto_bucket.name}/{{id}}", "--output=json"))
        asyncup.interrupt(process, when=hold.reached.is_set, signum=signum)
        run = asyncup.finish(process)
    assert run.code == 128 + signum
    assert (verdict(run)["status"], verdict(run)["error"]) == ("aborted", None)


def test_a_signal_in_the_middle_of_a_deep_comparison_ends_it_too(
    asyncup: Program, docs: Database, moto: MotoServer, moto_bucket: MotoBucket
) -> None:
    asyncup.environment = {**docs.server.environment, "PGDATABASE": docs.name, **moto.environment}
    for number in range(1, 41):
        moto_bucket.client.put_object(Bucket=moto_bucket.name, Key=f"d/{number}", Body=b"body %d" % number)
    given = flags(f"s3://{moto_bucket.name}/d/{{id}}", "--output=json")
    with moto.holding(lambda asked: asked.startswith(f"GET /{moto_bucket.name}/d/")) as hold:
        process = asyncup.start("verify", *given, "--deep", "--drain-timeout=0.1")
        asyncup.interrupt(process, when=hold.reached.is_set)
        run = asyncup.finish(process)
    assert run.code == 130
    assert (verdict(run)["status"], verdict(run)["objects"], verdict(run)["error"]) == ("aborted", 40, None)
