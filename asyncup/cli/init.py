"""`asyncup init`: a first asyncup.toml for a database and a bucket."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from asyncup.cli import sync
from asyncup.cli.jobs import CONNECTIONS
from asyncup.cli.options import check_output, misspelt, shares
from asyncup.config import Config
from asyncup.errors import AsyncupError, UsageError
from asyncup.settings import FILE, key_of
from asyncup.values import environment, secrets_of

if TYPE_CHECKING:
    from asyncup.cli.asking import Asking
    from asyncup.console.text import Redactor
    from asyncup.starter.looking import Source
    from asyncup.starter.proposing import Proposal

HELP = """Looks at the tables of the database, their keys, sizes and large columns, and at the bucket, if one is given. On a \
terminal it asks which tables are to be jobs, and where their objects go; elsewhere --table or --all, and --to-prefix, say it. \
What is not chosen stands in the file as comments. Of a few rows it asks how long their values are, and reads none of them; nothing \
is sent, and no password is written.

Exit codes: 0 the file is written; 1 a server cannot be reached; 2 only another configuration mends it; 130 and 143 \
interrupted. Nothing is written but with 0."""

#: Version of the JSON object's shape.
INIT_VERSION = 1
WHAT = "What to write"
#: What of the connections goes to the file as it is.
_PLAIN = tuple(
    name
    for name in CONNECTIONS
    if name not in ("dsn", "password", "password_command", "endpoint_url", "attempt_timeout")
)
_FLAGS = tuple(name for name in CONNECTIONS if name != "password")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Started:
    """What `asyncup init` came to: the file and its jobs, and the next command."""

    file: str | None = None
    jobs: tuple[str, ...] = ()
    tables: tuple[Mapping[str, Any], ...] = ()
    prefix: str | None = None
    listing: bool | None = None
    command: str | None = None
    #: what is to be done before that command
    before: tuple[str, ...] = ()
    error: AsyncupError | None = None
    signal: int | None = None

    @property
    def exit_code(self) -> int:
        """0 written · 1 a server cannot be reached · 2 only configuration mends it · 128 + signal."""
        from asyncup.report import exit_code_of

        return exit_code_of(self.error, self.signal)

    def to_json(self) -> dict[str, Any]:
        """The object that `--output json` prints; every field is there in every outcome."""
        from asyncup.report import error_to_json

        ended = "aborted" if self.error is not None else "complete"
        return {
            "version": INIT_VERSION,
            "status": "interrupted" if self.signal is not None else ended,
            "file": self.file,
            "jobs": list(self.jobs),
            "tables": [dict(table) for table in self.tables],
            "prefix": self.prefix,
            "listing": self.listing,
            "before": list(self.before),
            "command": self.command,
            "error": None if self.error is None else error_to_json(self.error),
        }


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What flags ask for."""

    tables: tuple[str, ...]
    every: bool
    prefix: str | None
    file: Path
    force: bool
    given: Mapping[str, Any] = field(repr=False)

    @property
    def config(self) -> Config:
        """The connections, validated as those of a job are, of which a table and a destination are the least."""
        return Config.of(**{**self.given, "table": "any", "to": "null:"})


@shares(sync.sync, (*_FLAGS, "output", "verbose", "quiet"))
def init(
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table",
            help="A table that is to be a job. Can be repeated.",
            rich_help_panel=WHAT,
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Every table that has a usable key.",
            rich_help_panel=WHAT,
            metavar="",
            show_default=False,
        ),
    ] = False,
    to_prefix: Annotated[
        str | None,
        typer.Option(
            "--to-prefix",
            help="Where objects go: s3://bucket/prefix; each job has a part of it to itself. It is looked at.",
            rich_help_panel=WHAT,
            metavar="URL",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        str,
        typer.Option(
            help=f"The file to write. Default: {FILE}.", rich_help_panel=WHAT, metavar="FILE", show_default=False
        ),
    ] = FILE,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Replace the file, if there is one.",
            rich_help_panel=WHAT,
            metavar="",
            show_default=False,
        ),
    ] = False,
    **options: Any,
) -> int:
    given = {name: options[name] for name in _FLAGS if options[name] not in (None, False)}
    wanted = _Wanted(tuple(table or ()), every, to_prefix, Path(file), force, given)
    json, quiet = options["output"] == "json", options["quiet"]
    for line in [] if quiet else misspelt(options):
        print(line, file=sys.stderr)
    redact = _redactor(options["dsn"])

    def waiting(error: AsyncupError, _: int, seconds: float) -> None:
        if not quiet:
            print(redact(f"waiting {seconds:.1f}s: {error}"), file=sys.stderr)

    try:
        check_output(options["output"])
        started = _start(wanted, waiting, asks=not json and not quiet and _is_terminal())
    except AsyncupError as exc:
        from asyncup.cli.running import name_variable

        name_variable(exc)
        started = Started(error=exc)
    return _close(started, redact, json=json, quiet=quiet)


def close_early(error: AsyncupError | None, signum: int | None, *, json: bool) -> int:
    """Say how the command ended that never began; returns the exit code."""
    return _close(Started(error=error, signal=signum), _redactor(None), json=json)


def _close(started: Started, redact: Redactor, *, json: bool, quiet: bool = False) -> int:
    """Print what was written; returns the exit code."""
    from asyncup.console.summary import json_summary
    from asyncup.console.terminal import complain
    from asyncup.console.text import error_lines, plural

    for line in [] if started.error is None else error_lines(started.error):
        complain(redact(line))
    if json:
        print(json_summary(started, redact), flush=True)
    elif started.file is not None and not quiet:
        left = len(started.tables) - len(started.jobs)
        others = f"; {plural(left, 'other table')} in comments" if left else ""
        print(redact(f"{started.file} has {plural(len(started.jobs), 'job')}: {', '.join(started.jobs)}{others}."))
        for step in started.before:
            print(redact(f"  first: {step}"))
        print(redact(f"  next:  {started.command}"), flush=True)
    return started.exit_code


def _start(wanted: _Wanted, waiting: Any, *, asks: bool) -> Started:
    """Look, ask and write.

    Raises:
        AsyncupError: nothing was written, for this reason.
    """
    from asyncup.starter.looking import look_at_prefix, look_at_source
    from asyncup.starter.writing import Starter

    _check_file(wanted)
    config, prefix, listing = wanted.config, wanted.prefix, None
    if prefix is not None:  # what may be wrong in it is wrong before anything is asked
        listing = _run(look_at_prefix(config, prefix, waiting))
    source = _run(look_at_source(config, wanted.tables, waiting))
    asking = _asking(source) if asks else None
    chosen = _chosen(wanted, source, asking)
    if prefix is None and asking is not None:
        prefix, listing = asking.prefix(lambda text: _run(look_at_prefix(config, text, waiting)))
    defaults, said, before = _connections(wanted.given)
    starter = Starter(defaults, [one.job for one in chosen], source.proposals, prefix, source.others, said)
    if prefix is None:
        before.append(f"put your bucket in place of BUCKET in {wanted.file}")
    _write(wanted, starter.text())
    named = "" if wanted.file == Path(FILE) else f" --config {shlex.quote(str(wanted.file))}"
    return Started(
        file=str(wanted.file),
        jobs=tuple(one.job for one in starter.jobs),
        tables=tuple(one.to_json() for one in source.proposals),
        prefix=prefix,
        listing=listing,
        command=f"asyncup plan --all{named}",
        before=tuple(before),
    )


def _check_file(wanted: _Wanted) -> None:
    if wanted.file.exists() and not wanted.force:
        raise UsageError(
            "read flags", "--file", f"{wanted.file} is there already", "--force replaces it, --file names another one"
        )


def _chosen(wanted: _Wanted, source: Source, asking: Asking | None) -> list[Proposal]:
    """The tables that are to be jobs.

    Raises:
        SourceRefused, UsageError: there are none, or none of them can be one.
    """
    usable = [one for one in source.proposals if one.is_usable]
    if wanted.tables:
        named = source.named(wanted.tables)
        for one in named:
            if one.reason is not None:
                raise one.reason
        return named
    if not usable:
        where = f"database {source.server.database}"
        first = next((one.reason for one in source.proposals if one.reason is not None), None)
        raise UsageError(
            "choose tables",
            where,
            "there are no tables" if first is None else f"no table can be a job; {first.subject}: {first.message}",
            "asyncup sync --query with --key reads what has no primary key",
        )
    if wanted.every or (asking is None and len(usable) == 1):
        return usable
    if asking is not None:
        return asking.tables()
    shown = ", ".join(one.table.name for one in usable[:20])
    raise UsageError(
        "read flags",
        "--table",
        f"which tables are to be jobs? there are {shown}{', …' if len(usable) > 20 else ''}",
        "name them with --table, or give --all",
    )


def _connections(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    """The connections as a file has them, what is said above them, and what is to be done before a job can run."""
    defaults: dict[str, Any] = {}
    said: list[str] = []
    before: list[str] = []
    dsn, url = given.get("dsn"), os.environ.get("DATABASE_URL")
    if dsn is None:
        if url:
            defaults["dsn"] = "${DATABASE_URL}"
        else:
            said.append('the database is that of the PG* variables; or: dsn = "${DATABASE_URL}"')
    elif dsn == url:
        defaults["dsn"] = "${DATABASE_URL}"
    elif not secrets_of(dsn):
        defaults["dsn"] = dsn.replace("${", "$${")
    elif dsn == os.environ.get(environment("dsn")):
        said.append(f"the database is that of {environment('dsn')}, which goes over what stands here")
    else:
        variable = "DATABASE_URL" if not url else "SOURCE_DATABASE_URL"
        defaults["dsn"] = f"${{{variable}}}"
        before.append(f"export {variable} with the DSN that you gave: its password is not written")
    if "password_command" in given:
        said.append("password-command is not written: it may hold a secret")
        before.append("write password-command in [defaults], or give it with --password-command")
    endpoint = given.get("endpoint_url")
    if endpoint is not None and "@" not in endpoint:
        defaults["endpoint-url"] = endpoint.replace("${", "$${")
    defaults |= {
        key_of(name): given[name].replace("${", "$${") if isinstance(given[name], str) else given[name]
        for name in _PLAIN
        if name in given
    }
    return defaults, said, before


def _write(wanted: _Wanted, text: str) -> None:
    """Write the file whole or not at all.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        if not wanted.force:
            with wanted.file.open("x", encoding="utf-8") as file:
                file.write(text)
            return
        beside = wanted.file.with_name(f".{wanted.file.name}.{os.getpid()}")
        beside.write_text(text, encoding="utf-8")
        beside.replace(wanted.file)
    except OSError as exc:
        raise UsageError(
            "write", str(wanted.file), f"it cannot be written: {exc.strerror or exc}", "--file names another one"
        ) from exc


def _run(looking: Coroutine[Any, Any, R]) -> R:
    """Until Ctrl-C or SIGTERM, which end the command as it has begun nothing."""
    return asyncio.run(looking)


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty() and not os.environ.get("CI")


def _asking(source: Source) -> Asking:
    from asyncup.cli.asking import Asking

    return Asking(source)


def _redactor(dsn: str | None) -> Redactor:
    from asyncup.cli.running import secrets
    from asyncup.console.text import Redactor

    return Redactor(secrets(dsn))
