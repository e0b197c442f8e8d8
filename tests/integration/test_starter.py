"""`asyncup init` against a real database and a real bucket."""

from __future__ import annotations

import asyncio
import json
import shlex
import tomllib
from pathlib import Path
from typing import Any

import psycopg
import pytest

from asyncup.cli.commands import program
from asyncup.config import Config
from asyncup.starter.looking import Source, look_at_source
from tests.conftest import Bucket, Database, Program

TABLES = """
CREATE TABLE docs (id bigint PRIMARY KEY, content bytea);
INSERT INTO docs SELECT n, decode(repeat('ab', 3000), 'hex') FROM generate_series(1, 20) n;
CREATE TABLE log (line text);
CREATE VIEW seen AS SELECT * FROM docs;
CREATE SCHEMA "We ird";
CREATE TABLE "We ird"."docs" (a text, "B b" int, PRIMARY KEY (a, "B b"));
CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE whole (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE whole_1 PARTITION OF whole FOR VALUES FROM (0) TO (10);
CREATE TABLE nulls (id int UNIQUE);
CREATE TABLE other (id int PRIMARY KEY);
ANALYZE
"""


def not_waiting(error: Exception, *_: object) -> None:
    raise error


async def look(database: Database, options: str) -> Source:
    config = Config.of(dsn=f"{database.dsn}{options}", table="any", to="null:")
    return await look_at_source(config, (), not_waiting)


def init(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, dict[str, Any]]:
    """The exit code of a command, and its JSON."""
    code = program().main(args=["init", "--output=json", *flags], prog_name="asyncup", standalone_mode=False)
    return code, json.loads(capsys.readouterr().out)


def test_every_table_of_somebodys_own_is_found_with_its_key_or_the_reason_why_it_is_no_job(
    database: Database,
) -> None:
    database.sql(TABLES)
    database.sql(
        "CREATE ROLE starter_reader LOGIN; GRANT SELECT ON docs, log, parts, whole, nulls, seen TO starter_reader"
    )
    try:
        with psycopg.connect(database.dsn) as other:
            other.execute("LOCK TABLE parts_1")
            found = asyncio.run(look(database, "?options=-crole%3Dstarter_reader"))
    finally:
        database.sql("DROP OWNED BY starter_reader; DROP ROLE starter_reader")
    usable = {
        one.table.name: (one.job, one.key, one.template, one.table.rows) for one in found.proposals if one.is_usable
    }
    refused = {one.table.name: one.reason.message for one in found.proposals if one.reason is not None}
    assert usable == {"docs": ("docs", ("id",), "{id}.bin", 20), "whole": ("whole", ("id",), "{id}.json", 0)}
    assert refused.keys() == {"log", "seen", "nulls", "parts", '"We ird".docs', "other"}
    assert refused["parts"] == "another session has it locked"
    assert refused["other"] == refused['"We ird".docs'] == "the role may not read it"
    assert "its rows cannot be told apart" in refused["log"]


def test_the_file_that_is_written_can_be_planned_and_is_not_written_over(
    connected: Program,
    database: Database,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    database.sql(TABLES)
    monkeypatch.chdir(connected.folder)
    for name, value in {**bucket.server.environment, "DATABASE_URL": database.dsn}.items():
        monkeypatch.setenv(name, value)
    flags = ["--table=docs", '--table="We ird".docs', f"--to-prefix=s3://{bucket.name}/out"]
    code, begun = init(capsys, *flags)
    assert (code, begun["jobs"], begun["listing"]) == (0, ["docs", "We-ird-docs"], True)
    file = connected.folder / "asyncup.toml"
    text = file.read_text()
    assert tomllib.loads(text)["defaults"] == {"dsn": "${DATABASE_URL}"}
    assert (
        tomllib.loads(text)["jobs"]["We-ird-docs"]["to"] == f's3://{bucket.name}/out/We-ird-docs/{{a}}/{{"B b"}}.json'
    )
    planned = connected(*shlex.split(begun["command"])[1:])
    assert planned.code == 0, planned.stderr
    assert bucket.objects() == {}
    file.write_text("mine")
    code, refused = init(capsys, *flags)
    assert (code, refused["status"], file.read_text()) == (2, "aborted", "mine")
    assert "--force" in refused["error"]["hint"]
    code, _ = init(capsys, *flags, "--force")
    assert (code, file.read_text()) == (0, text)
    assert [path.name for path in connected.folder.iterdir()] == ["asyncup.toml"]


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--table=dosc"], 2, "did you mean docs?"),
        (["--table=log"], 2, "cannot be told apart"),
        ([], 2, "which tables are to be jobs? there are docs, other"),
        (["--all", "--to-prefix=s3://no-such-bucket-here/x"], 2, "there is no bucket"),
        (["--all", "--to-prefix=s3://b/{id}"], 2, "is no prefix"),
        (["--all", "--to-prefix=bucket/x"], 2, "--to-prefix"),
        (["--all", "--file=no/such/folder/f.toml"], 2, "it cannot be written"),
        (["--all"], 0, None),
    ],
)
def test_what_cannot_be_begun_writes_nothing_and_says_what_to_do(
    flags: list[str],
    code: int,
    said: str | None,
    database: Database,
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in bucket.server.environment.items():
        monkeypatch.setenv(name, value)
    database.sql(
        "CREATE TABLE docs (id int PRIMARY KEY); CREATE TABLE log (t text); CREATE TABLE other (id int PRIMARY KEY)"
    )
    ended, found = init(capsys, f"--dsn={database.dsn}", *flags)
    assert ended == code
    if said is None:
        assert (found["status"], found["jobs"], found["error"]) == ("complete", ["docs", "other"], None)
    else:
        assert said in json.dumps(found["error"])
    assert (found["file"] is None) == (said is not None)
