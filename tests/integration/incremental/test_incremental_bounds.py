"""The bounds of incremental runs: what the server is asked for them, what is refused, what people are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.errors import AsyncupError, ReadingBroken
from asyncup.model import Column
from asyncup.report import Report
from asyncup.sources.increments import horizons
from asyncup.sources.increments.incremental import guard
from asyncup.sources.increments.mark import Mark
from asyncup.sources.keyset import Relation
from tests.conftest import Database
from tests.integration.incremental.increments import TABLES, Increments, connection, standby, transaction


def error_of(report: Report) -> AsyncupError:
    assert report.error is not None
    assert report.exit_code == 2
    return report.error


async def test_what_is_younger_than_the_lag_waits(increments: Increments) -> None:
    await increments.sql(TABLES["timestamptz"] + "; INSERT INTO docs VALUES (1, now() - interval '1 hour'), (2, now())")
    assert await increments.rows(lag="30m") == 1
    assert await increments.rows(lag=3000) == 0
    assert await increments.rows() == 1


@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "date"])
async def test_a_row_at_the_very_bound_of_the_last_run_is_read_once(increments: Increments, kind: str) -> None:
    await increments.sql(
        f"CREATE TABLE docs (id int PRIMARY KEY, mark {kind} DEFAULT now(), body text DEFAULT 'one');"
        "INSERT INTO docs VALUES (1, now() - interval '3 days')"
    )
    assert await increments.rows() == 1
    bound = increments.mark["hi"]
    await increments.sql(f"INSERT INTO docs VALUES (2, '{bound}'), (3, '{bound}')")
    if kind == "date":  # its day is not over
        assert await increments.rows() == 0
        assert "wait until the day is over" in " ".join(increments.notices)
        return
    assert await increments.rows() == 2
    assert await increments.rows() == 0


async def test_values_that_are_rounded_are_not_missed(increments: Increments) -> None:
    await increments.sql(TABLES["timestamptz"].replace("timestamptz", "timestamptz(0)"))
    for number in range(1, 5):
        async with transaction(increments.database, f"INSERT INTO docs VALUES ({number})") as late:
            await increments.rows()
            await late.commit()
    async with asyncio.timeout(20):
        while increments.objects().keys() != {1, 2, 3, 4}:  # until the clock has passed what was rounded up
            await increments.rows()


@pytest.mark.parametrize(
    ("zone", "instant", "bound"),
    [
        ("UTC", "2026-07-01 12:00:00+00", "2026-07-01 12:00:00"),
        ("Europe/Berlin", "2026-07-01 12:00:00+00", "2026-07-01 12:00:00"),  # somebody may write UTC
        ("America/New_York", "2026-07-01 12:00:00.5+00", "2026-07-01 08:00:00.5"),
        ("America/New_York", "2026-11-01 05:30:00+00", "2026-11-01 01:00:00"),  # 01:30, and 01:00 comes once more
        ("America/New_York", "2026-11-01 06:30:00+00", "2026-11-01 01:30:00"),
        ("Australia/Lord_Howe", "2026-04-04 14:50:00+00", "2026-04-04 14:50:00"),
    ],
)
async def test_a_local_time_is_the_lowest_that_may_still_be_written(
    increments: Increments, zone: str, instant: str, bound: str
) -> None:
    await increments.sql(TABLES["timestamp"] + f"; ALTER DATABASE {increments.database.name} SET timezone = '{zone}'")
    column, relation = Column("mark", "timestamp without time zone", "timestamp"), "public.docs"
    docs = Relation(relation, relation, "docs", (column,), (), is_query=False, database="")
    async with connection(increments.database) as reader:
        assert (await horizons._as_column(reader, docs, column, instant, zoned=True))[0] == bound


@pytest.mark.parametrize("kind", ["timestamp", "date"])
async def test_a_local_time_of_a_writer_in_any_time_zone_is_not_missed(increments: Increments, kind: str) -> None:
    """What drivers set for their sessions is known to nobody else; a value that is older than any of now is read at once."""
    await increments.sql(f"CREATE TABLE docs (id int PRIMARY KEY, mark {kind}, body text DEFAULT 'one')")
    await increments.sql("INSERT INTO docs VALUES (1, now() - interval '3 days')")
    assert await increments.rows() == 1
    notices = " ".join(increments.notices)
    assert "mark has no time zone: its values are taken for any, down to UTC-12" in notices
    assert ("or --lag" if kind == "timestamp" else "wait until the day is over") in notices
    here = await increments.writer.fetchval(f"SELECT (now() AT TIME ZONE 'Etc/GMT+12')::{kind}::text")
    async with connection(increments.database, server_settings={"timezone": "Etc/GMT+12"}) as writer:
        await writer.execute("INSERT INTO docs VALUES (2, now())")
    assert increments.mark["hi"] <= here
    assert await increments.rows() == (1 if kind == "timestamp" else 0)


async def test_with_a_lag_somebody_vouches_for_the_time_zone(increments: Increments) -> None:
    await increments.sql(TABLES["timestamp"] + "; INSERT INTO docs VALUES (1, now() AT TIME ZONE 'UTC')")
    assert await increments.rows() == 0
    assert await increments.rows(lag=0) == 1
    assert "mark has no time zone: with --lag its values are taken for" in " ".join(increments.notices)


async def test_people_are_told_who_holds_the_bound_back(
    increments: Increments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(horizons, "_LONG", 0.0)
    await increments.sql(TABLES["timestamptz"])
    async with transaction(increments.database, "SELECT 1"):
        await increments.sql("INSERT INTO docs VALUES (1)")
        assert await increments.rows() == 0
    assert "a transaction of role asyncup (process" in " ".join(increments.notices)
    assert await increments.rows() == 1


async def test_who_reads_or_vacuums_elsewhere_holds_nothing_back(
    increments: Increments, server: EmbeddedPostgres
) -> None:
    await increments.sql(TABLES["timestamptz"])
    async with transaction(Database(server, "postgres"), "SELECT 1"):
        await increments.sql("INSERT INTO docs VALUES (1)")
        assert await increments.rows() == 1


@pytest_asyncio.fixture
async def reader(increments: Increments) -> AsyncIterator[str]:
    """A role that may read `docs`, and nothing else."""
    await increments.sql(TABLES["timestamptz"] + "; INSERT INTO docs VALUES (1)")
    await increments.sql("CREATE ROLE reader LOGIN PASSWORD 'x'; GRANT SELECT ON docs TO reader")
    yield f"postgresql://reader:x@{increments.database.dsn.rpartition('@')[2]}"
    await increments.sql("DROP OWNED BY reader; DROP ROLE reader")


async def test_a_role_that_does_not_see_other_transactions_needs_a_grant_or_a_lag(
    increments: Increments, reader: str
) -> None:
    error = error_of(await increments.run(dsn=reader))
    assert "role reader does not see" in error.message
    assert "GRANT pg_read_all_stats TO reader; or give --lag" in (error.hint or "")
    assert not (increments.folder / "state" / "public.docs.json").exists()
    assert await increments.rows(dsn=reader, lag=0) == 1
    await increments.sql("GRANT pg_read_all_stats TO reader")
    async with transaction(increments.database, "INSERT INTO docs VALUES (2)") as late:
        await increments.sql("INSERT INTO docs VALUES (3)")
        assert await increments.rows(dsn=reader) == 0
        await late.commit()
    assert await increments.rows(dsn=reader) == 2


@pytest.mark.parametrize("kind", ["xid8", "bigint"])
async def test_ids_and_numbers_need_no_privilege(increments: Increments, reader: str, kind: str) -> None:
    await increments.sql(
        f"DROP TABLE docs; {TABLES[kind]}; INSERT INTO docs VALUES (1); GRANT SELECT ON docs TO reader"
    )
    async with transaction(increments.database, "INSERT INTO docs VALUES (2)") as late:
        await increments.rows(dsn=reader)
        await late.commit()
    await increments.rows(dsn=reader)
    assert increments.objects().keys() == {1, 2}


async def test_a_session_that_hides_its_activity_is_not_overlooked(increments: Increments) -> None:
    await increments.sql(TABLES["timestamptz"])
    async with connection(increments.database, server_settings={"track_activities": "off"}) as hidden:
        work = hidden.transaction()
        await work.start()
        await hidden.execute("INSERT INTO docs VALUES (1)")
        await increments.sql("INSERT INTO docs VALUES (2)")
        await increments.rows()
        assert "1 open transaction" in " ".join(increments.notices)
        await increments.rows()
        await work.commit()
    await increments.rows()
    assert increments.objects().keys() == {1, 2}


@pytest.mark.parametrize("indexed", [True, False])
async def test_rows_with_null_are_never_read_and_counted(increments: Increments, indexed: bool) -> None:
    await increments.sql(
        "CREATE TABLE docs (id int PRIMARY KEY, mark timestamptz, body text DEFAULT 'one');"
        "INSERT INTO docs SELECT n, CASE WHEN n > 3 THEN now() END FROM generate_series(1, 9) n"
        + ("; CREATE INDEX ON docs (mark)" if indexed else "")
    )
    assert await increments.rows() == 6
    notices = " ".join(increments.notices)
    assert ("3 rows with NULL in mark: never read" if indexed else "rows that have NULL in mark, if there") in notices
    await increments.rows()
    assert ("NULL" in " ".join(increments.notices)) == indexed  # what is only feared is said once
    await increments.sql("ANALYZE docs")
    assert await increments.rows() == 0
    assert "3 rows with NULL in mark: never read" in " ".join(increments.notices)


@pytest.mark.parametrize(
    ("definition", "options", "message"),
    [
        ("mark uuid", {}, "mark is of type uuid, which does not tell what is new"),
        ("mark text", {}, "of type text"),
        ("mark timestamptz", {"incremental": "marks"}, "public.docs has no column marks"),
        ("mark int", {"table": None, "query": "TABLE docs", "key": "id"}, "only be told of the rows of a table"),
        (
            "mark timestamptz",
            {"table": None, "query": "SELECT DISTINCT * FROM docs LIMIT 5", "key": "id"},
            "an incremental run is read page by page",
        ),
    ],
)
async def test_what_tells_nothing_is_refused(
    increments: Increments, definition: str, options: dict[str, Any], message: str
) -> None:
    await increments.sql(f"CREATE TABLE docs (id int PRIMARY KEY, body text, {definition})")
    assert message in error_of(await increments.run(**options)).message


async def test_another_column_or_type_is_another_job(increments: Increments) -> None:
    await increments.sql(TABLES["bigint"] + "; ALTER TABLE docs ADD other timestamptz DEFAULT now()")
    await increments.rows()
    assert "incremental: was 'mark', is 'other'" in error_of(await increments.run(incremental="other")).message
    await increments.sql("ALTER TABLE docs DROP mark; ALTER TABLE docs RENAME other TO mark")
    assert "read by mark as sequence" in error_of(await increments.run()).message


@pytest.mark.parametrize("kind", ["xid8", "bigint"])
async def test_ids_of_the_future_are_those_of_another_cluster(increments: Increments, kind: str) -> None:
    await increments.sql(TABLES[kind] + "; INSERT INTO docs VALUES (1)")
    await increments.rows()
    increments.change_mark(hi="9000000000", next="9000000000", xmin="9000000000")
    error = error_of(await increments.run())
    assert "it is another cluster" in error.message
    assert "--restart" in (error.hint or "")


@pytest.mark.parametrize("value", ["1'; DROP TABLE docs; --", 7])
async def test_bounds_that_nobody_wrote_do_not_reach_the_server(increments: Increments, value: Any) -> None:
    await increments.sql(TABLES["bigint"] + "; INSERT INTO docs VALUES (1)")
    await increments.rows()
    increments.change_mark(next=value)
    assert "none of this version" in error_of(await increments.run()).message


@pytest.mark.parametrize("kind", ["timestamptz", "bigint"])
async def test_when_another_server_has_taken_over_everything_is_read_again(increments: Increments, kind: str) -> None:
    await increments.sql(TABLES[kind] + "; INSERT INTO docs VALUES (1), (2)")
    await increments.rows()
    increments.change_mark(timeline=77)
    assert await increments.rows() == 2
    assert "another server has taken over since the last run (timeline 77 became 1)" in " ".join(increments.notices)
    assert await increments.rows() == 0


@pytest.mark.parametrize("finished", [True, False])
async def test_when_the_server_has_lost_the_end_of_its_log_everything_is_read_again(
    increments: Increments, finished: bool
) -> None:
    await increments.sql(TABLES["xid8"] + "; INSERT INTO docs VALUES (1)")
    await increments.rows()
    increments.change_mark(lsn="FFFF/0")
    increments.change(finished=finished)
    assert await increments.rows() == 1
    assert ", before FFFF/0, where it was at the last run" in " ".join(increments.notices)


@pytest.mark.parametrize("other", [{"timeline": 77}, {"lsn": "FFFF/0"}])
async def test_a_server_that_has_taken_over_in_the_middle_of_a_run_is_not_read(
    increments: Increments, other: dict[str, Any]
) -> None:
    await increments.sql(TABLES["xid8"])
    await increments.rows()
    here = Mark.of(increments.mark)
    assert here is not None
    check, refuse = guard(here, "docs"), guard(replace(here, **other), "docs")
    assert check is not None
    assert refuse is not None
    await check(increments.writer)
    with pytest.raises(ReadingBroken, match="another server has taken over"):
        await refuse(increments.writer)


async def test_ids_that_a_dump_has_brought_are_refused_with_the_update_that_mends_them(increments: Increments) -> None:
    await increments.sql(TABLES["xid8"] + "; INSERT INTO docs VALUES (1, DEFAULT), (2, '5000000000')")
    error = error_of(await increments.run())
    assert "some rows have ids in mark that no transaction of this server has had" in error.message
    await increments.sql((error.hint or "").partition(": ")[2])
    assert await increments.rows() == 2


@pytest.mark.parametrize("query", [False, True])
async def test_rows_that_show_later_than_their_time_need_a_lag(increments: Increments, query: bool) -> None:
    await increments.sql(
        TABLES["timestamptz"].replace("docs", "origin")
        + "; INSERT INTO origin VALUES (1); CREATE MATERIALIZED VIEW docs AS TABLE origin"
    )
    options = {"table": None, "query": "TABLE docs", "key": "id"} if query else {"key": "id"}
    options["allow_sort"] = True
    error = error_of(await increments.run(**options))
    assert "public.docs gets its rows when it is refreshed" in error.message
    assert "--query what it is made of; or give --lag: longer than from one refresh to the end of the next" in str(
        error.hint
    )
    assert await increments.rows(**options, lag=0) == 1
    await increments.sql("REFRESH MATERIALIZED VIEW docs")
    assert await increments.rows(**options, lag=0) == 0


async def test_rows_that_are_replicated_need_a_lag(increments: Increments) -> None:
    await increments.sql(TABLES["timestamptz"])
    await increments.sql(
        "CREATE SUBSCRIPTION away CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false)"
    )
    try:
        await increments.sql(
            "SET allow_system_table_mods = on; INSERT INTO pg_subscription_rel "
            "SELECT oid, 'docs'::regclass, 'r', NULL FROM pg_subscription"
        )
        assert "public.docs gets its rows by logical replication" in error_of(await increments.run()).message
    finally:
        await increments.sql("ALTER SUBSCRIPTION away SET (slot_name = NONE)")
        await increments.sql("DROP SUBSCRIPTION away")


@pytest.mark.parametrize("since", [(1 << 32) - 5, (1 << 33) + 3, 700, (1 << 31) + 9])
async def test_ids_of_rows_are_compared_across_their_wraparound(increments: Increments, since: int) -> None:
    """A row's own id has 32 bits: those since the last run are told from those before, wherever the circle closes."""
    column = Column("mark", "bigint", "int8")
    relation = Relation("docs", "docs", "docs", (column,), (), is_query=False, database="")
    (_, condition) = Mark("mark", "sequence", hi="9", since=str(since)).conditions(relation)
    ids = [since + n for n in (-(1 << 31) + 1, -1_000_000, -1, 0, 1, 1_000_000, (1 << 30))]
    values = ", ".join(f"('{number % (1 << 32)}'::xid, {place})" for place, number in enumerate(ids))
    rows = await increments.writer.fetch(
        f"SELECT mark FROM (VALUES {values}) AS docs(xmin, mark) WHERE {condition} ORDER BY mark"
    )
    assert [row["mark"] for row in rows] == [3, 4, 5, 6]


@pytest.fixture
def copy(server: EmbeddedPostgres, servers_folder: Path) -> Iterator[EmbeddedPostgres]:
    with standby(server, servers_folder / "standby-of-increments") as copy:
        yield copy


async def test_a_standby_is_read_and_what_it_does_not_show_is_asked_for(
    increments: Increments, copy: EmbeddedPostgres
) -> None:
    away = Database(copy, increments.database.name).dsn
    for kind in ("timestamptz", "xid8", "bigint"):
        await increments.sql(TABLES[kind].replace("docs", kind) + f"; INSERT INTO {kind} VALUES (1)")
    await caught_up(increments, away)
    error = error_of(await increments.run(dsn=away, table="timestamptz"))
    assert "the server is a standby" in error.message
    assert "--lag" in (error.hint or "")
    assert await increments.rows(dsn=away, table="timestamptz", lag=0) == 1
    for kind in ("xid8", "bigint"):
        for path in (increments.folder / "objects").iterdir():
            path.unlink()
        async with transaction(increments.database, f"INSERT INTO {kind} VALUES (2)") as late:
            await increments.sql(f"INSERT INTO {kind} VALUES (3)")
            await caught_up(increments, away)
            await increments.rows(dsn=away, table=kind)
            await late.commit()
        await caught_up(increments, away)
        await increments.rows(dsn=away, table=kind)
        assert increments.objects().keys() == {1, 2, 3}
        await increments.rows(table=kind)
        assert await increments.rows(dsn=away, table=kind) == 0
    await behind(increments, away)
    promoted = await asyncpg.connect(away)
    await promoted.execute("SELECT pg_promote()")
    await promoted.execute("INSERT INTO xid8 VALUES (9)")
    await promoted.close()
    assert await increments.rows(dsn=away, table="xid8") == 5
    assert "another server has taken over" in " ".join(increments.notices)


async def behind(increments: Increments, away: str) -> None:
    """A standby that has not come to the place of the bounds is waited for."""
    copy = await asyncpg.connect(away)
    await copy.execute("SELECT pg_wal_replay_pause()")
    await increments.sql("INSERT INTO xid8 VALUES (4)")
    before = increments.folder / "state" / "public.xid8.json"
    lsn = await increments.writer.fetchval("SELECT pg_current_wal_insert_lsn()::text")
    increments.change_mark(before, lsn=lsn)
    increments.change(before, finished=False, watermark=["1", "0"])
    running = asyncio.create_task(increments.run(dsn=away, table="xid8"))
    async with asyncio.timeout(20):
        while not increments.waiting:
            await asyncio.sleep(0.01)
    assert "does not have all rows yet" in increments.waiting[0]
    await copy.execute("SELECT pg_wal_replay_resume()")
    assert (await running).exit_code == 0
    await copy.close()
    assert await increments.rows(table="xid8") == 1


async def caught_up(increments: Increments, away: str) -> None:
    lsn = await increments.writer.fetchval("SELECT pg_current_wal_insert_lsn()")
    copy = await asyncpg.connect(away)
    async with asyncio.timeout(20):
        while (await copy.fetchval("SELECT pg_last_wal_replay_lsn()")) < lsn:
            await asyncio.sleep(0.01)
    await copy.close()


@pytest.mark.parametrize("kind", ["bigint", "xid8"])
async def test_a_lag_is_refused_where_nothing_is_told_by_time(increments: Increments, kind: str) -> None:
    await increments.sql(TABLES[kind])
    report = await increments.run(lag="1m")
    assert report.error is not None
    assert (report.exit_code, report.error.subject) == (2, "--lag")
