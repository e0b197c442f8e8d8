"""`--report` in a real browser: the page shows what the summary says, asks for nothing, and runs nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Bucket, Database, Program
from tests.unit.htmlpages import Page, same_as_summary

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def report(connected: Program, database: Database, bucket: Bucket) -> tuple[Path, dict[str, Any]]:
    """The report of a run in which rows failed whose keys and reasons would rather be markup, and its summary."""
    database.sql(
        "CREATE TABLE docs (id text PRIMARY KEY);"
        "INSERT INTO docs SELECT i::text FROM generate_series(1, 300) i;"
        """INSERT INTO docs VALUES ('<script>document.title="owned"</script>'), ('<img src=http://127.0.0.1:1/x.png>'),"""
        " ('\u05e9\u05dc\u05d5\u05dd'), (E'\\u202egnp.exe'), (repeat('long', 300))"
    )
    (connected.folder / "picky.py").write_text(
        "def picky(row):\n    if not row['id'].isdecimal():\n        raise ValueError(f'no number: {row[\"id\"]}')\n    return 'x'\n"
    )
    run = connected(
        "sync",
        "--table=docs",
        f"--to=s3://{bucket.name}/{{id}}",
        "--transform=picky:picky",
        "--executor=loop",
        "--report=run.html",
        "--output=json",
    )
    assert (run.code, run.summary["failed"], run.summary["put"]) == (3, 5, 300)
    return connected.folder / "run.html", run.summary


def test_the_installed_program_writes_a_page_that_says_what_its_summary_says(
    report: tuple[Path, dict[str, Any]], database: Database
) -> None:
    text = report[0].read_text("utf-8")
    page = Page.of(text)
    same_as_summary(page, report[1])
    assert "5 rows failed" in page.text
    assert "asyncup retry .asyncup/public.docs.dead-letters.jsonl" in page.text
    assert {"script", "img"}.isdisjoint(page.elements)
    assert database.server.environment["PGPASSWORD"] not in text
    assert len(text) < 100_000


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: the Debian package chromium has it")
def test_a_browser_shows_it_without_a_request_and_without_an_error(
    report: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    path, summary = report
    log = tmp_path / "net.json"
    seen = subprocess.run(
        [
            str(CHROMIUM),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
            *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
            "--host-resolver-rules=MAP * ~NOTFOUND",  # not even the browser's own questions leave this machine
            f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr",
            f"--log-net-log={log}",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "CONSOLE" not in seen.stderr
    # what the browser asks on its own account comes from no origin
    asked = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    assert [one.get("url") for one in asked if one.get("initiator") not in (None, "not an origin")] == []
    page = Page.of(seen.stdout)
    assert page.title == "asyncup sync: complete, but rows failed"
    same_as_summary(page, summary)
