"""Daemon threads of one owner, for calls that block: a few, started when there is none idle, given up when they hang.

Python's own pool joins its threads before the process may end, so that one call that hangs keeps it for ever; and it
has no way to replace the thread of such a call.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue

#: A call that takes care of its own result and errors.
Call = Callable[[], object]


class Threads:
    """At most `most` threads at work. All methods are for one thread, that of the owner; `ended` is called in theirs."""

    def __init__(self, most: int, name: str, ended: Callable[[], object] = lambda: None) -> None:
        self._most, self._name, self._ended = most, name, ended
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._idle: deque[None] = deque()
        self._threads: set[threading.Thread] = set()
        self._given_up: set[threading.Thread] = set()
        self._is_closed = False

    @property
    def alive(self) -> int:
        """How many have not ended."""
        return len(self._threads)

    @property
    def given_up(self) -> int:
        """How many hang in a call that nobody waits for any more."""
        return len(self._given_up)

    def submit(self, call: Call) -> None:
        """Have a call made, after those that came before it."""
        self._calls.put(call)
        if self._idle:
            self._idle.pop()
        elif len(self._threads) - len(self._given_up) < self._most:
            self._start()

    def give_up(self, thread: threading.Thread) -> None:
        """Have another thread in place of one that hangs. It ends after its call, should that ever return.

        So many can be replaced as may be at work. One beyond that is counted among those at work.
        """
        if thread in self._given_up or self.given_up >= self._most or self._is_closed:
            return
        self._given_up.add(thread)
        if self._calls.qsize():
            self._start()

    def close(self) -> tuple[threading.Thread, ...]:
        """Drop the calls that have not begun, and let every thread end after its own. Waits for none; these are they."""
        self._is_closed = True
        while True:
            try:
                self._calls.get_nowait()
            except Empty:
                break
        threads = tuple(self._threads)
        for _ in threads:
            self._calls.put(None)
        return threads

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
        self._threads.add(thread)
        thread.start()

    def _work(self) -> None:
        calls, this = self._calls, threading.current_thread()
        try:
            while this not in self._given_up:
                try:
                    call = calls.get_nowait()
                except Empty:
                    self._idle.append(None)
                    call = calls.get()
                if call is None:
                    return
                call()
                del call
        finally:
            self._given_up.discard(this)
            self._threads.discard(this)
            self._ended()
