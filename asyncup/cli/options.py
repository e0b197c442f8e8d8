"""Options that several commands have: declared once, by one of them, and taken over by the others."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar

from asyncup.config import Config
from asyncup.errors import UsageError
from asyncup.values import environment

OUTPUTS = ("text", "json")
#: Options that are no job's: a variable of one of them is known to every command, also to those that do not take it.
OF_COMMANDS = frozenset(
    {
        *("output", "progress", "verbose", "quiet", "log_format", "ci", "report", "metrics"),
        *("config", "jobs", "fail_fast", "deep", "junit"),
        *("duration", "against", "latency", "request_limit", "rows", "target", "save", "compare", "max_regression"),
    }
)
Command = TypeVar("Command", bound=Callable[..., int])


def shares(owner: Callable[..., Any], names: Sequence[str]) -> Callable[[Command], Command]:
    """Give a command options of `owner`, by the names of its parameters, behind those of its own.

    The command takes them as `**options`; typer sees them as if they were written there.
    """

    def share(command: Command) -> Command:
        theirs = parameters(owner)
        own = [one for one in parameters(command).values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        shared = [theirs[name].replace(kind=inspect.Parameter.KEYWORD_ONLY) for name in names]
        command.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
        return command

    return share


def check_output(value: str) -> None:
    """Refuse what `--output` does not know.

    Raises:
        UsageError: it is that.
    """
    if value not in OUTPUTS:
        raise UsageError("read flags", "--output", f"{value!r} is none of {', '.join(OUTPUTS)}")


@cache
def parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """What a function takes. Its annotations are compiled texts: to look at them once costs a millisecond at every start."""
    return inspect.signature(function, eval_str=True).parameters


def misspelt(names: Collection[str]) -> list[str]:
    """What to say of variables that are almost those of an option: of a job's, or of `names`."""
    known = {environment(name) for name in {*names, *OF_COMMANDS, *(entry.name for entry in fields(Config))}}
    found = []
    for variable in sorted(os.environ):
        if variable.startswith("ASYNCUP_") and variable not in known:
            near = difflib.get_close_matches(variable, known, n=1, cutoff=0.8)
            found += [f"warning: there is no variable {variable}; did you mean {near[0]}?"] if near else []
    return found
