"""The time before a run begins, in which it connects, resolves and checks: what it is busy with, if that takes a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from asyncup.console.text import calm

#: What takes no longer is not worth a word.
QUIET_SECONDS = 0.5


class Opening:
    """Tells `show`, from a thread of its own, once a second what is going on, until it ends; then once that it is nothing.

    A thread, since nothing happens meanwhile that could be waited for, and the event loop may be held by an import.
    """

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._words = "connecting"
        self._begun = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="asyncup-opening", daemon=True)
        self._thread.start()

    def tell(self, words: str) -> None:
        """Say from now on that it is this."""
        self._words = words

    def end(self) -> None:
        """Say no more; when this returns nothing more comes."""
        if self._ended.is_set():
            return
        self._ended.set()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._show("")

    def _tick(self) -> None:
        seconds = QUIET_SECONDS
        while not self._ended.wait(seconds):
            since = time.monotonic() - self._begun
            self._show(f"{self._words} …{f' {calm(since)}' if since >= 1 else ''}")
            seconds = 1.0 - since % 1.0
