"""The live view of one job: what it says at every width, and that figures change in their places."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.text import Text

from asyncup.console.layout import Painter, milliseconds
from asyncup.console.live import LiveView
from asyncup.console.rates import RateMeter, Rates
from asyncup.console.screen import HIDE, SHOW, Screen
from asyncup.console.text import Redactor, calm, wrapped
from asyncup.events import Draining, Finished, Listing, Notice, Planned, Progress
from asyncup.model import Counts
from asyncup.report import Latency, Report
from asyncup.resolved import Plan

PLAN = Plan("docs", "public.docs", ("id",), "s3://b/{id}", 2_000_000, False, 0, {}, None)
PROGRESS = Progress(
    *(Counts(1_234_567, 12, 0, 5_000_000), 750.0, 48, 64, 1_234_570, 3, 2, 12_300_000, "throttled by S3"),
    latency=Latency(12.3, 100.0, 240.4),
)
RATES = Rates(2345.4, 12_345_678.0, 185.0, 0.6172)


def lines(
    width: int, height: int = 24, plan: Plan = PLAN, progress: Progress = PROGRESS, rates: Rates = RATES
) -> list[str]:
    out = io.StringIO()
    view = LiveView(out, Redactor(), screen=Screen(out, lambda: (width, height)))
    try:
        return [text.plain for text in view.frame(plan, progress, rates)]
    finally:
        view.close()


def test_at_eighty_columns_everything_is_said_in_five_lines() -> None:
    assert [line.rstrip() for line in lines(80)] == [
        f" 62%  {'━' * 24}╸{'─' * 15}  about 3m05s left",
        "rows       1,234,579 of about 2,000,000  12m30s so far",
        "           1,234,567 put  12 skipped   0 failed   3 retries    2 throttled",
        "speed        2,345 objects/s   12.3 MB/s  latency   12 ms, p99  240 ms",
        "in flight   48 of 64, throttled by S3                 12.3 MB held",
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
@pytest.mark.parametrize("height", [2, 5, 24])
def test_it_fits_and_says_first_how_far_it_is(width: int, height: int) -> None:
    shown = lines(width, height)
    painted = Painter(io.StringIO()).lines([*map(Text, shown)], width - 1)
    assert len(shown) <= max(1, height - 1) or height == 2
    assert shown[0].startswith(" 62%")
    assert all(len(line) < width for line in painted)
    assert (width < 40 or height == 2) or any("put" in line for line in shown)


def test_figures_stay_in_their_places() -> None:
    few = Progress(Counts(7, 0, 0, 900), 1.0, 3, 64, 7, 0, 0, 900, "throttled by S3", latency=Latency(0.5, 1, 1))
    first = lines(80, progress=few, rates=Rates(7.0, 900.0, 3600.0, 0.0))
    for before, after in zip(first[1:], lines(80)[1:], strict=True):
        for words in (
            " of about",
            " put",
            " skipped",
            " failed",
            " retries",
            " throttled,",
            " objects/s",
            "/s  lat",
            "p99",
        ):
            assert (words in before) == (words in after)
            if words in before and words not in (
                " skipped",
                " failed",
                " retries",
            ):  # these are flush left in their cells
                assert before.index(words) == after.index(words)


@pytest.mark.parametrize(
    ("plan", "has_latency"),
    [
        (PLAN, True),
        (replace(PLAN, destination="null:"), False),
        (replace(PLAN, dry_run=True), False),
        (replace(PLAN, settles="the same"), False),
        (replace(PLAN, destination="file:///out/{id}"), True),
    ],
)
def test_latency_and_retries_are_said_where_something_is_sent(plan: Plan, has_latency: bool) -> None:
    shown = "\n".join(lines(100, plan=plan))
    assert ("latency" in shown) == ("throttled\n" in shown) == has_latency
    assert ("missing or different" in shown) == (plan.settles != "put")


def test_without_an_estimate_there_is_no_bar_and_no_guess() -> None:
    shown = lines(80, plan=replace(PLAN, estimated_rows=None), rates=Rates(1.0, 1.0, None, None))
    assert shown[0].startswith("rows       1,234,579 rows")
    assert not any("%" in line or "left" in line for line in shown)


def test_a_run_from_its_beginning_to_its_end() -> None:
    out = io.StringIO()
    view = LiveView(out, Redactor(("hidden-secret",)), screen=Screen(out, lambda: (60, 24)))
    for event in (
        Listing(5),
        Planned(PLAN),
        PROGRESS,
        Notice("hidden-secret " * 6),
        Draining("SIGINT", 5, 30.0),
        PROGRESS,
    ):
        view.on_event(event)
    assert "hidden-secret" not in out.getvalue()
    assert "warning: *** *** ***" in out.getvalue()
    assert "finishing" in out.getvalue()
    view.on_event(Finished(Report()))
    assert out.getvalue().rindex(SHOW) > out.getvalue().rindex(HIDE)
    before = out.getvalue()
    view.close()
    assert out.getvalue() == before


def test_a_bar_has_halves_and_plain_letters_where_there_are_no_others() -> None:
    painter = Painter(io.StringIO())
    assert [painter.bar(share, 4).plain for share in (0.0, 0.125, 1.0)] == ["────", "╸───", "━━━━"]
    ascii_ = Painter(io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert [ascii_.bar(share, 4).plain for share in (0.0, 0.5, 1.0, 7.0)] == ["[    ]", "[==  ]", "[====]", "[====]"]
    assert ascii_.lines([Text("a line that is too long")], 6)[0].isascii()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0, "1s"), (12.4, "12s"), (59.6, "1m00s"), (61.0, "1m00s"), (184.0, "3m05s"), (599.0, "10m00s"), (601.0, "10m"), (2880.0, "48m"), (7620.0, "2h07m")],
)  # fmt: skip
def test_what_is_left_is_said_no_finer_than_it_is_known(seconds: float, said: str) -> None:
    assert calm(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"), [(0.44, "0.4 ms"), (9.96, "10 ms"), (240.4, "240 ms"), (12_345.0, "12.3 s")]
)
def test_latencies_take_seven_columns(value: float, said: str) -> None:
    assert milliseconds(value) == said


def test_the_time_left_follows_half_a_minute_and_not_the_last_page() -> None:
    meter = RateMeter(PLAN)
    progress = [
        Progress(Counts(rows, 0, 0, 0), at, 1, 1, 0, 0, 0, 0)
        for at, rows in ((1, 1000), (2, 2000), (22, 22_000), (28, 22_000))
    ]
    rates = [meter.add(one) for one in progress]
    assert [one.eta is None for one in rates] == [True, False, False, False]
    assert rates[2].eta == pytest.approx((2_000_000 - 22_000) / 1000)
    assert rates[3].eta == pytest.approx((2_000_000 - 22_000) / (21_000 / 27))
    assert rates[3].objects == 0.0


def test_what_is_compared_has_a_rate_of_rows_whatever_they_are_found_to_be() -> None:
    plan = replace(PLAN, settles="the same", counted="rows")
    meter = RateMeter(plan)
    for at in (1, 2, 3):
        rates = meter.add(Progress(Counts(0, 0, 500 * at, 0), at, 1, 1, 0, 0, 0, 0))
    assert rates.objects == 500.0
    speed = next(line for line in lines(80, plan=plan, rates=rates) if line.startswith("speed"))
    assert speed.split() == ["speed", "500", "rows/s"]


def test_lines_are_wrapped_for_a_terminal_and_whole_in_a_pipe() -> None:
    error = "error: there is no bucket of that name, or it is not one of yours, and nobody knows which"
    assert wrapped(error, None) == [error]
    assert wrapped(error, 40) == [
        "error: there is no bucket of that name,",
        "         or it is not one of yours, and",
        "         nobody knows which",
    ]
    command = "  asyncup sync --table docs --to 's3://bucket/of/a/very/long/name/{id}.json'"
    assert wrapped(command, 40) == [command]
    assert wrapped("  1,000 rows over all runs since this checkpoint began", 30) == [
        "  1,000 rows over all runs",
        "      since this checkpoint",
        "      began",
    ]
