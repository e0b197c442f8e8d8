"""How many requests a second a prefix takes: a token bucket for each partition, and partitions that split under pressure.

S3 gives every partitioned prefix 3,500 writes a second and splits a prefix that stays under pressure by the range of its
keys; until then it answers 503 SlowDown.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from typing import Any

#: Seconds over which the demand on a partition is looked at.
WINDOW = 0.25
#: A partition that is asked for this share of its rate is under pressure.
PRESSURE = 0.9
#: Keys that a partition remembers, to split where half of its requests are.
SAMPLE = 512


@dataclass(slots=True)
class Partition:
    """A range of keys. `rate` is in requests a second, times are those of the caller's clock."""

    rate: float
    tokens: float
    refilled: float
    window: float
    demand: int = 0
    pressed: float = 0.0
    sample: deque[str] = field(default_factory=lambda: deque(maxlen=SAMPLE))


@dataclass(slots=True)
class _Prefix:
    """Partitions in the order of their keys; `edges` are the first keys of all but the first of them."""

    partitions: list[Partition]
    edges: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Limits:
    """Says which requests are taken.

    `rate` is in requests a second for each partition, 0 for no limit; `burst` in seconds of that rate. `depth` leading
    path segments of a key, those that end with a slash, are its prefix, which begins as one partition, at the rate
    `cold` if that is not 0. After `split_after` seconds of pressure, if not 0, a cold partition gets the whole rate,
    and another splits. `hashed` splits by a hash of the key: keys that are written in their order always meet
    one partition of a range, as they do at S3.
    """

    rate: float = 0.0
    split_after: float = 0.0
    cold: float = 0.0
    burst: float = 0.1
    depth: int = 1
    hashed: bool = False
    _prefixes: dict[str, _Prefix] = field(default_factory=dict)

    def admits(self, bucket: str, key: str, now: float) -> bool:
        """Take one request, or not."""
        name = f"{bucket}/{_leading(key, self.depth)}"
        prefix = self._prefixes.get(name)
        if prefix is None:
            prefix = self._prefixes[name] = _Prefix([self._partition(self.cold or self.rate, now)])
        where = f"{zlib.crc32(key.encode(errors='surrogateescape')):08x}" if self.hashed else key
        index = bisect_right(prefix.edges, where)
        partition = prefix.partitions[index]
        if self.split_after:
            partition.sample.append(where)
            self._watch(prefix, index, now)
            partition.demand += 1
        room = max(1.0, partition.rate * self.burst)
        partition.tokens = min(room, partition.tokens + (now - partition.refilled) * partition.rate)
        partition.refilled = now
        if partition.tokens < 1:
            return False
        partition.tokens -= 1
        return True

    def set_rate(self, rate: float) -> None:
        """Another rate, for every partition that there is or will be."""
        self.rate = rate
        for prefix in self._prefixes.values():
            for partition in prefix.partitions:
                partition.rate = rate
                partition.tokens = min(partition.tokens, max(1.0, rate * self.burst))

    def forget(self) -> None:
        """Begin again, with one partition for each prefix."""
        self._prefixes.clear()

    def as_json(self) -> dict[str, Any]:
        return {
            "rate": self.rate,
            "split_after": self.split_after,
            "cold": self.cold,
            "partitions": {
                name: [partition.rate for partition in prefix.partitions] for name, prefix in self._prefixes.items()
            },
        }

    def _partition(self, rate: float, now: float) -> Partition:
        return Partition(rate, max(1.0, rate * self.burst), now, now)

    def _watch(self, prefix: _Prefix, index: int, now: float) -> None:
        partition = prefix.partitions[index]
        elapsed = now - partition.window
        if elapsed < WINDOW:
            return
        under_pressure = partition.demand >= PRESSURE * partition.rate * elapsed
        partition.pressed = partition.pressed + elapsed if under_pressure else 0.0
        partition.window, partition.demand = now, 0
        if partition.pressed < self.split_after:
            return
        partition.pressed = 0.0
        if partition.rate < self.rate:
            partition.rate = self.rate
            return
        sample = sorted(partition.sample)
        middle = sample[len(sample) // 2]
        if middle == sample[0]:
            return  # one key is never split
        upper = self._partition(partition.rate, now)
        upper.sample.extend(key for key in partition.sample if key >= middle)
        partition.sample = deque((key for key in partition.sample if key < middle), SAMPLE)
        prefix.partitions.insert(index + 1, upper)
        prefix.edges.insert(index, middle)


def _leading(key: str, depth: int) -> str:
    end = 0
    for _ in range(depth):
        slash = key.find("/", end)
        if slash < 0:
            break
        end = slash + 1
    return key[:end]
