"""What a run waited for: every wait is counted under what was said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from asyncup.console.causes import ALIKE, OTHERS, own_parts
from asyncup.console.report.elements import shortened
from asyncup.events import Waiting

#: Characters of a message that are kept.
_MESSAGE = 500


@dataclass(slots=True)
class Waited:
    """What was waited for, `count` times; `seconds` is the longest of these waits, `first` and `last` when they began."""

    message: str
    first: float
    last: float
    count: int = 0
    seconds: float = 0.0


class Waits:
    """What a run waited for, by what the error says behind the name of what it is about."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact
        self._waits: dict[str, Waited] = {}

    def add(self, event: Waiting, moment: float) -> None:
        """Count one more wait, which begins at `moment`, in seconds since the run began."""
        said = self._redact(event.message)
        kind = own_parts(said.partition(": ")[2] or said)[:_MESSAGE]
        if kind not in self._waits and len(self._waits) >= ALIKE:
            kind = OTHERS
        waited = self._waits.setdefault(kind, Waited(shortened(said, _MESSAGE), moment, moment))
        waited.count += 1
        waited.last = moment
        waited.seconds = max(waited.seconds, event.seconds)

    def most_first(self) -> list[Waited]:
        """All of them, the most frequent first."""
        return sorted(self._waits.values(), key=lambda waited: -waited.count)
