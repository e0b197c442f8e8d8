"""The benchmark's arithmetic: slopes, medians, and what counts as a regression."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.bench.compare import compare, regressed
from tests.bench.figures import Figure, Load, Results, Slope, Spent, StartUp, figure, objects_for, slope

LOAD = Load(2048)


def results(*figures: Figure, start_up: StartUp | None = None) -> Results:
    return Results("2026-11-21", "how", {"cores": 2}, {"asyncup": "1"}, figures, start_up)


def reached(cpu_us: float, speed: float, *, peer: str = "asyncup", load: Load = LOAD) -> Figure:
    return Figure("headline", peer, load, cpu_us, speed, (cpu_us,), (1e6 / speed,), (200, 1200), 0.5)


def test_what_start_up_takes_is_no_part_of_a_slope() -> None:
    cost = slope(Spent(200, 0.52, 1.25), Spent(1200, 0.54, 1.75))
    assert (cost.cpu, cost.wall) == (pytest.approx(20e-6), pytest.approx(500e-6))
    later = slope(Spent(200, 5.52, 9.25), Spent(1200, 5.54, 9.75))
    assert (later.cpu, later.wall) == (pytest.approx(cost.cpu), pytest.approx(cost.wall))


def test_a_slope_needs_more_objects() -> None:
    with pytest.raises(ValueError, match="not more"):
        slope(Spent(200, 1.0, 1.0), Spent(200, 2.0, 2.0))


@pytest.mark.parametrize(
    ("cost", "objects"),
    [
        (Slope(20e-6, 20e-6), 75_000),  # 1.5 s of CPU
        (Slope(20e-6, 400e-6), 10_000),  # 4 s of waiting
        (Slope(1e-6, 1e-6), 90_000),  # more than there may be
        (Slope(100.0, 100.0), 1),
        (Slope(-1e-6, 0.0), 90_000),  # noise: too fast to be seen
    ],
)
def test_a_client_puts_as_many_objects_as_it_takes_to_measure_it(cost: Slope, objects: int) -> None:
    assert objects_for(cost, cpu=1.5, wall=4.0, at_most=90_000) == objects


def test_a_figure_is_the_median_of_the_slopes_of_its_runs() -> None:
    few = Spent(200, 0.5, 1.0, 0.25)
    more = ((0.02, 0.2, 0.04), (0.09, 0.1, 0.01), (-0.01, 0.5, 0.08))  # one run was spoiled by something else
    runs = [(few, Spent(1200, 0.5 + cpu, 1.0 + wall, 0.25 + server)) for cpu, wall, server in more]
    found = figure("headline", "asyncup", LOAD, runs)
    assert found.cpu_us_runs == pytest.approx((20, 90, -10))
    assert found.wall_us_runs == pytest.approx((200, 100, 500))
    assert (found.cpu_us, found.objects_per_second) == (pytest.approx(20), pytest.approx(5000))
    assert (found.objects, found.server_busy) == ((200, 1200), pytest.approx(0.2))


def test_runs_that_measured_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing to measure"):
        figure("headline", "asyncup", LOAD, [(Spent(200, 0.5, 1.0), Spent(1200, 0.5, 1.5))])


def test_the_share_is_of_what_the_latency_allows() -> None:
    assert reached(20, 2423.5, load=Load(2048, 150, 0.0588)).share == pytest.approx(0.95, abs=1e-4)
    assert reached(20, 2423.5).share is None


def test_results_come_back_from_json_as_they_were() -> None:
    before = results(reached(20, 40_000, load=Load(2048, 150, 0.0588, tls=True)), start_up=StartUp(0.1, 0.5))
    assert Results.from_json(json.loads(json.dumps(before.as_json()))) == before


@pytest.mark.parametrize("broken", [{}, {"version": 0}, {"version": 1, "figures": [{"cpu": 1}]}])
def test_a_file_of_something_else_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"version|not results"):
        Results.from_json(broken)


def test_only_what_got_worse_by_more_than_allowed_is_a_regression() -> None:
    old = results(reached(20, 40_000), start_up=StartUp(0.10, 0.5))
    slower = results(reached(21.9, 36_100), start_up=StartUp(0.109, 0.1))
    assert regressed(compare(old, slower), 0.1) == ()
    worse = regressed(compare(old, results(reached(22.1, 35_900), start_up=StartUp(0.112, 0.6))), 0.1)
    assert [(change.unit, round(change.ratio, 4)) for change in worse] == [
        ("µs CPU/object", 1.105),
        ("objects/s", 0.8975),
        ("s", 1.12),
        ("s CPU", 1.2),
    ]


def test_getting_better_is_no_regression() -> None:
    changes = compare(results(reached(20, 40_000)), results(reached(2, 400_000)))
    assert [change.ratio for change in changes] == [0.1, 10]
    assert regressed(changes, 0.0) == ()


def test_other_clients_may_get_worse() -> None:
    old = results(reached(20, 40_000), reached(200, 4_000, peer="s5cmd"))
    changes = compare(old, replace(old, figures=(old.figures[0], reached(400, 2_000, peer="s5cmd"))))
    assert [change.ratio for change in changes] == [1, 1, 2, 0.5]
    assert regressed(changes, 0.1) == ()


def test_figures_are_compared_under_the_same_load_only() -> None:
    loads = (LOAD, Load(200), Load(2048, 150), Load(2048, tls=True), Load(2048, latency=0.0588))
    old = results(*(reached(number, 1, load=load) for number, load in enumerate(loads, 1)))
    new = results(reached(5, 1, load=loads[4]), reached(7, 1, load=Load(4096)))
    assert [(change.old, change.new) for change in compare(old, new)] == [(5, 5), (1, 1)]
