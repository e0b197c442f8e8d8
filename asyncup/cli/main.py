"""The program: commands, and what becomes of a command line that is wrong.

Nothing is imported here that `--version` does not need: other programs ask for it, over and over.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING

from asyncup.version import __version__

if TYPE_CHECKING:
    from typer import TyperException

    from asyncup.errors import AsyncupError


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
    if arguments == ["--version"]:
        print(f"asyncup {__version__}")
        return 0
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return _command(arguments)
    except (KeyboardInterrupt, Terminated) as exc:
        for again in (signal.SIGINT, signal.SIGTERM):  # the second of an impatient person must not cut what is said
            signal.signal(again, signal.SIG_IGN)
        signum = signal.SIGINT if isinstance(exc, KeyboardInterrupt) else signal.SIGTERM
        return _close(arguments, signum=signum)


def _command(arguments: list[str]) -> int:
    import typer

    from asyncup.cli.commands import program

    try:
        result = program().main(args=arguments, prog_name="asyncup", standalone_mode=False)
    except typer.TyperException as exc:
        return _usage_error(exc, arguments)
    except typer.Abort:
        return 1
    return result if isinstance(result, int) else 0


def main() -> None:
    """The entry point of the `asyncup` program."""
    _open_streams()
    code = run(sys.argv[1:])
    if code in {128 + signal.SIGINT, 128 + signal.SIGTERM}:
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> None:
    """End at once where a user's code has left threads, which may hang: for those of pools Python would wait."""
    import threading

    if threading.active_count() > 1:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


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
    return os.environ.get(f"ASYNCUP_{option.replace('-', '_').upper()}") or None


def _close(arguments: list[str], error: AsyncupError | None = None, signum: int | None = None) -> int:
    """Say how a command ended that never began, in the words of that command; returns the exit code."""
    from asyncup.cli.presentation import close
    from asyncup.console.text import Redactor
    from asyncup.preflight import Preflight
    from asyncup.report import Report, Verdict

    command, json = arguments[:1], _given(arguments, "output") == "json"
    if command == ["status"]:
        from asyncup.cli import status

        return status.close_early(_given(arguments, "state"), error, signum, json=json)
    if command in (["config"], ["init"]):
        import importlib

        code: int = importlib.import_module(f"asyncup.cli.{command[0]}").close_early(error, signum, json=json)
        return code
    log = None
    if _given(arguments, "log-format") == "json":
        from asyncup.console.logged import LogLines

        log = LogLines(sys.stderr, Redactor())
    if command == ["plan"]:
        found = Preflight(reasons=() if error is None else (error,), signal=signum)
        return close(found, json=json, redact=Redactor(), log=log)
    if command == ["verify"]:
        return close(Verdict(error=error, signal=signum), json=json, redact=Redactor(), log=log)
    report = Report(error=error, signal=signum, dry_run="--dry-run" in arguments)
    return close(report, json=json, redact=Redactor(), log=log)


def _usage_error(exc: TyperException, arguments: list[str]) -> int:
    message = exc.format_message()
    if not message or type(exc).__name__ == "NoArgsIsHelpError":
        print(message)
        return 2
    from asyncup.cli.commands import COMMANDS
    from asyncup.errors import UsageError

    known = [name for name in arguments[:1] if name in COMMANDS]
    hint = f"asyncup {' '.join([*known, '--help'])} shows what there is"
    subject = "command line"
    option = next((name for name in getattr(getattr(exc, "param", None), "opts", ()) if name.startswith("--")), "")
    variable = "ASYNCUP_" + option[2:].replace("-", "_").upper()
    if option and variable in os.environ and not any(word.partition("=")[0] == option for word in arguments):
        subject, message = variable, message.replace(f"'{option}'", variable)
    error = UsageError("read flags", subject, message[:1].lower() + message[1:].rstrip("."), hint)
    return _close(arguments, error)
