"""Measures: starts the servers, finds out how many objects each client needs to be measured, and runs them in turns."""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asyncup.bench.simulator.launch import RunningSimulator, simulator
from asyncup.embedded.postgres import embedded_postgres
from tests.bench import clients, measure
from tests.bench.certificate import Certificate, make_certificate
from tests.bench.clients import Client, Place
from tests.bench.compare import describe
from tests.bench.figures import Figure, Load, Slope, Spent, StartUp, figure, objects_for, slope
from tests.bench.measure import ClientFailed
from tests.bench.rows import Rows
from tests.bench.sections import Section

_Entry = tuple[Client, Load]
#: Bytes that one run puts at most: rows and files must fit somewhere.
MOST_BYTES = 512 << 20
MOST_OBJECTS = 150_000
#: Rounds behind a latency until connections are made and requests spread over the time of a round.
WARM_UP = 20


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: `runs` of each client, in which the further objects take `cpu` seconds of CPU, or `wall`
    seconds where those come first; behind a latency always `wall` seconds.
    """

    runs: int
    cpu: float
    wall: float
    etag: str
    cores: frozenset[int] | None


class Bench:
    """The servers that run, and what was measured on them. `skipped` tells of clients that could not be measured."""

    def __init__(self, folder: Path, rows: Rows, certificate: Certificate, effort: Effort) -> None:
        self.skipped: dict[str, str] = {}
        self._folder = folder
        self._rows = rows
        self._certificate = certificate
        self._effort = effort
        self._costs: dict[tuple[str, int], Slope] = {}
        self._servers: dict[tuple[float, bool], RunningSimulator] = {}
        self._stack = contextlib.ExitStack()

    def section(self, section: Section) -> tuple[Figure, ...]:
        """Measure every client of a section, in turns: what else the machine does meets all of them alike.

        Raises:
            ClientFailed: asyncup does not work; others are left out, and named in `skipped`.
        """
        numbers: dict[_Entry, tuple[int, int]] = {}
        for client, load in section.entries:
            if client.name in self.skipped:
                continue
            with self._leaving_out(client):
                numbers[client, load] = self._numbers(client, load)
        runs: dict[_Entry, list[tuple[Spent, Spent]]] = {entry: [] for entry in numbers}
        for turn in range(1, self._effort.runs + 1):
            for (client, load), (few, many) in numbers.items():
                if client.name not in self.skipped:
                    say(f"{section.name}: run {turn} of {self._effort.runs}, {describe(client.name, load)}")
                    with self._leaving_out(client):
                        runs[client, load].append((self._run(client, load, few), self._run(client, load, many)))
        found = []
        for (client, load), measured in runs.items():
            if client.name not in self.skipped:
                with self._leaving_out(client):
                    found.append(figure(section.name, client.name, load, measured))
        return tuple(found)

    def start_up(self) -> StartUp:
        """Measure what comes before the first object."""
        one = Load(2 << 10)
        place = self._place(one)
        asyncup = Client("asyncup --version", lambda *_: [clients.program("asyncup"), "--version"])
        turns = range(2 * self._effort.runs + 1)
        say("start: asyncup --version, and a sync of one row")
        version = [measure.run(asyncup.command(place, one, 0), self._effort.cores)[1] for _ in turns]
        row = [measure.run(clients.ASYNCUP.command(place, one, 1), self._effort.cores)[0] for _ in turns]
        return StartUp(statistics.median(version), statistics.median(row))

    def close(self) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def _leaving_out(self, client: Client) -> Iterator[None]:
        try:
            yield
        except (ClientFailed, ValueError) as exc:
            if client is clients.ASYNCUP:
                raise
            say(f"{client.name} is left out: {exc}")
            self.skipped[client.name] = str(exc).splitlines()[-1][:200]

    def _numbers(self, client: Client, load: Load) -> tuple[int, int]:
        """How many objects the shorter and the longer run put: seconds, for a client that is timed."""
        effort = self._effort
        if client.timed:
            return 1, 1 + round(effort.wall)
        few = load.in_flight if load.size >= 1 << 20 else max(200, 2 * load.in_flight)
        most = max(few, min(MOST_OBJECTS, MOST_BYTES // load.size) - few)
        # sizes below some KB cost about the same, and so do TLS and a latency: enough for knowing how much to measure
        kind = client.name, max(load.size, 4 << 10)
        if kind not in self._costs:
            self._costs[kind] = self._estimate(client, load, few, most)
        cost = self._costs[kind]
        if not load.limit:
            return few, few + objects_for(cost, cpu=effort.cpu, wall=effort.wall, at_most=most)
        # whole rounds
        cost = Slope(cost.cpu, max(cost.wall, 1 / load.limit))
        rounds = objects_for(cost, cpu=effort.wall, wall=effort.wall, at_most=most) // load.in_flight
        return WARM_UP * load.in_flight, (WARM_UP + max(1, rounds)) * load.in_flight

    def _estimate(self, client: Client, load: Load, few: int, most: int) -> Slope:
        """What an object costs, roughly."""
        first, further = self._run(client, load, few), few
        while True:  # until there is enough to tell from start-up, which varies by a part of itself
            then = self._run(client, load, few + further)
            if then.cpu - first.cpu > max(0.2, first.cpu / 2) or then.wall - first.wall > 2 or further == most:
                return slope(first, then)
            further = min(5 * further, most)

    def _run(self, client: Client, load: Load, number: int) -> Spent:
        """One run.

        Raises:
            ClientFailed: it ended with an error, or what arrived is not what it should have put.
        """
        command = client.command(self._place(load), load, number)
        server = self._server(load)
        server.reset()
        cpu, wall = measure.run(command, self._effort.cores)
        counters = server.counters()
        puts = counters["requests"].get("PUT", 0)
        refused = [status for status in counters["answers"] if status[0] != "2"]
        if refused or (not client.timed and (puts, counters["bytes"]) != (number, number * load.size)):
            raise ClientFailed(
                f"{client.name} should have put {number} objects of {load.size} bytes; the simulator counted {counters}"
            )
        return Spent(puts, cpu, wall, counters["cpu_seconds"])

    def _place(self, load: Load) -> Place:
        authority = self._certificate.authority if load.tls else None
        return Place(self._server(load).endpoint_url, authority, self._folder, self._rows)

    def _server(self, load: Load) -> RunningSimulator:
        """The simulator for a load, started when it is first needed."""
        kind = (load.latency, load.tls)
        if kind not in self._servers:
            options = ["--etag", self._effort.etag, "--latency", str(load.latency)]
            authority = None
            if load.tls:
                options += ["--tls-cert", str(self._certificate.server)]
                authority = self._certificate.authority
            self._servers[kind] = self._stack.enter_context(simulator(*options, authority=authority))
        return self._servers[kind]


@contextlib.contextmanager
def open_bench(effort: Effort) -> Iterator[tuple[Bench, Rows]]:
    """Run a Postgres with nothing in it yet; simulators come when they are needed."""
    memory = Path("/dev/shm")  # a folder in memory, where there is one
    parent = str(memory) if memory.is_dir() else None
    with contextlib.ExitStack() as stack:
        folders = [
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="asyncup-bench-", dir=place)))
            for place in (parent, None)
        ]
        fast, large = folders
        for folder in folders:
            folder.chmod(0o755)  # as root, Postgres runs as nobody
        rows = Rows(stack.enter_context(embedded_postgres(large / "postgres")))
        bench = Bench(fast, rows, make_certificate(fast), effort)
        stack.callback(bench.close)
        yield bench, rows


_began = time.monotonic()


def say(text: str) -> None:
    """Tell on stderr what is going on."""
    print(f"{time.monotonic() - _began:6.1f} s  {text}", file=sys.stderr, flush=True)
