"""Which jobs a command line is for, and where each of their options comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asyncup.cli import sync
from asyncup.cli.commands import program
from asyncup.cli.jobs import Chosen, Stage, as_job, choose, options_of, typed
from asyncup.commandline import command_line
from asyncup.errors import CHECK_PASSWORD, SourceRefused, UsageError

FILE = """
[defaults]
to = "null:"
where = "defaults"
memory = "64MiB"
concurrency = 10
dsn = "dbname=shop"

[jobs.docs]
table = "docs"
where = "job"
restart = true
memory = "1MiB"

[jobs.pages]
query = "select 1"
key = "id"
dsn = "host=other password=${PAGES_PASSWORD}"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PAGES_PASSWORD", "sesame-open")
    (tmp_path / "asyncup.toml").write_text(FILE)
    return tmp_path


def chosen(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[Chosen, Stage]:
    """What a `sync` of these arguments would run."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(sync, "run_sync", lambda values: asked.append(dict(values)) or 0)
    assert program().main(args=["sync", *arguments], prog_name="asyncup", standalone_mode=False) == 0
    stage = Stage()
    return choose(asked[0], sync.given(asked[0]), stage), stage


def where(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[str | None]:
    found, _ = chosen(monkeypatch, *arguments)
    return [job.config.where for job in found.jobs]


def test_a_flag_goes_over_the_environment_that_over_the_job_and_the_job_over_the_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert where(monkeypatch, "docs", "pages") == ["job", "defaults"]
    assert where(monkeypatch, "--table=t") == ["defaults"]
    monkeypatch.setenv("ASYNCUP_WHERE", "environment")
    assert where(monkeypatch, "--all") == ["environment", "environment"]
    assert where(monkeypatch, "docs", "--where=flag") == ["flag"]


def test_the_nearer_one_of_what_gives_a_password_counts_and_a_wrong_one_is_said_to_be_the_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[defaults]\nto = "null:"\ntable = "t"\npassword = "from the file"\n[jobs.docs]\npassword-command = "pass"\n[jobs.own]\n'
    (folder / "asyncup.toml").write_text(text)
    for arguments, password, command in (
        (["docs"], None, "pass"),
        (["own"], "from the file", None),
        (["own", "--password-command=flag"], None, "flag"),
    ):
        (job,) = chosen(monkeypatch, *arguments)[0].jobs
        assert (job.config.password, job.config.password_command) == (password, command)
    error = SourceRefused("connect", "h", "no", f"{CHECK_PASSWORD} --dsn")
    chosen(monkeypatch, "own")[0].jobs[0].explain(error)
    assert error.hint == "check the password in asyncup.toml [defaults] password"


def test_what_cannot_be_meant_of_jobs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="more than once"):
        chosen(monkeypatch, "docs", "docs")


def test_what_a_job_has_to_itself_is_its_own_and_what_jobs_share_is_said_by_the_defaults_or_a_flag(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, stage = chosen(monkeypatch, "pages", "docs", "--concurrency=7")
    pages, docs = found.jobs
    assert [(job.name, job.config.name, job.config.memory >> 20) for job in (pages, docs)] == [
        ("pages", "pages", 64),
        ("docs", "docs", 1),
    ]
    assert (found.whole.memory >> 20, found.whole.concurrency) == (64, 7)
    assert (pages.config.dsn, docs.config.dsn) == ("host=other password=sesame-open", "dbname=shop")
    assert "sesame-open" in stage.secrets


def test_a_switch_that_the_file_sets_is_taken_back_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, "docs")[0].jobs[0].config.restart
    monkeypatch.setenv("ASYNCUP_RESTART", "0")
    assert not chosen(monkeypatch, "docs")[0].jobs[0].config.restart


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dogs"], ("asyncup.toml [jobs]", "there is no job dogs", "did you mean docs?")),
        ([], ("asyncup.toml has docs, pages", "--all")),
        (["docs", "pages", "--table=t"], ("--table", "2 jobs")),
        (["docs", "pages", "--to=null:"], ("--to", "2 jobs")),
        (["docs", "pages", "--name=t"], ("--name", "2 jobs")),
        (["docs", "--all"], ("--all", "give one of them")),
        (["docs", "--config=other.toml"], ("other.toml", "No such file")),
        (["docs", "--query=select 1"], ("--query", "cannot be combined with --table")),
    ],
)
def test_jobs_that_cannot_be_chosen_are_refused(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError) as caught:
        chosen(monkeypatch, *arguments)
    message = f"{caught.value.subject}: {caught.value.message}; {caught.value.hint}"
    assert all(part in message for part in said), message


def test_a_value_that_is_wrong_is_named_by_its_place(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "asyncup.toml").write_text(FILE.replace("64MiB", "lots"))
    with pytest.raises(UsageError, match="'lots' is not a size") as caught:
        chosen(monkeypatch, "pages")
    assert (caught.value.op, caught.value.subject) == ("read configuration", "asyncup.toml [defaults] memory")
    with pytest.raises(UsageError) as caught:
        chosen(monkeypatch, "pages", "--memory=lots")
    assert caught.value.subject == "--memory"


def test_commands_without_a_job_take_the_connections_of_one_that_is_named_else_those_of_the_defaults() -> None:
    stage = Stage()
    values = {"config": None, "job": None}
    assert options_of(values, {"region": "r"}, stage, ("dsn",)) == {"dsn": "dbname=shop", "region": "r"}
    assert options_of({**values, "job": "pages"}, {}, stage, ("dsn",)) == {"dsn": "host=other password=sesame-open"}
    assert stage.secrets


def test_variables_of_the_defaults_that_nobody_uses_are_not_looked_up(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    (folder / "asyncup.toml").write_text(FILE.replace('where = "defaults"', 'where = "${NOT_SET}"'))
    assert where(monkeypatch, "docs") == ["job"]
    assert options_of({"config": None, "job": None}, {}, Stage(), ("dsn",)) == {"dsn": "dbname=shop"}


def test_a_job_that_is_named_like_a_flag_is_typed_as_a_name(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "asyncup.toml").write_text('[jobs."--all"]\ntable = "a"\nto = "null:"\nwhere = "odd"\n')
    line = command_line("sync", {"readers": "2"}, ["--all"])
    assert line == "asyncup sync --readers 2 -- --all"
    assert where(monkeypatch, *line.split()[2:]) == ["odd"]
    assert as_job("-q", None) == ("--job=-q",)


def test_a_command_to_type_again_holds_no_secret_and_starts_nothing_anew() -> None:
    given = {"dsn": "password=open-sesame", "restart": True, "readers": "2", "password_command": "x"}
    assert typed(given) == {"readers": "2"}
    assert typed({**given, "dsn": "dbname=d"}, anew=True) == {"dsn": "dbname=d", "restart": True, "readers": "2"}
