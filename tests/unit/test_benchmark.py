"""What is made of measurements: the knee, the bottleneck, the projection, the comparison; and the sweep, against a model."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncup.bench.comparing import compared, read_benchmark, save
from asyncup.bench.plays import KEPT, Again, Collected, Kept, Ready, Scratch
from asyncup.bench.projecting import Sampled, project, rates_of
from asyncup.bench.served import remove
from asyncup.bench.sweeping import sweep
from asyncup.bench.trials import Stages, Trials
from asyncup.benchmark import Benchmark, Pace, StartUp, Step, Sweep, Whole, knee_of
from asyncup.console.benchmark import benchmark_lines
from asyncup.console.report.about import About
from asyncup.console.report.benchpage import bench_page
from asyncup.console.report.elements import written
from asyncup.errors import AsyncupError, GateMissed, RowRefused, UsageError
from asyncup.events import Event
from asyncup.flow.gate import Limits
from asyncup.flow.interrupt import Interrupt
from asyncup.flow.retry import RetryPolicy
from asyncup.model import Receipt, Upload
from asyncup.report import INTERRUPTED, Several
from asyncup.sinks.null import NullSink
from asyncup.testing import MemorySink, MemorySource

HALF_A_MINUTE = 30.0


def step(level: int, rate: float, throttled: int = 0) -> Step:
    return Step(level, Pace(round(rate * HALF_A_MINUTE), 0, HALF_A_MINUTE, 0.1), 1.0, 2.0, throttled)


class Bucket:
    """A destination that answers after so many seconds, and takes so many objects a second; what is beyond it throttles, or queues."""

    def __init__(self, seconds: float, most: float, *, throttles: bool, noise: float = 0.0) -> None:
        self.seconds, self.most, self.throttles, self.noise = seconds, most, throttles, noise
        self.random = random.Random(7)
        self.asked: list[int] = []

    async def measure(self, level: int) -> Step:
        self.asked.append(level)
        wanted = level / self.seconds
        rate = min(wanted, self.most) * (1 + self.noise * (2 * self.random.random() - 1))
        beyond = round(HALF_A_MINUTE * (wanted - self.most)) if self.throttles and wanted > self.most else 0
        return step(level, rate, beyond)


@given(st.floats(0.001, 0.5), st.floats(50, 20_000), st.booleans())
async def test_the_knee_is_found_within_fifteen_per_cent(seconds: float, most: float, throttles: bool) -> None:
    bucket, true = Bucket(seconds, most, throttles=throttles, noise=0.03), seconds * most
    steps, knee = await sweep(bucket.measure, 1_000)
    assert len(bucket.asked) == len(set(bucket.asked)) <= 16
    assert [one.concurrency for one in steps] == sorted(bucket.asked)
    if true > 800:  # the levels end before it, or just there
        assert knee is None or abs(knee - true) <= 0.15 * true
    else:
        assert knee is not None
        assert abs(knee - true) <= max(1.0, 0.15 * true)


async def test_where_more_in_flight_still_brings_more_there_is_no_knee() -> None:
    steps, knee = await sweep(Bucket(1.0, 1e9, throttles=False).measure, 100)
    assert knee is None
    assert steps[-1].concurrency == 100


async def test_one_slow_level_by_chance_ends_no_sweep() -> None:
    bucket = Bucket(0.05, 2_000, throttles=False)

    async def measure(level: int) -> Step:
        found = await bucket.measure(level)
        return step(level, found.pace.rate / 2) if level == 8 else found

    _, knee = await sweep(measure, 1_000)
    assert knee is not None
    assert 85 <= knee <= 115


async def test_a_sweep_that_is_interrupted_has_the_steps_until_then() -> None:
    async def measure(level: int) -> Step | None:
        return None if level > 4 else step(level, level * 10)

    steps, knee = await sweep(measure, 1_000)
    assert ([one.concurrency for one in steps], knee) == ([1, 2, 4], None)


def test_a_burst_that_one_level_had_is_not_what_the_bucket_takes() -> None:
    steps = [step(level, level * 25.0) for level in (1, 2, 4, 8, 16)]
    steps += [step(20, 480.0, 800), step(26, 401.0, 3_000), step(32, 399.0, 6_000)]
    assert knee_of(steps) == 16


async def test_a_trial_measures_rows_that_came_while_it_was_under_way() -> None:
    trials = Trials(Interrupt(), RetryPolicy(), memory=64 << 20, drain=1.0, readers=1)
    ready = Ready([Upload(f"key {number}", b"x" * 100) for number in range(7)])
    trial = await trials.run(Stages(Again(ready), ready.renderer, NullSink(), Limits(4)), 0.2)
    assert not trial.ended
    assert 0 < trial.pace.count < trial.settled
    assert trial.pace.bytes == 100 * trial.pace.count
    assert trial.pace.seconds < 0.2
    assert trial.failed == 0


async def test_a_trial_ends_with_its_source_and_its_interrupt() -> None:
    interrupt = Interrupt()
    trials = Trials(interrupt, RetryPolicy(), memory=64 << 20, drain=1.0, readers=1)
    ready = Ready([Upload("key", b"x")])
    trial = await trials.run(Stages(ready, ready.renderer, NullSink(), Limits(4)), HALF_A_MINUTE)
    assert (trial.ended, trial.settled) == (True, 1)
    interrupt.request(2)
    trial = await trials.run(Stages(Again(ready), ready.renderer, NullSink(), Limits(4)), HALF_A_MINUTE)
    assert not trial.ended


class Refusing(MemorySink):
    async def put(self, upload: Upload) -> Receipt:
        raise RowRefused("put", upload.key, "no")


async def test_who_takes_nothing_is_not_fast() -> None:
    trials = Trials(Interrupt(), RetryPolicy(), memory=64 << 20, drain=1.0, readers=1)
    ready = Ready([Upload("key", b"x")])
    sink = Refusing()
    trial = await trials.run(Stages(Again(ready), ready.renderer, sink, Limits(4), only_put=True), 0.1)
    assert trial.settled == trial.failed > 0
    assert trial.pace.count == 0
    assert "no" in str(trial.failure)


class Seen:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)


class Removing:
    """Removes one object, and the others never."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def remove(self, keys: Sequence[str], on_removed: Callable[[int], object]) -> None:
        on_removed(1)
        self.begun.set()
        await asyncio.Event().wait()


async def test_the_second_signal_while_objects_are_removed_leaves_the_rest_and_says_where() -> None:
    interrupt, seen = Interrupt(), Seen()
    interrupt.request(2)  # this one has ended the benchmark
    removing = Removing()
    removal: Any = removing
    task = asyncio.create_task(
        remove(removal, ["a", "b", "c"], "s3://b/scratch/", interrupt, seen), name="asyncup-test"
    )
    await removing.begun.wait()
    interrupt.request(2)
    await asyncio.sleep(0)
    assert not task.done()
    interrupt.request(2)
    with pytest.raises(AsyncupError, match="up to 2 objects are left there") as caught:
        await task
    assert caught.value.hint == "aws s3 rm --recursive 's3://b/scratch/' removes them"
    assert any("another signal leaves them there" in str(event) for event in seen.events)


async def test_what_is_kept_of_a_source_is_bounded_and_can_be_read_again() -> None:
    full = []
    kept = Kept(MemorySource([b"x"] * (2 * KEPT), page_rows=1_000), lambda: full.append(True))
    pages = [page async for page in kept.pages(None)]
    assert sum(map(len, pages)) == 2 * KEPT
    assert full
    played = kept.played()
    assert sum([len(page) async for page in played.pages(None)]) == KEPT


async def test_large_bodies_are_kept_with_their_rows() -> None:
    source = MemorySource([b"a" * 900, b"b" * 10], page_rows=2, page_bytes=1_000)
    kept = Kept(source, lambda: None)
    rows = [row async for page in kept.pages(None) for row in page.rows]
    assert rows[0][-1] is None
    assert len(kept.played().rows) == 1  # its body was not read
    assert await kept.body(rows[0]) == b"a" * 900
    played = kept.played()
    assert len(played.rows) == 2
    assert await played.body(played.rows[0]) == b"a" * 900


async def test_what_is_collected_is_bounded_and_counted() -> None:
    sink = Collected()
    for number in range(3):
        await sink.put(Upload(f"key {number}", bytes(40 << 20)))
    assert (sink.objects, sink.bytes, len(sink.uploads)) == (3, 120 << 20, 1)


async def test_every_scratch_object_has_a_key_of_its_own_and_is_remembered_before_it_is_sent() -> None:
    inner = MemorySink()
    scratch = Scratch(inner, "docs/scratch/")
    for _ in range(3):
        await scratch.put(Upload("docs/1.pdf", b"x"))
    assert list(inner.objects) == scratch.keys
    assert len(set(scratch.keys)) == 3
    assert all(key.startswith("docs/scratch/docs/1.pdf") for key in scratch.keys)


SAMPLE = Sampled(rows=100, objects=100, bytes=200_000, sizes=(2_000,) * 100)
WHOLE = Whole(Pace(4_000, 8_000_000, 4.0, 0.4), Pace(4_500, 9_000_000, 5.0, 0.5), 40, "")


def test_the_beginning_is_reckoned_once_and_start_up_apart() -> None:
    assert WHOLE.seconds_for(4_500) == 5.0
    assert WHOLE.seconds_for(900) == 1.0
    assert WHOLE.seconds_for(104_500) == 105.0
    found = project(
        104_500,
        "--rows",
        StartUp(0.5, 0.25),
        WHOLE,
        SAMPLE,
        part_bytes=16 << 20,
        priced=True,
        target=11.2,
        machine_rate=5_000.0,
    )
    assert found.seconds == 105.75
    assert (found.objects, found.bytes, found.requests) == (104_500, 209_000_000, 104_500)
    assert found.dollars == pytest.approx(0.5225)
    assert found.dollars_per_month == pytest.approx(209_000_000 / 2**30 * 0.023)
    assert found.prefixes == 3  # 10,000 a second
    assert found.machines == 2


def test_packs_make_few_requests_of_many_rows() -> None:
    packed = Sampled(rows=1_000, objects=10, bytes=1_000_000, sizes=(100_000,) * 10)
    found = project(
        100_000, "", StartUp(0, 0), WHOLE, packed, part_bytes=16 << 20, priced=False, target=None, machine_rate=None
    )
    assert (found.objects, found.requests, found.dollars) == (1_000, 1_000, None)


def test_the_slowest_of_what_may_bound_a_run_is_the_bottleneck() -> None:
    found = Benchmark(
        read=Pace(100_000, 0, 1.0, 0.2),
        render=Pace(50_000, 0, 1.0, 0.25),
        send=Pace(10_000, 0, 1.0, 0.4),
        sweep=Sweep("simulator", (step(1, 100.0), step(2, 3_000.0))),
    )
    rates = rates_of(found, SAMPLE, transforms=False)
    assert rates == {"database": 100_000, "machine": 10_000, "destination": 3_000}
    assert Benchmark(rates=rates).bottleneck == "destination"
    busy = replace(found, send=Pace(100_000, 0, 1.0, 4.0))  # more than one core did it
    assert rates_of(busy, SAMPLE, transforms=False)["machine"] == pytest.approx(1e6 / (2 + 5 + 40))
    packed = Sampled(rows=1_000, objects=10, bytes=1, sizes=())
    assert rates_of(found, packed, transforms=True)["destination"] == 300_000
    assert rates_of(found, packed, transforms=True)["transform"] == 50_000


def measured(cpu: float = 1.0, rate: float = 1_000.0) -> Benchmark:
    pace = Pace(1_000, 1_000, 1_000 / rate, cpu * 1_000 / 1e6)
    return Benchmark(
        name="public.documents",
        read=pace,
        render=pace,
        send=pace,
        whole=Whole(pace, pace, 1, ""),
        start_up=StartUp(0, 0),
        source="public.documents",
        destination="s3://b/{id}",
    )


def test_a_benchmark_that_was_saved_is_what_a_later_one_is_held_against(tmp_path: Path) -> None:
    path = tmp_path / "base.json"
    save(path, {"public.documents": measured()})
    before = read_benchmark(path)["public.documents"]
    same = compared(measured(), before, "base.json", 0.1)
    assert (same.exit_code, [change.share for change in same.changes]) == (0, [0.0] * 4)
    dearer = compared(measured(cpu=1.2), before, "base.json", 0.1)
    assert isinstance(dearer.error, GateMissed)
    assert (dearer.exit_code, dearer.status) == (1, "aborted")
    assert "read.cpu_us by 20.0%" in dearer.error.message
    slower = compared(measured(rate=800), before, "base.json", 0.1)
    assert [change.figure for change in slower.changes if change.is_worse] == ["whole.rows_per_second"]
    assert compared(measured(cpu=1.2), before, "base.json", None).exit_code == 0  # only shown
    assert compared(measured(cpu=0.5, rate=2_000), before, "base.json", 0.0).exit_code == 0
    assert "too much" in "\n".join(benchmark_lines(dearer))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"version": 1}',
        '{"version": 99, "benchmarks": {}}',
        '{"version": 1, "benchmarks": {"a": 7}}',
        '{"version": 1, "benchmarks": {"a": {"read": {}}}}',
    ],
)
def test_a_file_that_is_no_benchmark_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "base.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"no benchmark|another version"):
        read_benchmark(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_benchmark(tmp_path / "there is none")


def test_the_page_and_the_screen_say_what_the_figures_are() -> None:
    sweep_ = Sweep("simulator", (step(1, 25.0), step(16, 400.0), step(32, 400.0, 9_000)), 16, 40.0, "--latency", 400.0)
    found = replace(
        measured(),
        sweep=sweep_,
        rates={"database": 9e4, "destination": 400.0},
        command="asyncup sync --table x",
        failed=7,
        failure="row (3): <no>",
    )
    about = About("bench", "asyncup bench", datetime.now(UTC))
    for whole in (found, Several((("a", found), ("b", Benchmark(error=UsageError("op", "s", "no")))), worst=(2, 1))):
        page = written(bench_page(about, whole, about.began, whole.exit_code), str)
        assert "knee: 16" in page
        assert "7 rows failed while it was measured" in page
        assert "row (3): &lt;no&gt;" in page
        assert "the destination" in page
        assert "asyncup sync --table x" in page
    screen = "\n".join(benchmark_lines(found, plots=True))
    assert "Bottleneck: the destination, as it was simulated, 400 rows/s; the database 90,000" in screen
    assert "16        400" in screen
    assert "┤" in screen  # the curve
    assert max(map(len, benchmark_lines(found, plots=True))) <= 120
    assert benchmark_lines(Benchmark()) == []


def test_every_field_is_there_in_every_outcome() -> None:
    empty: dict[str, Any] = Benchmark(error=UsageError("read flags", "--to", "no")).to_json()
    full = compared(measured(), measured().to_json(), "x", None).to_json()
    assert empty.keys() == full.keys()
    json.dumps(full)
    assert Benchmark(signal=2).status == INTERRUPTED
    assert Benchmark(signal=15).exit_code == 143
