"""Whatever ends runs, and however little memory, places and time they have: packs come out as if nothing had happened.

A small simulation of makers and packs: the rows, the bounds, the faults and the moment at which each run is drained or cut
off come from a seed. Defects that are planted have to be found by some seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest

from asyncup.errors import AsyncupError, PackBroken, RowRefused, ServerFault, TransformFailed
from asyncup.flow.loads import Load
from asyncup.flow.watermark import Ticket, Together
from asyncup.making.cutting import Cutter
from asyncup.making.making import Making
from asyncup.making.packs import INDEX_SUFFIX
from asyncup.making.recipe import Packs, Recipe
from asyncup.model import DeadLetter, Outcome, Products, Upload
from asyncup.packing.formats import open_packing
from asyncup.packing.layout import Layout
from asyncup.pipeline import Pipeline
from asyncup.testing import FaultySink, MemoryCheckpoints, MemorySource
from tests.unit.runs import FakeRun, key
from tests.unit.test_making import Doing

SEEDS = 24
#: A run that takes longer hangs.
SECONDS = 5.0


class World:
    """What a seed decides for all runs: the rows, where packs end, and which rows the function refuses."""

    def __init__(self, seed: int) -> None:
        self.dice = dice = random.Random(seed)
        self.store, self.objects = MemoryCheckpoints(), dict[str, Upload]()
        count, most = dice.choice([0, 1, 9, 60, 150]), dice.choice([0, 50, 300])
        large, null = dice.choice([0, 0.02, 0.1]), dice.choice([0, 0.03])
        self.bodies = [self._body(number, most, large, null) for number in range(1, count + 1)]
        self.rows = dice.choice([1, 3, 20, 70, None])
        self.size = dice.choice([1000, 20_000, *([None] if self.rows else [])])
        self.has_index = dice.random() < 0.3
        self.refused = set[int]()
        self.has_transform = dice.random() < 0.5
        if self.has_transform:
            self.refused = {number for number in range(1, count + 1) if dice.random() < 0.05}

    def _body(self, number: int, most: int, large: float, null: float) -> bytes | None:
        dice = self.dice
        if dice.random() < null:
            return None
        return b"%d" % number + b" " * (dice.randint(1000, 40_000) if dice.random() < large else dice.randint(0, most))

    def recipe(self, source: MemorySource) -> Recipe:
        dice = self.dice
        packing = open_packing("ndjson", Layout(source.shape, (), None), indexed=self.has_index)
        packs = Packs(packing, self.rows, self.size, has_index=self.has_index, is_streamed=dice.random() < 0.8)
        if not self.has_transform:
            return Recipe(packs=packs)
        places, portion = dice.choice([1, 2, 8]), dice.choice([(1, 1), (3, 100), (100, 1 << 20)])
        return Recipe(Doing(self._made, places, portion), packs=packs)

    async def _made(self, number: int) -> Products | RowRefused:
        for _ in range(self.dice.randrange(3)):
            await asyncio.sleep(0)
        return TransformFailed("transform", "f", "no") if number in self.refused else (b"%d" % number,)

    def expected(self) -> dict[str, list[int]]:
        """The rows of each pack."""
        packs: list[list[int]] = [[]]
        held = 0
        for number, body in enumerate(self.bodies, 1):
            size = len(body or b"")
            full = len(packs[-1]) == self.rows or (self.size is not None and held + size > self.size)
            if packs[-1] and full:
                packs.append([])
                held = 0
            packs[-1].append(number)
            held += size
        sent = ([n for n in pack if self.bodies[n - 1] is not None and n not in self.refused] for pack in packs)
        return {key(pack[0]): pack for pack in sent if pack}


async def simulate(seed: int) -> None:
    """Play a seed: runs that are ended, until one is not."""
    world = World(seed)
    dice, store = world.dice, world.store
    for attempt in range(20):
        page_rows, page_bytes = dice.choice([1, 7, 50]), dice.choice([2000, 20_000])
        source = MemorySource(world.bodies, page_rows=page_rows, page_bytes=page_bytes)
        rate = dice.choice([0.0, 0.1, 0.4])

        def fault(upload: Upload, _: int, rate: float = rate) -> BaseException | None:
            return ServerFault("put", upload.key, "busy") if dice.random() < rate else None

        sink = FaultySink(fault)
        sink.objects = world.objects
        run = FakeRun(
            source,
            sink,
            recipe=world.recipe(source),
            checkpoints=store,
            memory=dice.choice([3000, 20_000, 300_000]),
            concurrency=dice.choice([1, 1, 2, 8]),
            max_attempts=1000,
            **({"checkpoint": store.saved[-1]} if store.saved else {}),
        )
        running = run.start()
        is_ended = attempt < 10 and dice.random() < 0.6
        if is_ended:
            for _ in range(dice.randint(1, 300)):
                await asyncio.sleep(0)
            if dice.random() < 0.5:
                run.interrupt.request(2)
            else:
                running.cancel()
        finished = False
        with contextlib.suppress(asyncio.CancelledError, PackBroken):
            async with asyncio.timeout(SECONDS):
                finished = await running
        assert asyncio.all_tasks() == {asyncio.current_task()}
        if finished:
            break
    assert run.pipeline.budget.used == 0
    assert {name for name in world.objects if name.endswith(INDEX_SUFFIX)} == {
        name + INDEX_SUFFIX for name in world.expected() if world.has_index
    }
    assert {
        name: [int(line) for line in upload.body.splitlines()]  # type: ignore[union-attr]
        for name, upload in world.objects.items()
        if not name.endswith(INDEX_SUFFIX)
    } == world.expected()
    counts, nulls = run.pipeline.watermark.counts, world.bodies.count(None)
    failed = len([number for number in world.refused if world.bodies[number - 1] is not None])
    assert (counts.put, counts.skipped, counts.failed) == (len(world.bodies) - nulls - failed, nulls, failed)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncup.making.packs.STREAM_BYTES", 1000)
    monkeypatch.setattr("asyncup.making.packs.SLICE_BYTES", 300)
    monkeypatch.setattr("asyncup.making.packs.MOST_KEYS", 40)


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_packs_are_those_of_a_run_that_nothing_ended(seed: int) -> None:
    await simulate(seed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_packs_are_those_of_a_run_that_nothing_ended_for_many_seeds() -> None:
    for seed in range(1000, 3000):
        await simulate(seed)


# --- planted defects --------------------------------------------------------------------------------------------


def _cuts_at_the_end_of_a_page(patch: pytest.MonkeyPatch) -> None:
    cut = Cutter.cut

    def mutant(self: Cutter, rows: Any) -> Load:
        return cut(self, rows) + self.end()

    patch.setattr(Cutter, "cut", mutant)


def _settles_a_pack_before_it_is_sent(patch: pytest.MonkeyPatch) -> None:
    class Hasty(Together):
        def __init__(self, ticket: Ticket, keys: Any, uploads: int) -> None:
            super().__init__(ticket, keys, uploads)
            ticket.settle(Outcome.PUT, 0, len(keys))
            self.rows = 0

    patch.setattr("asyncup.making.packs.Together", Hasty)


def _ends_a_pack_before_its_rows(patch: pytest.MonkeyPatch) -> None:
    end = Together._end

    def mutant(self: Together) -> None:
        self._uploads = 1
        end(self)

    patch.setattr(Together, "_end", mutant)


def _hands_portions_on_out_of_turn(patch: pytest.MonkeyPatch) -> None:
    def before(_: Making) -> asyncio.Event:
        handed_on = asyncio.Event()
        handed_on.set()
        return handed_on

    patch.setattr(Making, "_before", property(before, lambda *_: None), raising=False)


def _forgets_letters_of_refused_rows(patch: pytest.MonkeyPatch) -> None:
    def mutant(self: Ticket, letter: DeadLetter) -> Any:
        self.settle(Outcome.SKIPPED)
        return (letter,)

    patch.setattr(Ticket, "fail", mutant)


def _counts_a_stream_in_the_budget(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("asyncup.making.packs.ROW_OVERHEAD", 0)


def _keeps_large_rows_for_the_end_of_their_page(patch: pytest.MonkeyPatch) -> None:
    async def mutant(self: Pipeline, load: Load, reserved: int) -> None:
        await once(self, sorted(load, key=lambda one: bool(one[1]) and one[1][0][-1] is None), reserved)

    once = Pipeline._load_in_order
    patch.setattr(Pipeline, "_load_in_order", mutant)


@pytest.mark.parametrize(
    "plant",
    [
        _cuts_at_the_end_of_a_page,
        _settles_a_pack_before_it_is_sent,
        _ends_a_pack_before_its_rows,
        _hands_portions_on_out_of_turn,
        _forgets_letters_of_refused_rows,
        _counts_a_stream_in_the_budget,
        _keeps_large_rows_for_the_end_of_their_page,
    ],
)
async def test_a_planted_defect_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    monkeypatch.setattr("tests.unit.test_packs_resumed.SECONDS", 1.0)
    for seed in range(300):
        try:
            await simulate(seed)
        except (AssertionError, TimeoutError, AsyncupError):
            return
    pytest.fail("no seed shows it")
