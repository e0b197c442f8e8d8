"""The low watermark: the highest key below which every row is settled, whatever order the uploads finish in.

Rows are tracked when they are read, in key order, before anything can reorder them. A ticket stands for a run of
consecutive rows, not for one, so a row costs two integer operations and no object; the watermark therefore moves
in steps of a ticket's size. Where a source is read in ranges, each has a track of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from asyncup.model import Counts, DeadLetter, Key, Outcome

#: The most rows that one ticket may stand for: a resumed run sends at most this many settled rows again.
TICKET_ROWS = 100
#: The same where a user's function has to be called again for each of them.
TRANSFORMED_ROWS = 20
#: The bytes of bodies that a ticket stands for, unless its only row has more: large rows are not sent again by the dozen.
TICKET_BYTES = 4 << 20


class Ticket:
    """A run of consecutive rows, the last of them with `last_key`, of which `open` are not settled yet.

    `on_end` is called when all of them are.
    """

    __slots__ = ("_track", "bytes", "last_key", "letters", "on_end", "open", "outcomes")

    def __init__(self, track: Track, rows: int, last_key: Key) -> None:
        self._track = track
        self.last_key = last_key
        self.open = rows
        self.outcomes = [0] * len(Outcome)
        self.bytes = 0
        self.letters: list[DeadLetter] = []
        self.on_end: Callable[[], None] | None = None

    def extend(self, rows: int, last_key: Key) -> None:
        """Let it stand for so many rows more; for one that is held open."""
        self.open += rows
        self.last_key = last_key

    def close(self) -> None:
        """No more rows come to one that was held open."""
        self._less(1)

    def fail(self, letter: DeadLetter) -> Sequence[DeadLetter]:
        """Account for one row of the run that failed; its letter goes where the watermark goes. Gives the letters that it made."""
        self.letters.append(letter)
        self.settle(Outcome.FAILED)
        return (letter,)

    def settle(self, outcome: Outcome, size: int = 0, rows: int = 1) -> None:
        """Account for one row of the run, or for more; the last one moves the watermark if nothing older is open."""
        self.outcomes[outcome] += rows
        self.bytes += size
        self._less(rows)

    def _less(self, rows: int) -> None:
        self.open -= rows
        if not self.open:
            self._track.advance()
            if self.on_end is not None:
                self.on_end()
        elif self.open < 0:
            raise AssertionError("a ticket was settled more often than it has rows")

    def counts(self) -> Counts:
        put, skipped, failed = self.outcomes
        return Counts(put, skipped, failed, self.bytes)


class StreamTicket:
    """The ticket of one row, which gives back what the row has had to itself once it is settled, told of its bytes."""

    __slots__ = ("_give_back", "_ticket")

    def __init__(self, ticket: Ticket | Together, give_back: Callable[[int], None]) -> None:
        self._ticket = ticket
        self._give_back = give_back

    def fail(self, letter: DeadLetter) -> Sequence[DeadLetter]:
        """See `Ticket.fail`."""
        letters = self._ticket.fail(letter)
        self._give_back(0)
        return letters

    def settle(self, outcome: Outcome, size: int = 0) -> None:
        """See `Ticket.settle`."""
        self._ticket.settle(outcome, size)
        self._give_back(size)


class Together:
    """The ticket of rows that are settled once several uploads are: of a row with several objects, or of a pack.

    `keys` are those of the rows, which may become more until the last upload has its end. `on_put` is called once they are put.
    """

    __slots__ = ("_is_put", "_letters", "_on_put", "_size", "_ticket", "_uploads", "keys", "rows")

    def __init__(
        self, ticket: Ticket, keys: Sequence[Key], uploads: int, on_put: Callable[[], None] | None = None
    ) -> None:
        self._ticket = ticket
        self._on_put = on_put
        self.keys = keys
        self.rows = len(keys)
        self._uploads = uploads
        self._letters: tuple[DeadLetter, ...] = ()
        self._size = 0
        self._is_put = False

    def fail(self, letter: DeadLetter) -> Sequence[DeadLetter]:
        """See `Ticket.fail`: the first upload that fails makes a letter for each row."""
        letters = () if self._letters else tuple(replace(letter, key=key) for key in self.keys)
        self._letters = self._letters or letters
        self._end()
        return letters

    def settle(self, outcome: Outcome, size: int = 0) -> None:
        """See `Ticket.settle`. The rows were put if one upload was, and none failed."""
        self._is_put |= outcome is Outcome.PUT
        self._size += size
        self._end()

    def _end(self) -> None:
        self._uploads -= 1
        if self._uploads:
            return
        for letter in self._letters:
            self._ticket.fail(letter)
        if not self._letters:
            self._ticket.settle(Outcome.PUT if self._is_put else Outcome.SKIPPED, self._size, self.rows)
            if self._is_put and self._on_put is not None:
                self._on_put()


class Track:
    """The tickets of one range in key order; `position` is how far the settled ones reach without a gap."""

    def __init__(self, watermark: Watermark, position: Key | None) -> None:
        self._watermark = watermark
        self._tickets: deque[Ticket] = deque()
        self.position = position
        self.is_read = False

    @property
    def is_finished(self) -> bool:
        """Whether every row of the range was read (`is_read`, whoever reads says so) and is settled."""
        return self.is_read and not self._tickets

    @property
    def tickets(self) -> tuple[Ticket, ...]:
        """Those that the watermark has not passed."""
        return tuple(self._tickets)

    def track(self, rows: int, last_key: Key) -> Ticket:
        """A ticket for the next `rows` rows in key order, the last of which has `last_key`."""
        ticket = Ticket(self, rows, last_key)
        self._tickets.append(ticket)
        return ticket

    def advance(self) -> None:
        """Move over the settled tickets at the head; called by a ticket when its last row is settled."""
        tickets = self._tickets
        while tickets and not tickets[0].open:
            ticket = tickets.popleft()
            self.position = ticket.last_key
            self._watermark.passed(ticket)

    def __repr__(self) -> str:
        return f"<Track {self.position}, {len(self._tickets)} tickets>"


class Watermark:
    """The tracks of a job, and what they have passed together.

    `counts` covers exactly the rows up to the tracks' positions, beginning with what a checkpoint held. `letters` are
    those of the failed rows among them that nobody has taken away yet.
    """

    def __init__(self, counts: Counts | None = None) -> None:
        self.counts = self._before = counts or Counts()
        self.letters: list[DeadLetter] = []
        self.tracks: list[Track] = []

    def begin(self, position: Key | None = None) -> Track:
        """A track for one more range, settled up to `position`."""
        track = Track(self, position)
        self.tracks.append(track)
        return track

    def passed(self, ticket: Ticket) -> None:
        """A track has moved over the ticket."""
        self.counts += ticket.counts()
        self.letters += ticket.letters

    def open_letters(self) -> list[DeadLetter]:
        """The letters of rows that the watermark has not passed; a run that resumes sends these rows again."""
        return [letter for track in self.tracks for ticket in track.tickets for letter in ticket.letters]

    def settled(self) -> Counts:
        """What was settled since this watermark began, whether it has passed it or not."""
        open_tickets = (ticket for track in self.tracks for ticket in track.tickets)
        return sum((ticket.counts() for ticket in open_tickets), self.counts) - self._before

    @property
    def open(self) -> int:
        """Rows that were tracked and are not settled."""
        return sum(ticket.open for track in self.tracks for ticket in track.tickets)

    def __repr__(self) -> str:
        return f"<Watermark {self.counts.rows} rows, {self.tracks}, {self.open} rows open>"
