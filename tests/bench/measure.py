"""Runs a client as a process and takes its own CPU time from the kernel: nobody else's, and all of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Seconds after which a client is killed.
TIMEOUT = 120.0


class ClientFailed(Exception):
    """A client could not be started, ended with an error or did not put what it should have."""


@dataclass(frozen=True, slots=True)
class Command:
    """How to run a client: what it is called with, and what else it needs to see."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path


def run(command: Command, cores: frozenset[int] | None = None) -> tuple[float, float]:
    """Run a client on some cores, or on all; returns the seconds of CPU, user and system, and of wall time that it took.

    The CPU is that of the process and of those that it waited for.

    Raises:
        ClientFailed: with the end of what it printed.
    """
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        try:
            with _on(cores):  # a process begins where its starter is
                process = subprocess.Popen(
                    command.arguments,
                    env=command.environment,
                    cwd=command.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        except OSError as exc:
            raise ClientFailed(str(exc)) from exc
        killer = threading.Timer(TIMEOUT, _kill, (process.pid,))
        killer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            _kill(process.pid)
            raise
        finally:
            killer.cancel()
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            text = output.read().decode(errors="replace").strip()[-2000:]
            raise ClientFailed(f"{' '.join(command.arguments)} ended with {process.returncode}:\n{text}")
    return usage.ru_utime + usage.ru_stime, wall


@contextlib.contextmanager
def _on(cores: frozenset[int] | None) -> Iterator[None]:
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
