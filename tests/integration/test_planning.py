"""`asyncup.plan` on real servers: what it estimates and where from, what is permitted, the state, and every refusal."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import asyncup
from asyncup.checkpoints.file import FileCheckpoints
from asyncup.checkpoints.files import StateFolder
from asyncup.config import Config
from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.errors import AsyncupError
from asyncup.flow.interrupt import Interrupt
from asyncup.flow.retry import RetryPolicy
from asyncup.model import Checkpoint, Counts
from asyncup.planning.planning import Planning, execute
from asyncup.preflight import Preflight
from asyncup.protocols import Silence
from tests.conftest import Bucket, Database
from tests.integration.reading import prepared, sql

PASSWORD = "correct-horse-battery"


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with prepared(
        postgres,
        "planning",
        """
        CREATE TABLE docs (id int PRIMARY KEY, content bytea, title text UNIQUE NOT NULL, size int);
        INSERT INTO docs SELECT n, CASE WHEN n % 10 > 0 THEN convert_to(repeat('x', 10), 'UTF8') END, 'title ' || n, n
        FROM generate_series(1, 3000) n;
        ANALYZE docs;
        CREATE TABLE fresh (id int PRIMARY KEY);
        INSERT INTO fresh SELECT generate_series(1, 1000);
        ALTER TABLE fresh SET (autovacuum_enabled = off);
        CREATE TABLE few (slug text UNIQUE NOT NULL, note text);
        INSERT INTO few VALUES ('a', '1'), ('../b', '2'), ('c', NULL);
        CREATE TABLE parts (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
        CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
        CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
        INSERT INTO parts SELECT n, date '2020-01-01' + n % 700 FROM generate_series(1, 2000) n;
        ANALYZE parts;
        CREATE VIEW seen AS SELECT * FROM docs;
        CREATE TABLE nothing (id int PRIMARY KEY);
        CREATE TABLE large (id int PRIMARY KEY, content bytea);
        INSERT INTO large SELECT n, convert_to(repeat('x', 20 << 20), 'UTF8') FROM generate_series(1, 2) n;
        """,
    ) as found:
        yield found


async def plan(database: Database, **options: Any) -> Preflight:
    given = {"dsn": database.dsn, "to": "null:", "state": "/tmp/asyncup-no-such-state"}
    return await asyncup.plan(**given | options)


@pytest.mark.parametrize(
    ("options", "estimate", "basis", "exact"),
    [
        ({"table": "docs"}, 3000, "reltuples", False),
        ({"table": "docs", "where": "id <= 1500"}, 1500, "the planner's estimate", False),
        ({"table": "docs", "limit": 7}, 7, "--limit", False),
        ({"table": "docs", "limit": 1_000_000}, 3000, "reltuples", False),
        ({"table": "few"}, 3, "counted", True),
        ({"table": "docs", "where": "id <= 40"}, 40, "counted", True),
        ({"table": "nothing"}, 0, "counted", True),
        ({"table": "parts"}, 2000, "reltuples", False),
        ({"table": "seen", "key": "id"}, 3000, "the planner's estimate", False),
        ({"query": "SELECT id FROM docs WHERE id > 1000", "key": "id"}, 2000, "the planner's estimate", False),
    ],
    ids=str,
)
async def test_rows_are_estimated_and_say_where_from(
    database: Database, options: dict[str, Any], estimate: int, basis: str, exact: bool
) -> None:
    found = await plan(database, **options)
    assert found.status == "ready", found.reasons
    assert found.rows.estimate == pytest.approx(estimate, rel=0.05)
    assert (found.rows.basis, found.rows.exact) == (basis, exact)
    assert found.rows.left == found.rows.estimate


async def test_a_table_that_was_never_analysed_is_left_to_the_planner_and_says_so(database: Database) -> None:
    found = await plan(database, table="fresh")
    assert (found.rows.basis, found.rows.analyzed) == ("the planner's estimate", None)
    assert found.rows.estimate is not None
    assert found.rows.estimate >= 100  # those that were seen, whatever the planner thinks of new tables


@pytest.mark.parametrize(
    ("options", "kind", "columns", "origin", "index"),
    [
        ({"table": "docs"}, "table", ["id"], "primary key", "docs_pkey"),
        ({"table": "few"}, "table", ["slug"], "unique index", "few_slug_key"),
        ({"table": "docs", "key": "title"}, "table", ["title"], "--key", "docs_title_key"),
        ({"table": "parts"}, "partitioned table", ["id", "day"], "primary key", "parts_1_pkey"),
        ({"table": "seen", "key": "id"}, "view", ["id"], "--key", "docs_pkey"),
        ({"query": "SELECT * FROM docs", "key": "id"}, "query", ["id"], "--key", "docs_pkey"),
    ],
    ids=str,
)
async def test_the_key_and_the_index_that_serves_it_are_named(
    database: Database, options: dict[str, Any], kind: str, columns: list[str], origin: str, index: str
) -> None:
    found = await plan(database, **options)
    assert (found.source.kind, found.key.origin) == (kind, origin)
    assert [column.name for column in found.key.columns] == columns
    assert found.access.index == index
    assert (found.access.sorts, found.access.scans) == (False, False)
    assert found.access.page_milliseconds is not None


async def test_a_sample_of_a_long_table_comes_from_all_over_it_and_is_the_same_every_time(database: Database) -> None:
    options = {"table": "docs", "body": "content", "to": "null:{id}"}
    found = await plan(database, **options)
    assert found.sample == (await plan(database, **options)).sample
    keys = [int(row.key[0] or 0) for row in found.sample]
    assert keys[0] == 1
    assert keys == sorted(keys)
    assert keys[-1] > 1500
    assert found.trial.rows == 100
    assert found.trial.put + found.trial.skipped == 100
    assert found.trial.reasons == (("the body is NULL", found.trial.skipped),)
    assert found.bytes.mean == 10
    assert found.bytes.estimate == found.trial.put * 10 * 3000 // 100


async def test_rows_that_would_fail_or_be_skipped_are_named_with_the_reason(database: Database) -> None:
    found = await plan(database, table="few", body="note", to="null:{slug}")
    assert (found.trial.put, found.trial.skipped, found.trial.failed) == (1, 1, 1)
    outcomes = {row.object_key: (row.outcome, row.reason) for row in found.sample}
    assert outcomes["a"] == ("put", None)
    assert outcomes["c"] == ("skipped", "the body is NULL")
    assert outcomes["../b"][0] == "failed"
    assert "segment" in (outcomes["../b"][1] or "")


@pytest.mark.parametrize(
    ("to", "options", "by", "unique"),
    [
        ("file:///tmp/asyncup-none/{id}", {}, ("id",), True),
        ("file:///tmp/asyncup-none/{title}/{size}", {}, ("title",), True),
        ("file:///tmp/asyncup-none/{size}", {"allow_collisions": True}, (), False),
        ("null:", {}, (), True),
    ],
)
async def test_it_says_by_which_key_the_template_is_unique(
    database: Database, to: str, options: dict[str, Any], by: tuple[str, ...], unique: bool
) -> None:
    found = await plan(database, table="docs", to=to, **options)
    assert (found.status, found.template.by, found.template.unique) == ("ready", by, unique)


async def test_leading_prefixes_end_at_the_first_slash_behind_the_literal_beginning(database: Database) -> None:
    found = await plan(database, table="parts", to="null:a/{day:%Y}/{id}/{day}")
    assert set(found.template.prefixes) == {"a/2020/", "a/2021/"}
    assert found.template.leading_prefixes == 2


@pytest.mark.parametrize("if_exists", ["overwrite", "skip", "different"])
async def test_large_objects_go_in_parts_and_a_comparison_lists_first(
    database: Database, rclone_bucket: Bucket, if_exists: str
) -> None:
    url = rclone_bucket.server.environment["AWS_ENDPOINT_URL"]
    to = f"s3://{rclone_bucket.name}/{{id}}"
    found = await plan(database, table="large", body="content", to=to, endpoint_url=url, if_exists=if_exists)
    assert found.status == "ready", found.reasons
    assert (found.requests.put, found.requests.multipart, found.requests.parts) == (0, 2, 4)
    assert found.requests.list == (1 if if_exists == "different" else 0)
    assert found.bytes.estimate == 2 * (20 << 20)
    needs = found.destination.needs or ""
    assert ("s3:ListBucket" in needs, "s3:GetObject" in needs) == (if_exists != "overwrite", if_exists != "overwrite")
    assert f"--if-exists {if_exists}" in (found.command or "") or if_exists == "overwrite"


async def test_objects_that_are_there_are_counted_up_to_a_page(database: Database, rclone_bucket: Bucket) -> None:
    url = rclone_bucket.server.environment["AWS_ENDPOINT_URL"]
    for name in ("d/1", "d/2", "e/3"):
        (rclone_bucket.folder / name).parent.mkdir(exist_ok=True)
        (rclone_bucket.folder / name).write_text("x")
    found = await plan(database, table="docs", to=f"s3://{rclone_bucket.name}/d/{{id}}", endpoint_url=url)
    assert (found.destination.listed, found.destination.more) == (2, False)
    assert found.permissions.list is True
    assert (found.destination.url, found.destination.addressing) == (f"{url}/{rclone_bucket.name}/", "path")


@pytest.mark.parametrize(
    ("granted", "options", "grant"),
    [
        ("SELECT (id)", {"body": "content"}, "GRANT SELECT (content) ON docs TO planning_poor;"),
        ("SELECT (id, content)", {}, "GRANT SELECT (title, size) ON docs TO planning_poor;"),
        ("UPDATE", {}, "GRANT SELECT ON docs TO planning_poor;"),
    ],
)
async def test_the_grant_that_is_missing_is_named(
    database: Database, granted: str, options: dict[str, Any], grant: str
) -> None:
    role = "planning_poor"
    await sql(database, f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'; GRANT {granted} ON docs TO {role}")
    try:
        dsn = f"postgresql://{role}:{PASSWORD}@{database.dsn.rpartition('@')[2]}"
        found = await plan(database, table="docs", dsn=dsn, **options)
        assert (found.status, found.exit_code) == ("refused", 2)
        assert (found.permissions.select, found.permissions.grant) == (False, grant)
        assert found.error is not None
        assert found.error.hint == grant
        await sql(database, grant + f"GRANT SELECT (id) ON docs TO {role}")
        assert (await plan(database, table="docs", dsn=dsn, **options)).permissions.select is True
    finally:
        await sql(database, f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_large_objects_that_may_not_be_read_are_of_the_sample_and_the_grant_is_said(database: Database) -> None:
    role = "planning_stranger"
    await sql(
        database,
        "CREATE TABLE large_objects AS SELECT n AS id, lo_from_bytea(0, 'seven b') AS body FROM generate_series(1, 6) n; "
        "ALTER TABLE large_objects ADD PRIMARY KEY (id); "
        f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'; GRANT SELECT ON large_objects TO {role}; "
        "DO $$ DECLARE one oid; BEGIN FOR one IN SELECT body FROM large_objects WHERE id < 3 LOOP "
        f"EXECUTE 'GRANT SELECT ON LARGE OBJECT ' || one || ' TO {role}'; END LOOP; END $$",
    )
    try:
        dsn = f"postgresql://{role}:{PASSWORD}@{database.dsn.rpartition('@')[2]}"
        found = await plan(database, table="large_objects", body="lo:body", dsn=dsn)
        assert (found.trial.rows, found.trial.put, found.trial.failed, found.bytes.largest) == (6, 2, 4, 7)
        needed = f"permission denied for large object …; it needs GRANT SELECT ON LARGE OBJECT … TO {role}"
        assert found.trial.reasons == ((needed, 4),)
    finally:
        await sql(
            database,
            f"SELECT lo_unlink(body) FROM large_objects; DROP TABLE large_objects; DROP OWNED BY {role}; DROP ROLE {role}",
        )


@pytest.mark.parametrize(
    ("options", "reasons"),
    [
        ({"table": "doc"}, ["there is no table doc"]),
        ({"table": "doc", "to": "s3://{id}/x"}, ["names no bucket", "there is no table doc"]),
        (
            {"table": "docs", "to": "null:{titel}", "key": "i", "body": "contents", "where": "idd > 1"},
            ["no column i", "no column contents", 'column "idd" does not exist', "no column titel"],
        ),
        ({"table": "docs", "to": "file:///dev/null/x/{size}"}, ["two rows could get", "is no folder"]),
        ({"table": "docs", "to": "null:{id:%Y}"}, ["does not fit a column"]),
        ({"table": "docs", "state": "/dev/null/x"}, ["state folder cannot be used"]),
        ({"table": "docs", "state": "postgres:no.where"}, ['schema "no" does not exist']),
        ({"table": "docs", "state": "postgres:public.docs"}, ["not asyncup's state"]),
        ({"table": "docs", "dead_letters": "no/such.jsonl"}, ["there is no folder no"]),
        ({"table": "docs", "dead_letters": "/dev/null"}, ["it is a device"]),
        ({"query": "SELECT id, id FROM docs", "key": "id"}, ["several columns id"]),
    ],
    ids=str,
)
async def test_it_refuses_what_sync_would_refuse_with_every_reason(
    database: Database, options: dict[str, Any], reasons: list[str]
) -> None:
    found = await plan(database, **options)
    messages = [reason.message for reason in found.reasons]
    assert (found.status, found.exit_code) == ("refused", 2)
    for words in reasons:
        assert any(words in message for message in messages), (words, messages)
    assert len(messages) == len(reasons), messages
    with pytest.raises(AsyncupError) as refused:
        await asyncup.sync(**{"dsn": database.dsn, "to": "null:", **options})
    assert refused.value.needs_configuration


async def test_a_bucket_that_does_not_answer_is_told_beside_what_the_database_says(
    database: Database, credentials: None, unused_tcp_port: int
) -> None:
    config = Config.of(
        dsn=database.dsn,
        table="docs",
        to="s3://bucket/{id}",
        endpoint_url=f"http://127.0.0.1:{unused_tcp_port}",
        state="/tmp/asyncup-no-such-state",
    )
    looking = Planning(config, Silence(), Interrupt())
    looking._policy = RetryPolicy(first_elapsed=0.1)
    found = looking.preflight(await execute(config, looking.listener, Interrupt(), job=looking))
    assert (found.status, found.exit_code) == ("aborted", 1)
    assert [reason.type for reason in found.reasons] == ["Unreachable"]
    assert found.rows.estimate == 3000
    assert found.trial.put > 0


@pytest.mark.parametrize("kind", ["folder", "postgres", "s3"])
async def test_it_looks_at_the_state_and_makes_none(
    database: Database, rclone_bucket: Bucket, tmp_path: Path, kind: str
) -> None:
    places = {
        "folder": str(tmp_path / "kept"),
        "postgres": "postgres:public.kept",
        "s3": f"s3://{rclone_bucket.name}/kept",
    }
    options = {
        "table": "docs",
        "where": "id <= 30",
        "body": "content",
        "to": f"file://{tmp_path}/made/{{id}}",
        "state": places[kind],
        "endpoint_url": rclone_bucket.server.environment["AWS_ENDPOINT_URL"],
    }
    before = await plan(database, **options)
    assert (before.status, before.state.found) == ("ready", False)
    assert rclone_bucket.objects() == {}
    assert list(tmp_path.iterdir()) == []
    assert await sql(database, "SELECT to_regclass('public.kept')") == ""
    await asyncup.sync(dsn=database.dsn, **options)
    after = (await plan(database, **options)).state
    assert (after.found, after.finished, after.resumes, after.rows) == (True, True, False, 30)
    assert after.checkpoint is not None
    await sql(database, "DROP TABLE IF EXISTS kept, kept_dead_letters")


async def test_state_that_the_role_may_not_write_is_refused_with_the_grant(database: Database) -> None:
    role = "planning_reader"
    await sql(database, f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'; GRANT SELECT ON docs TO {role}")
    try:
        dsn = f"postgresql://{role}:{PASSWORD}@{database.dsn.rpartition('@')[2]}"
        options: dict[str, Any] = {"table": "docs", "dsn": dsn, "state": "postgres:public.kept"}
        found = await plan(database, **options)
        assert found.error is not None
        assert found.error.hint == f"GRANT USAGE, CREATE ON SCHEMA public TO {role};"
        await sql(database, found.error.hint)
        assert (await plan(database, **options)).status == "ready"
    finally:
        await sql(database, f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_checkpoint_is_gone_on_from_unless_another_run_or_configuration_has_it(
    database: Database, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"table": "docs", "body": "content", "state": str(tmp_path), "name": "job"}
    await asyncup.sync(dsn=database.dsn, to="null:", **options, on_null="empty")
    (path,) = tmp_path.glob("job.json")
    checkpoints = FileCheckpoints(path)
    kept = await checkpoints.load()
    assert kept is not None
    half = Checkpoint(kept.name, kept.fingerprint, ("1500",), Counts(put=1500), False, kept.started, kept.saved)
    await checkpoints.save(half)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    goes_on = await plan(database, **options, on_null="empty")
    assert (goes_on.status, goes_on.state.resumes, goes_on.state.fits) == ("ready", True, True)
    assert (goes_on.state.rows, goes_on.state.watermark) == (1500, ("1500",))
    assert goes_on.rows.left == pytest.approx(1500, rel=0.05)
    assert goes_on.requests.total is None
    restarted = await plan(database, **options, on_null="empty", restart=True)
    assert (restarted.state.resumes, restarted.rows.left) == (False, restarted.rows.estimate)
    assert (restarted.command or "").endswith("--restart")
    trial = await plan(database, **options, limit=3)
    assert (trial.status, trial.state.checkpoint) == ("ready", None)

    other = await plan(database, **options)
    assert (other.exit_code, other.state.fits) == (2, False)
    assert other.error is not None
    assert "on_null: was 'empty', is 'skip'" in other.error.message

    await checkpoints.save(dataclasses.replace(half, counts=Counts(put=1490, failed=10)))
    lost = await plan(database, **options, on_null="empty")
    assert lost.error is not None
    assert "counts 10 failed rows, of which 0 are here" in lost.error.message
    await checkpoints.save(half)

    folder = StateFolder(tmp_path)
    lock = await asyncio.to_thread(folder.lock, "job")
    try:
        held = await plan(database, **options, on_null="empty")
    finally:
        await asyncio.to_thread(folder.unlock, "job", lock)
    assert held.error is not None
    assert "in progress" in held.error.message
    assert held.state.lock is not None
    assert f"process {os.getpid()}" in held.state.lock
    (tmp_path / "job.lock").unlink()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {
        name: content for name, content in before.items() if name != "job.lock"
    }


async def test_pages_that_no_index_gives_are_refused_with_the_index_to_make_and_shown_where_they_are_allowed(
    database: Database,
) -> None:
    refused = await plan(database, table="docs", key="size")
    assert (refused.status, [reason.type for reason in refused.reasons]) == ("refused", ["SourceRefused"])
    assert "CREATE INDEX" in (refused.reasons[0].hint or "")
    allowed = await plan(database, table="docs", key="size", allow_sort=True)
    assert allowed.status == "ready", allowed.reasons
    assert allowed.access.sorts or allowed.access.scans
    assert "CREATE INDEX" in (allowed.access.mend or "")


async def test_null_in_the_key_of_what_is_read_at_once_is_refused_before_any_page_shows_it(database: Database) -> None:
    query = "SELECT nullif(id, 2900) AS id, row_number() OVER () AS r FROM docs"
    found = await plan(database, query=query, key="id")
    assert (found.exit_code, found.access.at_once) == (2, True)
    assert [reason.message.partition(";")[0] for reason in found.reasons] == ["some rows have NULL in the key (id)"]


async def test_a_sample_that_takes_too_long_is_no_reason_to_refuse(database: Database) -> None:
    dsn = f"{database.dsn}?options=-c%20statement_timeout%3D500ms"
    slow = "CASE WHEN id > 300 THEN pg_sleep(0.005) END IS NULL OR id > 0"
    found = await plan(database, table="docs", body="title", where=slow, dsn=dsn)
    assert (found.status, found.bytes.basis) == ("ready", "128 rows, the first page")


async def test_a_body_that_the_server_cannot_make_is_a_row_that_fails_and_no_gigabyte(database: Database) -> None:
    await sql(database, "CREATE TABLE loose (id int PRIMARY KEY, lo oid); INSERT INTO loose VALUES (1, 4000000000)")
    found = await plan(database, table="loose", body="lo:lo", to="null:{id}")
    assert (found.status, found.bytes.estimate) == ("ready", 0)
    assert found.trial.reasons == (("large object 4000000000 does not exist", 1),)


async def test_readers_shards_and_increments_are_shown_as_a_run_would_have_them(
    database: Database, tmp_path: Path
) -> None:
    read = await plan(database, table="parts", readers=3)
    assert (read.access.readers, read.access.shard) == (3, None)
    assert read.access.ranges is not None
    assert read.access.ranges >= 2  # a partition is a range at least
    shard = await plan(database, table="docs", shard="1/3")
    assert shard.state.name == "public.docs.1-of-3"
    assert shard.access.shard == "1/3"
    assert shard.rows.estimate == pytest.approx(1000, rel=0.05)
    increment: dict[str, Any] = {"table": "docs", "incremental": "id", "state": str(tmp_path)}
    first = await plan(database, **increment)
    assert (first.state.incremental, first.state.lo, first.state.resumes) == ("id", None, False)
    assert first.rows.estimate == pytest.approx(3000, rel=0.05)
    await asyncup.sync(dsn=database.dsn, to="null:", **increment)
    after = await plan(database, **increment)
    assert (after.state.finished, after.state.hi) == (True, "3000")
    assert (after.rows.left, after.rows.basis) == (0, "counted")  # nothing is new
