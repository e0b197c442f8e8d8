"""The guarantees of the design hold for a thousand seeds; a seed gives the same trace again; planted defects are found.

`--soak` plays 20,000 more seeds; `python -m tests.simulation --seeds A:B --jobs N` plays as many as you like.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulation import rangemutants  # noqa: F401 - it adds to MUTANTS
from tests.simulation.disk import Disk, SimulatedOS, SimulatedPath, Stage
from tests.simulation.loop import Standstill, VirtualLoop
from tests.simulation.mutants import MUTANTS
from tests.simulation.play import play
from tests.simulation.run import simulate
from tests.simulation.seams import simulated
from tests.simulation.seeds import FOUND

pytestmark = pytest.mark.blocking  # its event loop waits for nothing, and its disk is in memory

SEEDS, SLICE = 1000, 250  # no planted defect needs more
SOAK = range(1_000_000, 1_020_000)
#: What each planted defect shows itself by.
SIGNS = {
    "a_row_is_settled_before_it_is_acknowledged": r"reported as put|in flight",
    "a_lost_answer_counts_as_an_acknowledgement": r"reported as put|in flight",
    "one_more_upload_is_in_flight_than_allowed": r"uploads in flight",
    "the_first_upload_does_not_go_alone": r"2 uploads in flight, 1 allowed",
    "attempts_have_no_end": r"had attempt",
    "a_resumed_run_begins_one_row_too_late": r"is not in the bucket",
    "a_channel_loses_what_it_holds": r"it was interrupted, and nobody did|does not end",
    "memory_is_taken_without_asking": r"bytes of bodies in memory, \d+ allowed",
    "memory_is_not_given_back": r"at the end <Budget",
    "memory_is_given_back_too_early": r"accounted for|at the end <Budget -",
    "whoever_waits_for_a_close_is_forgotten": r"does not end|hangs",
    "a_body_that_was_read_while_it_was_sent_keeps_its_turn": r"does not end|hangs",
    "a_range_ends_one_row_too_late": r"row \d+ was read with",
    "a_range_begins_one_row_too_late": r"is not in the bucket",
    "a_range_has_the_rows_of_all_partitions": r"row \d+ was read with",
    "partitions_that_come_are_forgotten": r"is not in the bucket",
    "nulls_belong_to_no_range": r"finished that was not read to its end: .*nulls=True",
    "two_readers_share_one_range": r"a range is read twice",
    "a_range_is_finished_before_its_last_row_is_settled": r"is finished, and row \d+ is not settled",
    "a_range_is_finished_that_a_drain_cut_short": r"finished that was not read to its end",
    "a_finished_range_is_read_again": r"was finished, and is read again",
    "a_resumed_range_begins_at_its_beginning": r"is read from row 0 on",
    "a_resumed_run_divides_anew": r"it goes on from ranges",
    "the_counts_of_a_range_are_lost": r"0 rows are reported as put",
    "ranges_are_looked_at_later_than_the_counts": r"the checkpoint at row .* counts",
    "the_first_reader_at_its_end_ends_all": r"ChannelClosed",
    "the_last_reader_ends_unnoticed": r"does not end",
    "a_reader_holds_memory_while_it_waits_for_more": r"does not end",
    "readers_share_one_connection": r"two statements at a time",
    "the_watermark_passes_an_open_ticket": r"row \d+ is not settled",
    "the_checkpoint_is_saved_before_the_dead_letters": r"letters are durable",
    "nothing_is_synced": r"after a crash|letters are durable",
    "dead_letters_are_not_kept_for_the_next_run": r"letters are (left|durable)",
    "counts_cover_more_than_the_watermark": r"the checkpoint at row .* counts",
    "a_run_that_lost_its_lease_goes_on_saving": r"a run that had lost the job wrote over",
    "a_lease_is_taken_from_those_who_live": r"the job was taken .* after its lease was renewed",
    "a_drain_forgets_what_was_not_sent": r"is finished, and (one of its ranges is not|row \d+ is not settled)",
    "a_drain_has_no_end": r"after a signal",
    "the_second_signal_is_not_heard": r"after a signal, of 2.00",
    "a_drain_goes_on_reading": r"ChannelClosed|after a signal",
    "a_drain_ends_one_reader_only": r"though a drain has begun",
    "a_save_outlives_the_run": r"tasks are left behind",
}


@pytest.fixture(scope="module", autouse=True)
def stage() -> Iterator[None]:
    with simulated():
        yield


@pytest.mark.parametrize("first", range(0, SEEDS // 2, SLICE))
def test_every_guarantee_holds_after_every_step(first: int) -> None:
    failed, _, steps, _ = play(range(first, first + SLICE))
    assert [f"seed {ended.seed}: {ended.violation}" for ended in failed] == []
    assert steps > 100 * SLICE  # the runs do something


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_every_guarantee_holds_in_many_more_runs() -> None:
    failed, _, _, _ = play(SOAK)
    assert [f"seed {ended.seed}: {ended.violation}" for ended in failed] == []


@pytest.mark.parametrize("seed", FOUND)
def test_what_a_seed_has_shown_once_stays_mended(seed: int) -> None:
    assert simulate(seed, divided=False).violation is None


def test_a_seed_gives_the_same_trace_again_in_another_process_too() -> None:
    seeds = range(60)
    here = [simulate(seed) for seed in seeds]
    again = [simulate(seed, trace=True) for seed in reversed(seeds)]
    assert [ended.digest for ended in here] == [ended.digest for ended in reversed(again)]
    code = (
        "from tests.simulation.run import simulate; from tests.simulation.seams import simulated\n"
        f"with simulated(): print(*[simulate(seed).digest for seed in range({len(seeds)})])"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert other.stdout.split() == [str(ended.digest) for ended in here]
    assert len({ended.digest for ended in here}) > 50


def test_seeds_end_runs_in_every_way_that_there_is() -> None:
    played = [simulate(seed) for seed in range(150)]
    ends = {end for ended in played for end in ended.ends}
    assert ends == {"complete", "partial", "interrupted", "aborted", "cancelled", "crash", "frozen"}
    assert {ended.readers for ended in played} >= {1, 2, 3, 4}  # at a time


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_defect_is_found(name: str) -> None:
    with MUTANTS[name]() as pipeline_class:
        for seed in range(SEEDS):
            violation = simulate(seed, pipeline_class=pipeline_class).violation
            if violation is not None and re.search(SIGNS[name], violation):
                return
    pytest.fail("no seed shows it")


# --- the world itself -----------------------------------------------------------------------------------------


def test_the_loop_keeps_the_order_of_what_is_ready_and_draws_that_of_what_becomes_due_together() -> None:
    soon: set[tuple[int, ...]] = set()
    due: set[tuple[int, ...]] = set()
    for seed in range(50):
        loop = VirtualLoop(random.Random(seed), 5.0, lambda: None)
        one: list[int] = []
        two: list[int] = []
        for number in range(3):
            loop.call_soon(one.append, number)
            loop.call_later(1.0, two.append, number)
        loop.call_later(7200.0, loop.stop)
        loop.run_forever()
        assert loop.time() == 7205.0
        loop.close()
        soon.add(tuple(one))
        due.add(tuple(two))
    assert soon == {(0, 1, 2)}
    assert len(due) == 6


def test_a_run_that_waits_for_nothing_is_noticed() -> None:
    loop = VirtualLoop(random.Random(0), 0.0, lambda: None)

    async def wait() -> None:
        await asyncio.Future()

    with pytest.raises(Standstill):
        loop.run_until_complete(wait())
    loop.bury()


def test_the_disk_keeps_what_was_synced_and_any_beginning_of_the_rest() -> None:
    left: set[bytes | None] = set()
    for seed in range(200):
        disk = Stage.disk = Disk(random.Random(seed))
        system, path = SimulatedOS(), SimulatedPath("/state/a")
        folder = system.open("/state", os.O_RDONLY)
        file = system.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        _write(system, file, b"ab")
        system.fsync(file)
        if seed % 2:
            system.fsync(folder)
        _write(system, file, b"cd")
        disk.crash(power=True)
        content = path.read_bytes() if path.exists() else None
        assert content is not None or not seed % 2
        left.add(content)
    assert left == {None, b"ab", b"abc", b"abcd"}


def _write(system: SimulatedOS, file: int, content: bytes) -> None:
    while content:
        content = content[system.write(file, content) :]
