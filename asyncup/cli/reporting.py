"""What `--report` is told of a command: the line that was typed, and what its configuration comes to; without secrets."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from asyncup.cli import sync
from asyncup.cli.jobs import CONNECTIONS, Stage
from asyncup.cli.resolving import HIDDEN, Shown, ShownJob, resolve, resolve_some, without_password
from asyncup.cli.schema import default_of
from asyncup.console.report.about import About, Configured, Option
from asyncup.console.report.html import HtmlReport
from asyncup.errors import UsageError
from asyncup.settings import key_of
from asyncup.tomltext import toml_value
from asyncup.values import flag

#: Flags whose values are, or may hold, secrets.
_PASSWORD_COMMAND, _DSN = "--password-command", "--dsn"


def html_report(values: Mapping[str, Any], redact: Callable[[str], str]) -> HtmlReport:
    """The report that the values of a command ask for.

    Raises:
        UsageError: its file cannot be written.
    """
    arguments = sys.argv[1:]
    found = _configuration(values)
    about = About(
        next((word for word in arguments if not word.startswith("-")), ""),
        shlex.join(["asyncup", *_without_secrets(arguments, redact)]),
        datetime.now(UTC),
        tuple(Configured(job.name, tuple(_said(job, redact))) for job in found.jobs),
        tuple(_defaults(found.jobs)),
        found.file,
    )
    return HtmlReport(values["report"], about, redact)


def _configuration(values: Mapping[str, Any]) -> Shown:
    """What every job was told. Nothing where that is wrong, which the command says itself."""
    given = sync.given(values)
    typed = {option for option in given if any(word.partition("=")[0] == flag(option) for word in sys.argv)}
    try:
        if "every" in values:
            return resolve(values, given, typed, Stage())
        return resolve_some(values["job"], values, given, typed, CONNECTIONS)  # a retry: the file has the job
    except UsageError:
        return Shown()


def _said(job: ShownJob, redact: Callable[[str], str]) -> Iterator[Option]:
    for option, known in job.options.items():
        if known.kind != "default" and known.value is not None:
            yield Option(key_of(option), toml_value(_redacted(known.value, redact)), known.where)


def _defaults(jobs: Sequence[ShownJob]) -> Iterator[Option]:
    """What holds where nobody said anything: options that no job has."""
    for option in jobs[0].options if jobs else ():
        known = [job.options[option] for job in jobs]
        if all(one.kind == "default" for one in known):
            value = known[0].value
            usual = default_of(option) if value is None else toml_value(value)
            if usual:
                yield Option(key_of(option), usual, "default")


def _redacted(value: Any, redact: Callable[[str], str]) -> Any:
    """A value without secrets, before quoting makes other texts of them."""
    if isinstance(value, Mapping):
        return {name: redact(part) for name, part in value.items()}
    return redact(value) if isinstance(value, str) else value


def _without_secrets(arguments: Sequence[str], redact: Callable[[str], str]) -> Iterator[str]:
    """The words of a command line. Of a command that prints a password only the beginning is shown."""
    before = ""
    for word in arguments:
        name, equals, value = word.partition("=") if word.startswith("--") else (before, "", word)
        front = name + equals if word.startswith("--") else ""
        if name == _PASSWORD_COMMAND and (value or not front):
            yield f"{front}{(value.split() or [''])[0]} {HIDDEN}"
        elif name == _DSN and (value or not front):
            yield front + redact(without_password(value))
        else:
            yield redact(word)
        before = word if word.startswith("--") and not equals else ""
