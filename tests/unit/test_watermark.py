"""The watermark: whatever order rows are settled in, it stands at the highest row below which nothing is open."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asyncup.flow.watermark import Ticket, Watermark
from asyncup.model import Counts, Outcome

#: What a checkpoint held before the machine begins.
BEFORE = Counts(put=3, skipped=2, failed=1, bytes=1000)


class AnyOrder(RuleBasedStateMachine):
    """Rows are numbered from 1; the key of a ticket is the number of its last row."""

    def __init__(self) -> None:
        super().__init__()
        self.watermark = Watermark(("0",), BEFORE)
        self.tickets: list[tuple[Ticket, range]] = []
        self.open: dict[int, Ticket] = {}
        self.settled: dict[int, tuple[Outcome, int]] = {}
        self.rows = 0
        self.last = 0

    @rule(size=st.integers(1, 7))
    def track(self, size: int) -> None:
        numbers = range(self.rows + 1, self.rows + size + 1)
        self.rows += size
        ticket = self.watermark.track(size, (str(self.rows),))
        self.tickets.append((ticket, numbers))
        self.open |= dict.fromkeys(numbers, ticket)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome), size=st.integers(0, 10))
    def settle(self, data: st.DataObject, outcome: Outcome, size: int) -> None:
        self._settle(data.draw(st.sampled_from(sorted(self.open))), outcome, size)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def settle_all_of_a_ticket_but_one_row(self, data: st.DataObject) -> None:
        ticket, numbers = data.draw(st.sampled_from(self.tickets))
        for number in list(numbers)[1:]:
            if number in self.open:
                assert self.open[number] is ticket
                self._settle(number, Outcome.PUT, 1)

    @precondition(lambda self: len(self.open) < self.rows)
    @rule(data=st.data())
    def settle_a_row_too_many(self, data: st.DataObject) -> None:
        finished = [ticket for ticket, numbers in self.tickets if not any(number in self.open for number in numbers)]
        if finished:
            with pytest.raises(AssertionError, match="more often than it has rows"):
                data.draw(st.sampled_from(finished)).settle(Outcome.PUT, 1)
            # nothing after such a defect can be relied on: the run ends
            self.__init__()  # type: ignore[misc]

    def _settle(self, number: int, outcome: Outcome, size: int) -> None:
        self.open.pop(number).settle(outcome, size)
        self.settled[number] = (outcome, size)

    @property
    def position(self) -> int:
        assert self.watermark.position is not None
        return int(self.watermark.position[0] or 0)

    @invariant()
    def it_stands_at_the_end_of_the_last_ticket_below_which_nothing_is_open(self) -> None:
        ends = [numbers[-1] for _, numbers in self.tickets]
        oldest = min(self.open, default=self.rows + 1)
        assert self.position == max([end for end in ends if end < oldest], default=0)

    @invariant()
    def it_never_moves_back(self) -> None:
        assert self.position >= self.last
        self.last = self.position

    @invariant()
    def its_counts_cover_exactly_the_rows_up_to_it(self) -> None:
        assert self.watermark.counts == BEFORE + self.counts(range(1, self.position + 1))

    @invariant()
    def it_counts_what_was_settled_beyond_it_too(self) -> None:
        assert self.watermark.settled() == self.counts(self.settled)

    def counts(self, numbers: Iterable[int]) -> Counts:
        found = [self.settled[number] for number in numbers]
        outcomes = [outcome for outcome, _ in found]
        put, skipped, failed = (outcomes.count(outcome) for outcome in Outcome)
        return Counts(put, skipped, failed, sum(size for _, size in found))

    @invariant()
    def it_knows_how_many_rows_are_open(self) -> None:
        assert self.watermark.open == len(self.open)


TestAnyOrder = AnyOrder.TestCase


def test_before_anything_is_settled_it_stands_where_the_checkpoint_stood() -> None:
    assert Watermark().position is None
    assert Watermark().counts == Counts()
    resumed = Watermark(("a", None), BEFORE)
    ticket = resumed.track(2, ("b", "c"))
    ticket.settle(Outcome.PUT, 5)
    assert (resumed.position, resumed.counts) == (("a", None), BEFORE)
    ticket.settle(Outcome.FAILED)
    assert (resumed.position, resumed.counts) == (("b", "c"), BEFORE + Counts(put=1, failed=1, bytes=5))


def test_it_can_be_looked_at() -> None:
    watermark = Watermark(("7",))
    watermark.track(3, ("10",)).settle(Outcome.PUT)
    assert repr(watermark) == "<Watermark ('7',), 1 tickets, 2 rows open>"
