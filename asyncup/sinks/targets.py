"""`--to python:module:factory/{template}`: a user's own sink, by its name.

The module is looked for in the current folder too. `factory()` is called once, in a thread, and gives what an
`ExecutorSink` takes: a plain function `put(upload)`, or an object that has one.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from asyncup.errors import AsyncupError, DestinationRefused, UsageError
from asyncup.flow.ending import Grace
from asyncup.flow.threads import Threads
from asyncup.names import written
from asyncup.sinks.executor import Calling, ExecutorSink

_FORM = "write it as python:package.module:factory/{id}.json"
_DOTTED = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_NAMED = re.compile(rf"({_DOTTED}:{_DOTTED})(?:/(.*))?", re.DOTALL)


def parse_target(to: str) -> tuple[str, str | None]:
    """The name of the factory, and the template's text, None where there is none.

    Raises:
        UsageError: it is not written like that.
    """
    match = _NAMED.fullmatch(to.removeprefix("python:"))
    if match is None:
        raise UsageError("read flags", "--to", f"{to!r} names no function of a module", _FORM)
    if match[2] == "":
        raise UsageError(
            "read flags",
            "--to",
            f"{to!r} has no template for the object keys",
            "write one, or leave the slash out: then it is the columns of the key, joined by slashes",
        )
    return match[1], match[2]


def with_key(to: str, key: Sequence[str]) -> str:
    """The same destination with a template that names all columns of a key."""
    return f"{to}/{'/'.join('{' + written(column) + '}' for column in key)}"


async def open_target(place: str, *, threads: int, attempt_timeout: float, grace: Grace) -> ExecutorSink:
    """The sink of a factory's name.

    Raises:
        UsageError: there is no such factory, or it gives nothing that can be a sink.
        DestinationRefused: the module or the factory raised an error.
    """
    subject = f"python:{place}"
    opening = Threads(1, "asyncup-sink-open")
    try:
        target, error = await Calling(opening, lambda: _made(place), "open", subject, None).result()
    finally:
        opening.close()
    if isinstance(error, AsyncupError):
        raise error
    if error is not None:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise DestinationRefused("open", subject, text, "it is the module's own error, or the factory's") from error
    if inspect.iscoroutine(target):
        target.close()
        raise _wrong(subject, "the factory is async", "make it a plain function")
    sinks: Any = target
    try:
        return ExecutorSink(sinks, threads=threads, attempt_timeout=attempt_timeout, name=subject, grace=grace)
    except TypeError as exc:
        hint = "the factory is called once, without arguments; it gives put(upload), or an object that has one"
        raise _wrong(subject, f"the factory gave what is no sink: {exc}", hint) from None


def _made(place: str) -> object:
    """In a thread: import the module, find the factory, call it."""
    subject = f"python:{place}"
    module_name, _, dotted = place.partition(":")
    if (here := str(Path.cwd())) not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{module_name}.".startswith(f"{exc.name}."):
            raise
        near = difflib.get_close_matches(exc.name, [path.stem for path in Path.cwd().glob("*.py")], n=1)
        hint = f"it is looked for in {here}, in PYTHONPATH and among what is installed"
        raise _wrong(subject, f"there is no module {exc.name}", f"did you mean {near[0]}?" if near else hint) from None
    for name in dotted.split("."):
        if not hasattr(found, name):
            raise _wrong(subject, f"{module_name} has no {dotted}", _nearest(found, name))
        found = getattr(found, name)
    try:
        inspect.signature(found).bind()
    except ValueError:  # of a builtin, which does not say
        pass
    except TypeError as exc:
        raise _wrong(
            subject,
            f"{dotted} cannot be called without arguments: {exc}",
            "name a factory, which is called once and gives put(upload), or an object that has one",
        ) from None
    return found()


def _nearest(owner: object, name: str) -> str:
    names = [one for one in vars(owner) if not one.startswith("_")] if isinstance(owner, ModuleType) else []
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else _FORM


def _wrong(subject: str, message: str, hint: str) -> UsageError:
    return UsageError("open", subject, message, hint)
