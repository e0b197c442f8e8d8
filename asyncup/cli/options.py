"""Options that several commands have: declared once, by one of them, and taken over by the others."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Command = TypeVar("Command", bound=Callable[..., int])


def shares(owner: Callable[..., Any], names: Sequence[str]) -> Callable[[Command], Command]:
    """Give a command options of `owner`, by the names of its parameters, behind those of its own.

    The command takes them as `**options`; typer sees them as if they were written there.
    """

    def share(command: Command) -> Command:
        theirs = inspect.signature(owner, eval_str=True).parameters
        own = [
            parameter
            for parameter in inspect.signature(command, eval_str=True).parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        shared = [theirs[name].replace(kind=inspect.Parameter.KEYWORD_ONLY) for name in names]
        command.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
        return command

    return share
