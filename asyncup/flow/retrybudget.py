"""The bound on all retries of a run together, so that a server in trouble is not buried under second attempts.

Within any ten seconds there are at most half as many retries as successes, and a hundred in any case. A retry that
succeeds does not count: a server that is well again takes at once what waited for it. What goes beyond waits; nothing
is ever dropped for it. Finagle and the SDKs of AWS bound retries alike, but give up what is beyond:
https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

#: Seconds that are looked back on.
WINDOW = 10.0
#: Retries for each success.
SHARE = 0.5
#: Retries a second that are always allowed.
FLOOR = 10.0
#: Between two looks at the successes.
_GRAIN = 0.25
#: Whoever has to wait looks again after so long at the latest: successes may have made room.
_PATIENCE = 0.5


class RetryBudget:
    """Counts retries against successes. `successes` tells how many there were so far; a success itself costs nothing."""

    def __init__(self, successes: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._successes = successes
        self._clock = clock
        self._retries: deque[float] = deque()
        self._seen: deque[tuple[float, int]] = deque([(clock(), successes())])

    def take(self) -> float:
        """Take leave for one retry now: 0.0, or the seconds after which to ask again."""
        now = self._clock()
        retries = self._retries
        while retries and retries[0] <= now - WINDOW:
            retries.popleft()
        allowed = max(FLOOR * WINDOW, SHARE * self._recent(now))
        if len(retries) < allowed:
            retries.append(now)
            return 0.0
        return min(_PATIENCE, max(0.01, retries[0] + WINDOW - now))

    def give_back(self) -> None:
        """A retry that leave was taken for has succeeded."""
        if self._retries:
            self._retries.popleft()

    def _recent(self, now: float) -> float:
        """Successes in the last `WINDOW` seconds, by the looks that were taken; evenly spread between two of them."""
        seen, total = self._seen, self._successes()
        if now - seen[-1][0] >= _GRAIN:
            seen.append((now, total))
        while len(seen) > 1 and seen[1][0] <= now - WINDOW:
            seen.popleft()
        since, before = seen[0]
        age = now - since
        return (total - before) * min(1.0, WINDOW / age) if age else 0.0

    def __repr__(self) -> str:
        return f"<RetryBudget {len(self._retries)} retries in {WINDOW:g} s>"
