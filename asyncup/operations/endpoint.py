"""`--metrics`: an HTTP server on the run's own event loop, with `/metrics` for Prometheus and `/healthz` for whoever restarts what hangs.

It listens before anything else is done, so that a port that is taken costs nothing, and goes with the process. It knows nobody and
hides nothing of what it shows, which is no row and no secret: who must not see it must not reach it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from asyncup.errors import UsageError
from asyncup.events import Event, Notice
from asyncup.operations.exposition import Exposition
from asyncup.operations.states import STUCK_SECONDS, States

#: Seconds that an answer which is under way delays the end of a run at most.
_LAST_SECONDS = 0.2


class Endpoint:
    """An observer that shows what it sees. `sockets` listen already; `url` is where."""

    def __init__(self, sockets: Sequence[socket.socket], url: str) -> None:
        self.url = url
        self._sockets = sockets
        self._states = States()
        self._exposition = Exposition(self._states)

    @classmethod
    def open(cls, address: str) -> Endpoint:
        """Listen at `HOST:PORT`, or at `:PORT` on every interface; port 0 is any that is free.

        Raises:
            UsageError: it is no address, or nobody can listen there.
        """
        host, port = parse(address)
        sockets = listen(host, port, address)
        port = sockets[0].getsockname()[1]
        return cls(sockets, f"http://{f'[{host}]' if ':' in host else host or 'localhost'}:{port}")

    def on_event(self, event: Event) -> None:
        """See `Observer.on_event`."""
        self._states.on_event(event)

    def close(self) -> None:
        """Listen no more."""
        for listening in self._sockets:
            listening.close()

    def finish(self, outcome: object, exit_code: int) -> None:
        """Nothing is left behind."""

    @asynccontextmanager
    async def attend(self, tell: Callable[[Event], None]) -> AsyncGenerator[None, None]:
        """Serve, on the loop that runs."""
        app = web.Application()
        app.add_routes([web.get("/metrics", self._metrics), web.get("/healthz", self._health)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_LAST_SECONDS)
        await runner.setup()
        try:
            for listening in self._sockets:
                await web.SockSite(runner, listening).start()
            tell(Notice(f"metrics are at {self.url}/metrics", is_routine=True))
            yield
        finally:
            await runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        _name_tasks(request)
        # what is known of the process is read from files
        text, content_type = await asyncio.to_thread(self._exposition.text, request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def _health(self, request: web.Request) -> web.Response:
        _name_tasks(request)
        return web.json_response(health(self._states), status=503 if self._states.stuck else 200)


def health(states: States) -> dict[str, object]:
    """What `/healthz` says."""
    stuck, jobs = states.stuck, states.job_states()
    settled = [job.since_settled for job in jobs if job.since_settled is not None]
    return {
        "status": "stuck" if stuck else "ok",
        "phase": states.phase,
        "seconds_since_settled": round(min(settled), 1) if settled else None,
        "reason": _reason([job.name for job in stuck]) if stuck else None,
        "jobs": [
            {
                "job": job.name,
                "phase": job.phase,
                "seconds_since_settled": None if job.since_settled is None else round(job.since_settled, 1),
                "in_flight": job.progress.in_flight if job.progress is not None else 0,
            }
            for job in jobs
        ],
    }


def _reason(names: Sequence[str]) -> str:
    return (
        f"{', '.join(names)}: requests are in flight, and nothing has come of any for {STUCK_SECONDS / 60:.0f} minutes"
    )


def parse(address: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`, `[HOST]:PORT` or `:PORT`.

    Raises:
        UsageError: it is none of them.
    """
    host, colon, port = address.strip().rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if is_bracketed else host
    if (
        not colon
        or not port.isascii()
        or not port.isdecimal()
        or int(port) > 65535
        or (":" in host and not is_bracketed)
    ):
        raise UsageError(
            "read flags",
            "--metrics",
            f"{address!r} is no [HOST]:PORT",
            "write 127.0.0.1:9464 for this machine alone, :9464 for every interface, [::1]:9464 for IPv6",
        )
    return host, int(port)


def listen(host: str, port: int, address: str) -> list[socket.socket]:
    """Sockets that listen at every address of a host, all at one port.

    Raises:
        UsageError: nobody can listen there.
    """
    sockets: list[socket.socket] = []
    refused = OSError("it has no address")
    try:
        if not host:
            both = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if both else socket.AF_INET
            return [socket.create_server(("", port), family=family, dualstack_ipv6=both)]
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, place in dict.fromkeys((family, place[:2]) for family, _, _, _, place in found):
            at = sockets[0].getsockname()[1] if sockets else port
            try:
                sockets.append(socket.create_server((str(place[0]), at), family=family))
            except (
                OSError
            ) as exc:  # a name may have an address of a family that is off; and what is free at one is not at all
                if exc.errno == errno.EADDRINUSE and port:
                    raise
                refused = exc
        if not sockets:
            raise refused
    except OSError as exc:
        for listening in sockets:
            listening.close()
        raise UsageError(
            "serve metrics",
            "--metrics",
            f"nobody can listen at {address}: {_said(exc)}",
            "choose another port, or 0 for any that is free; a host has to be one of this machine's",
        ) from exc
    return sockets


def _said(exc: OSError) -> str:
    """The reason alone. A name that is not known has a number below 0, and a text of its own."""
    return os.strerror(exc.errno) if exc.errno is not None and exc.errno > 0 else exc.strerror or str(exc)


def _name_tasks(request: web.Request) -> None:
    """A connection is a task of aiohttp's, and so is each request: neither has a name that says so."""
    for task in (request.task, asyncio.current_task()):
        if task is not None:
            task.set_name("asyncup-metrics")
