"""The program: commands, and what becomes of a command line that is wrong.

Only the standard library and typer are imported here; a command imports what it needs when it runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.main

import asyncup
from asyncup.cli import demo, plan, retry, status, sync, verify

if TYPE_CHECKING:
    from asyncup.errors import AsyncupError

app = typer.Typer(
    name="asyncup",
    help="Publish the rows of a Postgres table or query as objects in S3.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
app.command("sync", help=sync.HELP)(sync.sync)
app.command("plan", help=plan.HELP)(plan.plan)
app.command("retry", help=retry.HELP)(retry.retry)
app.command("verify", help=verify.HELP)(verify.verify)
app.command("status", help=status.HELP)(status.status)
app.command("demo", help=demo.HELP)(demo.demo)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"asyncup {asyncup.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


class Terminated(BaseException):
    """SIGTERM came before the run could take care of it."""


def _terminate(_signum: int, _frame: FrameType | None) -> None:
    raise Terminated


def run(arguments: list[str]) -> int:
    """Run a command line; returns the exit code."""
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        _write_nothing()  # who read our output has gone; nothing can be said any more
        return 1
    except OSError:
        lost = _lost_output()
        if lost is None:
            raise
        _write_nothing()
        with contextlib.suppress(OSError):
            print(f"error: stdout cannot be written: {lost.strerror or lost}", file=sys.stderr)
        return 1
    return code


def _lost_output() -> OSError | None:
    """What goes wrong with stdout; None when it takes a line, so that something else went wrong."""
    try:
        sys.stdout.flush()
        os.write(sys.stdout.fileno(), b"\n")  # whoever is unbuffered holds nothing that could fail again
    except OSError as exc:
        return exc
    return None


def _write_nothing() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, _terminate)
    command: Any = typer.main.get_command(app)
    try:
        result = command.main(args=arguments, prog_name="asyncup", standalone_mode=False)
    except typer.TyperException as exc:
        return _usage_error(exc, arguments)
    except typer.Abort:
        return 1
    except (KeyboardInterrupt, Terminated) as exc:
        signum = signal.SIGINT if isinstance(exc, KeyboardInterrupt) else signal.SIGTERM
        return _close(arguments, signum=signum)
    return result if isinstance(result, int) else 0


def main() -> None:
    """The entry point of the `asyncup` program."""
    _open_streams()
    sys.exit(run(sys.argv[1:]))


def _open_streams() -> None:
    """Open what the caller has closed of stdin, stdout and stderr: else a connection would get its number, and our words."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))


def _given(arguments: list[str], option: str) -> str | None:
    """The value of an option, read without parsing: the command line may be beyond that."""
    for position, argument in enumerate(arguments):
        if argument == f"--{option}" and position + 1 < len(arguments):
            return arguments[position + 1]
        if argument.startswith(f"--{option}="):
            return argument.partition("=")[2]
    return os.environ.get(f"ASYNCUP_{option.upper()}") or None


def _close(arguments: list[str], error: AsyncupError | None = None, signum: int | None = None) -> int:
    """Say how a command ended that never began, in the words of that command; returns the exit code."""
    from asyncup.cli.presentation import close
    from asyncup.console.text import Redactor
    from asyncup.preflight import Preflight
    from asyncup.report import Report, Verdict

    command, json = arguments[:1], _given(arguments, "output") == "json"
    if command == ["status"]:
        return status.close_early(_given(arguments, "state"), error, signum, json=json)
    if command == ["plan"]:
        found = Preflight(reasons=() if error is None else (error,), signal=signum)
        return close(found, json=json, redact=Redactor())
    report = Verdict if command == ["verify"] else Report
    return close(report(error=error, signal=signum), json=json, redact=Redactor())


def _usage_error(exc: typer.TyperException, arguments: list[str]) -> int:
    message = exc.format_message()
    if not message or type(exc).__name__ == "NoArgsIsHelpError":
        print(message)
        return 2
    from asyncup.errors import UsageError

    known = [name for name in ("sync", "plan", "retry", "verify", "status", "demo") if name in arguments[:1]]
    hint = f"asyncup {' '.join([*known, '--help'])} shows what there is"
    error = UsageError("read flags", "command line", message[:1].lower() + message[1:].rstrip("."), hint)
    return _close(arguments, error)
