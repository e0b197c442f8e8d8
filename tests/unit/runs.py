"""A pipeline over fakes, put together in one line by the tests of the pipeline."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import Any

from asyncup.events import Event
from asyncup.flow.gate import Limits
from asyncup.flow.interrupt import Interrupt
from asyncup.flow.retry import Retrier, RetryPolicy
from asyncup.flow.sharing import Share
from asyncup.flow.tally import Tally
from asyncup.making.recipe import Recipe
from asyncup.model import Checkpoint, Counts, Range, Reach
from asyncup.pipeline import Parts, Pipeline
from asyncup.render.renderer import Renderer
from asyncup.render.template import parse_template
from asyncup.testing import MemoryCheckpoints, MemoryDeadLetters, MemorySink, MemorySource

FRESH = Checkpoint("job", {}, None, Counts(), finished=False, started="", saved="")


@dataclass
class Watcher:
    """Keeps every event."""

    events: list[Event] = field(default_factory=list)

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class FakeRun:
    """One run of the real pipeline. `quick` retries wait for nothing."""

    def __init__(
        self,
        source: MemorySource,
        sink: MemorySink,
        *,
        checkpoint: Checkpoint = FRESH,
        checkpoints: MemoryCheckpoints | None = None,
        concurrency: int = 8,
        limits: Limits | None = None,
        memory: int = 64 << 20,
        drain_timeout: float = 30.0,
        max_failures: int | None = None,
        max_attempts: int = 4,
        on_null: str = "skip",
        readers: int = 1,
        streams_from: int | None = None,
        recipe: Recipe | None = None,
        share: Share | None = None,
    ) -> None:
        self.source, self.sink = source, sink
        self.watcher, self.tally, self.interrupt = Watcher(), Tally(), Interrupt()
        self.checkpoints = checkpoints or MemoryCheckpoints()
        self.dead_letters = MemoryDeadLetters()
        policy = RetryPolicy(
            max_attempts=max_attempts, base=0.0, throttled_base=0.0, elapsed=3600.0, first_elapsed=3600.0
        )
        self.pipeline = Pipeline(
            Parts(
                source=source,
                renderer=Renderer(source.shape, parse_template("o/{id}"), on_null=on_null),
                sink=sink,
                sending=Retrier(policy, self.interrupt.sleep, lambda error, *_: self.tally.retry(error)),
                dead_letters=self.dead_letters,
                checkpoints=self.checkpoints,
                checkpoint=checkpoint,
                observer=self.watcher,
                tally=self.tally,
                interrupt=self.interrupt,
                readers=readers,
                streams_from=streams_from,
                recipe=recipe,
            ),
            limits=limits or Limits(concurrency),
            memory=memory,
            drain_timeout=drain_timeout,
            max_failures=max_failures,
            share=share,
        )

    async def run(self) -> bool:
        return await self.pipeline.run()

    def start(self) -> asyncio.Task[bool]:
        return asyncio.create_task(self.run())

    @property
    def settled(self) -> Counts:
        return self.pipeline.watermark.settled()

    @property
    def last(self) -> Checkpoint:
        return self.checkpoints.saved[-1]


def bodies(count: int) -> list[bytes | None]:
    return [b"body %d" % number for number in range(1, count + 1)]


def ranges(*bounds: int) -> tuple[Reach, ...]:
    """The ranges of a MemorySource between the rows of these numbers; each is the first of its range."""
    edges = [None, *((f"{bound:012d}",) for bound in bounds), None]
    return tuple(Reach(Range(lower, upper)) for lower, upper in itertools.pairwise(edges))


def key(number: int) -> str:
    """The object key of a row, by its number from 1."""
    return f"o/{number:012d}"


async def until(condition: Any) -> None:
    """Let the loop run until a condition holds; fails after ten seconds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)
