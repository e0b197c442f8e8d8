"""What outlives a run of its state, in a folder or in a bucket, as somebody sees it who trusts nobody's memory."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from asyncup.errors import ConnectionLost, ServerFault, Throttled
from asyncup.model import Document
from tests.simulation.disk import Disk
from tests.simulation.known import KNOWN
from tests.simulation.scenario import RunPlan

if TYPE_CHECKING:
    from tests.simulation.invariants import Invariants

CHECKPOINT, LETTERS = ".json", ".dead-letters.jsonl"
#: What a request about state may come to.
TROUBLES = {"lost": 4, "lost-after": 4, "lost-late": 4, "fault": 4, "throttled": 2}
PATIENCE = 10.0


class Broken(Exception):
    """What is kept cannot be read."""


class Kept(Protocol):
    """The state of the one job."""

    def checkpoint(self) -> dict[str, Any] | None:
        """The checkpoint that a run would find. Raises Broken."""
        ...

    def letters(self, *, certain: bool) -> list[int]:
        """The rows that have dead letters, in their order; `certain` are those that no crash takes away."""
        ...


@dataclass
class KeptInFolder:
    disk: Disk

    def checkpoint(self) -> dict[str, Any] | None:
        name = next((name for name in self.disk.names if name.endswith(CHECKPOINT)), None)
        if name is None:
            return None
        try:
            found: dict[str, Any] = json.loads(bytes(self.disk.names[name].content))
        except ValueError:
            raise Broken from None
        return found

    def letters(self, *, certain: bool) -> list[int]:
        name = next((name for name in self.disk.names if name.endswith(LETTERS)), None)
        if name is None:
            return []
        return rows_of(self.disk.durable(name) if certain else bytes(self.disk.names[name].content))


@dataclass
class Write:
    """A request on its way to the bucket: `answer` is its ETag, None when its condition did not hold."""

    key: str
    content: bytes | None
    condition: Callable[[str | None], bool]
    sender: Invariants
    answer: str | None = None


@dataclass
class StateBucket:
    """A bucket that holds to conditions, and to nothing else that is convenient: what was sent may come later.

    `writers` are the runs that have had the job, in order.
    """

    objects: dict[str, tuple[bytes, str, float]] = field(default_factory=dict)
    writers: list[str] = field(default_factory=list)
    _coming: list[tuple[float, Write]] = field(default_factory=list)
    _number: int = 0
    _now: float = 0.0

    def checkpoint(self) -> dict[str, Any] | None:
        found = next((content for key, (content, _, _) in self.objects.items() if key.endswith(CHECKPOINT)), None)
        value: dict[str, Any] | None = None if found is None else json.loads(found)["checkpoint"]
        return value

    def letters(self, *, certain: bool) -> list[int]:
        found: dict[int, int] = {}
        for key in sorted(key for key in self.objects if key.endswith(".jsonl")):
            first = int(key.rpartition("/")[2].partition(".")[0])
            found |= dict(enumerate(rows_of(self.objects[key][0]), first))
        return [found[place] for place in sorted(found)]

    def send(self, when: float, write: Write) -> None:
        self._coming.append((when, write))
        self._coming.sort(key=lambda coming: coming[0])

    def arrive(self, now: float) -> None:
        """Take in what has come by now."""
        while self._coming and self._coming[0][0] <= now:
            when, write = self._coming.pop(0)
            there = self.objects.get(write.key)
            if not write.condition(None if there is None else there[1]):
                continue
            self._number += 1
            write.answer = f'"{self._number}"'
            if write.content is None:
                self.objects.pop(write.key, None)
                continue
            self.objects[write.key] = write.content, write.answer, when
            if write.key.endswith(CHECKPOINT):
                value = json.loads(write.content)
                self._now = when
                self._check_writer(value, there, write)
                same = there is not None and json.loads(there[0])["checkpoint"] == value["checkpoint"]
                if value["checkpoint"] is not None and not same:  # else only the lease is another
                    write.sender.checkpoint_written(value["checkpoint"])

    def _check_writer(self, value: dict[str, Any], before: tuple[bytes, str, float] | None, write: Write) -> None:
        """One run at a time has the job, and none gets it back that has lost it."""
        writer = value["writer"]
        if self.writers and self.writers[-1] == writer:
            return
        if writer in self.writers and before is not None and write.sender.pipeline is not None:
            raise write.sender.violated("a run that had lost the job wrote over the state of the one that has it")
        self.writers.append(writer)
        lease = None if before is None else json.loads(before[0])["lease"]
        if before is not None and lease is not None and self._now - before[2] < lease["seconds"]:
            raise write.sender.violated(f"the job was taken {self._now - before[2]:.1f} s after its lease was renewed")


class SimulatedDocuments:
    """See `places.Documents`: the bucket, as one run sees it."""

    def __init__(self, bucket: StateBucket, plan: RunPlan, dice: random.Random, watch: Invariants) -> None:
        self._bucket, self._plan, self._dice, self._watch = bucket, plan, dice, watch

    async def get(self, key: str) -> Document | None:
        await self._answer(self._trouble())
        found = self._bucket.objects.get(key)
        if found is None:
            return None
        content, etag, written = found
        return Document(content, etag, float(int(written)), float(int(self._watch.now())))

    async def put(self, key: str, content: bytes, *, etag: str | None = None, new: bool = False) -> str | None:
        def condition(there: str | None) -> bool:
            return there == etag if etag is not None else there is None or not new

        return await self._write(Write(key, content, condition, self._watch))

    async def delete(self, key: str, *, etag: str | None = None) -> None:
        await self._write(Write(key, None, lambda there: etag is None or there == etag, self._watch))

    async def keys(self, prefix: str) -> AsyncGenerator[str, None]:
        await self._answer(self._trouble())
        for key in sorted(key for key in self._bucket.objects if key.startswith(prefix)):
            if "/" not in key.removeprefix(prefix):
                yield key

    async def close(self) -> None:
        """Nothing is held."""

    async def _write(self, write: Write) -> str | None:
        trouble = self._trouble()
        if trouble == "lost-late" and write.content is None and "a late removal" in KNOWN:
            trouble = "lost-after"
        if trouble not in ("lost", "fault", "throttled") and not self._watch.over:
            late = self._dice.random() * 200 if trouble == "lost-late" else 0.0
            self._bucket.send(self._watch.now() + self._seconds() / 2 + late, write)
        self._watch.note("state " + (trouble or "write"))
        await self._answer(trouble)
        return write.answer

    async def _answer(self, trouble: str | None) -> None:
        """Wait for it. A request that was sent is not taken back by a crash, nor by a cancellation."""
        if self._watch.over:
            raise ConnectionLost("state", "bucket", "the process is gone")
        await asyncio.sleep(PATIENCE if trouble == "lost-late" else self._seconds())
        self._bucket.arrive(self._watch.now())
        if trouble is not None:
            kind = {"fault": ServerFault, "throttled": Throttled}.get(trouble, ConnectionLost)
            raise kind("state", "bucket", trouble)

    def _seconds(self) -> float:
        return self._plan.disk_seconds * (0.5 + self._dice.random() / 2)

    def _trouble(self) -> str | None:
        if not self._plan.state_trouble_rate or self._dice.random() >= self._plan.state_trouble_rate:
            return None
        return self._dice.choices(list(TROUBLES), list(TROUBLES.values()))[0]


def rows_of(letters: bytes) -> list[int]:
    """The rows of dead letters, whole lines only."""
    return [int(json.loads(line)["key"][-1]) for line in letters.split(b"\n")[1:-1]]
