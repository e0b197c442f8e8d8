"""Dead letters sent again: the job comes back as it was, and rows that fail once more get a file of their own."""

from __future__ import annotations

import asyncio
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from asyncup.again import check_job, configuration, failing_again, next_file
from asyncup.checkpoints.letters import LetterFile
from asyncup.config import Config
from asyncup.errors import StateLost, StateRefused
from asyncup.events import Finished, Notice
from asyncup.flow.interrupt import Interrupt
from asyncup.model import Counts
from asyncup.redelivery import retry
from tests.unit.runs import Watcher

CONFIG = Config.of(
    dsn="postgresql://user:secret@host/db",
    table='"We ird".t',
    where="live -- only",
    key='id, "B"',
    to="s3://bucket/{id}",
    body='"Body"',
    metadata=["a=b=c", "d={id}"],
    tag=["x=y"],
    concurrency="7",
    memory="64MiB",
    attempt_timeout="500ms",
    on_null="fail",
    allow_collisions=True,
    state="kept",
    name="job",
)
FINGERPRINT: dict[str, Any] = {
    "table": '"We ird".t',
    "database": "db of cluster 1",
    "key": ["id", "B"],
    "to": CONFIG.to,
}


def header(config: Config = CONFIG, **fingerprint: Any) -> dict[str, Any]:
    """What the first line holds of a job."""
    found: dict[str, Any] = json.loads(
        json.dumps({"name": "job", **FINGERPRINT, **fingerprint, "options": config.kept()})
    )
    return found


def written(path: Path, letters: int, job: dict[str, Any] | None = None) -> Path:
    lines = [json.dumps({"kind": "asyncup dead letters", "version": 1, "job": job or header()})]
    lines += [
        json.dumps({"key": [str(number), None], "object_key": "é"}, ensure_ascii=False) for number in range(letters)
    ]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_the_configuration_of_a_retry_is_that_of_the_job_with_what_is_given_over_it() -> None:
    given = {"dsn": CONFIG.dsn, "concurrency": "3"}
    assert configuration(header(), "file", given) == replace(CONFIG, concurrency=3)


@pytest.mark.parametrize(
    "name", ["app:<lambda>", "app:f.<locals>.g", "__main__:page", "app:Maker()", "functools:partial()"]
)
def test_a_function_that_a_file_cannot_hold_is_said_to_be_one(name: str) -> None:
    job = header(replace(CONFIG, transform=name), transform=name)
    with pytest.raises(StateRefused, match="given from Python") as refused:
        configuration(job, "file", {})
    assert "restart=True" in (refused.value.hint or "")
    with pytest.raises(StateRefused) as refused:
        check_job(job, "file", {**FINGERPRINT, "transform": "app:page"})
    assert "restart=True" in (refused.value.hint or "")


def test_another_transform_than_the_jobs_is_refused_by_its_flag() -> None:
    for before in ({"transform": "app:page"}, {}):
        with pytest.raises(StateRefused) as refused:
            check_job(header(**before), "file", {**FINGERPRINT, "transform": "app:other"})
        assert "leave --transform out" in (refused.value.hint or "")
    check_job(header(transform="app:page"), "file", {**FINGERPRINT, "transform": "app:page"})


def test_a_retry_does_not_end_early_nor_write_where_the_first_run_did_and_keeps_the_whole_key() -> None:
    first = replace(CONFIG, limit=10, dead_letters="letters", restart=True, key=("id",))
    assert configuration(header(first), "file", {"dsn": CONFIG.dsn}) == CONFIG


def test_letters_of_an_older_version_are_refused_with_the_command_that_they_stand_for() -> None:
    older = header(where="live -- only", body="Body", metadata={"a": "b c"}, on_null="fail")
    del older["options"]
    with pytest.raises(StateRefused, match="older version") as caught:
        configuration(older, "file", {})
    command = (
        "asyncup sync --table '\"We ird\".t' --where 'live -- only' --key 'id,\"B\"' --to 's3://bucket/{id}' "
        "--body '\"Body\"' --on-null fail --metadata 'a=b c'"
    )
    assert (caught.value.hint or "").endswith(command)


def test_no_secret_of_a_connection_is_in_the_file() -> None:
    assert "secret" not in json.dumps(header())
    assert {entry.name for entry in fields(Config)} >= header()["options"].keys()


@pytest.mark.parametrize(
    "differing", [{"database": "db of cluster 2"}, {"key": ["id"]}, {"table": "t"}], ids=lambda value: next(iter(value))
)
def test_rows_are_not_looked_for_where_they_are_not_from(differing: dict[str, Any]) -> None:
    check_job(header(), "file", {**FINGERPRINT, "something newer": 1})
    with pytest.raises(StateRefused, match=f"{next(iter(differing))}: was") as caught:
        check_job(header(), "file", FINGERPRINT | differing)
    assert "--dsn" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("name", "following"),
    [
        ("x.dead-letters.jsonl", "x.dead-letters.retry-1.jsonl"),
        ("x.retry-1.jsonl", "x.retry-2.jsonl"),
        ("x.retry-99.jsonl", "x.retry-100.jsonl"),
        ("letters", "letters.retry-1.jsonl"),
        ("a\nb.retry-x.jsonl", "a\nb.retry-x.retry-1.jsonl"),
        (".jsonl", ".retry-1.jsonl"),
    ],
)
def test_rows_that_fail_again_go_to_a_file_beside_that_is_not_there_yet(
    tmp_path: Path, name: str, following: str
) -> None:
    assert next_file(tmp_path / name) == tmp_path / following
    (tmp_path / following).touch()
    assert next_file(tmp_path / name) not in (tmp_path / name, tmp_path / following)


HEADER = '{"kind": "asyncup dead letters", "version": 1, "job": {"name": "t", "key": ["a"]}}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,name\n1,x\n", "it is not a dead-letter file"),
        ('{"kind": "something else"}\n', "it is not a dead-letter file"),
        ("[1]\n", "it is not a dead-letter file"),
        ('{"kind": "asyncup dead letters", "version": 2, "job": []}\n', "a newer version of asyncup"),
        ('{"kind": "asyncup dead letters", "version": 1, "job": {}}\n', "does not hold a job"),
        (HEADER + '{"key": ["1"]}\n{"key": ["1", "2"]}\n{"key": ["3"]}\n', "line 3 is no dead letter: its key has 2"),
        (HEADER + '{"key": "1"}\n', "line 2 is no dead letter: it has no key"),
        (HEADER + '{"key": ["a\\u0000b"]}\n', "line 2 is no dead letter"),
        (HEADER + '{"key": ["\\ud800"]}\n', "line 2 is no dead letter"),
        (HEADER + "\n" + '{"key": ["1"]}\n', "line 2 is no dead letter"),
    ],
    ids=["text", "another kind", "a list", "newer", "no job", "long key", "no list", "a NUL", "no text", "no line"],
)
def test_what_is_no_dead_letter_file_is_refused_before_anything_is_sent(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "file").write_text(content)
    with pytest.raises(StateRefused, match=message):
        LetterFile.open(tmp_path / "file")


@pytest.mark.parametrize(
    "content",
    [HEADER, HEADER + '{"key": ["a'],
    ids=["a job", "a job and half a row"],
)
async def test_where_no_row_is_nothing_is_to_be_done_and_no_database_needed(tmp_path: Path, content: str) -> None:
    file = tmp_path / "file"
    file.write_text(content)
    watcher = Watcher()
    report = await retry(str(file), {}, watcher, Interrupt())
    assert (report.exit_code, report.job and report.job.counts) == (0, Counts())
    notices = [event.message for event in watcher.of(Notice)]
    assert any("cut short by a crash" in text for text in notices) == (bool(content) and not content.endswith("\n"))
    assert isinstance(watcher.events[-1], Finished)


@pytest.mark.parametrize("content", ["", '{"kind": "asyncup dead let'])
async def test_a_file_that_says_nothing_of_a_job_is_none_of_dead_letters(tmp_path: Path, content: str) -> None:
    file = tmp_path / "file"
    file.write_text(content)
    watcher = Watcher()
    report = await retry(str(file), {}, watcher, Interrupt())
    assert report.exit_code == 2
    assert report.error is not None
    assert "not a whole dead-letter file" in report.error.message
    assert isinstance(watcher.events[-1], Finished)


async def test_a_row_that_stands_twice_is_one_row(tmp_path: Path) -> None:
    file = written(tmp_path / "file", 3)
    header, *lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([header, lines[0], lines[1], lines[0], lines[1], lines[2], lines[2]]))
    letters = LetterFile.open(file)
    assert (letters.letters, letters.repeated) == (3, 3)
    assert [await letters.take(2), await letters.take(2), await letters.take(2)] == [
        [("0", None), ("1", None)],
        [("2", None)],
        [],
    ]
    letters.close()
    other = LetterFile.open(written(tmp_path / "other", 1))
    _, kept = await asyncio.to_thread(failing_again, other, str(file), FINGERPRINT)
    assert kept == 6, "lines, since it is they that stay"
    other.close()


def test_letters_that_an_earlier_try_left_in_the_wanted_file_stay(tmp_path: Path) -> None:
    retried = LetterFile.open(written(tmp_path / "file", 9))
    wanted = tmp_path / "again"
    assert failing_again(retried, str(wanted), FINGERPRINT) == (wanted, 0)
    wanted.touch()
    assert failing_again(retried, str(wanted), FINGERPRINT) == (wanted, 0)
    written(wanted, 3)
    assert failing_again(retried, str(wanted), FINGERPRINT) == (wanted, 3)
    written(wanted, 3, header(to="s3://elsewhere/{id}"))
    with pytest.raises(StateRefused, match="another job"):
        failing_again(retried, str(wanted), FINGERPRINT)
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(StateRefused, match="to be retried"):
        failing_again(retried, str(tmp_path / "link"), FINGERPRINT)
    retried.close()


async def test_the_keys_of_a_file_are_taken_in_its_order_until_there_are_none(tmp_path: Path) -> None:
    letters = LetterFile.open(written(tmp_path / "file", 5))
    assert (letters.letters, letters.torn, letters.key) == (5, False, ("id", "B"))
    taken = [await letters.take(2) for _ in range(4)]
    assert taken == [[("0", None), ("1", None)], [("2", None), ("3", None)], [("4", None)], []]
    letters.close()


async def test_a_last_line_without_its_end_is_a_row_when_it_is_whole_and_torn_when_it_is_not(tmp_path: Path) -> None:
    path = written(tmp_path / "file", 2)
    whole = path.read_bytes()
    for cut, letters, torn in ((1, 2, False), (2, 1, True)):
        path.write_bytes(whole[:-cut])
        found = LetterFile.open(path)
        assert (found.letters, found.torn) == (letters, torn)
        assert len(await found.take(10)) == letters
        found.close()


async def test_a_file_that_somebody_writes_to_meanwhile_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path / "file", 3)
    letters = LetterFile.open(path)
    letters.check_unchanged()
    path.write_text("something else, longer than a buffer\n" * 1000)
    with pytest.raises(StateRefused, match="another run has written to it"):
        letters.check_unchanged()
    letters.close()
    letters = LetterFile.open(written(path, 5000))
    path.write_text("short\n")
    with pytest.raises(StateLost, match="has changed"):
        await letters.take(5000)
    letters.close()
