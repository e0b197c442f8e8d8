"""The command line of `asyncup sync`: that every option has a flag, and that each reaches the configuration."""

from __future__ import annotations

import builtins
import importlib
import json
import os
import signal
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from asyncup.cli import commands, main, sync
from asyncup.cli.commands import COMMANDS, build, program
from asyncup.cli.options import misspelt
from asyncup.config import Config
from asyncup.values import environment, flag


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options of every run that the command line asked for."""
    runs: list[dict[str, Any]] = []

    def run_sync(values: dict[str, Any]) -> int:
        runs.append(sync.given(values))
        return 0

    monkeypatch.setattr(sync, "run_sync", run_sync)
    return runs


def give(*arguments: str) -> None:
    assert program().main(args=["sync", *arguments], prog_name="asyncup", standalone_mode=False) == 0


#: An option that is given once, by what kind of value it takes.
SWITCHES = {entry.name for entry in fields(Config) if entry.default is False}
REPEATED = {"metadata", "tag"}
#: A password is for the library alone: what stands on a command line is seen by all.
ONCE = {entry.name for entry in fields(Config)} - SWITCHES - REPEATED - {"password"}


def test_without_flags_every_option_keeps_its_default(chosen: list[dict[str, Any]]) -> None:
    give()
    assert chosen == [{}]


@pytest.mark.parametrize("option", sorted(ONCE))
def test_an_option_is_given_as_a_flag_or_in_the_environment_and_the_flag_wins(
    option: str, chosen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    give(f"{flag(option)}=a value")
    monkeypatch.setenv(environment(option), "from outside")
    give()
    give(f"{flag(option)}=a value")
    assert chosen == [{option: "a value"}, {option: "from outside"}, {option: "a value"}]


@pytest.mark.parametrize("option", sorted(SWITCHES))
def test_a_switch_is_on_when_it_is_given(
    option: str, chosen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    give(flag(option))
    monkeypatch.setenv(environment(option), "1")
    give()
    assert chosen == [{option: True}, {option: True}]


@pytest.mark.parametrize("option", sorted(REPEATED))
def test_a_repeated_flag_is_one_value_in_each_line_of_the_environment(
    option: str, chosen: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    give(f"{flag(option)}=a=one two", f"{flag(option)}=b={{x}}")
    monkeypatch.setenv(environment(option), "c=three four\nd={y}\n")
    give()
    give(f"{flag(option)}=a=one two")
    found = [getattr(Config.of(table="t", to="null:", **options), option) for options in chosen]
    assert found == [
        (("a", "one two"), ("b", "{x}")),
        (("c", "three four"), ("d", "{y}")),
        (("a", "one two"),),
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_listed_is_there_and_begins_its_help_as_it_is_listed(name: str) -> None:
    command = build(name)
    assert (command.name, command.help.splitlines()[:2]) == (name, [COMMANDS[name], ""])


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "init"])  # what that takes is asked once
def test_a_variable_of_one_command_is_not_strange_to_the_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = [parameter.envvar for parameter in build(name).params if isinstance(parameter.envvar, str)]
    for variable in variables:
        monkeypatch.setenv(variable, "x")
    assert misspelt(()) == []


def test_a_retry_takes_connections_and_speed_and_nothing_that_would_make_another_job_of_it() -> None:
    taken = {parameter.name for parameter in build("retry").params}
    assert {"dsn", "endpoint_url", "region", "profile", "concurrency", "memory", "max_failures", "state"} <= taken
    assert not {"table", "query", "where", "key", "to", "body", "metadata", "on_null", "name", "limit"} & taken


@pytest.mark.parametrize("command", ["config", "init"])
def test_a_command_that_is_interrupted_before_it_begins_has_its_own_json(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main._close([command, "--output=json"], signum=2) == 130
    found = json.loads(capsys.readouterr().out)
    assert (found["status"], found["error"], "rows" in found) == ("interrupted", None, False)


def test_how_much_is_said_can_be_chosen_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(sync, "run_sync", lambda values: said.append(values) or 0)
    monkeypatch.setenv("ASYNCUP_VERBOSE", "2")
    monkeypatch.setenv("ASYNCUP_QUIET", "1")
    give("--table", "t")
    give("--table", "t", "-v")
    assert [(values["verbose"], values["quiet"]) for values in said] == [(2, True), (1, True)]


@pytest.mark.parametrize("name", ["status", "bench"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_command_is_built_is_answered_in_the_json_of_that_command(
    name: str, number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def slow(_: str) -> None:
        signal.raise_signal(number)

    monkeypatch.setattr(commands, "build", slow)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert main.run([name, "--output", "json"]) == 128 + number
    finally:
        for known, handler in handlers.items():
            signal.signal(known, handler)
    found = json.loads(capsys.readouterr().out)
    assert found["status"] == "interrupted"
    assert ({"status": "checkpoints", "bench": "bottleneck"}[name]) in found


def test_a_module_whose_import_a_signal_cut_short_is_imported_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "halved"
    package.mkdir()
    (package / "__init__.py").write_text("from .part import *\nfrom builtins import cut\npart.NAME\n")
    (package / "part.py").write_text("NAME = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError):
        importlib.import_module("halved")
    monkeypatch.setattr(builtins, "cut", None, raising=False)
    main._forget_half_imported()
    assert importlib.import_module("halved").part.NAME == 1


def test_a_second_ctrl_c_does_not_cut_short_what_is_said_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: list[str]) -> int:
        raise KeyboardInterrupt

    def close(_: list[str], *, signum: int) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return 128 + signum

    monkeypatch.setattr(main, "_command", interrupted)
    monkeypatch.setattr(main, "_close", close)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert main.run(["sync"]) == 130
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
