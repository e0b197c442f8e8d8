"""The program: commands, and what becomes of a command line that is wrong.

Only the standard library and typer are imported here; a command imports what it needs when it runs.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Annotated, Any

import typer
import typer.main

import asyncup
from asyncup.cli import demo, retry, status, sync, verify

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
        return _interrupted_early(signum, arguments)
    except BrokenPipeError:
        # who read our output has gone; nothing can be said any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return result if isinstance(result, int) else 0


def main() -> None:
    """The entry point of the `asyncup` program."""
    sys.exit(run(sys.argv[1:]))


def _wants_json(arguments: list[str]) -> bool:
    """Whether `--output json` was asked for, read without parsing: the command line may be beyond that."""
    for position, argument in enumerate(arguments):
        if argument == "--output" and position + 1 < len(arguments):
            return arguments[position + 1] == "json"
        if argument.startswith("--output="):
            return argument == "--output=json"
    return os.environ.get("ASYNCUP_OUTPUT") == "json"


def _usage_error(exc: typer.TyperException, arguments: list[str]) -> int:
    message = exc.format_message()
    if not message or type(exc).__name__ == "NoArgsIsHelpError":
        print(message)
        return 2
    from asyncup.cli.presentation import close
    from asyncup.console.text import Redactor
    from asyncup.errors import UsageError
    from asyncup.report import Report, Verdict

    known = [name for name in ("sync", "retry", "verify", "status", "demo") if name in arguments[:1]]
    hint = f"asyncup {' '.join([*known, '--help'])} shows what there is"
    error = UsageError("read flags", "command line", message[:1].lower() + message[1:].rstrip("."), hint)
    report = Verdict(error=error) if known == ["verify"] else Report(error=error)
    return close(report, json=_wants_json(arguments), redact=Redactor())


def _interrupted_early(signum: int, arguments: list[str]) -> int:
    from asyncup.cli.presentation import close
    from asyncup.console.text import Redactor
    from asyncup.report import Report, Verdict

    report = Verdict(signal=signum) if arguments[:1] == ["verify"] else Report(signal=signum)
    return close(report, json=_wants_json(arguments), redact=Redactor())
