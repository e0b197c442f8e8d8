"""Limits: what a prefix takes a second, and how it comes to take more."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from asyncup.bench.simulator.launch import simulator
from asyncup.bench.simulator.limits import Limits
from tests.integration.raw_s3 import Client, connect, request


def press(
    limits: Limits, demand: float, begin: float, end: float, key: Callable[[int], str] = lambda _: "docs/key"
) -> float:
    """Ask for `demand` requests a second between two moments; how many were taken a second."""
    number = int(demand * (end - begin))
    taken = sum(limits.admits("bucket", key(index), begin + index / demand) for index in range(number))
    return taken / (end - begin)


def anywhere(seed: int) -> Callable[[int], str]:
    dice = random.Random(seed)
    return lambda _: f"docs/{dice.getrandbits(64):016x}"


@pytest.mark.parametrize("rate", [150, 1500, 3500])
def test_a_prefix_takes_its_rate_whatever_is_asked(rate: int) -> None:
    limits = Limits(rate)
    press(limits, 10 * rate, 0, 1)  # the burst
    assert press(limits, 10 * rate, 1, 11) == pytest.approx(rate, rel=0.001)
    assert press(limits, 1.05 * rate, 11, 21) == pytest.approx(rate, rel=0.02)


def test_what_stays_below_the_rate_is_all_taken() -> None:
    assert press(Limits(1000), 999, 0, 10) == 999


def test_a_burst_is_a_tenth_of_a_second() -> None:
    limits = Limits(1000)
    assert sum(limits.admits("bucket", "key", 0) for _ in range(1000)) == 100
    assert sum(limits.admits("bucket", "key", 60) for _ in range(1000)) == 100, "waiting saves no more"


@pytest.mark.parametrize(
    ("depth", "one", "other", "share_a_limit"),
    [
        (1, "a/x", "b/x", False),
        (1, "a/x", "a/y/z", True),
        (1, "x", "y", True),
        (0, "a/x", "b/x", True),
        (2, "a/b/x", "a/c/x", False),
        (2, "a/x", "a/y", True),
    ],
)
def test_leading_path_segments_have_a_limit_of_their_own(depth: int, one: str, other: str, share_a_limit: bool) -> None:
    limits = Limits(1, depth=depth)
    assert limits.admits("bucket", one, 0)
    assert limits.admits("bucket", other, 0) is not share_a_limit
    assert limits.admits("other", one, 0)


def test_pressure_that_lasts_splits_a_prefix_and_doubles_what_it_takes() -> None:
    limits, keys = Limits(1000, split_after=5), anywhere(1)
    press(limits, 5000, 0, 0.5, keys)
    assert press(limits, 5000, 0.5, 4.9, keys) == pytest.approx(1000, rel=0.01)
    press(limits, 5000, 4.9, 6, keys)
    assert press(limits, 5000, 6, 9.9, keys) == pytest.approx(2000, rel=0.02)
    press(limits, 5000, 9.9, 11, keys)
    assert press(limits, 5000, 11, 14, keys) == pytest.approx(4000, rel=0.05)


def test_pressure_that_pauses_does_not_split() -> None:
    limits, keys = Limits(1000, split_after=5), anywhere(2)
    for begin in range(0, 40, 8):
        press(limits, 5000, begin, begin + 4, keys)
    press(limits, 500, 40, 60, keys)
    assert limits.as_json()["partitions"] == {"bucket/docs/": [1000]}


def test_one_that_keeps_just_below_the_limit_is_pressure_too() -> None:
    limits, keys = Limits(1000, split_after=5), anywhere(3)
    assert press(limits, 950, 0, 5.5, keys) == pytest.approx(950, rel=0.001)
    assert limits.as_json()["partitions"] == {"bucket/docs/": [1000, 1000]}


@pytest.mark.parametrize(("hashed", "taken"), [(False, 1000), (True, 2000)])
def test_keys_in_their_order_profit_from_a_split_by_hash_alone(hashed: bool, taken: float) -> None:
    limits = Limits(1000, split_after=5, hashed=hashed)
    press(limits, 5000, 0, 5.2, lambda index: f"docs/{index:08}")
    assert len(limits.as_json()["partitions"]["bucket/docs/"]) == 2
    assert press(limits, 5000, 5.5, 9, lambda index: f"docs/1{index:07}") == pytest.approx(taken, rel=0.1)


def test_a_single_key_is_never_split() -> None:
    limits = Limits(1000, split_after=1)
    assert press(limits, 5000, 1, 10) == pytest.approx(1000, rel=0.02)


def test_a_cold_prefix_takes_less_until_the_pressure_has_lasted() -> None:
    limits, keys = Limits(3500, split_after=5, cold=700), anywhere(4)
    press(limits, 5000, 0, 0.5, keys)
    assert press(limits, 5000, 0.5, 4.9, keys) == pytest.approx(700, rel=0.02)
    press(limits, 5000, 4.9, 6, keys)
    assert press(limits, 5000, 6, 9.9, keys) == pytest.approx(3500, rel=0.02)


def test_the_rate_changes_for_what_there_is() -> None:
    limits = Limits(1000)
    press(limits, 5000, 0, 1)
    limits.set_rate(2000)
    assert press(limits, 5000, 1, 4) == pytest.approx(2000, rel=0.02)
    limits.set_rate(500)
    assert press(limits, 5000, 4, 7) == pytest.approx(500, rel=0.02)


def test_a_client_that_is_too_fast_is_told_to_slow_down_and_gets_through_at_the_rate() -> None:
    put, lot = request(), 200
    with simulator("--limit", "500", "--retry-after", "2") as server, connect(server) as connection:
        client, answers = Client(connection), []
        started = time.monotonic()
        while (elapsed := time.monotonic() - started) < 1.2:
            connection.sendall(put * lot)
            answers += [client.answer() for _ in range(lot)]
        counters = server.counters()
        accepted = sum(status == 200 for status, _, _ in answers)
        assert 0.6 * 500 * elapsed <= accepted <= 500 * (time.monotonic() - started) + 50
        refused = [
            (headers["retry-after"], b"<Code>SlowDown</Code>" in body)
            for status, headers, body in answers
            if status == 503
        ]
        assert set(refused) == {("2", True)}
        assert (counters["throttled"], counters["faults"]) == (len(refused), {})
        assert sum(counters["accepted_by_second"]) == accepted
        assert sum(counters["throttled_by_second"]) == len(refused)
        assert client.ask(request("HEAD", "/bucket"))[0] == 200, "a bucket has no limit"
        server.set_limit(0)
        assert {client.ask(put)[0] for _ in range(lot)} == {200}
