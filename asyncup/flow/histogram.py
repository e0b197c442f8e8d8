"""Latencies in logarithmic buckets: constant memory, percentiles to about four per cent."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from operator import add, mul, sub

_PER_OCTAVE = 16
_OCTAVES = 40  # from one microsecond to twelve days
#: Buckets that are shown as one: four in an octave, each 19 % above the one before.
_SHOWN = 4
#: Where each bucket ends, in seconds. To look a value up takes less than to compute its logarithm.
_ENDS = [2 ** (bucket / _PER_OCTAVE) / 1e6 for bucket in range(1, _PER_OCTAVE * _OCTAVES)]
#: What a duration in a bucket is taken for.
_MIDDLES = [2 ** ((bucket + 0.5) / _PER_OCTAVE) / 1e6 for bucket in range(_PER_OCTAVE * _OCTAVES)]


class Histogram:
    """Counts of durations in seconds."""

    def __init__(self) -> None:
        self._buckets = [0] * (_PER_OCTAVE * _OCTAVES)

    def record(self, seconds: float) -> None:
        self._buckets[bisect_right(_ENDS, seconds)] += 1

    def add(self, other: Histogram) -> None:
        """Take in what another has recorded."""
        self._buckets = list(map(add, self._buckets, other._buckets))

    def copy(self) -> Histogram:
        """One that goes on from here by itself."""
        other = Histogram()
        other.add(self)
        return other

    def since(self, before: Histogram) -> Histogram:
        """What was recorded after the copy `before` was made."""
        other = Histogram()
        other._buckets = list(map(sub, self._buckets, before._buckets))
        return other

    def spread(self) -> tuple[tuple[float, int], ...]:
        """How many durations are up to so many seconds and above the bound before; bounds without any are left out."""
        ends = [*_ENDS[_SHOWN - 1 :: _SHOWN], float("inf")]
        sums = (sum(self._buckets[first : first + _SHOWN]) for first in range(0, len(self._buckets), _SHOWN))
        return tuple((end, count) for end, count in zip(ends, sums, strict=True) if count)

    @property
    def count(self) -> int:
        """How many durations were recorded."""
        return sum(self._buckets)

    @property
    def seconds(self) -> float:
        """The sum of the recorded durations, as exact as the buckets are."""
        return float(sum(map(mul, self._buckets, _MIDDLES)))

    def percentile(self, share: float) -> float:
        """The duration in seconds that `share` (0 to 1) of the recorded ones do not exceed; 0.0 when none are."""
        count = self.count
        if not count:
            return 0.0
        wanted = max(1.0, share * count)
        reached = itertools.accumulate(self._buckets)
        bucket = next(bucket for bucket, seen in enumerate(reached) if seen >= wanted)
        return _MIDDLES[bucket]
