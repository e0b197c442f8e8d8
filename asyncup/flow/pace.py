"""How many requests a second a server takes that answers SlowDown: the rate at which it just does not.

S3 limits rates, not connections, so its limit is followed as a rate. Under throttling the goodput *is* the limit, so
the first window shows it: the cap goes just below, and grows back along the curve of CUBIC
(RFC 9438, https://www.rfc-editor.org/rfc/rfc9438#section-4.2): fast to where it was, slowly past it, then faster and
faster where nothing says no. Where less than one in a hundred is throttled it stays: S3 splits a hot prefix only
while the pressure lasts, and a bucket of tokens that is always empty answers at once when the limit moves.

Answers that say no whatever the rate are no limit. Slowing down twice with nothing gained but a smaller goodput shows
that; they are taken as a background from then on.
"""

from __future__ import annotations

import math
from typing import NamedTuple

#: Shares of throttled answers: below the first the cap grows, up to the second it holds, above the third it is cut deep.
GROW, HOLD, DEEP = 0.002, 0.01, 0.05
#: What is left of the goodput just seen after a cut.
GENTLE_CUT, DEEP_CUT = 0.99, 0.95
#: The curve: of the rate for each second to the third power. From 0.95 back to 1 in 1.5 s, twice as much 4 s after that.
CUBIC = 0.015
#: A share so large, from one look to the next, that a window of its own begins, and a short one.
URGENT, URGENT_ANSWERS, URGENT_SECONDS = 0.2, 16, 0.04
#: A share at which the server may be out of order, which says nothing about its limit, as fewer successes than this do
#: not either; what is left of the rate then.
OUTAGE, TO_TRUST, OUTAGE_CUT = 0.9, 10, 0.3
#: A window lasts so long and sees so many answers, or few of them in a long one.
WINDOW_SECONDS, ANSWERS, LONG_SECONDS, FEW = 0.25, 100, 1.0, 4
#: One after a flood, and those after it, see fewer.
FAST_ANSWERS = 30
#: After an urgent cut, whose measure is rough: how often, and by how much, the cap grows until something is throttled.
ROUGH_SECONDS, ROUGH_STEP = 0.1, 1.1
#: Requests a second, at least.
LEAST_RATE = 10.0
#: A cap is used when somebody waits for it, and this share of it is sent. After so many seconds without it goes.
USED, FORGET_SECONDS = 0.8, 10.0
#: Cuts in a row that did not help before the cause is looked for elsewhere; what refuses more than this is a limit.
VAIN, BACKGROUND = 2, 0.5


class Count(NamedTuple):
    """Attempts that ended since the start: `answered` in whatever way, among them those that succeeded, or were throttled."""

    acknowledged: int
    throttled: int
    answered: int


class Window(NamedTuple):
    """A window's figures: attempts and successes a second, the share that was throttled, and how many there were."""

    rate: float
    goodput: float
    share: float
    answered: int
    acknowledged: int


class Pace:
    """`cap` in requests a second, None while there is none."""

    def __init__(self) -> None:
        self.cap: float | None = None
        self._goal = 0.0  # the limit as it was last seen
        self._clock = 0.0  # seconds on the curve
        self._back_after = 0.0  # seconds on the curve to that limit
        self._is_rough = False  # whether that was measured in too short a time
        self._background = 0.0
        self._cut_from: Window | None = None  # what was seen before the last cut
        self._vain = 0
        self._unused = 0.0
        self._is_urgent = False
        self._last: tuple[float, Count] | None = None
        self._from: tuple[float, Count] | None = None
        self._not_before = float("-inf")
        self._used = False

    def look(self, at: float, count: Count, latency: float, *, waiting: bool) -> None:
        """Take one more look; at the end of a window, decide. `waiting`: somebody waits for the cap."""
        before, self._last = self._last, (at, count)
        if self._from is None:
            if at >= self._not_before:
                self._from, self._used, self._is_urgent = (at, count), False, False
            return
        self._used = self._used or waiting
        if not self._is_urgent and before is not None and self._is_flood(before[1], count):
            self._from, self._is_urgent = before, True  # what was before is over
        begun, first = self._from
        span, answered = at - begun, count.answered - first.answered
        floor = URGENT_SECONDS if self._is_urgent else ROUGH_SECONDS if self._is_rough else WINDOW_SECONDS
        least = FEW if span >= LONG_SECONDS else FAST_ANSWERS if self._is_urgent or self._is_rough else ANSWERS
        if span < max(floor, (1 if self._is_urgent else 2) * latency) or answered < least:
            return
        acknowledged, throttled = count.acknowledged - first.acknowledged, count.throttled - first.throttled
        window = Window(answered / span, acknowledged / span, throttled / answered, answered, acknowledged)
        cap = self.cap
        self._decide(window, span)
        if self.cap is None or (cap is not None and self.cap >= cap):
            self._not_before = at
        else:  # what comes back at first was sent before the cut
            self._not_before = at + 1.5 * latency
        self._from = None

    def _is_flood(self, before: Count, now: Count) -> bool:
        throttled = now.throttled - before.throttled
        return throttled >= URGENT_ANSWERS and throttled > (URGENT + self._background) * (
            now.answered - before.answered
        )

    @property
    def is_used(self) -> bool:
        """Whether there is a cap, and requests that wait for it."""
        return self.cap is not None and not self._unused

    def start_at(self, goodput: float) -> None:
        """Begin with a limit that is roughly known from elsewhere."""
        self._set(max(LEAST_RATE, goodput), 1.0)
        self._is_rough = True

    def _decide(self, window: Window, span: float) -> None:
        excess = self._excess(window)
        if excess > HOLD and window.share * window.answered > 1:  # one alone is no share
            if self._is_in_vain(window):
                self._accept(window)
            else:
                self._cut(window, excess)
            return
        self._cut_from, self._vain = None, 0
        if self.cap is None:
            return
        if not self._used or window.rate < USED * self.cap:
            self._unused += span
            if self._unused >= FORGET_SECONDS:
                self.cap, self._unused = None, 0.0
            return
        self._unused = 0.0
        if excess <= GROW and self._is_rough:
            self._goal, self._clock = self.cap, self._back_after
            self.cap *= ROUGH_STEP
        elif excess <= GROW:
            self._clock += span
            self.cap = self._goal * (1 + CUBIC * (self._clock - self._back_after) ** 3)

    def _excess(self, window: Window) -> float:
        """The share that was throttled beyond the background, and beyond what chance makes of it."""
        noise = 3 * math.sqrt(self._background * (1 - self._background) / window.answered)
        if self._background:
            step = 0.3 if window.share < self._background else 0.05
            if abs(window.share - self._background) < noise or window.share < self._background:
                self._background += step * (window.share - self._background)
            if self._background < HOLD / 2:
                self._background = 0.0
        return max(0.0, window.share - self._background - noise) / (1 - self._background)

    def _is_in_vain(self, window: Window) -> bool:
        """Whether the last cuts, this many of them, lost goodput and left the share of the throttled as it was."""
        before = self._cut_from
        if before is None or window.share > BACKGROUND:
            return False
        slowed = 1 - window.rate / before.rate
        helped = window.share < 0.6 * before.share or window.goodput > before.goodput * (1 - 0.5 * slowed)
        self._vain = 0 if helped or slowed < 0.02 else self._vain + 1
        return self._vain >= VAIN

    def _accept(self, window: Window) -> None:
        """Slow down no longer: it was not better."""
        self._background = window.share
        self.cap, self._cut_from, self._vain = None, None, 0

    def _cut(self, window: Window, excess: float) -> None:
        self._cut_from = window
        allowed = window.goodput  # not what the background takes too: were it none, it would keep itself alive
        cut = DEEP_CUT if excess > DEEP else GENTLE_CUT
        if self.cap is None:
            is_outage, before, goal = window.acknowledged < FEW and window.share >= OUTAGE, window.rate, window.rate
        else:
            is_outage, before, goal = window.acknowledged < TO_TRUST and self._goal > allowed, self.cap, self._goal
            if window.share < OUTAGE or self._clock:  # it has answered meanwhile
                goal /= 2
        if is_outage:
            goal = max(goal, allowed, LEAST_RATE)
            self._set(goal, max(cut * allowed, OUTAGE_CUT * before) / goal)
            self._is_rough = False
        else:
            self._is_rough = self._is_urgent or self.cap is None
            self._set(max(LEAST_RATE, allowed), cut)

    def _set(self, goal: float, share: float) -> None:
        """Aim at `goal` along the curve, from a share of it on."""
        self._goal, self._clock = goal, 0.0
        self.cap = max(LEAST_RATE, share * goal)
        self._back_after = ((1 - min(1.0, share)) / CUBIC) ** (1 / 3)
