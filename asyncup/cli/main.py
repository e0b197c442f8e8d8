"""The program: commands, and what becomes of a command line that is wrong.

Nothing is imported here that `--version` does not need: other programs ask for it, over and over.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING

from asyncup.version import __version__

if TYPE_CHECKING:
    from typer import TyperException

    from asyncup.errors import AsyncupError


#: What we write that is in no code page of old.
_OTHER_LETTERS = {"→": "->", "…": "...", "·": "-", "×": "x", "≥": ">=", "≤": "<=", "µ": "u"}


class Interrupted(BaseException):
    """A signal came that no run took care of."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def _interrupt(signum: int, _frame: FrameType | None) -> None:
    raise Interrupted(signum)


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
    signal.signal(signal.SIGTERM, _interrupt)
    if (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):  # typer would make a silent exit of a KeyboardInterrupt
        signal.signal(signal.SIGINT, _interrupt)
    if hasattr(signal, "SIGUSR1"):  # it asks where a run stands: before there is one, it must not end the process
        signal.signal(signal.SIGUSR1, lambda *_: None)
    with _guarded(arguments):
        try:
            return _command(arguments)
        except BaseException as exc:
            signum = _signal_of(exc)
            if signum is None:
                raise
            for again in (signal.SIGINT, signal.SIGTERM):  # the second of an impatient person must not cut what is said
                signal.signal(again, signal.SIG_IGN)
            _forget_half_imported()
            return _close(arguments, signum=signum)


def _signal_of(exc: BaseException | None) -> int | None:
    """The signal behind an exception; an import that one cuts short may make another of it (a `RuntimeError` of `__set_name__`)."""
    while exc is not None:
        if isinstance(exc, Interrupted | KeyboardInterrupt):
            return exc.signum if isinstance(exc, Interrupted) else signal.SIGINT
        exc = exc.__cause__
    return None


def _forget_half_imported() -> None:
    """Forget the submodules of a package whose import a signal cut short: else the next import of it does not bind them."""
    for name in sorted(sys.modules):  # a package comes before what is in it
        package = name.rpartition(".")[0]
        if package and package not in sys.modules:
            del sys.modules[name]


def _guarded(arguments: list[str]) -> contextlib.AbstractContextManager[None]:
    """In CI, where output is read for commands, nothing that others say is one; a live view that was asked for is left alone."""
    if not ({"CI", "ASYNCUP_CI"} & os.environ.keys() or "--ci" in arguments):
        return contextlib.nullcontext()
    from asyncup.console.ci.detection import asked_for, detect
    from asyncup.console.ci.guard import guarded

    if detect(asked_for(arguments, os.environ), os.environ) is None:
        return contextlib.nullcontext()
    is_live = _given(arguments, "progress") == "live" and sys.stderr.isatty()
    return guarded(sys.stdout, None if is_live else sys.stderr)


def _command(arguments: list[str]) -> int:
    import typer

    from asyncup.cli.commands import program

    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
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
    _write_any_text()
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


def _write_any_text() -> None:
    """Let stdout and stderr take any text: what their encoding has not (ASCII, cp1252) is written in letters that it has."""
    codecs.register_error("asyncup", _in_other_letters)
    for stream in (sys.stdout, sys.stderr):
        is_utf8 = stream.encoding.lower().replace("-", "") == "utf8"
        if isinstance(stream, io.TextIOWrapper) and not (is_utf8 and stream.errors == "surrogateescape"):
            stream.reconfigure(errors="asyncup")


def _in_other_letters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = "".join(
        _OTHER_LETTERS.get(letter) or letter.encode("ascii", "backslashreplace").decode()
        for letter in error.object[error.start : error.end]
    )
    return text, error.end


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
    from asyncup.cli.presentation import Outcome, close_early
    from asyncup.console.ci.detection import asked_for
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
    found: Outcome = Report(error=error, signal=signum, dry_run="--dry-run" in arguments)
    if command == ["plan"]:
        found = Preflight(reasons=() if error is None else (error,), signal=signum)
    elif command == ["bench"]:
        from asyncup.benchmark import Benchmark

        found = Benchmark(error=error, signal=signum)
    elif command == ["verify"]:
        found = Verdict(error=error, signal=signum)
    return close_early(found, asked_for(arguments, os.environ), json=json, redact=Redactor(), log=log)


def _usage_error(exc: TyperException, arguments: list[str]) -> int:
    message = exc.format_message()
    if not message or type(exc).__name__ == "NoArgsIsHelpError":
        print(message)
        return 2
    from asyncup.cli.commands import COMMANDS
    from asyncup.errors import UsageError

    known = [name for name in arguments[:1] if name in COMMANDS]
    hint = f"asyncup {' '.join([*known, '--help'])} shows what there is"
    if type(exc).__name__ in ("NoSuchOption", "NoSuchCommand", "UsageError"):
        message, near = _unknown(exc, message, known)
        hint = f"did you mean {near}? {hint}" if near is not None else hint
    subject = "command line"
    option = next((name for name in getattr(getattr(exc, "param", None), "opts", ()) if name.startswith("--")), "")
    variable = "ASYNCUP_" + option[2:].replace("-", "_").upper()
    if option and variable in os.environ and not any(word.partition("=")[0] == option for word in arguments):
        subject, message = variable, message.replace(f"'{option}'", variable)
    error = UsageError("read flags", subject, message[:1].lower() + message[1:].rstrip("."), hint)
    return _close(arguments, error)


def _unknown(exc: TyperException, message: str, known: list[str]) -> tuple[str, str | None]:
    """What is said of an option or a command that is none, and the nearest that is one."""
    import difflib
    import re

    option, possible = getattr(exc, "option_name", None), getattr(exc, "possibilities", None)
    if option is not None:
        near = difflib.get_close_matches(option, possible or (), n=1, cutoff=0.5)
        of = f" of asyncup {known[0]}" if known else ""
        return f"there is no option {option}{of}", near[0] if near else None
    command = re.fullmatch(r"No such command '(.*?)'\.?.*", message, re.DOTALL)
    if command is None:
        return message, None
    near = difflib.get_close_matches(
        command[1], getattr(getattr(getattr(exc, "ctx", None), "command", None), "commands", ()), n=1, cutoff=0.5
    )
    path = " ".join(["asyncup", *known])
    return f"there is no command {command[1]}", f"{path} {near[0]}" if near else None
