"""The program that makes processes for a transform: it imports the user's module once, and forks a process at each wish.

It is a process of its own, started anew and not forked, since a process with an event loop and threads cannot be forked
safely; it runs nothing but its imports itself, so it always hears when its parent is gone, and ends every process then,
whatever they are doing. It and they are a session of their own: what a terminal sends (Ctrl-C) never reaches them.
Where the import starts threads, nothing is imported before the fork: each process does it by itself.

Why not `multiprocessing`'s fork server: there is one for the whole program, whose preloading an application may use
otherwise; it hides errors of imports, did not know `sys.path` before Python 3.13.1
(https://github.com/python/cpython/issues/117378), and imports `__main__` again in each process.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncup.model import Products
from asyncup.transforms.calls import called
from asyncup.transforms.failures import Failure, own_traceback, said
from asyncup.transforms.finding import Way, follow
from asyncup.transforms.record import Layout, View
from asyncup.transforms.wire import Wire, returnable

#: A wish or an answer: one letter and a number.
WORD = struct.Struct("<cq")
START, END, CLOSE = b"s", b"e", b"c"
BORN, REFUSED, ENDED = b"b", b"r", b"d"
#: Seconds that a process without work has to end by itself.
_GRACE = 0.3


@dataclass(frozen=True, slots=True)
class Task:
    """What a nursery is for. With `cold`, nothing is imported before a process is made."""

    way: Way
    layout: Layout
    cold: bool = False


@dataclass(frozen=True, slots=True)
class Ready:
    """A nursery, or a process, can be used: the seconds of its imports and of `setup()`. With `threads` it must be cold."""

    imports: float
    setup: float | None = None
    threads: bool = False


@dataclass(frozen=True, slots=True)
class Broken:
    """It cannot: what failed, and the user's own traceback."""

    message: str
    traceback: str | None


class Progress:
    """Which row of a portion is in work, and since when: memory that two processes share, written with each row."""

    SIZE = 16

    def __init__(self, file: int) -> None:
        self._words = memoryview(mmap.mmap(file, self.SIZE)).cast("q")

    def begin(self, number: int) -> None:
        """The row of that number, from 0, is in work from now on; -1: none."""
        self._words[1] = time.monotonic_ns()
        self._words[0] = number + 1

    def look(self) -> tuple[int, float] | None:
        """The number of the row in work and the seconds since it began; None between rows."""
        number, since = self._words[0], self._words[1]
        if not number or number != self._words[0]:
            return None
        return number - 1, (time.monotonic_ns() - since) / 1e9


def main(descriptor: int) -> None:
    """The nursery's whole life. `descriptor` is its end of a pair of sockets."""
    with socket.socket(fileno=descriptor) as end:
        wire = Wire(end)
        try:
            task: Task = wire.receive()
        except EOFError:
            return  # the parent has gone already
        _ignore_signals()
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        begun = time.perf_counter()
        function: Callable[[Any], Any] | None = None
        setup: Callable[[], Any] | None = None
        try:
            if not task.cold:
                with _ended_with(end):
                    function, setup = follow(task.way)
        except BaseException as exc:  # noqa: BLE001 - the user's module may raise anything
            wire.send(Broken(said(exc), own_traceback(exc)))
            return
        wire.send(Ready(time.perf_counter() - begun, threads=not task.cold and _threads() > 1))
        sys.stdout.flush()
        sys.stderr.flush()
        gc.collect()
        gc.freeze()  # what is there now stays where it is, so that processes share it
        place = _serve(end)
    if place is not None:
        with contextlib.closing(place[0]):
            _work(task, place, function, setup)


@contextlib.contextmanager
def _ended_with(end: socket.socket) -> Iterator[None]:
    """What goes on within ends with the parent, even where it never comes back to Python: the kernel sends SIGIO then.

    The parent sends nothing meanwhile. Source: https://man7.org/linux/man-pages/man7/socket.7.html, `SIGIO`.
    """
    if not hasattr(os, "O_ASYNC"):
        yield
        return
    import fcntl  # noqa: PLC0415 - not on Windows

    flags = fcntl.fcntl(end, fcntl.F_GETFL)
    fcntl.fcntl(end, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(end, fcntl.F_SETFL, flags | os.O_ASYNC)
    with contextlib.suppress(BlockingIOError):
        if not end.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
            os._exit(0)
    try:
        yield
    finally:
        fcntl.fcntl(end, fcntl.F_SETFL, flags)


def _threads() -> int:
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else threading.active_count()


def _ignore_signals() -> None:
    """What others send is the parent's business. A handler, and not `SIG_IGN`: programs that the function starts do not inherit it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
        signal.siginterrupt(number, False)


def _serve(end: socket.socket) -> tuple[Wire, Progress] | None:
    """Fulfil wishes until the parent is gone. In a process that was made: what it works with."""
    children: set[int] = set()
    try:
        while True:
            said_, files = _wish(end)
            if not said_:
                break
            letter, number = WORD.unpack(said_)
            if letter == START:
                pid = _forked(end)
                if pid == 0:
                    children.clear()
                    os.setpgid(0, 0)
                    _offer()
                    return Wire(socket.socket(fileno=files[0])), _mapped(files[1])
                for file in files:
                    os.close(file)
                if pid is not None:
                    children.add(pid)
                    end.sendall(WORD.pack(BORN, pid))
            elif letter == END:
                end.sendall(WORD.pack(ENDED, _end(number)))
                children.discard(number)
            else:
                _wait(children)
                break
    except OSError:
        pass  # the parent is gone
    finally:
        for pid in children:
            _end(pid)
    return None


def _forked(end: socket.socket) -> int | None:
    """Fork: 0 in the child, its number in the nursery; None where there can be no more, as the parent is told."""
    try:
        pid = os.fork()
    except OSError as exc:  # those that there are go on
        end.sendall(WORD.pack(REFUSED, exc.errno or 0))
        return None
    if pid:
        with contextlib.suppress(OSError):  # it has done so itself
            os.setpgid(pid, pid)
    return pid


def _offer() -> None:
    """Where memory runs out, the kernel is to end this process, which is replaced, and not the run.

    Source: https://man7.org/linux/man-pages/man5/proc_pid_oom_score_adj.5.html
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def _wish(end: socket.socket) -> tuple[bytes, list[int]]:
    said_, files, _, _ = socket.recv_fds(end, WORD.size, 2)
    for file in files:
        os.set_inheritable(file, False)
    return said_, files


def _mapped(file: int) -> Progress:
    progress = Progress(file)
    os.close(file)
    return progress


def _end(pid: int) -> int:
    """End a process and what it has started, if it has not ended yet; its exit code, below 0 for a signal."""
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except OSError:
        return 0


def _wait(children: set[int]) -> None:
    """Give processes time to end by themselves: their wires are closed."""
    until = time.monotonic() + _GRACE
    while children and time.monotonic() < until:
        for pid in list(children):
            if os.waitpid(pid, os.WNOHANG)[0]:
                children.discard(pid)
                with contextlib.suppress(OSError):
                    os.killpg(pid, signal.SIGKILL)  # what it had started
        time.sleep(0.002)


def _work(
    task: Task,
    place: tuple[Wire, Progress],
    function: Callable[[Any], Any] | None,
    setup: Callable[[], Any] | None,
) -> None:
    """The whole life of a process that was made: `setup()`, and portions until the other end is closed."""
    wire, progress = place
    begun = imported = time.perf_counter()
    try:
        if function is None:
            function, setup = follow(task.way)
        imported = time.perf_counter()
        if setup is not None:
            setup()
        ready = Ready(imported - begun, None if setup is None else time.perf_counter() - imported)
        wire.send(ready)
    except BaseException as exc:  # noqa: BLE001 - the user's module and its `setup` may raise anything
        with contextlib.suppress(OSError):
            what = "its import" if function is None else "setup()"
            wire.send(Broken(f"{what} failed: {said(exc)}", own_traceback(exc)))
        return
    view = task.layout.view()
    with contextlib.suppress(EOFError, OSError):  # the parent is gone, or has enough
        while True:
            rows = wire.receive()
            begun = time.perf_counter()
            cpu = time.process_time()
            made = _portion(rows, function, view, progress)
            wire.send((time.perf_counter() - begun, time.process_time() - cpu, returnable(made)))


def _portion(
    rows: list[tuple[Any, ...]], function: Callable[[Any], Any], view: View, progress: Progress
) -> list[Products | Failure]:
    made = []
    for number, row in enumerate(rows):
        progress.begin(number)
        made.append(called(function, view, row))
    progress.begin(-1)
    return made
