"""Counting: the tally adds up, and the histogram's percentiles are those of what was recorded."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncup.errors import ServerFault, Throttled
from asyncup.flow.histogram import Histogram
from asyncup.flow.tally import Tally


def test_answers_that_asked_for_fewer_requests_are_counted() -> None:
    tally = Tally()
    for error in (ServerFault("put", "o", "500"), Throttled("put", "o", "503"), Throttled("put", "o", "429")):
        tally.retry(error)
    assert tally.throttled == 2


def test_without_any_duration_every_percentile_is_zero() -> None:
    assert [Histogram().percentile(share) for share in (0.0, 0.5, 1.0)] == [0.0, 0.0, 0.0]


@given(st.lists(st.floats(2e-6, 1e6), min_size=1), st.sampled_from([0.0, 0.01, 0.5, 0.95, 0.99, 1.0]))
def test_a_percentile_is_within_four_per_cent_of_the_duration_that_the_share_does_not_exceed(
    durations: list[float], share: float
) -> None:
    histogram = Histogram()
    for seconds in durations:
        histogram.record(seconds)
    exact = sorted(durations)[max(0, math.ceil(share * len(durations)) - 1)]
    assert histogram.percentile(share) == pytest.approx(exact, rel=0.04)
    assert histogram.count == len(durations)


@pytest.mark.parametrize(("seconds", "shown"), [(0.0, 1e-6), (-1.0, 1e-6), (1e-9, 1e-6), (1e30, 1.08e6)])
def test_a_duration_beyond_the_range_is_counted_at_its_end(seconds: float, shown: float) -> None:
    histogram = Histogram()
    histogram.record(seconds)
    assert histogram.count == 1
    assert histogram.percentile(1.0) == pytest.approx(shown, rel=0.04)
