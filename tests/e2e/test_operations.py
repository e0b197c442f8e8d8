"""A run that is looked at from outside: metrics and health, the live state on a signal, requests with their ids."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from asyncup.bench.simulator.launch import RunningSimulator, simulator
from asyncup.cli.main import run
from tests.conftest import Bucket, Database, Program

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there is no such signal")

KEY, SECRET, TOKEN = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "IQoJb3JpZ2luX2VjEXAMPLETOKEN"


@pytest.fixture(scope="module")
def s3_of_credentials() -> Iterator[RunningSimulator]:
    """An S3 that takes only what is signed with a session's credentials."""
    with simulator(f"--verify={KEY},{SECRET},{TOKEN}") as server:
        yield server


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def errors_of(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stderr is not None
    return process.stderr


def read_until(stream: IO[str], pattern: str) -> str:
    """What is written up to the first line in which the pattern is found."""
    seen = ""
    for line in stream:
        seen += line
        if re.search(pattern, line):
            return seen
    raise AssertionError(seen)


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def value(text: str, name: str) -> float:
    """One sample of Prometheus's text."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.mark.parametrize("options", [(), ("--s3-client=botocore", "--if-exists=skip", "--transform=own:own")])
def test_a_run_shows_metrics_and_its_state_and_ends_as_ever(
    connected: Program, database: Database, bucket: Bucket, options: tuple[str, ...]
) -> None:
    database.sql(
        "CREATE TABLE docs (id int PRIMARY KEY); INSERT INTO docs SELECT generate_series(1, 5000); ANALYZE docs"
    )
    (connected.folder / "own.py").write_text("def own(record):\n    return 'x'\n")
    process = connected.start(
        *("sync", "--table=docs", f"--to=s3://{bucket.name}/{{id}}", "--max-rate=100", "--metrics=127.0.0.1:0"),
        *("--progress=none", "--output=json", *options),
    )
    url = read_until(errors_of(process), "metrics are at").split()[-1].removesuffix("/metrics")
    while not value(text := fetch(f"{url}/metrics"), 'asyncup_rows_total{job="public.docs",outcome="put"}'):
        time.sleep(0.02)
    assert value(text, 'asyncup_estimated_rows{job="public.docs"}') == 5000
    health = json.loads(fetch(f"{url}/healthz"))
    assert (health["status"], health["phase"], health["jobs"][0]["job"]) == ("ok", "running", "public.docs")

    process.send_signal(signal.SIGUSR1)
    state = read_until(errors_of(process), "^  threads:")
    assert re.search(r"public\.docs: running: \d+ rows of about 5,000: \d+ put, 0 skipped, 0 failed", state)
    assert re.search(r"checkpoint \.asyncup/public\.docs\.json, (not saved yet|saved \S+ ago)", state)
    assert "asyncup-sender" in state
    assert "asyncup-run" in state
    assert not re.search(r"Thread-\d", state)
    assert options or not re.search(r"\bTask\b", state)  # botocore's client has tasks of its own
    assert len(state.splitlines()) <= 24

    process.send_signal(signal.SIGINT)
    ended = connected.finish(process)
    assert (ended.code, ended.summary["status"], "Traceback" in ended.stderr) == (130, "interrupted", False)
    with pytest.raises(OSError, match="refused"):
        fetch(f"{url}/healthz")


def test_a_run_that_is_still_being_prepared_answers_too(asyncup: Program, silent: int) -> None:
    process = asyncup.start(
        *("sync", "--table=docs", "--to=null:", f"--dsn=postgresql://u@127.0.0.1:{silent}/d?sslmode=disable"),
        *("--metrics=127.0.0.1:0", "--log-format=json", "--output=json"),
    )
    line = json.loads(read_until(errors_of(process), "metrics are at"))
    assert (line["event"], line["level"]) == ("notice", "info")
    url = line["message"].split()[-1].removesuffix("/metrics")
    assert json.loads(fetch(f"{url}/healthz")) == {
        "status": "ok",
        "phase": "preparing",
        "seconds_since_settled": None,
        "reason": None,
        "jobs": [],
    }
    process.send_signal(signal.SIGUSR1)
    state = json.loads(read_until(errors_of(process), '"state"'))
    assert (state["event"], state["phase"], state["jobs"]) == ("state", "preparing", [])
    assert "asyncup-run" in {kind["name"] for kind in state["tasks"]}
    process.send_signal(signal.SIGTERM)
    assert asyncup.finish(process).code == 143


def test_who_holds_the_event_loop_is_shown_when_it_is_asked_again(
    connected: Program, database: Database, bucket: Bucket
) -> None:
    database.sql("CREATE TABLE docs (id int PRIMARY KEY); INSERT INTO docs SELECT generate_series(1, 5)")
    (connected.folder / "own.py").write_text(
        "import os, sys, time\n\ndef slowly(record):\n    print('begun', file=sys.stderr, flush=True)\n"
        "    while not os.path.exists('go'):\n        time.sleep(0.01)\n    return 'x'\n"
    )
    process = connected.start(
        *("sync", "--table=docs", f"--to=s3://{bucket.name}/{{id}}", "--transform=own:slowly", "--executor=loop")
    )
    read_until(errors_of(process), "begun")
    process.send_signal(signal.SIGUSR1)
    time.sleep(0.6)
    process.send_signal(signal.SIGUSR1)
    held = read_until(errors_of(process), "while not os.path.exists|time.sleep")
    assert "something holds the event loop" in held
    assert "in slowly" in held
    (connected.folder / "go").touch()
    assert connected.finish(process).code == 0
    assert len(bucket.objects()) == 5


def test_a_port_that_is_taken_ends_it_before_anything_is_asked(
    silent: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASYNCUP_METRICS", f"127.0.0.1:{silent}")
    monkeypatch.setattr("sys.argv", ["asyncup"])
    for command in ("sync", "verify"):
        assert run([command, "--table=a", "--to=null:", "--output=json"]) == 2
        error: dict[str, Any] = json.loads(capsys.readouterr().out)["error"]
        assert (error["type"], error["subject"]) == ("UsageError", "ASYNCUP_METRICS")
        assert "in use" in error["message"]
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    for name in ("endpoint", "exposition"):
        monkeypatch.delitem(__import__("sys").modules, f"asyncup.operations.{name}", raising=False)
    assert run(["sync", "--table=a", "--to=null:", "--output=json"]) == 2
    assert "asyncup[metrics]" in json.loads(capsys.readouterr().out)["error"]["hint"]


@pytest.mark.parametrize(("lane", "form"), [("wire", "json"), ("botocore", "text")])
def test_every_request_is_logged_with_its_ids_and_nothing_it_was_signed_with(
    asyncup: Program, database: Database, s3_of_credentials: RunningSimulator, lane: str, form: str
) -> None:
    database.sql("CREATE TABLE docs (id int PRIMARY KEY); INSERT INTO docs SELECT generate_series(1, 3)")
    asyncup.environment = {
        **database.server.environment,
        "PGDATABASE": database.name,
        "AWS_ENDPOINT_URL": s3_of_credentials.endpoint_url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": TOKEN,
    }
    flags = ("--to=s3://bucket/{id}", f"--s3-client={lane}", f"--log-format={form}", "-vvv")
    ended = asyncup("sync", "--table=docs", *flags)
    assert ended.code == 0
    puts = [line for line in ended.stderr.splitlines() if "asyncup.s3" in line and "PUT" in line]
    assert len(puts) == 3
    if form == "json":
        request = json.loads(puts[0])["request"]
        assert (request["method"], request["bucket"], request["status"]) == ("PUT", "bucket", 200)
        assert request["request_id"]
        assert request["host_id"]
    else:
        assert re.search(
            r"INFO|DEBUG asyncup\.s3: PUT \S+ bucket=bucket key=\d status=200 request_id=\w+ host_id=", puts[0]
        )
    written = ended.stderr.lower() + ended.stdout.lower()
    for secret in (KEY, SECRET, TOKEN, "authorization", "signature", "aws4-hmac"):
        assert secret.lower() not in written
