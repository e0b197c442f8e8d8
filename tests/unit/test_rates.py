"""Speed and time left follow the last seconds, and say nothing where nothing is known."""

from __future__ import annotations

import pytest

from asyncup.console.rates import EARLY_SECONDS, WINDOW_SECONDS, RateMeter, Rates
from asyncup.events import Progress
from asyncup.model import Counts
from asyncup.resolved import Plan


def plan(estimate: int | None, before: int = 0) -> Plan:
    return Plan("job", "t", ("id",), "null:", estimate, None, before, {}, None)


def progress(seconds: float, put: int, size: int = 0, skipped: int = 0) -> Progress:
    return Progress(Counts(put=put, skipped=skipped, bytes=size), seconds, 1, 8, put, 0, 0, 0)


def test_at_the_very_beginning_nothing_is_known() -> None:
    assert RateMeter(plan(1000)).add(progress(0.0, 0)) == Rates(0.0, 0.0, None, None)


def test_the_first_figures_are_those_since_the_beginning() -> None:
    assert RateMeter(plan(None)).add(progress(2.0, 100, 5000)) == Rates(50.0, 2500.0, None, None)


def test_rates_are_those_of_the_last_seconds_not_of_the_whole_run() -> None:
    meter = RateMeter(plan(None))
    for second in range(100):
        meter.add(progress(float(second), 10 * second, 100 * second))
    for second in range(1, 11):  # it stalls, and the figures say so
        rates = meter.add(progress(99.0 + second, 990, 9900))
        assert (rates.objects == 0) == (second >= WINDOW_SECONDS)
    assert rates.bytes == 0


def test_events_far_apart_still_give_a_rate() -> None:
    meter = RateMeter(plan(None))
    meter.add(progress(0.0, 0))
    assert meter.add(progress(60.0, 600)).objects == 10
    assert meter.add(progress(120.0, 1800)).objects == 20


@pytest.mark.parametrize(
    ("estimate", "before", "settled", "share", "eta"),
    [
        (1000, 0, 100, 0.1, 9 * EARLY_SECONDS),
        (1000, 500, 100, 0.6, 4 * EARLY_SECONDS),  # what earlier runs settled is done, too
        (100, 0, 100, 1.0, None),
        (50, 0, 100, 1.0, None),  # the estimate was too low
        (0, 0, 100, None, None),
        (None, 0, 100, None, None),
        (1000, 0, 0, 0.0, None),  # nothing has moved: no time can be told
    ],
)
def test_share_and_time_left_come_from_the_estimate_and_the_rate(
    estimate: int | None, before: int, settled: int, share: float | None, eta: float | None
) -> None:
    meter = RateMeter(plan(estimate, before))
    meter.add(progress(0.0, 0))
    assert meter.add(progress(EARLY_SECONDS / 2, 0, skipped=settled // 2)).eta is None  # the first pages say nothing
    rates = meter.add(progress(EARLY_SECONDS, 0, skipped=settled))
    assert rates == Rates(0.0, 0.0, eta, share)  # rows that are skipped are no objects, but they are done
