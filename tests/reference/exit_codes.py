"""docs/reference/exit-codes.md: the codes as each command's help has them, and the errors as asyncup.errors has them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from asyncup import errors
from asyncup.errors import AsyncupError, Disposition
from tests.reference.flags import commands, plain
from tests.reference.tables import code, page, table

INTRODUCTION = """| code | in one line |
| --- | --- |
| 0 | complete |
| 1 | aborted, resumable; a gate was missed; or a server that cannot be reached: given up about 10 seconds after the first \
failure at the start of a run, 3 minutes in the middle |
| 2 | what only another configuration mends; nothing was sent |
| 3 | complete, but rows failed |
| 4 | `verify` found differences |
| 130, 143 | interrupted by SIGINT or SIGTERM, drained, resumable |

A run that did less than it was asked to never exits 0. `--output json` prints its one object with every code."""
OF_ERRORS = """## Errors

The `type` of an `error` in [JSON](json.md), and in dead letters. What each comes to: *again* is another attempt, and what \
follows when attempts are spent; *the row* fails and the run goes on; *the run* ends, with exit code 2 where only another \
configuration mends it and nothing was sent, else 1."""
#: What each disposition comes to.
_FATES = {Disposition.DEAD_LETTER: "the row", Disposition.SKIP: "the row is skipped", Disposition.ABORT: "the run"}


def _told(help_text: str) -> Iterator[tuple[str, str]]:
    """Codes and meanings of a help's sentence `Exit codes: 0 complete; 1 …; 130 and 143 interrupted.`"""
    (sentence,) = re.findall(r"Exit codes: (.*?)\.(?:\s|$)", help_text)
    for part in re.split(r"; (?=\d)", sentence):
        found = re.fullmatch(r"(\d+(?: and \d+)?) (.*)", part)
        assert found, part
        yield found[1].replace(" and ", ", "), found[2]


def _rows() -> Iterator[tuple[str, str, str]]:
    for name, command in commands():
        if "Exit codes:" in str(command.help):
            for number, meaning in _told(str(command.help)):
                yield code(name), number, plain(meaning)


def _errors() -> Iterator[tuple[str, str, str]]:
    for name, kind in vars(errors).items():
        if not (isinstance(kind, type) and issubclass(kind, AsyncupError)) or kind is AsyncupError:
            continue
        if kind.__subclasses__() and kind.__name__ in ("ConfigError", "RowRefused", "StaleRequest"):
            pass  # raised as it is too
        fate = _FATES.get(kind.disposition, "")
        if kind.disposition is Disposition.RETRY:
            fate = f"again, then {_FATES[kind.exhausted]}"
        if "the run" in fate and kind.needs_configuration:
            fate += " (2)"
        yield code(name), " ".join(inspect.cleandoc(str(kind.__doc__)).split("\n\n")[0].split()), fate


def text() -> str:
    return page(
        "Exit codes",
        INTRODUCTION,
        "## By command",
        table(("command", "code", "meaning"), _rows()),
        OF_ERRORS,
        table(("type", "meaning", "what it comes to"), _errors()),
    )
