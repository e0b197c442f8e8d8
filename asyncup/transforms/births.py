"""The parent's hold on its nursery: starts it when a process is wanted, has processes made and ended, ends all of it.

Everything here blocks, and is called from threads.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace

from asyncup.errors import TransformBroken
from asyncup.transforms.finding import Found
from asyncup.transforms.nursery import BORN, CLOSE, END, REFUSED, START, WORD, Broken, Progress, Ready, Task
from asyncup.transforms.record import Layout
from asyncup.transforms.wire import Wire


class Place:
    """One process: the wire to it, and how far it is in its portion."""

    def __init__(self, pid: int, wire: Wire, progress: Progress) -> None:
        self.pid = pid
        self.wire = wire
        self.progress = progress


class Births:
    """Makes processes for one function. `imports` is how many seconds its modules took, in the nursery."""

    def __init__(self, found: Found, layout: Layout) -> None:
        self._name = found.name
        self._task = Task(found.way, layout)
        self._turn = threading.Lock()
        self._nursery: subprocess.Popen[bytes] | None = None
        self._end: socket.socket | None = None
        self._living: set[int] = set()
        self._orphans: set[int] = set()  # their nursery is gone
        self._is_closed = False
        self._how = ""
        self.imports = 0.0

    def start(self) -> Place:
        """Make a process; it is not ready yet.

        Raises:
            TransformBroken: the user's module cannot be imported there, or no process can be made.
        """
        why = "the run is ending"
        with self._turn:
            for attempt in range(2):  # a nursery that is gone is made anew
                if self._is_closed:
                    break
                if self._nursery is None:
                    self._launch()
                try:
                    return self._born(attempt)
                except ConnectionError as exc:
                    why = str(exc)
                    self._bury()
                except OSError as exc:  # the nursery is as it was, and so are the processes that there are
                    raise TransformBroken(
                        "start transform",
                        self._name,
                        f"no process could be started for it: {exc.strerror or exc}",
                        "fewer take part with --executor-workers N; ulimit -a, or the container, says how many there may be",
                    ) from None
        raise TransformBroken("start transform", self._name, f"no process could be started for it: {why}")

    def _born(self, attempt: int) -> Place:
        """Have the nursery make a process.

        Raises:
            ConnectionError: the nursery is gone.
            OSError: there can be no more processes, or no more open files.
        """
        assert self._end is not None  # noqa: S101 - launched
        here, there = socket.socketpair()
        try:
            with there, _shared() as file:
                socket.send_fds(self._end, [WORD.pack(START, attempt)], [there.fileno(), file])
                pid = self._answer(BORN)
                self._living.add(pid)
                return Place(pid, Wire(here), Progress(file))
        except BaseException:
            here.close()
            raise

    def end(self, place: Place) -> int | None:
        """End a process if it has not ended by itself; its exit code, below 0 for a signal, None if nobody knows."""
        place.wire.close()
        with self._turn:
            is_orphan = place.pid in self._orphans
            self._living.discard(place.pid)
            self._orphans.discard(place.pid)
            if self._end is not None and not is_orphan:
                try:
                    self._end.sendall(WORD.pack(END, place.pid))
                    return self._answer(None)
                except OSError:
                    self._bury()
            with contextlib.suppress(OSError):
                os.killpg(place.pid, signal.SIGKILL)
            return None

    def close(self) -> None:
        """End every process: those without work by themselves, the others at once after that."""
        self._is_closed = True
        nursery = self._nursery
        if self._turn.acquire(timeout=0.2):
            try:
                if self._end is not None:
                    with contextlib.suppress(OSError):
                        self._end.sendall(WORD.pack(CLOSE, 0))
                    self._end.close()
                    self._end = None
            finally:
                self._turn.release()
        elif nursery is not None:
            nursery.kill()  # it is in an import that does not end
        if nursery is not None:
            try:
                nursery.wait(1)
            except subprocess.TimeoutExpired:
                nursery.kill()
                nursery.wait()
            if nursery.returncode:
                self._orphans |= self._living
        for pid in self._orphans:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)

    def _launch(self) -> None:
        """Start a nursery and wait for its imports; a cold one where they start threads. One that is ended is started again."""
        ready = self._launched()
        if ready is None and not self._is_closed:
            ready = self._launched()
        if ready is not None and ready.threads:
            self.imports = ready.imports
            self._bury()
            self._task = replace(self._task, cold=True)
            ready = self._launched()
        elif ready is not None:
            self.imports = ready.imports
        if ready is None:
            raise TransformBroken("start transform", self._name, f"its process {self._how} while it imported, twice")

    def _launched(self) -> Ready | None:
        """A nursery that is ready; None where it ended before that, `_how` says in what way.

        Raises:
            TransformBroken: the user's module cannot be imported there, or the program cannot be started.
        """
        try:
            here, there = socket.socketpair()
            self._end = here
            descriptor = there.fileno()
            program = f"import sys; sys.path[:] = {sys.path!r}; from asyncup.transforms.nursery import main; main({descriptor})"
            with there:
                self._nursery = subprocess.Popen(
                    [sys.executable, "-c", program],
                    stdin=subprocess.DEVNULL,
                    stdout=_errors(),  # the parent's output is its own
                    stderr=_errors(),
                    pass_fds=(descriptor,),
                    start_new_session=True,
                )
            if self._is_closed:
                self._nursery.kill()  # whoever closed meanwhile has not seen it
            wire = Wire(here)
            wire.send(self._task)
            found: Ready | Broken = wire.receive()
        except (OSError, EOFError) as exc:
            if self._nursery is None:
                self._bury()
                raise TransformBroken("start transform", self._name, f"{sys.executable}: {exc}") from None
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._nursery.wait(5)
            self._how = ended(self._nursery.returncode)
            self._bury()
            return None
        if isinstance(found, Broken):
            self._bury()
            raise TransformBroken(
                "start transform", self._name, f"importing it failed: {found.message}", found.traceback
            )
        return found

    def _answer(self, wanted: bytes | None) -> int:
        """The number of the nursery's next word.

        Raises:
            OSError: it is gone.
        """
        assert self._end is not None  # noqa: S101 - it was asked
        found = self._end.recv(WORD.size, socket.MSG_WAITALL)
        if len(found) < WORD.size:
            raise ConnectionResetError("the nursery is gone")
        letter, number = WORD.unpack(found)
        if letter == REFUSED:
            raise OSError(number, os.strerror(number))
        if wanted is not None and letter != wanted:
            raise ConnectionResetError("the nursery made no process")
        return int(number)

    def _bury(self) -> None:
        """Forget a nursery that is gone, or is to go. Its processes go on until their wires are closed."""
        if self._end is not None:
            self._end.close()
            self._end = None
        if self._nursery is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._nursery.wait(1)
            self._nursery.kill()
            self._nursery.wait()
            self._nursery = None
            self._orphans |= self._living
            self._living.clear()


def ended(code: int | None) -> str:
    """How a process ended, for a sentence."""
    if code is None:
        return "ended"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}{_MEANINGS.get(name, '')}"


_MEANINGS = {
    "SIGSEGV": " (a segmentation fault)",
    "SIGKILL": " (as the kernel does when memory runs out)",
    "SIGABRT": " (it aborted)",
    "SIGBUS": " (a bus error)",
    "SIGILL": " (an illegal instruction)",
    "SIGFPE": " (an arithmetic error)",
}


def _errors() -> int:
    """Where processes write: the parent's standard error, if it has one."""
    try:
        os.fstat(2)
    except OSError:
        return subprocess.DEVNULL
    return 2


@contextlib.contextmanager
def _shared() -> Iterator[int]:
    """A file in memory that a process of ours maps too."""
    if hasattr(os, "memfd_create"):  # Linux
        file = os.memfd_create("asyncup")
        try:
            os.truncate(file, Progress.SIZE)
            yield file
        finally:
            os.close(file)
        return
    with tempfile.TemporaryFile() as temporary:
        temporary.truncate(Progress.SIZE)
        yield temporary.fileno()
