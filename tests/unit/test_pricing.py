"""The arithmetic of a plan: requests, their price, their time."""

from __future__ import annotations

import pytest

from asyncup.planning.reckoning import price_of
from asyncup.pricing import CORE_RATE, Requests, requests_of, times_at

MIB = 1 << 20


@pytest.mark.parametrize(
    ("rows", "tried", "sizes", "expected"),
    [
        (1000, 10, [1] * 10, Requests(put=1000, multipart=0, parts=0)),
        (1000, 10, [1] * 9, Requests(put=900, multipart=0, parts=0)),  # one row of ten has no object
        (1000, 4, [1, 16 * MIB, 16 * MIB - 1, 33 * MIB], Requests(put=500, multipart=500, parts=1000)),
        (7, 0, [], Requests(put=7, multipart=0, parts=0)),
        (0, 5, [1] * 5, Requests(put=0, multipart=0, parts=0)),
        (1000, 10, [], Requests(put=0, multipart=0, parts=0)),
    ],
)
def test_requests_are_those_of_the_sample_for_every_row(
    rows: int, tried: int, sizes: list[int], expected: Requests
) -> None:
    assert requests_of(rows, tried, sizes, 16 * MIB) == expected


def test_an_object_in_parts_costs_two_requests_more_than_its_parts() -> None:
    requests = Requests(put=10, multipart=3, parts=12, list=5, look=100)
    assert requests.total == 10 + 3 * 2 + 12 + 5 + 100
    assert requests.dollars == pytest.approx(33 * 0.005 / 1000 + 100 * 0.0004 / 1000)


def test_a_million_objects_cost_five_dollars_and_nothing_is_known_of_other_prices() -> None:
    requests = Requests(put=1_000_000, multipart=0, parts=0)
    price = price_of(requests, 1000 << 30, priced=True, storage_class=None)
    assert (price.dollars, price.storage_month) == (pytest.approx(5.0), pytest.approx(23.0))
    assert price.date is not None
    assert price.source == "https://aws.amazon.com/s3/pricing/"
    assert price_of(requests, 1, priced=False, storage_class=None).dollars is None
    assert price_of(requests, 1, priced=True, storage_class="DEEP_ARCHIVE").dollars is None
    assert price_of(requests, 1, priced=True, storage_class="STANDARD").dollars == pytest.approx(5.0)
    assert (Requests().total, Requests().dollars) == (None, None)


def test_time_is_objects_by_rate_and_the_bytes_that_this_takes() -> None:
    times = times_at(7000, 14_000_000, max_rate=None, max_bandwidth=None)
    assert [(time.rate, time.seconds) for time in times] == [
        (100, 70.0),
        (1000, 7.0),
        (3500, 2.0),
        (CORE_RATE, 7000 / CORE_RATE),
    ]
    assert [time.bytes_per_second for time in times[:3]] == [200_000.0, 2_000_000.0, 7_000_000.0]
    assert times_at(0, 0, max_rate=None, max_bandwidth=None) == ()


def test_large_objects_are_sent_no_faster_than_by_a_fast_network() -> None:
    times = times_at(10, 10_000_000, max_rate=None, max_bandwidth=None)  # a megabyte each
    assert [(time.rate, time.seconds) for time in times] == [(100, 0.1), (1000, 0.01), (1250, 0.008)]
    assert "10 Gbit/s" in times[-1].basis


@pytest.mark.parametrize(
    ("max_rate", "max_bandwidth", "rates"),
    [
        (500.0, None, [(100, ""), (500, "--max-rate")]),
        (50.0, None, [(50, "--max-rate")]),
        (None, 2000 * 300, [(100, ""), (300, "--max-bandwidth")]),  # objects of 2,000 bytes
        (200.0, 2000 * 300, [(100, ""), (200, "--max-rate")]),
    ],
)
def test_a_bound_of_the_user_is_the_last_rate(
    max_rate: float | None, max_bandwidth: int | None, rates: list[tuple[float, str]]
) -> None:
    times = times_at(1000, 2_000_000, max_rate=max_rate, max_bandwidth=max_bandwidth)
    assert [(time.rate, time.basis if time.basis.startswith("--") else "") for time in times] == rates
