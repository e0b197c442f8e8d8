"""The watermark: whatever order rows are settled in, it stands at the highest row below which nothing is open."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asyncup.flow.watermark import Ticket, Track, Watermark
from asyncup.model import Counts, Outcome

#: What a checkpoint held before the machine begins.
BEFORE = Counts(put=3, skipped=2, failed=1, bytes=1000)


class Rows:
    """One range: rows are numbered from 1; the key of a ticket is the number of its last row."""

    def __init__(self, track: Track) -> None:
        self.track = track
        self.tickets: list[tuple[Ticket, range]] = []
        self.open: dict[int, Ticket] = {}
        self.settled: dict[int, tuple[Outcome, int]] = {}
        self.rows = 0
        self.last = 0

    @property
    def position(self) -> int:
        assert self.track.position is not None
        return int(self.track.position[0] or 0)

    def settle(self, number: int, outcome: Outcome, size: int) -> None:
        self.open.pop(number).settle(outcome, size)
        self.settled[number] = (outcome, size)

    def counts(self, upto: int | None = None) -> Counts:
        found = [row for number, row in self.settled.items() if upto is None or number <= upto]
        outcomes = [outcome for outcome, _ in found]
        put, skipped, failed = (outcomes.count(outcome) for outcome in Outcome)
        return Counts(put, skipped, failed, sum(size for _, size in found))


class AnyOrder(RuleBasedStateMachine):
    """Three ranges that are read side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.watermark = Watermark(BEFORE)
        self.ranges = [Rows(self.watermark.begin(("0",))) for _ in range(3)]

    @rule(which=st.integers(0, 2), size=st.integers(1, 7))
    def track(self, which: int, size: int) -> None:
        rows = self.ranges[which]
        numbers = range(rows.rows + 1, rows.rows + size + 1)
        rows.rows += size
        ticket = rows.track.track(size, (str(rows.rows),))
        rows.tickets.append((ticket, numbers))
        rows.open |= dict.fromkeys(numbers, ticket)

    @precondition(lambda self: any(rows.open for rows in self.ranges))
    @rule(data=st.data(), outcome=st.sampled_from(Outcome), size=st.integers(0, 10))
    def settle(self, data: st.DataObject, outcome: Outcome, size: int) -> None:
        rows = data.draw(st.sampled_from([rows for rows in self.ranges if rows.open]))
        rows.settle(data.draw(st.sampled_from(sorted(rows.open))), outcome, size)

    @precondition(lambda self: any(rows.open for rows in self.ranges))
    @rule(data=st.data())
    def settle_all_of_a_ticket_but_one_row(self, data: st.DataObject) -> None:
        rows = data.draw(st.sampled_from([rows for rows in self.ranges if rows.open]))
        ticket, numbers = data.draw(st.sampled_from(rows.tickets))
        for number in list(numbers)[1:]:
            if number in rows.open:
                assert rows.open[number] is ticket
                rows.settle(number, Outcome.PUT, 1)

    @precondition(lambda self: any(len(rows.open) < rows.rows for rows in self.ranges))
    @rule(data=st.data())
    def settle_a_row_too_many(self, data: st.DataObject) -> None:
        finished = [
            ticket
            for rows in self.ranges
            for ticket, numbers in rows.tickets
            if not any(number in rows.open for number in numbers)
        ]
        if finished:
            with pytest.raises(AssertionError, match="more often than it has rows"):
                data.draw(st.sampled_from(finished)).settle(Outcome.PUT, 1)
            # nothing after such a defect can be relied on: the run ends
            self.__init__()  # type: ignore[misc]

    @invariant()
    def each_track_stands_at_the_end_of_the_last_ticket_below_which_nothing_is_open(self) -> None:
        for rows in self.ranges:
            ends = [numbers[-1] for _, numbers in rows.tickets]
            oldest = min(rows.open, default=rows.rows + 1)
            assert rows.position == max([end for end in ends if end < oldest], default=0)

    @invariant()
    def none_ever_moves_back(self) -> None:
        for rows in self.ranges:
            assert rows.position >= rows.last
            rows.last = rows.position

    @invariant()
    def its_counts_cover_exactly_the_rows_up_to_them(self) -> None:
        assert self.watermark.counts == sum((rows.counts(rows.position) for rows in self.ranges), BEFORE)

    @invariant()
    def it_counts_what_was_settled_beyond_them_too(self) -> None:
        assert self.watermark.settled() == sum((rows.counts() for rows in self.ranges), Counts())

    @invariant()
    def it_knows_how_many_rows_are_open(self) -> None:
        assert self.watermark.open == sum(len(rows.open) for rows in self.ranges)


TestAnyOrder = AnyOrder.TestCase


def test_before_anything_is_settled_it_stands_where_the_checkpoint_stood() -> None:
    assert Watermark().begin().position is None
    assert Watermark().counts == Counts()
    watermark = Watermark(BEFORE)
    resumed = watermark.begin(("a", None))
    ticket = resumed.track(2, ("b", "c"))
    ticket.settle(Outcome.PUT, 5)
    assert (resumed.position, watermark.counts) == (("a", None), BEFORE)
    ticket.settle(Outcome.FAILED)
    assert (resumed.position, watermark.counts) == (("b", "c"), BEFORE + Counts(put=1, failed=1, bytes=5))


def test_a_range_is_finished_when_it_is_read_and_its_last_row_settled() -> None:
    track = Watermark().begin()
    ticket = track.track(1, ("1",))
    assert not track.is_finished
    track.is_read = True
    assert not track.is_finished
    ticket.settle(Outcome.PUT)
    assert track.is_finished


def test_it_can_be_looked_at() -> None:
    watermark = Watermark(Counts(put=4))
    watermark.begin(("7",)).track(3, ("10",)).settle(Outcome.PUT)
    assert repr(watermark) == "<Watermark 4 rows, [<Track ('7',), 1 tickets>], 2 rows open>"
