"""What a configuration comes to, option by option, each with the place that said it; secrets are not in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from asyncup.cli.jobs import Stage, configured, settings_of
from asyncup.cli.schema import default_of
from asyncup.config import Config
from asyncup.errors import AsyncupError, UsageError
from asyncup.names import written
from asyncup.report import error_to_json
from asyncup.settings import DEFAULTS, JOBS, Setting, Settings, is_secret, key_of
from asyncup.tomltext import toml_comment, toml_key, toml_value
from asyncup.values import as_typed, environment, flag, parsed, secrets_of

#: Version of the JSON object's shape.
SHOWN_VERSION = 1
HIDDEN = "***"
#: What other tools' variables say where nothing of asyncup's does.
FOREIGN = {
    "dsn": "DATABASE_URL",
    "endpoint_url": "AWS_ENDPOINT_URL",
    "region": "AWS_REGION",
    "profile": "AWS_PROFILE",
}
_FLAG, _ENVIRONMENT, _FILE, _TOOL, _DEFAULT = "flag", "environment", "file", "tool", "default"
#: Where comments begin, unless the value before is longer.
_COLUMN = 44


@dataclass(frozen=True, slots=True)
class Known:
    """The value of an option as TOML has it, what kind of place said it, and which."""

    value: Any
    kind: str
    where: str


@dataclass(frozen=True, slots=True)
class ShownJob:
    """A job: `table` is that of the file which it would stand in. `error` says why it could not run."""

    name: str | None
    table: tuple[str, ...]
    options: Mapping[str, Known]
    error: AsyncupError | None = None

    def toml(self, redact: Callable[[str], str], *, defaults: bool) -> Iterator[str]:
        """Its table, with what nobody said as comments, if `defaults` are asked for."""
        yield f"[{'.'.join(map(toml_key, self.table))}]"
        for option, known in self.options.items():
            if known.kind == _DEFAULT and not defaults:
                continue
            if known.value is None:
                yield toml_comment(
                    f"{key_of(option)}: not set{f', so {usual}' if (usual := default_of(option)) else ''}"
                )
                continue
            said = f"{key_of(option)} = {toml_value(_redacted(known.value, redact))}"
            line = said if known.kind in (_FLAG, _ENVIRONMENT, _FILE) else toml_comment(said)
            yield f"{line:<{_COLUMN}}  {toml_comment(known.where)}"

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "options": {
                option: {"value": known.value, "from": known.kind, "where": known.where}
                for option, known in self.options.items()
            },
            "error": None if self.error is None else error_to_json(self.error),
        }


@dataclass(frozen=True, slots=True)
class Shown:
    """What `asyncup config show` found. `file` is the configuration file, None where there is none."""

    file: str | None = None
    jobs: tuple[ShownJob, ...] = ()
    error: AsyncupError | None = None
    signal: int | None = None

    @property
    def errors(self) -> tuple[AsyncupError, ...]:
        return tuple(error for error in (self.error, *(job.error for job in self.jobs)) if error is not None)

    @property
    def exit_code(self) -> int:
        """0 every job could be planned · 2 something in one of them is wrong · 128 + signal."""
        return 128 + self.signal if self.signal is not None else 2 if self.errors else 0

    def toml(self, redact: Callable[[str], str], *, defaults: bool) -> Iterator[str]:
        """The lines that are shown."""
        if self.error is not None or self.signal is not None:
            return
        yield toml_comment(f"from {self.file}" if self.file else "no configuration file")
        for job in self.jobs:
            yield ""
            yield from job.toml(redact, defaults=defaults)

    def to_json(self) -> dict[str, Any]:
        """The object that `--output json` prints; every field is there in every outcome."""
        status = "interrupted" if self.signal is not None else "aborted" if self.errors else "complete"
        return {
            "version": SHOWN_VERSION,
            "status": status,
            "file": self.file,
            "jobs": [job.to_json() for job in self.jobs],
            "error": error_to_json(self.errors[0]) if self.errors else None,
        }


@dataclass(frozen=True, slots=True)
class _Given:
    """What the command line and the environment say: `typed` are the options that are flags there."""

    values: Mapping[str, Any] = field(repr=False)
    typed: Collection[str]


class _Shown(dict[str, str]):
    """An environment for showing: secrets are hidden, and what is not set stays as it was written."""

    def __init__(self) -> None:
        super().__init__({name: HIDDEN if is_secret(name) else value for name, value in os.environ.items()})

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return f"${{{name}}}"


def resolve(values: Mapping[str, Any], given: Mapping[str, Any], typed: Collection[str], stage: Stage) -> Shown:
    """What a command's values come to: the jobs that they name, else the one that they are, else every job of the file.

    Raises:
        UsageError: the file is wrong, or there is no such job.
    """
    settings, said = settings_of(values), _Given(given, typed)
    names = tuple(values["job"] or ())
    if values["every"]:
        if names:
            raise UsageError("read flags", "--all", "cannot be combined with names of jobs", "give one of them")
        if not settings.jobs:
            where = settings.path or "asyncup.toml, which is not in this folder or above it"
            raise UsageError("read flags", "--all", f"there are no jobs in {where}", f"write [{JOBS}.NAME] there")
    is_by_flags = not names and not values["every"] and (bool({"table", "query"} & given.keys()) or not settings.jobs)
    chosen: tuple[str | None, ...] = (None,) if is_by_flags else settings.named(names or settings.jobs)
    return Shown(settings.path, tuple(_job(name, settings, said, stage) for name in chosen))


def resolve_some(
    name: str | None,
    values: Mapping[str, Any],
    given: Mapping[str, Any],
    typed: Collection[str],
    among: Collection[str],
) -> Shown:
    """What is given, and what a job of the file, or its defaults where `name` is None, have of the options `among`.

    Raises:
        UsageError: the file is wrong, or there is no such job.
    """
    settings, said = settings_of(values), _Given(given, typed)
    (job,) = settings.named([name]) if name else (None,)
    shown = settings.resolve(job, given, _Shown(), [], among)
    known = {
        entry.name: _known(entry.name, entry.default, shown, said)
        for entry in fields(Config)
        if entry.name in among or entry.name in given
    }
    table = (DEFAULTS,) if job is None else (JOBS, job)
    return Shown(settings.path, (ShownJob(job, table, known),))


def _job(name: str | None, settings: Settings, given: _Given, stage: Stage) -> ShownJob:
    error: AsyncupError | None = None
    shown = settings.resolve(name, given.values, _Shown(), [])
    try:
        options = settings.resolve(name, given.values, os.environ, stage.secrets)
        is_job = name is not None or {"table", "query"} & (given.values.keys() | options.keys())
        # of what holds for every job it is enough that it could be part of one
        least = {} if is_job else {"table": "any", "to": "null:"}
        configured(options, {**least, **given.values})
    except UsageError as exc:
        error = exc
    known = {entry.name: _known(entry.name, entry.default, shown, given) for entry in fields(Config)}
    table: tuple[str, ...] = (JOBS, name) if name is not None else (DEFAULTS,)
    if name is None and (label := _label(known)) is not None:
        table = (JOBS, label)
    return ShownJob(name, table, known, error)


def _label(known: Mapping[str, Known]) -> str | None:
    """What a job of flags would be called in a file; None where nothing says what it reads."""
    named = (known[option].value for option in ("name", "table") if known[option].kind != _DEFAULT)
    label = next((str(value) for value in named if value), None)
    return label or ("query" if known["query"].kind != _DEFAULT else None)


def _known(option: str, default: Any, shown: Mapping[str, Setting], given: _Given) -> Known:
    if option in given.values:
        is_typed = option in given.typed
        where = f"flag {flag(option)}" if is_typed else f"variable {environment(option)}"
        return Known(_value(option, given.values[option]), _FLAG if is_typed else _ENVIRONMENT, where)
    if option in shown:
        setting = shown[option]
        return Known(_value(option, setting.value), _FILE, setting.origin)
    variable = FOREIGN.get(option, "")
    if os.environ.get(variable):
        return Known(_value(option, os.environ[variable]), _TOOL, f"variable {variable}")
    return Known(None if default in (None, "", ()) else _value(option, default), _DEFAULT, "default")


def _redacted(value: Any, redact: Callable[[str], str]) -> Any:
    """A value without the secrets that it holds, before quoting makes other texts of them."""
    if isinstance(value, dict):
        return {redact(name): redact(part) for name, part in value.items()}
    return redact(value) if isinstance(value, str) else value


def without_password(dsn: str) -> str:
    """A connection string with its password hidden where it stands, however short it is."""
    for secret in sorted(secrets_of(dsn), key=len, reverse=True):
        for before in ("=", "='", "= ", "= '", ":"):
            dsn = dsn.replace(before + secret, before + HIDDEN)
    return dsn


def _value(option: str, value: Any) -> Any:
    """A value as a file has it. What may hold a secret is hidden, or only begun."""
    if option == "password":
        return HIDDEN
    if option == "dsn":
        return without_password(str(value))
    if option == "password_command":
        return f"{str(value).split()[0]} …" if str(value).split() else ""
    try:
        found = parsed(option, value)
    except ValueError:
        return value
    if option in ("metadata", "tag"):
        return dict(found)
    if isinstance(found, tuple):
        return ",".join(map(written, found))
    if found is None:
        return str(value)  # auto
    text = as_typed(option, found)
    if isinstance(found, float):
        return int(found) if found.is_integer() and text == str(found) else found if text == str(found) else text
    return text if isinstance(found, int) and not isinstance(found, bool) and text != str(found) else found
