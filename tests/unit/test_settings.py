"""Configuration files: where they are found, what their keys may hold, and how what is wrong is said."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from asyncup.config import Config
from asyncup.errors import UsageError
from asyncup.settings import Settings, find, key_of, read_settings

JOB = '[jobs.docs]\ntable = "docs"\nto = "null:"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(folder: Path, text: str, name: str = "asyncup.toml") -> Settings:
    (folder / name).write_text(text)
    return read_settings(None, folder)


def values(
    settings: Settings,
    job: str | None = "docs",
    secrets: list[str] | None = None,
    given: tuple[str, ...] = (),
    **environment: str,
) -> dict[str, Any]:
    found = settings.resolve(job, given, environment, [] if secrets is None else secrets)
    return {option: setting.value for option, setting in found.items()}


def refusal(folder: Path, text: str, **environment: str) -> str:
    with pytest.raises(UsageError) as caught:
        values(read(folder, text), **environment)
    return f"{caught.value.subject}: {caught.value.message}; {caught.value.hint}"


@pytest.mark.parametrize("option", [entry.name for entry in fields(Config)])
@pytest.mark.parametrize("spell", [key_of, str])
def test_every_option_has_its_key_written_as_its_flag_or_as_the_library_has_it(
    folder: Path, option: str, spell: Any
) -> None:
    (entry,) = (entry for entry in fields(Config) if entry.name == option)
    value = "true" if entry.type == "bool" else '"x"'
    assert option in values(read(folder, f"[jobs.docs]\n{spell(option)} = {value}\n"))


def test_a_job_has_what_the_defaults_say_unless_it_says_otherwise_and_is_named_after_its_table(folder: Path) -> None:
    settings = read(
        folder, f'[defaults]\nbody = "a"\nreaders = 2\nmetadata = {{ x = "{{id}}" }}\n{JOB}body = "b"\nkey = ["a"]\n'
    )
    found = values(settings)
    assert found == {
        "body": "b",
        "readers": 2,
        "metadata": {"x": "{id}"},
        "table": "docs",
        "to": "null:",
        "key": ["a"],
        "name": "docs",
        "state": ".asyncup",
    }
    config = Config.of(**found)
    assert (config.body, config.key, config.metadata, config.readers) == ("b", ("a",), (("x", "{id}"),), 2)
    assert values(settings, None) == {"body": "a", "readers": 2, "metadata": {"x": "{id}"}, "state": ".asyncup"}


def test_the_nearest_file_counts_and_asyncup_toml_goes_before_pyproject(folder: Path) -> None:
    below = folder / "a" / "b"
    below.mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[project]\ndependencies = ["asyncup"]\n')
    assert find(below) is None or folder not in find(below).parents
    (folder / "pyproject.toml").write_text("[tool.asyncup.jobs.x]\n")
    assert find(below) == folder / "pyproject.toml"
    (folder / "asyncup.toml").write_text("")
    assert find(below) == folder / "asyncup.toml"
    (below / "pyproject.toml").write_text("[tool.asyncup]\n")
    assert find(below) == below / "pyproject.toml"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_in_a_folder_for_everybody_is_passed_over(folder: Path) -> None:
    (folder / "asyncup.toml").write_text(JOB)
    folder.chmod(0o1777)
    assert find(folder) == folder / "asyncup.toml"
    os.chown(folder / "asyncup.toml", 12345, 12345)
    assert find(folder) != folder / "asyncup.toml"


def test_paths_are_relative_to_the_file_and_a_found_file_has_the_state_beside_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "conf").mkdir()
    text = JOB + 'ca-bundle = "ca.pem"\ndead-letters = "/abs/letters"\n'
    (folder / "conf" / "asyncup.toml").write_text(text + 'state = "here"\n')
    named = values(read_settings("conf/asyncup.toml", folder))
    assert [named[option] for option in ("ca_bundle", "dead_letters", "state")] == [
        "conf/ca.pem",
        os.path.relpath("/abs/letters"),
        "conf/here",
    ]
    (folder / "conf" / "asyncup.toml").write_text(text)
    assert "state" not in values(read_settings("conf/asyncup.toml", folder))
    (folder / "conf" / "below").mkdir()
    monkeypatch.chdir(folder / "conf" / "below")
    assert values(read_settings(None, Path.cwd()))["state"] == "../.asyncup"


@pytest.mark.parametrize("state", ["s3://bucket/state", "postgres:schema.table"])
def test_a_state_elsewhere_is_no_path(folder: Path, state: str) -> None:
    assert values(read(folder, JOB + f'state = "{state}"\n'))["state"] == state


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("${A}", "one"),
        ("x${A}y${B}z", "xoneytwoz"),
        ("$${A}", "${A}"),
        ("$A $$ $1 {id}", "$A $$ $1 {id}"),
        ("select $$text$$", "select $$text$$"),
        ("${B}", "two"),
    ],
)
def test_variables_are_put_in_and_other_dollars_stay(folder: Path, text: str, meant: str) -> None:
    settings = read(folder, JOB + f"where = '{text}'\nmetadata = {{ m = '{text}' }}\ntag = ['t={text}']\n")
    found = values(settings, A="one", B="two")
    assert (found["where"], found["metadata"], found["tag"]) == (meant, {"m": meant}, [f"t={meant}"])


def test_only_what_is_used_is_looked_up(folder: Path) -> None:
    settings = read(
        folder, '[defaults]\ndsn = "${NOT_SET}"\n' + JOB + 'dsn = "${SET}"\n[jobs.other]\ndsn = "${ALSO_NOT}"\n'
    )
    assert values(settings, SET="dbname=a")["dsn"] == "dbname=a"
    assert "dsn" not in values(settings, "other", given=("dsn",))


def test_what_is_secret_is_known_as_soon_as_it_is_met(folder: Path) -> None:
    secrets: list[str] = []
    settings = read(
        folder, JOB + 'dsn = "postgresql://u:${PART}word@h/d"\npassword = "${PLAIN}"\nwhere = "${API_TOKEN}"\n'
    )
    values(settings, secrets=secrets, PART="pass", PLAIN="plain-one", API_TOKEN="the-token")
    assert {"password", "plain-one", "the-token"} <= set(secrets)
    assert "plain-one" not in repr(
        settings.resolve("docs", (), {"PART": "", "PLAIN": "plain-one", "API_TOKEN": ""}, [])
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[jobs.docs]\ntabel = 1\n", ("asyncup.toml [jobs.docs] tabel", "no key tabel", "did you mean table?")),
        (JOB + "jobs = 3\n", ("[jobs.docs] jobs", "no key jobs", "--jobs is given on the command line")),
        (JOB + "concurrency = true\n", ("[jobs.docs] concurrency", "not a whole number", 'or "auto"')),
        ("[defaults]\npage-sise = 1\n", ("asyncup.toml [defaults] page-sise", "did you mean page-size?")),
        ("[job.docs]\n", ("asyncup.toml job", "did you mean jobs?")),
        ("[other.docs]\ntable = 1\n" + JOB, ("asyncup.toml other", "there are: defaults, jobs")),
        ("[jobs]\ndocs = 5\n", ("asyncup.toml [jobs.docs]", "a number is no table")),
        (JOB + "where = 5\n", ("[jobs.docs] where", "a number is not a text")),
        (JOB + "restart = 'yes'\n", ("[jobs.docs] restart", "a text is not true or false")),
        (JOB + "limit = 1.5\n", ("[jobs.docs] limit", "a number is not a whole number")),
        (JOB + "limit = true\n", ("[jobs.docs] limit", "true or false is not a whole number")),
        (JOB + "metadata = { a = 1 }\n", ("[jobs.docs] metadata", "a table of texts")),
        (JOB + "key = [1]\n", ("[jobs.docs] key", "a list of texts")),
        (JOB + "page-size = 1\npage_size = 2\n", ("[jobs.docs] page_size", "there twice")),
        (JOB + 'where = "${SETT}"\n', ("[jobs.docs] where", "the variable SETT is not set", "did you mean SET?")),
        (JOB + 'where = "${A:-b}"\n', ("[jobs.docs] where", "${A:-b} names no variable", "$${")),
        (JOB + 'where = "${A"\n', ("[jobs.docs] where", "${A names no variable")),
        ("[jobs.docs\n", ("asyncup.toml", "it is no TOML", "line 1")),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place_and_the_nearest_name(
    folder: Path, text: str, said: tuple[str, ...]
) -> None:
    message = refusal(folder, text, SET="x")
    assert all(part in message for part in said), message


def test_a_pyproject_that_is_named_has_a_table_for_asyncup(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.asyncup.jobs.docs]\ntabel = "x"\n')
    with pytest.raises(UsageError, match="no key tabel") as caught:
        read_settings("pyproject.toml", folder)
    assert caught.value.subject == "pyproject.toml [tool.asyncup.jobs.docs] tabel"
    (folder / "pyproject.toml").write_text("[project]\n")
    with pytest.raises(UsageError, match=r"no table \[tool\.asyncup\]"):
        read_settings("pyproject.toml", folder)


def test_a_file_with_a_byte_order_mark_is_read_and_one_that_is_no_utf_8_is_refused(folder: Path) -> None:
    (folder / "asyncup.toml").write_bytes(b"\xef\xbb\xbf" + JOB.encode())
    assert "docs" in read_settings(None, folder).jobs
    (folder / "asyncup.toml").write_bytes(JOB.encode() + b"# \xff")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_settings(None, folder)


def test_jobs_are_named_once_each_in_the_order_given(folder: Path) -> None:
    settings = read(folder, JOB + JOB.replace("docs", "pages"))
    assert settings.named(["pages", "docs", "pages"]) == ("pages", "docs")
    with pytest.raises(UsageError, match="there is no job page") as caught:
        settings.named(["page"])
    assert caught.value.hint == "did you mean pages?"
    with pytest.raises(UsageError, match=r"stands in asyncup\.toml, and there is none"):
        Settings().named(["docs"])


def test_how_commands_are_presented_stands_in_defaults(tmp_path: Path) -> None:
    file = tmp_path / "asyncup.toml"
    file.write_text(
        "[defaults]\noutput = 'json'\nlog_format = 'json'\nreport = '${NAME}.html'\nquiet = true\nverbose = 2\nci = false\n"
        "[jobs.docs]\ntable = 'docs'\n"
    )
    settings = read_settings(str(file), tmp_path)
    found = settings.presented(["quiet"], {"NAME": "run"}, [])
    assert Path(found.pop("report")).resolve() == tmp_path / "run.html"  # beside the file
    assert found == {"output": "json", "log_format": "json", "verbose": 2, "ci": False}
    assert settings.resolve("docs", (), {}, []).keys() == {"table", "name"}
    with pytest.raises(UsageError, match="NAME is not set"):
        settings.presented([], {}, [])
    file.write_text("[jobs.docs]\ntable = 'docs'\nreport = 'x.html'\n")
    with pytest.raises(UsageError, match="no key report") as refused:
        read_settings(str(file), tmp_path)
    assert refused.value.hint == "it is for the whole command: write it in [defaults]"
    file.write_text("[defaults]\nquiet = 'yes'\n")
    with pytest.raises(UsageError, match="a text is not true or false"):
        read_settings(str(file), tmp_path)
