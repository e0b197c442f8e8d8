"""Incremental runs on a real server: nothing is lost, whatever transactions are open meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from asyncup.config import Config
from asyncup.flow.interrupt import Interrupt
from asyncup.model import Receipt, Upload
from asyncup.redelivery import retry
from asyncup.sinks.directory import DirectorySink
from asyncup.verification import verify
from tests.conftest import Database, Program
from tests.integration.incremental.increments import NOW, TABLES, Increments, connection, transaction

EACH = pytest.mark.parametrize("kind", TABLES)


@pytest.fixture
def at_put(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], Awaitable[Any]]], None]:
    """Has something happen before the n-th object is written, from 1."""

    def at(number: int, happens: Callable[[], Awaitable[Any]]) -> None:
        count, write = 0, DirectorySink.put

        async def put(sink: DirectorySink, upload: Upload) -> Receipt:
            nonlocal count
            count += 1
            if count == number:
                await happens()
            return await write(sink, upload)

        monkeypatch.setattr(DirectorySink, "put", put)

    return at


@EACH
async def test_a_late_commit_with_a_lower_value_is_read_by_the_next_run(increments: Increments, kind: str) -> None:
    await increments.sql(TABLES[kind])
    async with transaction(increments.database, "INSERT INTO docs VALUES (1)") as late:
        await increments.sql("INSERT INTO docs VALUES (2)")
        await increments.rows()
        assert 1 not in increments.objects()
        await late.commit()
    await increments.rows()
    assert increments.objects().keys() == {1, 2}
    assert await increments.rows() == 0


@pytest.mark.parametrize("kind", ["xid8", "timestamptz", "bigint"])
async def test_nothing_is_lost_however_long_a_transaction_stays_open(increments: Increments, kind: str) -> None:
    await increments.sql(TABLES[kind])
    async with transaction(increments.database, "INSERT INTO docs VALUES (1)") as late:
        for number in range(2, 5):
            await increments.sql(f"INSERT INTO docs VALUES ({number})")
            await increments.rows()
        await late.commit()
    await increments.rows()
    assert increments.objects().keys() == {1, 2, 3, 4}
    assert await increments.rows() == 0


@pytest.mark.parametrize("kind", ["xid8", "bigint"])
async def test_what_is_rolled_back_holds_nothing_up(increments: Increments, kind: str) -> None:
    await increments.sql(TABLES[kind])
    async with transaction(increments.database, "INSERT INTO docs VALUES (1)") as late:
        await increments.sql("INSERT INTO docs VALUES (2)")
        await increments.rows()
        await late.rollback()
    await increments.sql("INSERT INTO docs VALUES (3)")
    await increments.rows()
    assert increments.objects().keys() == {2, 3}
    assert await increments.rows() == 0


@pytest.mark.parametrize("kind", ["timestamptz", "bigint"])
async def test_a_prepared_transaction_is_an_open_one(increments: Increments, kind: str) -> None:
    await increments.sql(TABLES[kind])
    async with connection(increments.database) as writer:
        await writer.execute("BEGIN; INSERT INTO docs VALUES (1)")
        await increments.sql("INSERT INTO docs VALUES (2)")
        await increments.rows()  # while it is open
        await writer.execute("PREPARE TRANSACTION 'late'")
        try:
            for number in (3, 4):
                await increments.sql(f"INSERT INTO docs VALUES ({number})")
                await increments.rows()
                assert 1 not in increments.objects()
        finally:
            await writer.execute("COMMIT PREPARED 'late'")
    await increments.rows()
    await increments.rows()
    assert increments.objects().keys() == {1, 2, 3, 4}
    await increments.rows()
    assert await increments.rows() == 0


@pytest.mark.parametrize("kind", ["timestamptz", "bigint"])
async def test_a_transaction_that_was_prepared_before_the_first_run_is_not_missed(
    increments: Increments, kind: str
) -> None:
    await increments.sql(TABLES[kind])
    async with connection(increments.database) as writer:
        await writer.execute("BEGIN; INSERT INTO docs VALUES (1); PREPARE TRANSACTION 'first'")
        try:
            await increments.sql("INSERT INTO docs VALUES (2)")
            await increments.rows()
        finally:
            await writer.execute("COMMIT PREPARED 'first'")
    await increments.rows()
    assert increments.objects().keys() == {1, 2}


async def test_a_row_of_a_subtransaction_is_not_missed(increments: Increments) -> None:
    """Its xmin is that of the subtransaction, which no snapshot lists."""
    await increments.sql(TABLES["bigint"])
    statements = "INSERT INTO docs VALUES (1)", "SAVEPOINT s", "INSERT INTO docs VALUES (2)", "RELEASE SAVEPOINT s"
    async with transaction(increments.database, *statements) as late:
        await increments.sql("INSERT INTO docs VALUES (3)")
        await increments.rows()
        await late.commit()
    assert await increments.rows() >= 2
    assert increments.objects().keys() == {1, 2, 3}


async def test_a_number_that_was_taken_before_the_run_and_used_after_it_is_not_missed(increments: Increments) -> None:
    """Drawing a number takes no transaction id, so nothing but the open transaction tells of it."""
    await increments.sql(TABLES["bigint"])
    sequence = "pg_get_serial_sequence('docs', 'mark')"
    async with connection(increments.database) as writer:
        late = writer.transaction()
        await late.start()
        number = await writer.fetchval(f"SELECT nextval({sequence})")
        for other in (2, 3):
            await increments.sql(f"INSERT INTO docs VALUES ({other})")
            await increments.rows()
        await writer.execute(f"INSERT INTO docs VALUES (1, {number})")
        await late.commit()
    assert await increments.rows() >= 1
    assert increments.objects().keys() == {1, 2, 3}


@pytest.mark.parametrize("sequence", ["CACHE 20", "INCREMENT 50", None])
async def test_numbers_that_are_kept_for_later_are_not_missed(increments: Increments, sequence: str | None) -> None:
    """A session, or a program, that keeps numbers uses them in transactions that begin whenever they want."""
    kind = "bigint NOT NULL" if sequence is None else f"bigint NOT NULL GENERATED BY DEFAULT AS IDENTITY ({sequence})"
    await increments.sql(f"CREATE TABLE docs (id int PRIMARY KEY, mark {kind}, body text DEFAULT 'one')")
    for row in ("(1, 1000)", "(2, 7)", "(3, 1001)", "(4, 3)"):
        await increments.sql(f"INSERT INTO docs (id, mark) VALUES {row}")
        assert await increments.rows() == 1
    assert "looks through the whole table" in " ".join(increments.notices)
    assert "would spare it" not in " ".join(increments.notices)
    assert increments.objects().keys() == {1, 2, 3, 4}


async def test_a_table_that_was_emptied_and_begins_its_numbers_anew_is_read(increments: Increments) -> None:
    await increments.sql(TABLES["bigint"] + "; INSERT INTO docs SELECT n FROM generate_series(1, 9) n")
    for _ in range(3):
        await increments.rows()
    assert increments.mark["lo"] == "9"
    await increments.sql(
        "TRUNCATE docs RESTART IDENTITY; INSERT INTO docs SELECT n FROM generate_series(101, 120) n",
    )
    assert await increments.rows() == 20


PARTED = (
    "CREATE TABLE docs (id int PRIMARY KEY, mark bigint GENERATED BY DEFAULT AS IDENTITY, body text DEFAULT 'one')"
    " PARTITION BY RANGE (id); CREATE TABLE low PARTITION OF docs FOR VALUES FROM (0) TO (100);"
    "CREATE TABLE high PARTITION OF docs FOR VALUES FROM (100) TO (200)"
)


@pytest.mark.parametrize(
    ("table", "anew"),
    [
        (PARTED, "TRUNCATE docs RESTART IDENTITY"),
        (TABLES["bigint"], "DELETE FROM docs; ALTER SEQUENCE docs_mark_seq RESTART"),
        (PARTED, "TRUNCATE low; ALTER TABLE docs ALTER mark RESTART"),
        (
            TABLES["bigint"],
            "DELETE FROM docs; ALTER TABLE docs ALTER mark DROP IDENTITY, ALTER mark ADD GENERATED ALWAYS AS IDENTITY",
        ),
        (
            TABLES["bigint"],
            "DELETE FROM docs; ALTER TABLE docs ALTER mark DROP IDENTITY; CREATE SEQUENCE s; ALTER TABLE docs ALTER mark SET DEFAULT nextval('s')",
        ),
    ],
)
async def test_numbers_that_begin_anew_and_have_passed_the_highest_by_the_next_run_are_read(
    increments: Increments, table: str, anew: str
) -> None:
    await increments.sql(table + "; INSERT INTO docs SELECT n FROM generate_series(1, 9) n")
    for _ in range(2):
        await increments.rows()
    async with connection(increments.database) as late:
        await late.execute("BEGIN; SELECT 1")
        await increments.rows()
        assert increments.mark["lo"] == "9"
        await increments.sql(anew)
        await late.execute("INSERT INTO docs VALUES (100)")  # draws 1
        await increments.sql("INSERT INTO docs SELECT n FROM generate_series(101, 120) n")
        assert await increments.rows() == 20
        assert "looks through the whole table for rows that are new" in " ".join(increments.notices)
        assert "from mark" not in " ".join(increments.notices)
        await increments.rows()
        await late.execute("COMMIT")
    await increments.rows()
    assert increments.objects().keys() >= set(range(100, 121))
    for _ in range(3):
        assert await increments.rows() == 0
    assert increments.mark["lo"] == "21"


@pytest.mark.parametrize(
    ("kind", "loaded"), [("timestamptz", "'2001-01-01'"), ("xid8", "'700'"), ("timestamp", "'2001-01-01'")]
)
@pytest.mark.parametrize("way", ["DROP TABLE docs; {}", "TRUNCATE docs", "ALTER TABLE docs RENAME TO former; {}"])
async def test_a_table_that_was_loaded_anew_is_read_again_from_the_beginning(
    increments: Increments, kind: str, loaded: str, way: str
) -> None:
    await increments.sql(TABLES[kind] + "; INSERT INTO docs VALUES (1)")
    await increments.rows()
    await increments.sql(way.format(TABLES[kind]) + f"; INSERT INTO docs VALUES (2, {loaded}), (3, {loaded})")
    assert await increments.rows() == 2
    notices = " ".join(increments.notices)
    assert "public.docs was emptied, rewritten or made anew since the last run: all rows are read again" in notices
    assert "reads what is new since" not in notices
    assert await increments.rows() == 0
    assert "reads what is new since the last run, from mark = " in " ".join(increments.notices)


@pytest.mark.parametrize("query", [None, "SELECT id, mark, body FROM docs"])
async def test_a_partition_that_is_new_is_read_and_one_that_was_loaded_anew_has_everything_read_again(
    increments: Increments, query: str | None
) -> None:
    options = {} if query is None else {"table": None, "query": query, "key": "id", "name": "public.docs"}
    options["allow_sort"] = True
    await increments.sql(
        PARTED.replace("bigint GENERATED BY DEFAULT AS IDENTITY", "timestamptz DEFAULT now()")
        + "; INSERT INTO docs VALUES (1), (101)"
    )
    assert await increments.rows(**options) == 2
    await increments.sql("CREATE TABLE top PARTITION OF docs FOR VALUES FROM (200) TO (300)")
    await increments.sql("DROP TABLE low; INSERT INTO docs VALUES (201)")
    assert await increments.rows(**options) == 1
    await increments.sql(
        "DROP TABLE top; CREATE TABLE top PARTITION OF docs FOR VALUES FROM (200) TO (300);"
        "INSERT INTO docs VALUES (202, '2001-01-01')"
    )
    assert await increments.rows(**options) == 2
    assert increments.objects().keys() == {1, 101, 201, 202}


async def test_a_table_that_is_loaded_anew_while_a_run_is_unfinished_is_read_from_the_beginning(
    increments: Increments, at_put: Callable[..., None]
) -> None:
    await increments.sql(TABLES["timestamptz"] + "; INSERT INTO docs SELECT n FROM generate_series(1, 9) n")

    async def stop() -> None:
        increments.interrupt.request(signal.SIGINT)

    at_put(4, stop)
    assert (await increments.run(page_size=1, concurrency=1)).exit_code == 130
    await increments.sql("TRUNCATE docs; INSERT INTO docs SELECT n, '2001-01-01' FROM generate_series(11, 13) n")
    assert await increments.rows() == 3


@pytest.mark.parametrize("kind", ["xid8", "timestamptz"])
async def test_an_update_is_read_again(increments: Increments, kind: str) -> None:
    await increments.sql(TABLES[kind] + "; INSERT INTO docs VALUES (1), (2)")
    await increments.rows()
    await increments.sql(f"UPDATE docs SET body = 'two', mark = {NOW[kind]} WHERE id = 1")
    assert await increments.rows() == 1
    assert increments.objects() == {1: "two", 2: "one"}


@pytest.mark.parametrize("kind", ["xid8", "timestamptz"])
async def test_updates_while_a_run_reads_are_read_by_it_or_by_the_next(
    increments: Increments, kind: str, at_put: Callable[..., None]
) -> None:
    await increments.sql(TABLES[kind] + "; INSERT INTO docs SELECT n FROM generate_series(1, 9) n")
    change = f"UPDATE docs SET body = 'two', mark = {NOW[kind]} WHERE id IN (1, 5, 9); INSERT INTO docs VALUES (10, DEFAULT, 'two')"
    at_put(3, lambda: increments.sql(change))
    await increments.rows(page_size=1, concurrency=1)
    await increments.rows()
    assert increments.objects() == {n: "two" if n in (1, 5, 9, 10) else "one" for n in range(1, 11)}


@pytest.mark.parametrize("kind", ["timestamptz", "bigint"])
async def test_an_unfinished_run_is_gone_on_with_in_its_own_bounds(
    increments: Increments, kind: str, at_put: Callable[..., None]
) -> None:
    await increments.sql(TABLES[kind] + "; INSERT INTO docs VALUES (1)")
    await increments.rows()
    await increments.sql("INSERT INTO docs SELECT n FROM generate_series(2, 9) n")

    async def stop() -> None:
        increments.interrupt.request(signal.SIGINT)

    at_put(4, stop)
    report = await increments.run(page_size=1, concurrency=1)
    assert report.exit_code == 130
    begun = increments.mark
    await increments.sql("INSERT INTO docs VALUES (10)")
    report = await increments.run()
    assert report.exit_code == 0
    assert report.job is not None
    assert report.job.resumed
    assert report.job.total == 8
    assert increments.mark == begun
    assert increments.objects().keys() == set(range(1, 10))
    assert await increments.rows() == 1
    assert increments.objects().keys() == set(range(1, 11))


def test_a_run_that_was_killed_is_gone_on_with_in_its_own_bounds(database: Database, asyncup: Program) -> None:
    database.sql(TABLES["timestamptz"] + "; INSERT INTO docs SELECT n FROM generate_series(1, 400) n")
    asyncup.environment = {"DATABASE_URL": database.dsn}
    command = ["sync", "--table=docs", f"--to=file://{asyncup.folder}/objects/{{id}}", "--body=body", "--output=json"]
    command += ["--incremental=mark", "--page-size=10", "--progress=none"]
    process = asyncup.start(*command, "--max-rate=100")
    state = asyncup.folder / ".asyncup" / "public.docs.json"
    asyncup.interrupt(process, when=state.exists, signum=signal.SIGKILL)
    assert asyncup.finish(process).code == -signal.SIGKILL
    begun = json.loads(state.read_text())
    assert not begun["finished"]
    database.sql("INSERT INTO docs VALUES (0); UPDATE docs SET body = 'two', mark = now() WHERE id = 1")
    run = asyncup(*command)
    assert run.code == 0, run.stderr
    assert run.summary["resumed"]
    assert json.loads(state.read_text())["mark"] == begun["mark"]
    run = asyncup(*command)
    assert (run.code, run.summary["put"], run.summary["resumed"]) == (0, 2, False)
    folder = asyncup.folder / "objects"
    assert {int(path.name) for path in folder.iterdir()} == set(range(401))
    assert (folder / "1").read_text() == "two"
    status = asyncup("status", "--output=json").summary["checkpoints"][0]
    assert (status["finished"], status["left"]["rows"], status["incremental"]["column"]) == (True, 0, "mark")
    assert "--incremental mark" in status["command"]
    assert "copies what is new" in asyncup("status").stdout


async def test_rows_that_failed_stay_in_the_dead_letters_while_later_runs_go_on(increments: Increments) -> None:
    await increments.sql(
        TABLES["timestamptz"]
        + "; ALTER TABLE docs ADD name text; INSERT INTO docs VALUES (1, DEFAULT, 'one', '1'), (2, DEFAULT, 'one', NULL)",
    )
    to = {"to": f"file://{increments.folder}/objects/{{id}}-{{name}}"}
    report = await increments.run(**to)
    assert report.exit_code == 3
    assert report.job is not None
    letters = report.job.dead_letters
    assert letters is not None
    await increments.sql("INSERT INTO docs VALUES (3, DEFAULT, 'one', '')")
    report = await increments.run(**to)
    assert report.job is not None
    assert (report.exit_code, report.job.counts.rows, report.job.dead_letters) == (0, 1, letters)
    await increments.sql("INSERT INTO docs VALUES (4)")
    assert (await increments.run(**to)).exit_code == 3
    keys = [json.loads(line)["key"][-1] for line in Path(letters).read_text().splitlines()[1:]]
    assert keys == ["2", "4"]
    await increments.sql("UPDATE docs SET name = ''")
    again = await retry(letters, {"dsn": increments.database.dsn}, increments, Interrupt())
    assert again.job is not None
    assert (again.exit_code, again.job.counts.put, again.job.gone) == (0, 2, 0)
    Path(letters).unlink()  # somebody has dealt with them
    assert await increments.rows(**to) == 0


async def test_a_full_run_forgets_no_increments_and_increments_after_full_runs_begin_with_everything(
    increments: Increments,
) -> None:
    await increments.sql(TABLES["timestamptz"] + "; INSERT INTO docs VALUES (1), (2)")
    assert await increments.rows(incremental=None) == 2
    assert await increments.rows() == 2
    assert any("this one reads everything once" in notice for notice in increments.notices)
    assert await increments.rows() == 0
    before = increments.checkpoint
    for otherwise in ({}, {"snapshot": True}):
        report = await increments.run(incremental=None, **otherwise)
        assert report.exit_code == 2
        assert report.error is not None
        assert "it has the checkpoint of runs with --incremental mark" in report.error.message
        assert "--restart" in (report.error.hint or "")
    assert increments.checkpoint == before
    assert await increments.rows(incremental=None, restart=True) == 2
    assert await increments.rows(restart=True) == 2
    assert await increments.rows() == 0


async def test_every_row_is_verified_however_the_rows_were_sent(increments: Increments) -> None:
    await increments.sql(TABLES["timestamptz"] + "; INSERT INTO docs VALUES (1)")
    await increments.rows()
    await increments.sql("INSERT INTO docs VALUES (2)")
    await increments.rows()
    await increments.sql("UPDATE docs SET body = 'two' WHERE id = 1")
    verdict = await verify(Config.of(**increments.given(lag="1h")), increments, Interrupt())
    assert (verdict.rows, verdict.different, verdict.exit_code) == (2, 1, 4)


async def test_a_trial_reads_from_the_start_and_moves_no_bound(increments: Increments) -> None:
    await increments.sql(TABLES["timestamptz"] + "; INSERT INTO docs VALUES (1), (2)")
    await increments.rows()
    before = increments.checkpoint
    assert await increments.rows(limit=1) == 1
    assert increments.checkpoint == before


async def test_an_index_on_the_column_alone_is_index_enough(increments: Increments) -> None:
    """The planner finds what is new by it, and sorts those few rows."""
    table = "CREATE TABLE docs (id int PRIMARY KEY, mark timestamptz DEFAULT now(), body text DEFAULT 'one');"
    await increments.sql(table + "CREATE INDEX part ON docs (mark) WHERE id > 5; INSERT INTO docs VALUES (1)")
    await increments.rows()
    assert "an index would spare it" in " ".join(increments.notices)
    await increments.sql("CREATE INDEX ON docs (mark)")
    await increments.rows()
    assert "an index would spare it" not in " ".join(increments.notices)


async def test_an_index_that_comes_later_is_used_and_one_that_goes_is_missed_by_nobody(
    increments: Increments, at_put: Callable[..., None]
) -> None:
    await increments.sql(
        "CREATE TABLE docs (id int PRIMARY KEY, mark timestamptz DEFAULT now(), body text DEFAULT 'one');"
        "INSERT INTO docs VALUES (1)",
    )
    await increments.rows()
    assert "CREATE INDEX CONCURRENTLY ON public.docs (mark, id);" in " ".join(increments.notices)
    assert increments.checkpoint["fingerprint"]["key"] == ["id"]
    await increments.sql("CREATE INDEX along ON docs (mark, id); INSERT INTO docs VALUES (2)")
    assert await increments.rows() == 1
    assert increments.checkpoint["fingerprint"]["key"] == ["mark", "id"]
    await increments.sql("INSERT INTO docs SELECT n FROM generate_series(3, 9) n")

    async def stop() -> None:
        increments.interrupt.request(signal.SIGINT)

    at_put(3, stop)
    assert (await increments.run(page_size=1, concurrency=1)).exit_code == 130
    await increments.sql("DROP INDEX along; INSERT INTO docs VALUES (10)")
    assert await increments.rows() == 8
    assert increments.objects().keys() == set(range(1, 11))


async def test_an_index_that_comes_or_goes_locks_nobody_out_who_has_dead_letters(increments: Increments) -> None:
    await increments.sql(
        "CREATE TABLE docs (id int PRIMARY KEY, mark timestamptz DEFAULT now(), body text, name text);"
        "INSERT INTO docs (id, body, name) VALUES (1, 'one', '1'), (2, 'two', NULL)",
    )
    to = {"to": f"file://{increments.folder}/objects/{{id}}-{{name}}"}
    assert (await increments.run(**to)).exit_code == 3
    await increments.sql("CREATE INDEX along ON docs (mark, id); INSERT INTO docs (id, body) VALUES (3, 'three')")
    report = await increments.run(**to)
    assert report.error is None
    assert report.job is not None
    assert (report.exit_code, report.job.counts.failed) == (3, 1)
    assert "this one goes on by its key (id)" in " ".join(increments.notices)
    letters = Path(report.job.dead_letters or "")
    assert [json.loads(line)["key"] for line in letters.read_text().splitlines()[1:]] == [["2"], ["3"]]
    report = await increments.run(**to, key="mark")
    assert report.error is not None
    assert "key: was id, is mark, id" in report.error.message
    await increments.sql("UPDATE docs SET name = ''")
    again = await retry(str(letters), {"dsn": increments.database.dsn}, increments, Interrupt())
    assert again.job is not None
    assert (again.exit_code, again.job.counts.put, again.job.gone) == (0, 2, 0)
    letters.unlink()
    await increments.sql("INSERT INTO docs (id, body) VALUES (6, 'six')")
    assert (await increments.run(**to)).exit_code == 3
    assert json.loads(letters.read_text().partition("\n")[0])["job"]["key"] == ["id"]
    await increments.sql("UPDATE docs SET name = ''")
    letters.unlink()
    await increments.rows(**to)
    await increments.rows(**to)
    assert increments.checkpoint["fingerprint"]["key"] == ["mark", "id"]
    await increments.sql("INSERT INTO docs (id, body) VALUES (4, 'four')")
    assert (await increments.run(**to)).exit_code == 3
    await increments.sql("DROP INDEX along; INSERT INTO docs (id, body, name) VALUES (5, 'five', '')")
    report = await increments.run(**to)
    assert report.error is not None
    assert "by which earlier runs have left dead letters" in report.error.message
    assert "CREATE INDEX CONCURRENTLY ON public.docs (mark, id); or add --allow-sort" in str(report.error.hint)
    assert await increments.rows(**to, allow_sort=True) == 1


async def test_an_unfinished_run_goes_on_where_it_was_when_an_index_has_come(
    increments: Increments, at_put: Callable[..., None]
) -> None:
    await increments.sql(
        "CREATE TABLE docs (id int PRIMARY KEY, mark timestamptz DEFAULT now(), body text DEFAULT 'one');"
        "INSERT INTO docs SELECT n FROM generate_series(1, 9) n"
    )

    async def stop() -> None:
        increments.interrupt.request(signal.SIGINT)

    at_put(4, stop)
    assert (await increments.run(page_size=1, concurrency=1)).exit_code == 130
    settled = increments.checkpoint["watermark"]
    assert settled is not None
    await increments.sql("CREATE INDEX along ON docs (mark, id); UPDATE docs SET body = 'two' WHERE id = 1")
    report = await increments.run()
    assert report.job is not None
    assert (report.exit_code, report.job.resumed, report.job.total) == (0, True, 9)
    assert increments.objects() == dict.fromkeys(range(1, 10), "one")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("timestamptz", {"readers": 2}),
        ("bigint", {"readers": 2, "key": "id"}),
        ("bigint", {"where": "id > 0", "page_size": 1}),
        ("xid8", {"key": "id"}),
    ],
)
async def test_bounds_go_together_with_everything_else(
    increments: Increments, kind: str, options: dict[str, Any]
) -> None:
    await increments.sql(TABLES[kind] + "; INSERT INTO docs SELECT n FROM generate_series(1, 50) n")
    assert await increments.rows(**options) == 50
    await increments.sql("INSERT INTO docs SELECT n FROM generate_series(51, 60) n")
    assert await increments.rows(**options) == 10
    assert increments.objects().keys() == set(range(1, 61))


async def test_shards_cover_every_change_once(increments: Increments) -> None:
    await increments.sql(TABLES["xid8"] + "; INSERT INTO docs SELECT n FROM generate_series(1, 50) n")
    assert sum([await increments.rows(shard=f"{n}/3") for n in range(3)]) == 50
    await increments.sql("UPDATE docs SET mark = pg_current_xact_id(), body = 'two' WHERE id % 2 = 0")
    assert sum([await increments.rows(shard=f"{n}/3") for n in range(3)]) == 25
    assert increments.objects() == {n: "one" if n % 2 else "two" for n in range(1, 51)}


async def test_a_query_may_be_read_incrementally_by_time(increments: Increments) -> None:
    await increments.sql(TABLES["timestamptz"] + "; INSERT INTO docs VALUES (1)")
    options = {
        "table": None,
        "query": "SELECT id, body, mark AS changed FROM docs",
        "key": "id",
        "incremental": "changed",
    }
    assert await increments.rows(**options) == 1
    await increments.sql("INSERT INTO docs VALUES (2)")
    assert await increments.rows(**options) == 1
    assert await increments.rows(**options) == 0


async def test_a_partition_that_is_new_does_not_have_the_others_looked_through(increments: Increments) -> None:
    await increments.sql(PARTED + "; INSERT INTO docs VALUES (1), (101)")
    for _ in range(3):
        await increments.rows()
    await increments.sql("CREATE TABLE top PARTITION OF docs FOR VALUES FROM (200) TO (300)")
    await increments.sql("INSERT INTO docs VALUES (201)")
    assert await increments.rows() == 1
    assert increments.mark["lo"] == "2"


async def test_partitions_are_read_within_the_bounds(increments: Increments) -> None:
    await increments.sql(
        "CREATE TABLE docs (id int, mark bigint GENERATED BY DEFAULT AS IDENTITY, body text DEFAULT 'one',"
        "PRIMARY KEY (id)) PARTITION BY RANGE (id); CREATE TABLE low PARTITION OF docs FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE high PARTITION OF docs FOR VALUES FROM (10) TO (20); INSERT INTO docs VALUES (1), (11)",
    )
    for number in (2, 12):
        await increments.rows()
        await increments.sql(f"INSERT INTO docs VALUES ({number})")
        assert await increments.rows() == 1
    assert increments.objects().keys() == {1, 2, 11, 12}


async def write(database: Database, kind: str, dice: random.Random, ids: range, until: asyncio.Event) -> None:
    """Insert, update and roll back in transactions of all lengths, until it is enough."""
    left, mine = list(ids), [0][:0]
    async with connection(database) as writer:
        while not until.is_set():
            work = writer.transaction()
            await work.start()
            new = []
            for _ in range(dice.randint(1, 3)):
                if left and (kind == "bigint" or not mine or dice.random() < 0.5):
                    new.append(left.pop())
                    await writer.execute(f"INSERT INTO docs VALUES ({new[-1]}, DEFAULT, '{dice.random()}')")
                elif mine and kind != "bigint":
                    body, number = dice.random(), dice.choice(mine)
                    await writer.execute(f"UPDATE docs SET mark = {NOW[kind]}, body = '{body}' WHERE id = {number}")
                await writer.execute(f"SELECT pg_sleep({dice.random() ** 4 / 10})")
            if dice.random() < 0.2:
                await work.rollback()
            else:
                await work.commit()
                mine += new


async def storm(increments: Increments, kind: str, seed: int, runs: int) -> None:
    dice, until = random.Random(seed), asyncio.Event()
    await increments.sql(TABLES[kind])
    async with asyncio.TaskGroup() as group:
        for number in range(5):
            span = range(number * 10_000, (number + 1) * 10_000)
            group.create_task(write(increments.database, kind, random.Random(dice.random()), span, until))
        for _ in range(runs):
            await increments.rows(page_size=dice.choice((1, 7, 1000)))
        until.set()
    await increments.rows()
    await increments.rows()
    async with connection(increments.database) as reader:
        rows: list[asyncpg.Record] = await reader.fetch("SELECT id, body FROM docs")
    assert increments.objects() == {row["id"]: row["body"] for row in rows}
    assert await increments.rows() == 0


@EACH
async def test_in_a_storm_of_transactions_the_last_version_of_every_row_arrives(
    increments: Increments, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    await storm(increments, kind, 1, 2)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(10))
@EACH
async def test_in_a_long_storm_of_transactions_the_last_version_of_every_row_arrives(
    increments: Increments, kind: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    await storm(increments, kind, seed, 20)
