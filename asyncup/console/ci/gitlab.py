"""A job on GitLab: what happens while it runs stands in a section of its log that can be folded away.

The markers hold control characters by GitLab's own format: https://docs.gitlab.com/ci/jobs/job_logs/#create-custom-collapsible-sections.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TextIO

from asyncup.console.ci.annotations import Outcome
from asyncup.console.terminal import write_line
from asyncup.events import Event


class GitlabSection:
    """An observer that opens a section with the first event, and closes it when the run is over."""

    def __init__(self, stream: TextIO, now: Callable[[], float] = time.time) -> None:
        self._stream = stream
        self._now = now
        self._name: str | None = None

    def on_event(self, _event: Event) -> None:
        if self._name is None:
            self._name = f"asyncup_{os.getpid()}"
            self._write(f"section_start:{int(self._now())}:{self._name}\r\x1b[0Kasyncup: the run")

    def close(self) -> None:
        if self._name is not None:
            self._write(f"section_end:{int(self._now())}:{self._name}\r\x1b[0K")
            self._name = None

    def finish(self, outcome: Outcome, exit_code: int) -> None:
        """The last words stand behind the section."""

    def _write(self, marker: str) -> None:
        write_line(self._stream, f"\x1b[0K{marker}")
