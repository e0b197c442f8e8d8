"""Latencies in logarithmic buckets: constant memory, percentiles to about four per cent."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from operator import add, mul

_PER_OCTAVE = 16
_OCTAVES = 40  # from one microsecond to twelve days
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
