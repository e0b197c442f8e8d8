"""The ranges of a run as the watch knows them: whose rows were handed out, and how far a checkpoint says each is settled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncup.model import Checkpoint, Counts, Key, Range, Reach
from tests.simulation.scenario import Scenario

#: Makes the exception for what is wrong.
Violated = Callable[[str], Exception]


def number_of(key: Any) -> int:
    """The row that has a key; 0 for none."""
    return 0 if key is None else int(key[-1])


def reaches_of(checkpoint: dict[str, Any]) -> list[Reach]:
    """How far each range is settled, as a checkpoint in JSON says it."""
    found = []
    for reach in checkpoint["ranges"]:
        bounds = {name: reach["part"][name] and tuple(reach["part"][name]) for name in ("lower", "upper")}
        found.append(Reach(Range(**{**reach["part"], **bounds}), reach["watermark"], reach["finished"]))
    return found or [Reach(Range(), checkpoint["watermark"], checkpoint["finished"])]


@dataclass
class Stretch:
    """One range. `at` and `is_finished` are what the last checkpoint says, `begun` and `is_read` what happened."""

    part: Range
    members: frozenset[int]
    at: int
    is_finished: bool
    delivered: list[int] = field(default_factory=list)
    begun: int = 0
    is_read: bool = False
    _passed: int = 0

    def deliver(self, numbers: Sequence[int], violated: Violated) -> None:
        """Rows are handed out."""
        for number in numbers:
            if number not in self.members:
                raise violated(f"row {number} was read with {self.part}")
            if number <= (self.delivered[-1] if self.delivered else self.at):
                raise violated(f"row {number} was read twice or out of order")
            self.delivered.append(number)

    def settle(self, at: int, *, finished: bool, violated: Violated) -> Sequence[int]:
        """A checkpoint says how far the range is settled: the rows that it has passed since the one before."""
        if at < self.at:
            raise violated(f"the watermark went back from {self.at} to {at}")
        if self.is_finished and not finished:
            raise violated(f"a range that was finished is not any more: {self.part}")
        if finished and not (self.is_read or self.is_finished):
            raise violated(f"a range is finished that was not read to its end: {self.part}")
        before = passed = self._passed
        while passed < len(self.delivered) and (finished or self.delivered[passed] <= at):
            passed += 1
        self.is_finished, self._passed = finished, passed
        return self.delivered[before:passed]


class Ranges:
    """The ranges of one run, begun with a checkpoint. `most` is how many were read at a time."""

    def __init__(self, scenario: Scenario, checkpoint: Checkpoint, readers: int, violated: Violated) -> None:
        self._scenario, self._readers, self._violated = scenario, readers, violated
        self._stretches: dict[Range, Stretch] = {}
        for reach in checkpoint.ranges or (Reach(Range(), checkpoint.watermark, checkpoint.finished),):
            if reach.part in self._stretches:
                raise violated(f"a range is there twice: {reach.part}")
            self._add(reach)
        self._kept = len(self._stretches)
        self.reading = 0
        self.most = 0

    @property
    def by_leaf(self) -> bool:
        """Whether partitions that come are read as well."""
        return any(part.leaf is not None for part in self._stretches)

    def _add(self, reach: Reach) -> None:
        members = frozenset(self._scenario.members(reach.part))
        self._stretches[reach.part] = Stretch(reach.part, members, number_of(reach.watermark), reach.finished)

    def _take_in(self, part: Range) -> None:
        """Another partition has come."""
        known = {stretch.leaf for stretch in self._stretches}
        if self.by_leaf and part.leaf not in known and part == Range(leaf=part.leaf):
            self._add(Reach(part))

    def begin(self, part: Range, after: Key | None) -> None:
        """A reader begins with a range."""
        self._take_in(part)
        stretch = self._stretches.get(part)
        if stretch is None:
            raise self._violated(f"a range is read that the checkpoint does not have: {part}")
        stretch.begun += 1
        if stretch.begun > 1:
            raise self._violated(f"a range is read twice: {part}")
        if stretch.is_finished:
            raise self._violated(f"a range was finished, and is read again: {part}")
        if number_of(after) != stretch.at:
            raise self._violated(f"a range is read from row {number_of(after)} on, and is settled up to {stretch.at}")
        self.reading += 1
        self.most = max(self.reading, self.most)
        if self.reading > self._readers:
            raise self._violated(f"{self.reading} ranges are read at a time by {self._readers} readers")

    def end(self, part: Range, *, is_read: bool) -> None:
        """A reader is done with a range, to its end or not."""
        self.reading -= 1
        self._stretches[part].is_read = is_read

    def deliver(self, part: Range, numbers: Sequence[int]) -> None:
        """A page of a range is handed out."""
        self._stretches[part].deliver(numbers, self._violated)

    def settle(self, reaches: Sequence[Reach], how: Callable[[int], Counts | None]) -> Counts:
        """A checkpoint says how far all ranges are settled: what the rows count that it has passed since the one before.

        `how` says how a row was settled, None when it is not.
        """
        for reach in reaches:
            self._take_in(reach.part)
        there = list(self._stretches)[: len(reaches)]  # partitions may have come since it was made
        if [reach.part for reach in reaches] != there or len(reaches) < self._kept:
            raise self._violated(f"the checkpoint has other ranges: {reaches}")
        self._kept = len(reaches)
        found = Counts()
        for reach in reaches:
            at, stretch = number_of(reach.watermark), self._stretches[reach.part]
            for number in stretch.settle(at, finished=reach.finished, violated=self._violated):
                stretch.at = number
                counts = how(number)
                if counts is None:
                    end = "finished" if reach.finished else f"at row {at}"
                    raise self._violated(f"the checkpoint is {end}, and row {number} is not settled")
                found += counts
            if at != stretch.at:
                raise self._violated(
                    f"the watermark is at row {at}, and the last up to there is {stretch.at}: {reach.part}"
                )
        return found
