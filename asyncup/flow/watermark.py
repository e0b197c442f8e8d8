"""The low watermark: the highest key below which every row is settled, whatever order the uploads finish in.

Rows are tracked when they are read, in key order, before anything can reorder them. A ticket stands for a run of
consecutive rows, not for one, so a row costs two integer operations and no object; the watermark therefore moves
in steps of a ticket's size.
"""

from __future__ import annotations

from collections import deque

from asyncup.model import Counts, DeadLetter, Key, Outcome

#: The most rows that one ticket may stand for: a resumed run sends at most this many settled rows again.
TICKET_ROWS = 500
#: The bytes of bodies that a ticket stands for, unless its only row has more: large rows are not sent again by the dozen.
TICKET_BYTES = 4 << 20


class Ticket:
    """A run of consecutive rows, the last of them with `last_key`, of which `open` are not settled yet."""

    __slots__ = ("_watermark", "bytes", "last_key", "letters", "open", "outcomes")

    def __init__(self, watermark: Watermark, rows: int, last_key: Key) -> None:
        self._watermark = watermark
        self.last_key = last_key
        self.open = rows
        self.outcomes = [0] * len(Outcome)
        self.bytes = 0
        self.letters: list[DeadLetter] = []

    def fail(self, letter: DeadLetter) -> None:
        """Account for one row of the run that failed; its letter goes where the watermark goes."""
        self.letters.append(letter)
        self.settle(Outcome.FAILED)

    def settle(self, outcome: Outcome, size: int = 0) -> None:
        """Account for one row of the run; the last one moves the watermark if nothing older is open."""
        self.outcomes[outcome] += 1
        self.bytes += size
        self.open -= 1
        if not self.open:
            self._watermark.advance()
        elif self.open < 0:
            raise AssertionError("a ticket was settled more often than it has rows")

    def counts(self) -> Counts:
        put, skipped, failed = self.outcomes
        return Counts(put, skipped, failed, self.bytes)


class Watermark:
    """Tickets in key order, and how far the settled ones reach without a gap.

    `position` is the watermark and `counts` covers exactly the rows up to it, both beginning with what a checkpoint
    held. `letters` are those of the failed rows among them that nobody has taken away yet.
    """

    def __init__(self, position: Key | None = None, counts: Counts | None = None) -> None:
        self.position = position
        self.counts = self._before = counts or Counts()
        self.letters: list[DeadLetter] = []
        self._tickets: deque[Ticket] = deque()

    def track(self, rows: int, last_key: Key) -> Ticket:
        """A ticket for the next `rows` rows in key order, the last of which has `last_key`."""
        ticket = Ticket(self, rows, last_key)
        self._tickets.append(ticket)
        return ticket

    def open_letters(self) -> list[DeadLetter]:
        """The letters of rows that the watermark has not passed; a run that resumes sends these rows again."""
        return [letter for ticket in self._tickets for letter in ticket.letters]

    def settled(self) -> Counts:
        """What was settled since this watermark began, whether it has passed it or not."""
        return sum((ticket.counts() for ticket in self._tickets), self.counts) - self._before

    @property
    def open(self) -> int:
        """Rows that were tracked and are not settled."""
        return sum(ticket.open for ticket in self._tickets)

    def advance(self) -> None:
        """Move over the settled tickets at the head; called by a ticket when its last row is settled."""
        tickets = self._tickets
        while tickets and not tickets[0].open:
            ticket = tickets.popleft()
            self.position = ticket.last_key
            self.counts += ticket.counts()
            self.letters += ticket.letters

    def __repr__(self) -> str:
        return f"<Watermark {self.position}, {len(self._tickets)} tickets, {self.open} rows open>"
