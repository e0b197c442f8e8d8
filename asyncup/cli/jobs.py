"""Which jobs a command is for: one by flags, or those of a configuration file by their names; flags go over each of them."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from asyncup.config import Config
from asyncup.errors import CHECK_PASSWORD, AsyncupError, UsageError
from asyncup.settings import SHARED, Setting, Settings, read_settings
from asyncup.values import flag, secrets_of

if TYPE_CHECKING:
    from asyncup.cli.presentation import View
    from asyncup.flow.interrupt import Interrupt

Outcome = TypeVar("Outcome")

#: Options that would make one job of several.
_OF_ONE = ("table", "query", "to", "name", "dead_letters")
#: What says how servers are reached, and nothing else.
CONNECTIONS = (
    "dsn",
    "password",
    "password_command",
    "endpoint_url",
    "region",
    "profile",
    "addressing",
    "ca_bundle",
    "no_sign_request",
    "attempt_timeout",
)


@dataclass
class Stage:
    """What is learned on the way to a run: secrets that no output may hold, and the names of its jobs, if it has several."""

    secrets: list[str] = field(default_factory=list)
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChosenJob:
    """A job, and what of it a file says. `name` is that in the file, None for a job by flags."""

    name: str | None
    config: Config
    settings: Mapping[str, Setting]

    def explain(self, error: AsyncupError | None) -> None:
        """Name the place in the file, where what is wrong stands there."""
        if error is not None:
            _explain(error, self.settings)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The jobs of a command. `whole` says what several of them share."""

    jobs: tuple[ChosenJob, ...]
    whole: Config

    @property
    def only(self) -> ChosenJob | None:
        """The one job, if there are not several."""
        return self.jobs[0] if len(self.jobs) == 1 else None


def choose(values: Mapping[str, Any], given: Mapping[str, Any], stage: Stage) -> Chosen:
    """The jobs that a command's values ask for; `given` are the options that flags and the environment give.

    Raises:
        UsageError: the file is wrong, or there is no such job, or no job at all, or its options are wrong.
    """
    settings = settings_of(values)
    names: Sequence[str] = values["job"] or ()
    if values["every"]:
        if names:
            raise UsageError("read flags", "--all", "cannot be combined with names of jobs", "give one of them")
        names = tuple(settings.jobs)
        if not names:
            where = settings.path or "asyncup.toml, which is not in this folder or above it"
            raise UsageError("read flags", "--all", f"there are no jobs in {where}", "write [jobs.NAME] there")
    for name in names:
        if names.count(name) > 1:
            raise UsageError("read flags", name, "this job was named more than once", "name each once")
    names = settings.named(names)
    if len(names) > 1:
        for option in _OF_ONE:
            if option in given:
                raise UsageError(
                    "read flags",
                    flag(option),
                    f"cannot be the same for {len(names)} jobs",
                    "leave it out, or name one job",
                )
    resolved = [(name, settings.resolve(name, given, os.environ, stage.secrets)) for name in names or (None,)]
    if not names:
        _check_named(given, resolved[0][1], settings)
    jobs = tuple(ChosenJob(name, configured(options, given), options) for name, options in resolved)
    defaults = settings.resolve(None, given, os.environ, stage.secrets, SHARED)
    shared = {option: setting for option, setting in defaults.items() if option in SHARED}
    whole = {option: value for option, value in given.items() if option in SHARED}
    return Chosen(jobs, configured(shared, {**whole, "table": "any", "to": "null:"}))


def settings_of(values: Mapping[str, Any]) -> Settings:
    """What the configuration file says.

    Raises:
        UsageError: it cannot be read, or something in it is wrong.
    """
    try:
        folder = Path.cwd()
    except OSError:  # it was deleted
        folder = None
    return read_settings(values["config"], folder)


def options_of(
    values: Mapping[str, Any], given: Mapping[str, Any], stage: Stage, among: Sequence[str]
) -> dict[str, Any]:
    """Options that flags, the environment or the file give, without a job or for the one that `values` name."""
    settings = settings_of(values)
    (name,) = settings.named([values["job"]]) if values.get("job") else (None,)
    found = settings.resolve(name, given, os.environ, stage.secrets, among)
    return {**{option: setting.value for option, setting in found.items() if option in among}, **given}


def typed(given: Mapping[str, Any], config: str | None = None, *, anew: bool = False) -> dict[str, Any]:
    """Options to be typed again: the file, if it was named; no secrets; and `--restart` only for a run `anew`."""
    left_out = {
        "password_command",
        *(() if anew else ("restart",)),
        *(("dsn",) if secrets_of(given.get("dsn")) else ()),
    }
    named = {} if config is None else {"config": config}
    return named | {option: value for option, value in given.items() if option not in left_out}


def as_job(name: str | None, config: str | None) -> tuple[str, ...]:
    """The words that say to another command which job of which file it is about."""
    if name is None:
        return ()
    job = (f"--job={name}",) if name.startswith("-") else ("--job", name)
    return (*job, *(() if config is None else ("--config", config)))


async def in_turn(
    chosen: Chosen,
    one: Callable[[ChosenJob, View, Interrupt], Awaitable[Outcome]],
    interrupted: Callable[[int], Outcome],
    view: View,
    interrupt: Interrupt,
) -> list[tuple[str, Outcome]]:
    """Look at one job after another, each as if it were alone; those behind a signal are `interrupted`."""
    found: list[tuple[str, Outcome]] = []
    for job in chosen.jobs:
        name = job.name or ""
        if interrupt.signal is not None:
            found.append((name, interrupted(interrupt.signal)))
        else:
            found.append((name, await one(job, view, interrupt)))
    return found


def _check_named(given: Mapping[str, Any], options: Mapping[str, Setting], settings: Settings) -> None:
    """Say which jobs there are, where none was asked for in any way.

    Raises:
        UsageError: there is nothing to read, but there are jobs.
    """
    if settings.jobs and not {"table", "query"} & (given.keys() | options.keys()):
        shown = list(settings.jobs)[:20]
        raise UsageError(
            "read flags",
            "command line",
            f"no job was named; {settings.path} has {', '.join(shown)}{', …' if len(settings.jobs) > len(shown) else ''}",
            "name one or more of them, or give --all; or a table with --table",
        )


def configured(settings: Mapping[str, Setting], given: Mapping[str, Any]) -> Config:
    """The configuration of what a file and flags say.

    Raises:
        UsageError: something in it is wrong; it names the place in the file, where it stands there.
    """
    try:
        return Config.of(**{option: setting.value for option, setting in settings.items()}, **given)
    except UsageError as exc:
        _explain(exc, settings)
        raise


def _explain(error: AsyncupError, settings: Mapping[str, Setting]) -> None:
    option = error.subject[2:].replace("-", "_") if error.subject.startswith("--") else ""
    if option in settings:
        error.op, error.subject = "read configuration", settings[option].origin
    if error.hint is not None and error.hint.startswith(CHECK_PASSWORD):
        for option in ("password", "password_command", "dsn"):
            if option in settings and (option != "dsn" or secrets_of(settings[option].value)):
                error.hint = f"check the password in {settings[option].origin}"
                break
