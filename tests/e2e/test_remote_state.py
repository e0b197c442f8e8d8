"""State that survives the machine: runs that keep it in S3 or in Postgres, are killed, resumed, refused and looked at."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Bucket, Database, Program, Run
from tests.moto_server import MotoBucket

ROWS = 1000
FAILING = ["7", "990"]
#: Slow enough to be killed in the middle, whatever the machine.
SLOWLY = ("--concurrency=1", "--max-rate=100")


@pytest.fixture
def docs(database: Database) -> Database:
    """Rows of which two fail, one early and one late."""
    database.sql(
        "CREATE TABLE docs (id bigint PRIMARY KEY, content text); "
        f"INSERT INTO docs SELECT n, CASE WHEN n NOT IN ({', '.join(FAILING)}) THEN 'body ' || n END FROM generate_series(1, {ROWS}) n; "
        "ANALYZE docs"
    )
    return database


@dataclass
class Place:
    """A place of state: its name, and whether a checkpoint is there."""

    state: str
    exists: Callable[[], bool]

    def status(self, program: Program) -> dict[str, Any]:
        run = program("status", f"--state={self.state}", "--output=json")
        assert run.code == 0, run.stderr
        return run.summary


@pytest.fixture
def guarded(moto_bucket: MotoBucket, connected: Program) -> Place:
    """A server with conditional writes; objects go to it too, since one endpoint serves both."""
    connected.environment |= moto_bucket.server.environment
    key = "state/public.docs.json"

    def exists() -> bool:
        names = moto_bucket.names()
        return key in names and json.loads(moto_bucket.objects()[key])["checkpoint"] is not None

    return Place(f"s3://{moto_bucket.name}/state", exists)


@pytest.fixture
def unguarded(bucket: Bucket) -> Place:
    """A server without them."""

    def exists() -> bool:
        path = bucket.folder / "state" / "public.docs.json"
        try:
            return json.loads(path.read_bytes())["checkpoint"] is not None
        except (OSError, ValueError):
            return False

    return Place(f"s3://{bucket.name}/state", exists)


@pytest.fixture
def table(docs: Database) -> Place:
    def exists() -> bool:
        made = docs.sql("SELECT to_regclass('public.state') IS NOT NULL") == "t"
        return made and docs.sql("SELECT count(checkpoint) FROM state") == "1"

    return Place("postgres:public.state", exists)


@pytest.fixture
def local(connected: Program) -> Place:
    return Place(".asyncup", (connected.folder / ".asyncup" / "public.docs.json").exists)


@pytest.fixture(params=["local", "guarded", "unguarded", "table"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


def killed(program: Program, place: Place, *arguments: str) -> None:
    """Kill a run once it has saved."""
    process = program.start(*arguments, *SLOWLY)
    program.interrupt(process, when=place.exists, signum=signal.SIGKILL)
    assert program.finish(process).code == -signal.SIGKILL


@pytest.fixture
def slow(connected: Program, docs: Database, tmp_path: Path) -> list[str]:
    """A command that takes long enough to be killed."""
    folder = tmp_path / "objects"
    to = f"--to=file://{folder}/{{id}}"
    return ["sync", "--table=docs", to, "--body=content", "--on-null=fail", "--page-size=50"]


def objects(command: list[str]) -> set[str]:
    folder = Path(next(word for word in command if word.startswith("--to=")).removeprefix("--to=file://")).parent
    return {path.name for path in folder.iterdir()}


def test_a_killed_run_goes_on_at_once_where_it_was_with_the_command_that_status_shows(
    connected: Program, place: Place, slow: list[str]
) -> None:
    command = [*slow, f"--state={place.state}", "--where=id > 0 AND content IS DISTINCT FROM 'x y'", "--key=id"]
    killed(connected, place, *command)
    (standing,) = place.status(connected)["checkpoints"]
    assert (standing["name"], standing["finished"], standing["lock"]) == ("public.docs", False, None)
    assert 0 < standing["rows"] < ROWS
    assert standing["rows"] == standing["put"] + standing["failed"] == int(standing["watermark"][0])
    left = ROWS - standing["rows"]
    assert standing["left"]["estimate"]
    assert left / 2 < standing["left"]["rows"] < left * 2
    program, *words = shlex.split(standing["command"])
    assert program == "asyncup"
    begun = time.monotonic()
    run = connected(*words, "--concurrency=8", "--max-rate=100000", "--output=json")
    assert time.monotonic() - begun < 45, "a dead owner of this machine is not waited for"
    assert run.code == 3, run.stderr
    assert run.summary["resumed"]
    assert run.summary["jobs"][0]["total"] == ROWS
    assert len(objects(command)) == ROWS - 2
    assert keys_of(connected, run.summary["dead_letters"]) == FAILING
    status = connected("status", f"--state={place.state}").stdout
    assert f"public.docs: finished, {ROWS:,} rows so far" in status
    assert run.summary["dead_letters"] in status
    (finished,) = place.status(connected)["checkpoints"]
    assert shlex.split(finished["command"]) == ["asyncup", "retry", run.summary["dead_letters"]]
    assert run.summary["checkpoint"] in status


def keys_of(program: Program, location: str) -> list[str]:
    """The keys of dead letters, read by asyncup's own readers in a process with the program's connections."""
    if not location.startswith(("s3://", "postgres:")):
        lines = (program.folder / location).read_bytes().splitlines()[1:]
        return [json.loads(line)["key"][0] for line in lines]
    script = (
        "import asyncio, sys\n"
        "from asyncup.state import Access, read_letters\n"
        "from asyncup.flow.retry import Retrier, RetryPolicy\n"
        "async def main():\n"
        "    async with read_letters(sys.argv[1], Access(), Retrier(RetryPolicy(), asyncio.sleep, print)) as (_, found):\n"
        "        print(*[letter['key'][0] async for letter in found])\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, location],
        cwd=program.folder,
        env={**os.environ, **program.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize("kind", ["guarded", "table"])
def test_a_second_run_is_refused_while_the_first_has_the_job_and_status_names_it(
    connected: Program, kind: str, slow: list[str], request: pytest.FixtureRequest
) -> None:
    place: Place = request.getfixturevalue(kind)
    command = [*slow, f"--state={place.state}"]
    first = connected.start(*command, *SLOWLY)
    while not place.exists():
        assert first.poll() is None
    second = connected(*command, "--output=json")
    (standing,) = place.status(connected)["checkpoints"]
    first.send_signal(signal.SIGINT)
    assert connected.finish(first).code in (130, 3)
    assert second.code == 2, second.stderr
    assert second.summary["error"]["op"] == "lock job"
    assert f"process {first.pid} on " in second.summary["error"]["message"]
    assert standing["lock"]["pid"] == first.pid
    assert place.status(connected)["checkpoints"][0]["lock"] is None, "it was given back"


def test_status_of_a_place_without_state_says_so(connected: Program, place: Place) -> None:
    assert place.status(connected) == {
        "version": 1,
        "status": "complete",
        "state": place.state,
        "checkpoints": [],
        "error": None,
    }
    assert "There is no checkpoint" in connected("status", ASYNCUP_STATE=place.state).stdout
    assert not place.exists()
    assert not (connected.folder / ".asyncup").exists()


def test_a_server_without_conditional_writes_is_used_with_a_warning_and_one_with_them_without(
    connected: Program, docs: Database, unguarded: Place
) -> None:
    run = connected("sync", "--table=docs", "--to=null:", f"--state={unguarded.state}")
    assert run.code == 0, run.stderr
    assert "ignores conditional writes" in run.stderr


def test_the_role_that_may_not_make_the_table_is_told_the_grant(
    connected: Program, docs: Database, postgres: Any
) -> None:
    docs.sql("CREATE ROLE reader LOGIN PASSWORD 'reader-password'; GRANT SELECT ON docs TO reader; CREATE SCHEMA ops")
    reader = {"PGUSER": "reader", "PGPASSWORD": "reader-password"}
    command = ["sync", "--table=docs", "--to=null:", "--body=content", "--state=postgres:ops.state", "--output=json"]
    try:
        hints = []
        for _ in range(3):
            run = connected(*command, **reader)
            if run.code == 0:
                break
            assert run.code == 2, run.stderr
            hints.append(run.summary["error"]["hint"])
            if "ON ops.state" in hints[-1]:
                docs.sql(hints[-1])
            else:
                docs.sql(hints[-1] + " CREATE TABLE IF NOT EXISTS ops.nothing ()")
        assert hints == ["GRANT USAGE, CREATE ON SCHEMA ops TO reader;"]
        assert run.code == 0, run.stderr
        docs.sql(
            "ALTER TABLE ops.state OWNER TO CURRENT_USER; ALTER TABLE ops.state_dead_letters OWNER TO CURRENT_USER"
        )
        refused = connected(*command, **reader)
        hint = refused.summary["error"]["hint"]
        assert hint == "GRANT SELECT, INSERT, UPDATE, DELETE ON ops.state, ops.state_dead_letters TO reader;"
        docs.sql(hint)
        assert connected(*command, **reader).code == 0
    finally:
        docs.sql("DROP OWNED BY reader; DROP ROLE reader")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("postgres:nowhere.state", "CREATE SCHEMA nowhere;"),
        ("postgres:public.docs", "of a table that is not there yet"),
        ("s3://no-such-bucket-here/state", "bucket's name in --state"),
    ],
)
def test_state_that_cannot_be_used_is_refused_before_anything_is_sent(
    connected: Program, docs: Database, tmp_path: Path, state: str, said: str
) -> None:
    run = connected("sync", "--table=docs", f"--to=file://{tmp_path}/out/{{id}}", f"--state={state}", "--output=json")
    assert run.code == 2, run.stderr
    assert run.summary["error"]["type"] == "StateRefused"
    assert said in run.summary["error"]["hint"]
    assert not list((tmp_path / "out").iterdir())
    assert docs.sql("SELECT to_regclass('docs_dead_letters') IS NULL") == "t", (
        "nothing is left beside a table of a user's"
    )


def test_a_trial_leaves_nothing_in_the_state(connected: Program, docs: Database, table: Place, guarded: Place) -> None:
    for place in (table, guarded):
        run = connected("sync", "--table=docs", "--to=null:", f"--state={place.state}", "--limit=10", "--output=json")
        assert (run.code, run.summary["checkpoint"]) == (0, None), run.stderr
        assert place.status(connected)["checkpoints"] == []
        assert not place.exists()


def test_a_checkpoint_that_cannot_be_read_hides_no_other(connected: Program, docs: Database) -> None:
    assert connected("sync", "--table=docs", "--to=null:").code == 0
    (connected.folder / ".asyncup" / "broken.json").write_text("{")
    run: Run = connected("status", "--output=json")
    assert run.code == 2
    assert run.summary["status"] == "aborted"
    broken, docs_standing = run.summary["checkpoints"]
    assert (broken["name"], docs_standing["name"]) == ("broken", "public.docs")
    assert broken["error"]["type"] == run.summary["error"]["type"] == "StateRefused"
    text = connected("status")
    assert "broken: cannot be read" in text.stdout
    assert "public.docs: finished" in text.stdout


def test_a_checkpoint_of_an_older_version_without_options_still_goes_on(
    connected: Program, docs: Database, local: Place, slow: list[str]
) -> None:
    killed(connected, local, *slow)
    path = connected.folder / ".asyncup" / "public.docs.json"
    value = json.loads(path.read_text())
    secret = docs.server.environment["PGPASSWORD"]
    assert secret not in path.read_text()
    del value["options"]
    path.write_text(json.dumps(value))
    (standing,) = local.status(connected)["checkpoints"]
    run = connected(*shlex.split(standing["command"])[1:], "--output=json")
    assert run.code == 3, run.stderr
    assert run.summary["resumed"]
