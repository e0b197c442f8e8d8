"""The real program among servers that fail: it comes through by itself, and every row arrives."""

from __future__ import annotations

import signal
import subprocess
import time
from hashlib import md5
from pathlib import Path

import pytest

from asyncup.bench.simulator.launch import simulator
from asyncup.bench.simulator.store import digest_of
from asyncup.embedded.postgres import embedded_postgres
from tests.conftest import Bucket, Database, Program
from tests.e2e.test_sync import check_shape

ROWS = 3000
TABLE = (
    "CREATE TABLE docs (id bigint PRIMARY KEY, content text NOT NULL);"
    f"INSERT INTO docs SELECT n, 'body ' || n FROM generate_series(1, {ROWS}) n"
)
EXPECTED = {f"{n}.txt": b"body %d" % n for n in range(1, ROWS + 1)}
SYNC = ("sync", "--table=docs", "--body=content", "--output=json", "--page-size=50", "--concurrency=4")


def test_a_database_that_ends_every_connection_each_second_is_read_to_the_end(
    connected: Program, database: Database, bucket: Bucket
) -> None:
    database.sql(TABLE)
    process = connected.start(*SYNC, f"--to=s3://{bucket.name}/{{id}}.txt", "--memory=1MiB")
    ended = 0
    while process.poll() is None:
        time.sleep(1)
        ended += database.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND "
            "datname = current_database() AND application_name <> 'psql'"
        ).count("t")
    run = connected.finish(process)
    assert run.code == 0, run.stderr
    assert ended > 0
    check_shape(run.summary)
    assert run.summary["put"] == ROWS
    assert bucket.objects() == EXPECTED


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=[pytest.mark.soak, pytest.mark.timeout(180)])])
def test_a_database_that_is_gone_for_a_while_is_waited_for(
    connected: Program, bucket: Bucket, servers_folder: Path, seconds: int
) -> None:
    folder = servers_folder / f"mortal-postgres-{seconds}"
    with embedded_postgres(folder) as first:
        first.psql(TABLE)
        # one page at a time, so that there is something left to read when the server has gone
        process = connected.start(*SYNC, f"--to=s3://{bucket.name}/{{id}}.txt", "--memory=200kB", **first.environment)
        while not len(list(bucket.folder.iterdir())) > 200:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(seconds)
    with embedded_postgres(folder, port=first.port):
        run = connected.finish(process)
    assert run.code == 0, run.stderr
    assert "cannot reach the database" in run.stderr
    assert "trying again in" in run.stderr
    assert run.summary["put"] == ROWS
    assert bucket.objects() == EXPECTED


@pytest.mark.parametrize("fault", ["hang", "hang-after", "slow-read"])
@pytest.mark.parametrize("signals", [1, 2])
def test_a_server_that_hangs_holds_nobody_back(
    connected: Program, database: Database, fault: str, signals: int
) -> None:
    """The drain ends at its deadline, a second signal ends it at once; what was not acknowledged was not put."""
    database.sql(TABLE)
    # not the first ones, so that some are acknowledged; bodies of 17 MiB go in parts
    database.sql("UPDATE docs SET content = repeat('x', 17 << 20) WHERE id = 45")
    with simulator("--keep", "digest", "--slow-read", "1", "--fault", f"{fault}=100%,skip=40,on=put+part") as s3:
        process = connected.start(
            *SYNC, "--to=s3://bucket/{id}.txt", f"--endpoint-url={s3.endpoint_url}", "--drain-timeout=2s"
        )
        while s3.counters()["faults"].get(fault, 0) < 4:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        begun = time.monotonic()
        for _ in range(signals):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        run = connected.finish(process)
        took = time.monotonic() - begun
        acknowledged = s3.counters()["answers"].get("200", 0)
        stored = s3.objects("bucket")["objects"]
    assert run.code == 130, run.stderr
    check_shape(run.summary)
    assert run.summary["status"] == "interrupted"
    assert took < (4 if signals == 1 else 2)
    assert 40 <= run.summary["put"] <= min(stored, acknowledged)
    assert run.summary["failed"] == 0


@pytest.mark.parametrize("signals", [1, 2])
def test_a_server_that_hangs_over_an_abort_too_holds_nobody_back(
    connected: Program, database: Database, signals: int
) -> None:
    database.sql("CREATE TABLE docs (id int, content text); ALTER TABLE docs ADD PRIMARY KEY (id)")
    database.sql("INSERT INTO docs SELECT n, repeat('x', 17 << 20) FROM generate_series(1, 2) n")
    with simulator("--fault=hang=100%,on=part+abort") as s3:
        process = connected.start(
            *SYNC, "--to=s3://bucket/{id}.txt", f"--endpoint-url={s3.endpoint_url}", "--drain-timeout=1s"
        )
        connected.interrupt(process, when=lambda: s3.counters()["faults"].get("hang", 0) >= 2)
        begun = time.monotonic()
        if signals == 2:
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
        run = connected.finish(process)
        took = time.monotonic() - begun
    assert run.code == 130, run.stderr
    assert run.summary["put"] == 0
    assert took < (3 if signals == 1 else 2)
    assert "aws s3api abort-multipart-upload" in run.stderr


@pytest.mark.parametrize("moment", ["at the start", "later"])
def test_a_program_for_credentials_that_hangs_does_not_keep_the_run_from_ending(
    connected: Program, database: Database, tmp_path: Path, moment: str
) -> None:
    database.sql(TABLE)
    keys = '{"Version": 1, "AccessKeyId": "AKIANUMBER1", "SecretAccessKey": "x", "SessionToken": "t"}'
    mark = tmp_path / "asked"
    if moment == "later":
        mark.touch()
    program = tmp_path / "program"
    program.write_text(
        f"#!/bin/sh\nif [ -e {mark} ]; then mv {mark} {mark}.once; echo '{keys}'; else touch {mark}.again; exec sleep 30; fi\n"
    )
    program.chmod(0o700)
    (tmp_path / "config").write_text(f"[profile hanging]\ncredential_process = {program}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        connected.environment.pop(name, None)
    with simulator("--fault=expired-token=100%,skip=40,on=put") as s3:
        process = connected.start(
            *(*SYNC, "--to=s3://bucket/{id}.txt", f"--endpoint-url={s3.endpoint_url}", "--profile=hanging"),
            AWS_CONFIG_FILE=str(tmp_path / "config"),
        )
        connected.interrupt(process, when=Path(f"{mark}.again").exists)
        time.sleep(0.2)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        run = connected.finish(process)
    assert time.monotonic() - begun < 2
    assert run.code == 130, run.stderr
    check_shape(run.summary)


def test_a_token_that_only_looks_at_objects_meet_as_expired_fails_no_row(
    connected: Program, database: Database
) -> None:
    """HEAD is refused without a word; another request says why."""
    database.sql(TABLE)
    with simulator(
        "--keep=digest", "--fault=expired-token=100%,on=head+get,times=2", "--fault=expired-token=50%,on=head"
    ) as s3:
        run = connected(
            *(*SYNC, "--limit=300", "--to=s3://bucket/{id}.txt", f"--endpoint-url={s3.endpoint_url}"),
            "--if-exists=skip",
        )
        stored = s3.objects("bucket")["objects"]
    assert run.code == 0, run.stderr
    assert (run.summary["put"], stored) == (300, 300)


#: Everything that a server may do to a request and that another attempt mends.
STORM = (
    *(
        "slowdown=4%",
        "error=3%",
        "unavailable=1%",
        "reset=2%",
        "reset-after=2%",
        "truncated=1%",
        "garbage=1%",
        "html=1%",
    ),
    *("request-timeout=1%", "conflict=1%", "aborted=1%", "kms-throttle=1%", "hang=0.2%", "hang-after=0.2%"),
    *(
        "slow-read=0.5%",
        "complete-error=100%,times=1",
        "bad-digest=100%,times=1,key=/12.",
        "wrong-etag=100%,times=1,key=/13.",
    ),
)


def storm(*options: str) -> list[str]:
    """Options of a simulator that does all of that, and checks signatures."""
    faults = [f"{fault},on=put+part+create+complete" if "on=" not in fault else fault for fault in STORM]
    account = f"{KEYS['AWS_ACCESS_KEY_ID']},{KEYS['AWS_SECRET_ACCESS_KEY']}"
    return [*(f"--fault={fault}" for fault in faults), "--keep=digest", f"--verify={account}", *options]


KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
}


@pytest.mark.parametrize("rows", [ROWS, pytest.param(100_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
@pytest.mark.parametrize("client", ["wire", "botocore"])
def test_every_row_comes_through_a_storm(connected: Program, database: Database, rows: int, client: str) -> None:
    database.sql(TABLE)
    database.sql(f"INSERT INTO docs SELECT n, 'body ' || n FROM generate_series({ROWS + 1}, {rows}) n")
    database.sql("UPDATE docs SET content = repeat('x', 17 << 20) WHERE id IN (7, 900)")
    large = md5(md5(b"x" * (16 << 20)).digest() + md5(b"x" * (1 << 20)).digest()).hexdigest() + "-2"
    with simulator(*storm("--latency", "lognormal:2ms,1", "--seed", "7")) as s3:
        process = connected.start(
            *("sync", "--table=docs", "--body=content", "--output=json", "--to=s3://bucket/docs/{id}.txt"),
            *(f"--s3-client={client}", f"--endpoint-url={s3.endpoint_url}", "--attempt-timeout=2s"),
            **KEYS,
        )
        run = connected.finish(process, timeout=60 + rows / 200)
        counters, found = s3.counters(), s3.objects("bucket")
    assert run.code == 0, run.stderr
    check_shape(run.summary)
    assert (run.summary["put"], run.summary["failed"]) == (rows, 0)
    etags = ((f"docs/{n}.txt", large if n in (7, 900) else md5(b"body %d" % n).hexdigest()) for n in range(1, rows + 1))
    assert found["digest"] == digest_of(etags)
    # one that was begun by a request whose answer was lost cannot be aborted, only named
    assert found["uploads"] == 0 or "list-multipart-uploads" in run.stderr, "no multipart upload is left without a word"
    assert set(counters["faults"]) == {fault.partition("=")[0] for fault in STORM}, "each of them happened"
    assert run.summary["retries"] > rows * 0.15
