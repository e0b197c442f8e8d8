"""Listens, says where, and ends with SIGTERM or when standard input does: also when who started it dies."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import ssl
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from asyncup.bench.simulator.options import make_connections, parse_options

BACKLOG = 4096


async def serve(options: argparse.Namespace) -> None:
    """Answer until it is time to end. Prints the endpoint's URL, one line, when connections are taken."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        make_connections(options, loop),
        options.host,
        options.port,
        ssl=_context(options.tls_cert, options.tls_key),
        backlog=BACKLOG,
    )
    stop = asyncio.Event()
    _when_stdin_ends(lambda: loop.call_soon_threadsafe(stop.set))
    with contextlib.suppress(NotImplementedError):  # Windows
        loop.add_signal_handler(signal.SIGTERM, stop.set)
    port = server.sockets[0].getsockname()[1]
    print(f"{'https' if options.tls_cert else 'http'}://{options.host}:{port}", flush=True)
    gc.freeze()  # what lives for the whole run is not looked at again
    await stop.wait()
    server.close()


def _context(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return context


def _when_stdin_ends(call: Callable[[], object]) -> None:
    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        with contextlib.suppress(RuntimeError):  # the loop has ended before
            call()

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: list[str] | None = None) -> None:
    """Run until SIGTERM, Ctrl-C or the end of standard input."""
    options = parse_options(arguments)
    factory = None
    if sys.platform != "win32":
        import uvloop

        factory = uvloop.new_event_loop
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(options))
