"""docs/reference/flags.md: every command and every flag, as typer has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from asyncup.cli.commands import COMMANDS, build, program
from asyncup.config import Config
from asyncup.settings import key_of
from tests.reference.tables import code, page, table

_OPTIONS = {entry.name for entry in fields(Config)}
#: What stands in help texts where a default is told.
_DEFAULT = " Default: "
INTRODUCTION = """Every flag of every command: what it does, what happens without it, the variable that says the same, and its key in \
[`asyncup.toml`](configuration.md). A flag goes over the variable, the variable over the file, the file over the default.

Sizes are written `64MiB`, `64MB` or in bytes; durations `2`, `2s`, `1m30s`, `500ms`, `1h`, `1d`; names as in SQL (`public.docs`, \
`"Mixed Case"`). A flag that can be repeated has one value in each line of its variable; where the flag is given, the variable is \
not looked at. A switch is on in the environment with `1` or `true`, and off with `0` or `false`."""


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by the words that call it; those of a group by two."""
    for name in COMMANDS:
        command = build(name)
        if hasattr(command, "commands"):
            yield from ((f"{name} {part}", inner) for part, inner in command.commands.items())
        else:
            yield name, command


def options_of(command: Any) -> list[Any]:
    """The flags of a command, without `--help`, in the order of its help."""
    return [one for one in command.params if one.param_type_name == "option" and one.name != "help"]


def arguments_of(command: Any) -> list[Any]:
    return [one for one in command.params if one.param_type_name == "argument"]


def flag_text(option: Any) -> str:
    """A flag as it is typed: `-v`, `--verbose`; `--table NAME`."""
    names = [*option.opts, *option.secondary_opts]
    metavar = option.metavar or ""
    return ", ".join(f"`{name} {metavar}`" if metavar and name == names[-1] else f"`{name}`" for name in names)


#: What Markdown shows as code: what is quoted, templates and URLs, tables of the file, flags, variables, files.
_CODE = re.compile(
    r"(?<= )'[^']+'(?=[.,; ]|$)"
    r"|[^\s'\"(]*\{[^\s,;]*[^\s,;.]"
    r"|\w+://[^\s,;]*[^\s,;.]"
    r"|\[(?:jobs\.NAME|defaults|tool\.asyncup)\]"
    r"|(?<![\w-])--?[a-z][a-z0-9-]*"
    r"|\b(?:ASYNCUP_|AWS_|DATABASE_|PG)[A-Z0-9_]*\b\*?"
    r"|\b\w+\.(?:toml|json|html|jsonl)\b"
)


def plain(text: str) -> str:
    """A help text as Markdown."""
    text = text.replace("\\[", "[").replace("<", "&lt;")
    return _CODE.sub(lambda found: code(found[0]), text)


def _row(option: Any) -> list[str]:
    meaning, _, default = (option.help or "").partition(_DEFAULT)
    variable = option.envvar or (f"ASYNCUP_{option.name.upper()}" if option.name in ("metadata", "tag") else "")
    key = key_of(option.name) if variable and option.name in _OPTIONS else ""
    return [flag_text(option), plain(meaning), plain(default.rstrip(".")), code(str(variable)), code(key)]


def _table(options: list[Any]) -> str:
    return table(("flag", "meaning", "default", "variable", "key"), (_row(option) for option in options))


def _sections(options: list[Any]) -> Iterator[str]:
    """A table for each panel of the help."""
    panels: dict[str, list[Any]] = {}
    for option in options:
        panels.setdefault(option.rich_help_panel or "", []).append(option)
    for panel, members in panels.items():
        if panel:
            yield f"### {panel}"
        yield _table(members)


def _synopsis(name: str, command: Any) -> str:
    words = " ".join(f"[{one.metavar}…]" if one.nargs < 0 else str(one.metavar) for one in arguments_of(command))
    return f"```\nasyncup {name}{' ' + words if words else ''} [FLAGS]\n```"


def _own_of(name: str, command: Any, of_sync: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """The flags that only this command has, or has in a way of its own, and those that are as sync has them."""
    options = options_of(command)
    if name == "sync":
        return options, []
    theirs = [one for one in options if one.name in of_sync and one.help == of_sync[one.name].help]
    return [one for one in options if one not in theirs], theirs


def text() -> str:
    known = dict(commands())
    of_sync = {one.name: one for one in options_of(known["sync"])}
    parts = [INTRODUCTION, table(("command", "what it does"), _listed(known))]
    for name, command in known.items():
        own, theirs = _own_of(name, command, of_sync)
        parts += [f"## asyncup {name}", _synopsis(name, command), plain(_help(command))]
        arguments = [(f"`{one.metavar}`", plain(one.help or "")) for one in arguments_of(command)]
        parts += [table(("argument", "meaning"), arguments)] if arguments else []
        parts += _sections(own)
        if theirs:
            flags = ", ".join(code(one.opts[-1]) for one in theirs)
            parts += [f"As of [sync](#asyncup-sync): {flags}."]
    root = [one for one in program().params if one.name != "help"]
    rows = ((flag_text(one), plain(one.help or "")) for one in root)
    parts += ["## asyncup", table(("flag", "meaning"), rows), "`-h` and `--help` show the help of every command."]
    return page("Commands and flags", *parts)


def _help(command: Any) -> str:
    """The help, without the exit codes: they have a page of their own."""
    return str(command.help).partition("\n\nExit codes:")[0]


def _listed(known: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, command in known.items():
        yield f"[{code(name)}](#asyncup-{name.replace(' ', '-')})", plain(str(command.help).partition("\n")[0])
