"""`asyncup config show`: what a job comes to, where each value was written, and that no secret is in it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from asyncup.cli.commands import program

FILE = """
[defaults]
dsn = "postgresql://app:${DB_PASSWORD}@db/shop"
memory = "64MiB"

[jobs.docs]
table = "docs"
key = ["id", "Mixed"]
to = "null:"
metadata = { title = "{title}" }

[jobs."a b"]
query = "select 1\\nfrom x"
key = "id"
to = "s3://bucket/{id}"
max-rate = 2.5
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DB_PASSWORD", "sesame-open")
    (tmp_path / "asyncup.toml").write_text(FILE)
    return tmp_path


def show(*arguments: str) -> int:
    code = program().main(args=["config", "show", *arguments], prog_name="asyncup", standalone_mode=False)
    assert isinstance(code, int)
    return code


def jobs(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str | None, dict[str, Any]]:
    show("--output=json", *arguments)
    found = json.loads(capsys.readouterr().out)
    return {job["name"]: job["options"] for job in found["jobs"]}


def test_each_value_is_shown_with_the_place_that_said_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASYNCUP_READERS", "3")
    monkeypatch.setenv("ASYNCUP_LIMIT", "7")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    options = jobs(capsys, "docs", "--limit=5", "--attempt-timeout=90")["docs"]
    where = {option: (known["value"], known["from"], known["where"]) for option, known in options.items()}
    assert where["table"] == ("docs", "file", "asyncup.toml [jobs.docs] table")
    assert where["memory"] == ("64MiB", "file", "asyncup.toml [defaults] memory")
    assert where["limit"] == (5, "flag", "flag --limit")
    assert where["attempt_timeout"] == ("1m30s", "flag", "flag --attempt-timeout")
    assert where["readers"] == (3, "environment", "variable ASYNCUP_READERS")
    assert where["region"] == ("eu-west-1", "tool", "variable AWS_REGION")
    assert where["max_attempts"] == (10, "default", "default")


def test_what_is_shown_is_toml_with_a_comment_for_each_value_and_defaults_only_where_they_are_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert show() == 0
    text = capsys.readouterr().out
    found = tomllib.loads(text)["jobs"]
    assert found["docs"] == {
        "dsn": "postgresql://app:***@db/shop",
        "table": "docs",
        "key": 'id,"Mixed"',
        "to": "null:",
        "metadata": {"title": "{title}"},
        "memory": "64MiB",
        "state": ".asyncup",
        "name": "docs",
    }
    assert (found["a b"]["query"], found["a b"]["max-rate"]) == ("select 1\nfrom x", 2.5)
    assert "page-size" not in text
    show("--defaults")
    more = capsys.readouterr().out
    assert tomllib.loads(more)["jobs"] == found
    assert "# page-size: not set, so auto, by their size" in more
    assert "# readers = 1 " in more


@pytest.mark.parametrize("output", ["text", "json"])
@pytest.mark.parametrize(
    ("line", "secret", "left"),
    [
        ('dsn = "postgresql://app:${PW}@db/shop"', "x1", "postgresql://app:***@db/shop"),
        ("dsn = \"host=db password='q\\\\'${PW}uite long' user=app\"", "uite long", "host=db password=*** user=app"),
        ('dsn = "host=db password=pa\\"ss-long user=app"', "ss-long", "user=app"),
        ("dsn = 'host=db password=p\"9 user=app'", '"9', "user=app"),
        ('password = "hunter"', "hunter", "***"),
        ('password-command = "vault read hunter"', "hunter", "vault …"),
        ('cache-control = "a ${API_TOKEN}"', "x2", "a ***"),
        ('metadata = { who = "${API_TOKEN}" }', "x2", "***"),
    ],
)
def test_no_secret_is_shown(
    folder: Path,
    line: str,
    secret: str,
    left: str,
    output: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PW", "x1")
    monkeypatch.setenv("API_TOKEN", "x2")
    (folder / "asyncup.toml").write_text(f'[jobs.t]\ntable = "t"\nto = "null:"\n{line}\n')
    assert show(f"--output={output}") == 0
    said = "".join(capsys.readouterr())
    assert secret not in said
    assert left in (said if output == "text" else json.dumps(json.loads(said), ensure_ascii=False))


def test_what_is_wrong_in_a_job_is_said_with_its_place_and_hides_nothing_of_the_others(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "asyncup.toml").write_text(
        '[jobs.a]\ntable = "a"\nto = "null:"\nwhere = "x = ${NOT_SET}"\n[jobs.b]\ntable = "b"\nto = "null:"\nreaders = 0\n'
        '[jobs.c]\ntable = "c"\nto = "null:"\n'
    )
    assert show() == 2
    out, err = capsys.readouterr()
    found = tomllib.loads(out)["jobs"]
    assert (found["a"]["where"], found["b"]["readers"], found["c"]["table"]) == ("x = ${NOT_SET}", 0, "c")
    assert "asyncup.toml [jobs.a] where" in err
    assert "asyncup.toml [jobs.b] readers" in err


def test_the_flags_given_are_a_job_too_and_without_jobs_the_defaults_are_shown(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show("--table=t", "--to=null:") == 0
    assert tomllib.loads(capsys.readouterr().out)["jobs"]["t"]["memory"] == "64MiB"
    (folder / "asyncup.toml").write_text("[defaults]\nreaders = 2\n")
    assert show() == 0
    assert tomllib.loads(capsys.readouterr().out)["defaults"]["readers"] == 2


def test_a_job_that_is_not_there_has_one_json_object_with_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert show("dosc", "--output=json") == 2
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["version", "status", "file", "jobs", "error"]
    assert (found["status"], found["error"]["hint"]) == ("aborted", "did you mean docs?")


def test_jobs_are_completed_from_the_file_and_nothing_is_where_it_cannot_be_read(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_ASYNCUP_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_CWORD", "2")
    said = []
    for typed in ("asyncup sync d", "asyncup config s"):
        monkeypatch.setenv("COMP_WORDS", typed)
        with pytest.raises(SystemExit):
            program().main(args=[], prog_name="asyncup", standalone_mode=False)
        said.append("".join(capsys.readouterr()).split())
    (folder / "asyncup.toml").write_text("[jobs")
    monkeypatch.setenv("COMP_WORDS", "asyncup sync d")
    with pytest.raises(SystemExit):
        program().main(args=[], prog_name="asyncup", standalone_mode=False)
    assert (said, "".join(capsys.readouterr()).split()) == ([["docs"], ["show", "schema"]], [])
