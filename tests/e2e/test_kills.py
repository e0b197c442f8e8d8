"""`kill -9` at random moments, again and again: what is stored in the end is exact, and the checkpoint is never ahead."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import time
from typing import Any

import pytest

from asyncup.bench.simulator.launch import RunningSimulator, simulator
from tests.conftest import Database, Program

ROWS = 3000
#: Of one page of the table, and of all that can be on the way between the table and the bucket.
PAGE = 100
IN_FLIGHT = 8
ROWS_PER_SECOND = IN_FLIGHT / 0.010


def sent_again_at_most(readers: int) -> float:
    """Rows that may be sent again after a kill: pages that were in flight, and what was settled since the last checkpoint.

    It is saved twice a second.
    """
    return 3 * PAGE * readers + 256 + ROWS_PER_SECOND


def body(number: int) -> bytes:
    return b"body %d" % number


#: By key, in the order of a listing.
EXPECTED = {f"docs/{n:06d}.txt": hashlib.md5(body(n), usedforsecurity=False).hexdigest() for n in range(1, ROWS + 1)}


@pytest.fixture
def docs(database: Database) -> Database:
    database.sql(
        "CREATE TABLE docs (id bigint PRIMARY KEY, content text NOT NULL);"
        f"INSERT INTO docs SELECT n, 'body ' || n FROM generate_series(1, {ROWS}) n; ANALYZE docs"
    )
    return database


def stored(s3: RunningSimulator) -> dict[str, str]:
    return {found["key"]: found["md5"] for found in s3.list_objects("bucket")}


def passed(checkpoint: dict[str, Any]) -> list[int]:
    """The rows that a checkpoint says are settled."""
    reaches = checkpoint["ranges"] or [{"part": {"lower": None}, "watermark": checkpoint["watermark"]}]
    return [
        number
        for reach in reaches
        if reach["watermark"] is not None
        for number in range(int((reach["part"]["lower"] or ["1"])[0]), int(reach["watermark"][0]) + 1)
    ]


def kill_and_resume(program: Program, s3: RunningSimulator, dice: random.Random, readers: int) -> int:
    """Kill the run at random moments until one completes. Returns the kills."""
    command = ["sync", "--table=docs", "--to=s3://bucket/docs/{id:06d}.txt", "--body=content", "--output=json"]
    command += [f"--page-size={PAGE}", f"--concurrency={IN_FLIGHT}", f"--endpoint-url={s3.endpoint_url}"]
    command += [f"--readers={readers}"]
    overwritten = 0
    for kills in range(100):
        process = program.start(*command)
        if dice.random() < 0.2:  # while it starts, or before it is done with what it has to do then
            time.sleep(dice.random())
        else:
            aim = s3.objects("bucket")["objects"] + dice.randint(1, ROWS // 3)
            while process.poll() is None and s3.objects("bucket")["objects"] < aim:
                time.sleep(0.005)
        process.kill()
        run = program.finish(process)
        found = stored(s3)
        sent_again = s3.objects("bucket")["overwritten"] - overwritten
        assert sent_again <= sent_again_at_most(readers)
        overwritten += sent_again
        assert found.items() <= EXPECTED.items()
        if run.code == 0:
            assert found == EXPECTED
            return kills
        assert run.code == -signal.SIGKILL
        state = program.folder / ".asyncup" / "public.docs.json"
        if state.exists():
            checkpoint = json.loads(state.read_text())
            assert not checkpoint["finished"]
            settled = passed(checkpoint)
            assert checkpoint["counts"]["put"] == len(settled)
            assert found.keys() >= {f"docs/{n:06d}.txt" for n in settled}, "the checkpoint ran ahead"
            assert bool(checkpoint["ranges"]) is (readers > 1)
    pytest.fail("the run never completed")


@pytest.mark.parametrize("readers", [1, 3])
def test_kill_9_at_any_moment_loses_nothing(connected: Program, docs: Database, readers: int) -> None:
    with simulator("--keep", "digest", "--latency", "10ms") as s3:
        assert kill_and_resume(connected, s3, random.Random(1), readers) > 0


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(30))
def test_kill_9_at_many_moments_loses_nothing(connected: Program, docs: Database, seed: int) -> None:
    with simulator("--keep", "digest", "--latency", "10ms") as s3:
        kills = kill_and_resume(connected, s3, random.Random(seed), 1 + seed % 4)
    print(f"{kills} kills")
