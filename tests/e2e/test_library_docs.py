"""What docs/library.md shows runs as it is written there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import asyncup as library
from asyncup.model import Upload
from tests.conftest import Bucket, Database, Program

PAGE = Path(__file__).parents[2] / "docs" / "library.md"


def block(words: str) -> str:
    """The example that has these words."""
    (found,) = [one for one in PAGE.read_text().split("```python\n")[1:] if words in one.partition("```")[0]]
    return found.partition("```")[0]


def run(words: str, **names: Any) -> dict[str, Any]:
    names |= {"asyncup": library, "contextlib": contextlib}
    exec(compile(block(words), str(PAGE), "exec"), names)
    return names


async def test_map(capsys: pytest.CaptureFixture[str]) -> None:
    done = []

    def upload(row: int) -> None:
        if row == 3:
            raise ValueError("no 3 today")
        done.append(row)

    names = run("concurrency=150", upload=upload, rows=range(200))
    await names["main"]()
    assert capsys.readouterr().out == "3 no 3 today\n"
    assert sorted(done) == [*range(3), *range(4, 200)]
    await run("aclosing", upload=upload, rows=range(200))["first_failure"]()


async def test_publish() -> None:
    def put(upload: Any) -> None:
        if len(upload.body) > 1000:
            raise ValueError(f"{upload.key} is too large")

    await run("test_what_is_too_large_fails", put=put)["test_what_is_too_large_fails"]()


def test_sync_and_a_sink_of_ones_own(database: Database, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    database.sql("CREATE TABLE documents (id int PRIMARY KEY, content text); INSERT INTO documents VALUES (1, 'one')")
    for name, value in bucket.server.environment.items():
        monkeypatch.setenv(name, value)
    code = block('asyncup.sync(table="documents"').replace("s3://bucket", f"s3://{bucket.name}")
    code = code.replace("dsn=dsn", "dsn=dsn, limit=5")  # leaves no state
    names: dict[str, Any] = {"asyncup": library, "dsn": database.dsn}
    exec("async def main():\n" + "".join(f"    {line}\n" for line in code.splitlines()), names)
    asyncio.run(names["main"]())
    assert bucket.objects() == {"1.pdf": b"one"}

    code = (
        block("transform=greeting").replace("s3://bucket", f"s3://{bucket.name}").replace("dsn=dsn", "dsn=dsn, limit=5")
    )
    code = code.replace('"people"', '"documents"').replace("row['name']", "row['content']")
    exec(code, names)
    asyncio.run(names["publish"]())
    assert bucket.objects() == {"1.pdf": b"one", "1.txt": b"Hello one"}

    exec(block("client.upload_fileobj").replace('"bucket"', repr(bucket.name)), names)

    async def put(upload: Upload) -> None:
        sink = library.ExecutorSink(await asyncio.to_thread(names["factory"]))
        await sink.put(upload)
        await sink.close()

    asyncio.run(put(Upload("2.pdf", b"two")))
    assert bucket.objects() == {"1.pdf": b"one", "1.txt": b"Hello one", "2.pdf": b"two"}


SETTINGS = """
import os
INSTALLED_APPS = ["pages"]
USE_TZ = True
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": os.environ["PGDATABASE"], "USER": os.environ["PGUSER"],
    "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"], "PASSWORD": os.environ.get("PGPASSWORD", ""),
}}
"""
MODELS = """
from django.db import models

class Page(models.Model):
    slug = models.SlugField(primary_key=True)
    title = models.TextField()
    live = models.BooleanField()

    class Meta:
        ordering = ["title"]
"""


def test_a_django_command_publishes_a_queryset(connected: Program, database: Database) -> None:
    """The parameters of the query hold quotes, backslashes and percent signs; the page's title is one that it excludes."""
    commands = connected.folder / "pages" / "management" / "commands"
    commands.mkdir(parents=True)
    for folder in (commands, commands.parent, commands.parent.parent):
        (folder / "__init__.py").touch()
    (connected.folder / "settings.py").write_text(SETTINGS)
    (connected.folder / "pages" / "models.py").write_text(MODELS)
    (commands / "publish.py").write_text(block("BaseCommand"))
    database.sql(
        "CREATE TABLE pages_page (slug varchar(50) PRIMARY KEY, title text NOT NULL, live bool NOT NULL);"
        "INSERT INTO pages_page VALUES ('a', E'a \\\\ backslash', true), ('b', 'hidden', false), ('c', 'it''s 100%', true),"
        " ('d', 'it''s 99%', true)"
    )
    objects = connected.folder / "objects"
    environment = {**os.environ, **connected.environment, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": "."}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "django", "publish", f"file://{objects}/{{slug}}.json"],
        check=False,
        cwd=connected.folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "complete: 2 pages\n"), done.stderr
    assert {path.name: json.loads(path.read_bytes()) for path in objects.iterdir()} == {
        "a.json": {"slug": "a", "title": "a \\ backslash"},
        "d.json": {"slug": "d", "title": "it's 99%"},
    }
