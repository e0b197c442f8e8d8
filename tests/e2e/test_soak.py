"""Twenty minutes in which everything fails now and then: every row arrives, and nothing grows."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path

import pytest

from asyncup.bench.simulator.launch import simulator
from asyncup.bench.simulator.store import digest_of
from tests.conftest import Database, Program
from tests.e2e.test_faults import KEYS, storm
from tests.e2e.test_sync import check_shape

#: `SOAK_MINUTES` makes it another time.
MINUTES = float(os.environ.get("SOAK_MINUTES", "20"))
RATE = 700
ROWS = round(MINUTES * 60 * RATE)
#: Seconds between two times at which every connection of the database is ended.
ENDED_EVERY = 7.0


@dataclass(frozen=True)
class Sample:
    """What a process holds: resident memory in bytes, file descriptors (sockets among them), threads."""

    memory: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, process: int) -> Sample:
        proc = Path("/proc") / str(process)
        resident = int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return cls(resident, len(list((proc / "fd").iterdir())), len(list((proc / "task").iterdir())))


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="it looks into /proc")
@pytest.mark.timeout(MINUTES * 60 * 2 + 300)
def test_a_long_run_among_faults_grows_in_nothing(connected: Program, database: Database) -> None:
    database.sql(
        "CREATE TABLE docs (id bigint PRIMARY KEY, content text NOT NULL);"
        f"INSERT INTO docs SELECT n, 'body ' || n FROM generate_series(1, {ROWS}) n"
    )
    samples: list[Sample] = []
    with simulator(*storm("--latency", "lognormal:5ms,1", "--seed", "11")) as s3:
        process = connected.start(
            *("sync", "--table=docs", "--body=content", "--output=json", "--to=s3://bucket/docs/{id}.txt", "-v"),
            *(
                f"--endpoint-url={s3.endpoint_url}",
                "--attempt-timeout=2s",
                f"--max-rate={RATE / 0.8}",
                "--progress=none",
            ),
            **KEYS,
        )
        next_end = time.monotonic() + ENDED_EVERY
        while process.poll() is None:
            time.sleep(1)
            try:
                samples.append(Sample.of(process.pid))
            except FileNotFoundError:
                break
            if time.monotonic() > next_end:
                next_end += ENDED_EVERY
                database.sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                    "AND datname = current_database() AND application_name <> 'psql'"
                )
        run = connected.finish(process)
        found, faults = s3.objects("bucket"), s3.counters()["faults"]
    assert run.code == 0, run.stderr[-5000:]
    check_shape(run.summary)
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[2 * third : -5]
    print(
        f"\n{run.summary['seconds']:.0f} s, {run.summary['rows']:,} rows, {run.summary['retries']:,} retries, faults {faults}"
    )
    for name in ("memory", "descriptors", "threads"):
        early, late = (max(getattr(sample, name) for sample in part) for part in (middle, last))
        print(f"{name}: at most {early:,} in the second third, {late:,} in the last")
        assert late <= 1.1 * early, name
    assert (run.summary["put"], run.summary["failed"]) == (ROWS, 0)
    assert "Warning" not in run.stderr
    assert "Traceback" not in run.stderr
    assert found["digest"] == digest_of((f"docs/{n}.txt", md5(b"body %d" % n).hexdigest()) for n in range(1, ROWS + 1))
