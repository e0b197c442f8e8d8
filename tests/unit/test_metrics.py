"""Metrics, health and the live state: what is read off a run's events, and how it is served."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import prometheus_client
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from asyncup.console.state import state_fields, state_lines
from asyncup.errors import UsageError
from asyncup.events import (
    Alike,
    Draining,
    Event,
    Finished,
    JobState,
    Listing,
    LiveState,
    Notice,
    OfJob,
    Planned,
    Progress,
    Waiting,
)
from asyncup.flow.budget import Budget
from asyncup.flow.channel import Channel
from asyncup.flow.histogram import Histogram
from asyncup.model import Counts
from asyncup.operations.endpoint import Endpoint, health, parse
from asyncup.operations.exposition import Exposition
from asyncup.operations.metrics import BOUNDS, COUNTER, METRICS
from asyncup.operations.states import LAG_SECONDS, STUCK_SECONDS, States
from asyncup.operations.tasks import tasks_of
from asyncup.report import COMPLETE, JobReport, Report
from asyncup.resolved import Plan

PLAN = Plan("docs", "public.docs", ("id",), "s3://b/{id}", 1000, True, 200, {}, ".asyncup/docs.json")
STEP = Progress(Counts(100, 2, 1, 2000), 6.0, 12, 32, 105, 4, 1, 4096, "found", 0.25, parts=3, saved=0.5)
ENDED = Finished(Report(JobReport("docs", COMPLETE)))
NOTHING = Progress(Counts(), 0.0, 0, 8, 0, 0, 0, 0)


class Run:
    """What is known after events, at a time of the test's own."""

    def __init__(self, *events: Event) -> None:
        self.now = 100.0
        self.states = States(lambda: self.now)
        self.tell(*events)

    def tell(self, *events: Event) -> None:
        for event in events:
            self.states.on_event(event)

    def samples(self) -> dict[str, float]:
        """`name{values of labels}` and the value of all that is shown of jobs."""
        text, _ = Exposition(self.states).text("")
        return {
            f"{sample.name}{{{','.join(sample.labels.values())}}}": sample.value
            for family in prometheus(text.decode())
            for sample in family.samples
            if "asyncup" in sample.name
        }


def test_the_metrics_of_a_job_are_what_its_last_progress_said() -> None:
    shown = Run(Planned(PLAN), STEP).samples()
    expected = {
        "asyncup_rows_total{docs,put}": 100,
        "asyncup_rows_total{docs,skipped}": 2,
        "asyncup_rows_total{docs,failed}": 1,
        "asyncup_bytes_total{docs}": 2000,
        "asyncup_attempts_total{docs}": 105,
        "asyncup_retries_total{docs}": 4,
        "asyncup_throttled_total{docs}": 1,
        "asyncup_parts_total{docs}": 3,
        "asyncup_in_flight{docs}": 12,
        "asyncup_concurrency_limit{docs}": 32,
        "asyncup_memory_bytes{docs}": 4096,
        "asyncup_loop_lag_seconds{docs}": 0.25,
        "asyncup_estimated_rows{docs}": 1000,
        "asyncup_settled_before_rows{docs}": 200,
        "asyncup_checkpoint_age_seconds{docs}": 0.5,
    }
    assert {name: shown.get(name) for name in expected} == expected
    assert not [name for name in shown if name.startswith("asyncup_finished")]


def test_each_of_several_jobs_has_its_series_from_its_plan_on_and_one_that_has_ended_says_how() -> None:
    run = Run(OfJob("a", Planned(PLAN)), OfJob("b", Planned(replace(PLAN, estimated_rows=None))), OfJob("a", STEP))
    run.tell(OfJob("a", ENDED))
    shown = run.samples()
    assert shown["asyncup_finished{a,complete}"] == 1
    assert (shown["asyncup_rows_total{a,put}"], shown["asyncup_rows_total{b,put}"]) == (100, 0)
    assert "asyncup_estimated_rows{b}" not in shown


def test_a_counter_never_goes_down_though_an_attempt_is_taken_back() -> None:
    shown = Run(Planned(PLAN), STEP, replace(STEP, attempts=104, retries=3)).samples()
    assert (shown["asyncup_attempts_total{docs}"], shown["asyncup_retries_total{docs}"]) == (105, 4)


def test_a_dry_run_has_sent_nothing() -> None:
    latencies = Histogram()
    latencies.record(0.1)
    shown = Run(Planned(replace(PLAN, dry_run=True)), replace(STEP, latencies=latencies.spread())).samples()
    assert (shown["asyncup_attempts_total{docs}"], shown["asyncup_put_latency_seconds_count{docs}"]) == (0, 0)
    assert shown["asyncup_rows_total{docs,put}"] == 100


def test_buckets_of_latencies_are_always_the_same_and_count_exactly() -> None:
    seconds = [0.0001, 0.0003, 0.002, 0.0021, 0.05, 0.05, 1.7, 66.0, 300.0]
    latencies = Histogram()
    for each in seconds:
        latencies.record(each)
    shown = Run(Planned(PLAN), replace(STEP, latencies=latencies.spread())).samples()
    for bound in BOUNDS:
        assert shown[f"asyncup_put_latency_seconds_bucket{{docs,{bound}}}"] == sum(each <= bound for each in seconds)
    assert shown["asyncup_put_latency_seconds_bucket{docs,+Inf}"] == len(seconds)
    assert shown["asyncup_put_latency_seconds_sum{docs}"] == pytest.approx(sum(seconds), rel=0.1)
    empty = Run(Planned(PLAN)).samples()
    assert {name for name in empty if "bucket" in name} == {name for name in shown if "bucket" in name}


def test_the_worst_lateness_is_remembered_for_a_minute() -> None:
    run = Run(Planned(PLAN), STEP)
    run.now += LAG_SECONDS / 2
    run.tell(replace(STEP, lag=0.01))
    assert run.samples()["asyncup_loop_lag_seconds{docs}"] == 0.25
    run.now += LAG_SECONDS
    run.tell(replace(STEP, lag=0.02))
    assert run.samples()["asyncup_loop_lag_seconds{docs}"] == 0.02


def test_the_table_of_metrics_is_what_is_shown() -> None:
    run = Run(OfJob('a "job"\n', Planned(PLAN)), OfJob('a "job"\n', STEP), OfJob('a "job"\n', ENDED))
    text, content_type = Exposition(run.states).text("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    families = {family.name: family for family in openmetrics(text.decode()) if family.name.startswith("asyncup")}
    for metric in METRICS:
        family = families.pop(metric.name.removesuffix("_total"))
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        assert {label for sample in family.samples for label in sample.labels} - {"le"} == set(metric.labels)
        assert metric.name.endswith("_total") is (metric.kind == COUNTER)
    assert not families


def test_the_registry_of_whoever_uses_the_library_is_left_alone() -> None:
    Exposition(States())
    Exposition(States())
    assert prometheus_client.REGISTRY.get_sample_value("asyncup_run_info") is None


@pytest.mark.parametrize(
    ("events", "phase"),
    [
        ([], "preparing"),
        ([Listing(5)], "preparing"),
        ([Planned(PLAN)], "running"),
        ([Planned(PLAN), STEP, Draining("SIGINT", 3, 30.0)], "draining"),
        ([Planned(PLAN), ENDED], "finished"),
        ([Planned(PLAN), ENDED, Planned(replace(PLAN, name="next"))], "running"),
        ([OfJob("a", Planned(PLAN)), OfJob("a", ENDED), OfJob("b", Notice("x"))], "preparing"),
        ([OfJob("a", Planned(PLAN)), OfJob("a", ENDED), OfJob("b", Planned(PLAN))], "running"),
    ],
)
def test_the_phase_is_that_of_the_jobs_together(events: list[Event], phase: str) -> None:
    assert health(Run(*events).states)["phase"] == phase


@pytest.mark.parametrize(
    ("sign", "is_stuck"),
    [
        (None, True),
        (replace(STEP, in_flight=13, memory=9, limit=8), True),
        (replace(STEP, in_flight=0), False),
        (replace(STEP, counts=Counts(101, 2, 1, 2000)), False),
        (replace(STEP, latencies=((0.1, 1),)), False),
        (replace(STEP, attempts=106), False),
        (replace(STEP, parts=4), False),
        (Waiting("gone", 20.0, 3), False),
        (ENDED, False),
    ],
)
def test_a_run_is_stuck_when_nothing_comes_of_what_is_in_flight_for_long(sign: Event | None, is_stuck: bool) -> None:
    run = Run(Planned(PLAN), STEP)
    run.now += STUCK_SECONDS
    assert health(run.states)["status"] == "ok"
    if sign is not None:
        run.tell(sign)
    run.now += 1
    told = health(run.states)
    assert (told["status"], told["reason"] is not None) == (("stuck", True) if is_stuck else ("ok", False))


@pytest.mark.parametrize(
    ("address", "place"),
    [(":9464", ("", 9464)), ("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:80", ("::1", 80)), (" host:1 ", ("host", 1))],
)
def test_an_address_is_a_host_and_a_port(address: str, place: tuple[str, int]) -> None:
    assert parse(address) == place


@pytest.mark.parametrize("address", ["9464", "host", "host:", ":-1", ":65536", ":x", ":٣", "::1:80", "http://x:1/"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match=r"\[HOST\]:PORT"):
        parse(address)


async def ask(port: int, path: str, accept: str = "*/*", method: str = "GET") -> tuple[int, str, str]:
    """Status, head and body of one request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), head, body


async def test_it_is_served_to_whoever_asks_and_goes_with_the_run_at_once() -> None:
    endpoint, told = Endpoint.open("127.0.0.1:0"), list[Event]()
    port = int(endpoint.url.rpartition(":")[2])
    with pytest.raises(UsageError, match=r"nobody can listen at 127\.0\.0\.1:\d+: .*in use"):
        Endpoint.open(f"127.0.0.1:{port}")
    endpoint.on_event(Planned(PLAN))
    before = asyncio.all_tasks()
    async with endpoint.attend(told.append):
        idle, open_still = await asyncio.open_connection("127.0.0.1", port)
        open_still.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await idle.readuntil(b"}]}")
        assert {task.get_name() for task in asyncio.all_tasks() - before} == {"asyncup-metrics"}
        status, head, body = await ask(port, "/metrics")
        assert (status, "text/plain; version=0.0.4" in head, "asyncup_in_flight" in body) == (200, True, True)
        assert "process_cpu_seconds_total" in body
        status, head, body = await ask(port, "/metrics", "application/openmetrics-text;version=1.0.0")
        assert (status, "application/openmetrics-text" in head, body.endswith("# EOF\n")) == (200, True, True)
        status, _, body = await ask(port, "/healthz")
        assert (status, json.loads(body)["status"], json.loads(body)["jobs"][0]["job"]) == (200, "ok", "docs")
        assert (await ask(port, "/"))[0] == 404
        assert (await ask(port, "/metrics", method="POST"))[0] == 405
        begun = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - begun < 1
    assert asyncio.all_tasks() <= before
    assert await idle.read() == b""
    open_still.close()
    assert [event.message for event in told if isinstance(event, Notice)] == [f"metrics are at {endpoint.url}/metrics"]
    with pytest.raises(ConnectionError):
        await ask(port, "/healthz")


async def test_a_run_that_is_stuck_is_said_to_be_with_503(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = Endpoint.open("127.0.0.1:0")
    monkeypatch.setattr("asyncup.operations.states.STUCK_SECONDS", -1.0)
    endpoint.on_event(Planned(PLAN))
    endpoint.on_event(STEP)
    async with endpoint.attend(lambda _: None):
        status, _, body = await ask(int(endpoint.url.rpartition(":")[2]), "/healthz")
    assert (status, json.loads(body)["status"]) == (503, "stuck")


def test_every_interface_is_listened_at_where_no_host_is_named_and_a_name_at_all_of_its_addresses() -> None:
    for address in (":0", "localhost:0"):
        endpoint = Endpoint.open(address)
        assert re.fullmatch(r"http://localhost:\d+", endpoint.url)
        with socket.create_connection(("127.0.0.1", int(endpoint.url.rpartition(":")[2]))):
            endpoint.close()


def test_a_host_of_another_machine_is_refused() -> None:
    with pytest.raises(UsageError, match=r"nobody can listen at 192\.0\.2\.1:0"):
        Endpoint.open("192.0.2.1:0")


async def test_tasks_are_told_of_by_kind_with_the_place_in_our_code_where_they_wait() -> None:
    channel, budget = Channel[int](1), Budget(10)

    async def rows() -> AsyncGenerator[int, None]:
        yield await channel.receive()

    async def read() -> int | None:
        return await anext(rows(), None)

    async def wait() -> None:
        await budget.reserve(10)

    tasks = [asyncio.create_task(read(), name=f"asyncup-reader-{number}") for number in range(2)]
    await budget.reserve(1)
    tasks.append(asyncio.create_task(wait(), name="asyncup-reader-2"))
    await asyncio.sleep(0)
    found = next(kind for kind in tasks_of(asyncio.get_running_loop()) if kind.name == "asyncup-reader")
    assert found == Alike("asyncup-reader", 3, (("flow.channel.Channel.receive", 2), ("flow.budget.Budget.reserve", 1)))
    budget.release(1)
    for number in range(2):
        await channel.send(number)
    assert await asyncio.gather(*tasks) == [0, 1, None]


def test_the_live_state_fits_on_a_screen_however_many_jobs_there_are() -> None:
    jobs = tuple(JobState(f"job\x1b{number}", "running", PLAN, STEP, 16.7, 333.3, 0.25) for number in range(100))
    lines = state_lines(LiveState("running", 12.0, jobs))
    assert len(lines) <= 24
    assert all(line.isprintable() for line in lines)
    assert "docs" not in lines[0]
    assert "12 of 32 in flight (found)" in "\n".join(lines)
    assert "saved 0.5s ago" in "\n".join(lines)


@pytest.mark.parametrize("job", [JobState("a", "preparing"), JobState("a", "running", PLAN, NOTHING)])
def test_the_live_state_is_said_of_a_job_of_which_little_is_known(job: JobState) -> None:
    state = LiveState("preparing", 1.0, (job,), stacks=("thread MainThread:\n  File x",))
    fields: dict[str, Any] = json.loads(json.dumps(state_fields(state)))
    assert (fields["jobs"][0]["name"], fields["stacks"]) == ("a", list(state.stacks))
    assert state_lines(state)[-1] == "  File x"
