"""The level, in virtual time against a model of S3: the figures that it was built for, and the recipe that it has to beat."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from statistics import mean

import pytest

from asyncup.flow import level
from asyncup.flow.level import Level
from asyncup.flow.search import START, Sample
from tests.unit.s3_model import Controller, Ours, Play, Recipe, World

SEEDS = range(2)
MANY = range(200)


def play(world: World, seconds: float, *, seed: int = 0, rows: Iterator[str] | None = None, most: int = 1000) -> Play:
    return Play(world, Ours(most), rows or (), seed=seed).run(seconds)


def ours(play: Play) -> Level:
    assert isinstance(play.controller, Ours)
    return play.controller.level


@pytest.mark.parametrize("tail", [0.0, 0.4])
@pytest.mark.parametrize("limit", [1500, 3500])
def test_a_limit_of_requests_is_used_to_the_full_after_three_seconds_and_little_is_refused(
    limit: int, tail: float
) -> None:
    run = play(World(limits={"o/": limit}, burst=0.1, tail=tail, cpu_each=7e-5), 12)
    assert run.goodput(3, 12) >= 0.98 * limit
    assert run.refused(0, 12) < 0.03
    assert run.refused(3, 12) < 0.01
    assert run.unrest(3, 12) < 0.03
    assert ours(run).reason == level.THROTTLED
    assert limit * 0.02 < ours(run).limit < 4 * limit * 0.02


@pytest.mark.parametrize("seed", SEEDS)
def test_a_limit_that_doubles_is_reached_again_within_ten_seconds(seed: int) -> None:
    run = play(World(limits={"o/": 1500}, burst=0.1, tail=0.2, changes=((5, "o/", 3000),)), 17, seed=seed)
    assert run.goodput(11, 17) >= 0.95 * 3000
    assert run.refused(5, 17) < 0.03


@pytest.mark.parametrize("seed", SEEDS)
def test_a_limit_that_is_halved_refuses_next_to_nothing_five_seconds_later(seed: int) -> None:
    run = play(World(limits={"o/": 3000}, burst=0.1, tail=0.2, changes=((5, "o/", 1500),)), 13, seed=seed)
    assert run.refused(7, 13) < 0.02
    assert run.goodput(7, 13) >= 0.97 * 1500


def test_the_pressure_stays_at_the_limit_so_that_a_hot_prefix_is_split_again_and_again() -> None:
    run = play(World(limits={"o/": 700}, burst=0.1, split_after=3), 30)
    assert run.buckets["o/"].limit >= 4 * 700
    assert run.goodput(28, 30) > 2000


def test_a_server_that_refuses_at_random_is_not_taken_for_one_with_a_limit() -> None:
    run = play(World(always=0.15, capacity=3000), 12)
    plain = Play(World(always=0.15, capacity=3000), Recipe(1000)).run(12)
    assert run.goodput(3, 12) > 0.97 * 3000
    assert plain.goodput(3, 12) < 0.2 * 3000


def test_an_outage_is_waited_for_with_few_requests_and_its_end_is_used_soon() -> None:
    world = World(limits={"o/": 1000}, burst=0.1, changes=((5, "o/", 0.001), (10, "o/", 1000)))
    run = play(world, 24)
    assert sum(second.answered for second in run.seconds[7:10]) <= 60
    assert run.goodput(22, 24) > 0.9 * 1000


def test_where_nothing_is_refused_the_level_is_what_brings_the_most() -> None:
    run = play(World(capacity=4000, tail=0.3), 10)
    assert run.goodput(2, 10) > 0.97 * 4000 / math.exp(0.3**2 / 2), "the tail is work too"
    assert ours(run).limit < 2.5 * 4000 * 0.02
    assert ours(run).reason == level.FLAT


def test_what_was_found_is_tried_again_after_half_a_minute() -> None:
    calm = World(latency=0.05, capacity=1000)
    run = Play(calm, Ours(1000)).run(5)
    before = ours(run).limit
    calm.capacity = 4000
    again = Play(calm, run.controller)
    again.now = 5.0
    again.run(45)
    assert ours(again).limit > 2 * before
    assert again.goodput(42, 45) > 0.9 * 4000


def test_where_the_cpu_is_the_limit_nothing_more_is_put_in_flight() -> None:
    run = play(World(cpu_each=2e-4), 8)
    assert run.goodput(2, 8) > 0.97 * 5000
    assert ours(run).limit <= 256
    assert ours(run).reason == level.MACHINE


def test_no_more_is_in_flight_than_the_user_allows() -> None:
    run = play(World(latency=0.1), 4, most=50)
    assert run.peak == ours(run).limit == 50
    assert ours(run).reason == level.MOST


def test_a_fixed_limit_stays_and_follows_a_throttled_rate_all_the_same() -> None:
    controller = Ours(1000)
    controller.level = Level(1000, 100)
    run = Play(World(limits={"o/": 1000}, burst=0.1), controller).run(8)
    assert controller.level.limit == 100
    assert run.goodput(3, 8) >= 0.97 * 1000
    assert run.refused(2, 8) < 0.02


def test_a_throttled_prefix_waits_for_its_own_rate_while_the_others_go_ahead() -> None:
    runs = itertools.cycle(["a/"] * 1000 + ["b/"] * 4000)
    world = World(limits={"a/": 500}, capacity=5000, burst=0.1)
    found = play(world, 20, rows=runs)
    assert found.by_prefix["a/"] > 0.85 * 500 * 20
    assert found.goodput(5, 20) > 1.4 * (5000 / (1000 / 500 + 4000 / 5000)), "more than one after the other"
    assert ours(found).account_of("a/").is_apart


def test_more_prefixes_than_are_told_apart_share_what_is_left() -> None:
    names = [f"{number}/" for number in range(2 * level.PREFIXES)]
    found = play(World(limits=dict.fromkeys(names, 10.0), capacity=5000, burst=0.5), 15, rows=itertools.cycle(names))
    assert len(ours(found).accounts) <= level.PREFIXES
    assert found.goodput(10, 15) > 0.7 * 10 * len(names)


def test_before_anything_is_known_the_level_is_looked_for() -> None:
    found = Level(1000)
    found.look(Sample(0.0, 0, 0, 0.0, 1), 0)
    assert (found.limit, found.reason) == (START, level.FINDING)


def anywhere(seed: int) -> World:
    """A world of a seed's own: how far away, how fast, how regular, and what this machine can do."""
    dice = random.Random(seed)
    return World(
        latency=10 ** dice.uniform(-2.3, -0.9),
        tail=dice.choice([0.0, 0.3, 0.6]),
        limits={"o/": 10 ** dice.uniform(2.3, 3.2)},
        burst=10 ** dice.uniform(-1.7, 0),
        cpu_each=1e-4 * dice.random(),
    )


def figures(seed: int, controller: Controller) -> tuple[float, float, float]:
    """Goodput as a share of the limit after three seconds; what was refused from the start on; unrest."""
    world = anywhere(seed)
    run = Play(world, controller, seed=seed).run(12)
    return run.goodput(3, 12) / world.limits["o/"], run.refused(0, 12), run.unrest(3, 12)


def compare(seeds: range) -> None:
    found = [figures(seed, Ours(1000)) for seed in seeds]
    plain = [figures(seed, Recipe(1000)) for seed in seeds]
    goodput, refused, unrest = (mean(one) for one in zip(*found, strict=True))
    plain_goodput, plain_refused, plain_unrest = (mean(one) for one in zip(*plain, strict=True))
    assert goodput > 0.98 > plain_goodput
    assert refused < 0.5 * plain_refused
    assert unrest < 0.5 * plain_unrest
    assert min(goodput for goodput, _, _ in found) > 0.85
    assert max(refused for _, refused, _ in found) < 0.15


def test_the_plain_recipe_is_beaten_in_goodput_refusals_and_calm() -> None:
    compare(range(20))


@pytest.mark.soak
def test_the_plain_recipe_is_beaten_over_many_seeds() -> None:
    compare(MANY)
