"""Starts a simulator as a process of its own and asks it what it has counted."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit


@dataclass(frozen=True, slots=True)
class RunningSimulator:
    """A simulator that answers at `endpoint_url`. `authority` is whom to trust, None without TLS."""

    endpoint_url: str
    process: subprocess.Popen[str]
    authority: Path | None = None

    def counters(self) -> dict[str, Any]:
        """The values of `Counters.as_json`."""
        value: dict[str, Any] = self._ask("GET", "/-/counters")
        return value

    def reset(self) -> None:
        """Begin to count anew."""
        self._ask("POST", "/-/reset")

    def set_faults(self, rules: Mapping[str, float | str] | None = None, **options: object) -> None:
        """Add rules, by the names of faults; none removes all. Options are those of `--fault`, `for` is `for_`.

        Raises:
            ValueError: there is no such fault or option; says so.
        """
        query = {**(rules or {}), **{name.rstrip("_"): str(value) for name, value in options.items()}}
        self._ask("POST", f"/-/faults?{urlencode(query)}")

    def set_limit(self, rate: float, **options: object) -> None:
        """Another limit, in requests a second; 0 for none. Options: `cold`, `split_after`."""
        query = {"rate": rate, **{name.replace("_", "-"): value for name, value in options.items()}}
        self._ask("POST", f"/-/limit?{urlencode(query)}")

    def set_latency(self, latency: str) -> None:
        """Another latency, as `--latency` takes it, for answers from now on."""
        self._ask("POST", f"/-/latency?{urlencode({'value': latency})}")

    def set_clock(self, offset: float) -> None:
        """Put the server's clock ahead by so many seconds."""
        self._ask("POST", f"/-/clock?{urlencode({'offset': offset})}")

    def expire(self, access: str) -> None:
        """From now on, answer with ExpiredToken what is signed with this access key, one of `--verify`."""
        self._ask("POST", f"/-/expire?{urlencode({'access': access})}")

    def objects(self, bucket: str | None = None, prefix: str = "") -> dict[str, Any]:
        """How many objects were kept, and a digest of them: the values of `Store.summary`."""
        value: dict[str, Any] = self._ask("GET", f"/-/objects?{_where(bucket, prefix)}")
        return value

    def list_objects(self, bucket: str | None = None, prefix: str = "") -> Iterator[dict[str, Any]]:
        """What was kept, in the order of buckets and keys: `bucket`, `key`, `size`, `md5`. Read as it is needed."""
        with self._asking("GET", f"/-/objects?list=1&{_where(bucket, prefix)}") as answer:
            for line in answer:
                yield json.loads(line)

    def forget_objects(self) -> None:
        """Let go of all objects and uploads."""
        self._ask("DELETE", "/-/objects")

    def _ask(self, method: str, target: str) -> Any:
        with self._asking(method, target) as answer:
            return json.load(answer)

    @contextlib.contextmanager
    def _asking(self, method: str, target: str) -> Iterator[http.client.HTTPResponse]:
        place = urlsplit(self.endpoint_url).netloc
        connection: http.client.HTTPConnection
        if self.authority is None:
            connection = http.client.HTTPConnection(place, timeout=10)
        else:
            context = ssl.create_default_context(cafile=self.authority)
            connection = http.client.HTTPSConnection(place, timeout=10, context=context)
        with contextlib.closing(connection):
            connection.request(method, target)
            answer = connection.getresponse()
            if answer.status != 200:
                raise ValueError(f"{method} {target}: {answer.read().decode()}")
            yield answer


def _where(bucket: str | None, prefix: str) -> str:
    return urlencode({**({} if bucket is None else {"bucket": bucket}), "prefix": prefix})


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
