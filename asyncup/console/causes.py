"""Why rows failed: every one is counted under its cause, of which a few examples are kept.

A cause is the type of the error, what was being done, and the message without what is the row's own in it. Where messages differ
all the same, as those of a user's function may, all beyond a bound are counted together.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from asyncup.console.report.elements import shortened
from asyncup.events import Event, OfJob, RowFailed
from asyncup.model import DeadLetter

#: Examples of a cause; causes of one type and one kind of work; causes of all kinds; causes with a traceback.
EXAMPLES, ALIKE, CAUSES, TRACEBACKS = 3, 20, 100, 10
#: Characters of a message, of a key and of a traceback that are kept.
_MESSAGE, _KEY, _TRACEBACK = 500, 300, 4000
OTHERS = "other messages"
#: What differs from row to row in the messages of servers, libraries and functions: what is quoted, ids, and large numbers.
_OWN = re.compile(r"""(?<!\w)'[^']*'|"[^"]*"|\b(?=[\w-]*\d)(?:[\w-]{12,}|\d[\d,]{3,})\b|0x[0-9a-f]+""")


@dataclass(frozen=True, slots=True)
class Example:
    """One row that failed."""

    key: str
    object_key: str | None
    message: str
    attempts: int


@dataclass(slots=True)
class Cause:
    """One reason for which `count` rows failed. `general` is the message without what was the rows' own; `job` where there are several."""

    job: str | None
    type: str
    op: str
    general: str
    first: str
    is_one: bool = True
    count: int = 0
    examples: list[Example] = field(default_factory=list)
    traceback: str | None = None

    @property
    def message(self) -> str:
        """What is said of all of them: the very words, where those are the same."""
        return self.first if self.is_one else self.general


class Causes:
    """The reasons for which rows failed."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact
        self._causes: dict[tuple[str | None, str, str, str], Cause] = {}
        self._alike: Counter[tuple[str | None, str, str]] = Counter()
        self._tracebacks = 0
        self.count = 0

    def take(self, event: Event) -> None:
        """Count a row, if an event is that one has failed."""
        label, inner = (event.label, event.event) if isinstance(event, OfJob) else (None, event)
        if isinstance(inner, RowFailed):
            self.add(inner.letter, label)

    def add(self, letter: DeadLetter, job: str | None = None) -> None:
        """Count one more row."""
        self.count += 1
        key = ", ".join("NULL" if part is None else part for part in letter.key)
        message = self._cut(letter.message, _MESSAGE)
        cause = self._cause((job, letter.error, letter.op), message, _general(message, letter))
        cause.count += 1
        cause.is_one = cause.is_one and message == cause.first
        if len(cause.examples) < EXAMPLES:
            shown = None if letter.object_key is None else self._cut(letter.object_key, _KEY)
            cause.examples.append(Example(self._cut(key, _KEY), shown, message, letter.attempts))
        if letter.traceback is not None and cause.traceback is None and self._tracebacks < TRACEBACKS:
            self._tracebacks += 1
            cause.traceback = self._redact(letter.traceback)[-_TRACEBACK:]

    def most_first(self) -> list[Cause]:
        """All of them, the most frequent first."""
        return sorted(self._causes.values(), key=lambda cause: -cause.count)

    def _cause(self, kind: tuple[str | None, str, str], message: str, general: str) -> Cause:
        are_many = self._alike[kind] >= ALIKE or (self._alike[kind] and len(self._causes) >= CAUSES)
        if (*kind, general) not in self._causes and are_many:
            general = OTHERS
        place = (*kind, general)
        if place not in self._causes:
            self._alike[kind] += 1
            self._causes[place] = Cause(*place, message)
        return self._causes[place]

    def _cut(self, text: str, longest: int) -> str:
        return shortened(self._redact(text), longest)


def _general(message: str, letter: DeadLetter) -> str:
    """A message without the row's object key, the parts of its key, and what else looks like its own."""
    for own in sorted({letter.object_key or "", *(part or "" for part in letter.key)}, key=len, reverse=True):
        if (len(own) > 2 or own.isdecimal()) and own in message:
            message = _without(message, own)
    return own_parts(message)


def _without(message: str, own: str) -> str:
    """A message without a text, where that is no part of a longer word."""
    kept, *pieces = message.split(own)
    for piece in pieces:
        is_word = not (kept[-1:].isalnum() or piece[:1].isalnum())
        kept += ("…" if is_word else own) + piece
    return kept


def own_parts(message: str) -> str:
    """A message without what looks like a row's own: what is quoted, ids, large numbers."""
    return _OWN.sub("…", message)
