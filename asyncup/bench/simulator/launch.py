"""Starts a simulator as a process of its own and asks it what it has counted."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class RunningSimulator:
    """A simulator that answers at `endpoint_url`. `authority` is whom to trust, None without TLS."""

    endpoint_url: str
    process: subprocess.Popen[str]
    authority: Path | None = None

    def counters(self) -> dict[str, Any]:
        """The values of `Counters.as_json`."""
        return self._ask("GET", "/-/counters")

    def reset(self) -> None:
        """Begin to count anew."""
        self._ask("POST", "/-/reset")

    def _ask(self, method: str, target: str) -> dict[str, Any]:
        place = urlsplit(self.endpoint_url).netloc
        connection: http.client.HTTPConnection
        if self.authority is None:
            connection = http.client.HTTPConnection(place, timeout=10)
        else:
            context = ssl.create_default_context(cafile=self.authority)
            connection = http.client.HTTPSConnection(place, timeout=10, context=context)
        with contextlib.closing(connection):
            connection.request(method, target)
            value: dict[str, Any] = json.load(connection.getresponse())
            return value


@contextlib.contextmanager
def simulator(*options: str, authority: Path | None = None, prefix: Sequence[str] = ()) -> Iterator[RunningSimulator]:
    """Run a simulator with these options; it ends with the block, and when this process ends without leaving it.

    `authority` is who signed its certificate, if it has one; `prefix` is a command to run it with, such as `taskset`.

    Raises:
        RuntimeError: it did not start; with what it said.
    """
    with subprocess.Popen(
        [*prefix, sys.executable, "-m", "asyncup.bench.simulator", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C in the terminal is not for the server
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError("the simulator did not start; it has said why")
        try:
            yield RunningSimulator(url, process, authority)
        finally:
            process.stdin.close()
