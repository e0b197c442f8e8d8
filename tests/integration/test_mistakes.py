"""Every mistake on a command line is refused before anything is sent, with one clear message and the way on.

That the program says so, and exits with 2, is shown in tests/e2e/test_refusals.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncup.app import execute
from asyncup.cli import sync
from asyncup.cli.commands import build
from asyncup.config import Config
from asyncup.embedded.postgres import EmbeddedPostgres
from asyncup.errors import AsyncupError
from asyncup.flow.interrupt import Interrupt
from asyncup.protocols import Silence
from asyncup.report import Report
from tests.conftest import Bucket, Database
from tests.e2e.test_refusals import TABLE
from tests.integration.reading import prepared

MISTAKES = [
    # flags, what the message says, what the hint says
    (["--table=documents"], "nowhere to write", "s3://bucket/{id}.json"),
    (["--table=documents", "--query=select 1", "--to=null:"], "cannot be combined", "one of them"),
    (["--query=select 1 as id", "--to=null:"], "no primary key", "--key"),
    (["--table=nope.documents", "--to=null:"], "there is no table nope.documents", "documents"),
    (["--table=keyless", "--to=null:"], "no primary key", "ADD PRIMARY KEY"),
    (["--table=seen", "--to=null:"], "it is a view", "--key"),
    (["--table=documents", "--to=null:{slog}"], "has no column slog", "did you mean slug?"),
    (["--table=documents", "--to=null:", "--body=contents"], "has no column contents", "did you mean content?"),
    (["--table=documents", "--to=null:", "--key=i_d"], "has no column i_d", "did you mean id?"),
    (["--table=documents", "--to=null:", "--where=idd > 3"], 'column "idd" does not exist', "id"),
    (["--query=select * frm documents", "--key=id", "--to=null:"], "syntax error", "--query"),
    (["--table=documents", "--to=bucket/{id}"], "is no destination", "s3://"),
    (["--table=documents", "--to=s3://BUCKET/{slug}"], "two rows could get the same object key", "{id}"),
    (["--table=documents", "--to=s3://BUCKET/{id:.1f}"], "the same text", "without a format spec"),
    (["--table=documents", "--to=s3://BUCKET/{slug}{id}"], "nothing separates", "{slug}/{id}"),
    (["--table=documents", "--to=s3://BUCKET/{id.__class__}"], "only columns", "{column}"),
    (["--table=documents", "--to=s3://BUCKET/{id"], "never closed", "{{"),
    (["--table=documents", "--to=s3://BUCKET"], "no template", "s3://BUCKET/{id}.json"),
    (["--table=documents", "--to=null:", "--memory=64M"], "'64M' is not a size", None),
    (["--table=documents", "--to=null:", "--concurrency=many"], "not a whole number", None),
    (["--table=documents", "--to=null:", "--concurrency=0"], "at least 1", None),
    (["--table=documents", "--to=null:", "--drain-timeout=soon"], "not a duration", None),
    (["--table=documents", "--to=null:", "--on-null=skp"], "none of skip, empty, fail", "did you mean skip?"),
    (["--table=documents", "--to=s3://BUCKET/{id}", "--profile=nobody"], "nobody", "--profile"),
    (["--table=documents", "--to=s3://BUCKET/{id}", "--ca-bundle=missing.pem"], "missing.pem", None),
    (["--table=documents", "--to=file:///tmp/../etc/{id}"], "'..' segment", "in full"),
    (["--table=documents", "--to=file:///proc/no/{id}"], "No such file or directory", "can be written"),
]


@pytest.fixture(scope="module")
def room(postgres: EmbeddedPostgres) -> Iterator[Database]:
    with prepared(postgres, "mistakes", TABLE) as database:
        yield database


def told(flags: list[str]) -> Report:
    """What becomes of a command line."""
    with build("sync").make_context("sync", flags) as context:
        options = sync.given(context.params)
    try:
        config = Config.of(**options)
        return asyncio.run(execute(config, Silence(), Interrupt()), debug=True)
    except AsyncupError as exc:
        return Report(error=exc)


@pytest.mark.parametrize(
    ("flags", "message", "hint"), MISTAKES, ids=lambda value: " ".join(value)[-60:] if isinstance(value, list) else ""
)
def test_a_mistake_is_refused_with_one_clear_message(
    room: Database,
    rclone_bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    message: str,
    hint: str | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [flag.replace("BUCKET", rclone_bucket.name) for flag in flags]
    report = told([f"--dsn={room.dsn}", *given])
    assert (report.exit_code, report.status) == (2, "aborted")
    assert report.error is not None
    assert message.replace("BUCKET", rclone_bucket.name) in report.error.message
    if hint is not None:
        assert hint.replace("BUCKET", rclone_bucket.name) in (report.error.hint or "")
    assert rclone_bucket.objects() == {}
