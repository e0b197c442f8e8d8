"""Latencies in logarithmic buckets: constant memory, percentiles to about four per cent."""

from __future__ import annotations

import itertools
from math import log2

_PER_OCTAVE = 16
_OCTAVES = 40  # from one microsecond to twelve days


class Histogram:
    """Counts of durations in seconds."""

    def __init__(self) -> None:
        self._buckets = [0] * (_PER_OCTAVE * _OCTAVES)
        self.count = 0

    def record(self, seconds: float) -> None:
        bucket = int(log2(seconds * 1e6) * _PER_OCTAVE) if seconds > 1e-6 else 0
        self._buckets[min(bucket, len(self._buckets) - 1)] += 1
        self.count += 1

    def percentile(self, share: float) -> float:
        """The duration in seconds that `share` (0 to 1) of the recorded ones do not exceed; 0.0 when none are."""
        if not self.count:
            return 0.0
        wanted = max(1.0, share * self.count)
        reached = itertools.accumulate(self._buckets)
        bucket = next(bucket for bucket, seen in enumerate(reached) if seen >= wanted)
        return float(2 ** ((bucket + 0.5) / _PER_OCTAVE)) / 1e6
