"""All that a simulator is made of and can be told to do otherwise while it runs."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from asyncup.bench.simulator.answers import REGION, Words
from asyncup.bench.simulator.counters import Counters
from asyncup.bench.simulator.delay import Delay, DrawnDelay
from asyncup.bench.simulator.faults import Faults
from asyncup.bench.simulator.limits import Limits
from asyncup.bench.simulator.store import Store
from asyncup.bench.simulator.verify import Verifier


@dataclass(frozen=True, slots=True)
class Manners:
    """Choices that hold for the whole run.

    `retry_after` goes with every SlowDown, in seconds; `slow_read` is in bytes a second. A `region` is the only one that
    requests may be signed for. Redirects lead to `redirect_region` and `redirect_endpoint`, by default the Host that was
    asked.
    """

    retry_after: int | None = None
    slow_read: float = 64 << 10
    check_clock: bool = False
    region: str | None = None
    wrong_region: str = "400"
    redirect_region: str = "eu-central-1"
    redirect_endpoint: str | None = None


@dataclass(slots=True)
class World:
    """`watches` says whether requests are looked at at all: without any option they only pay for asking that."""

    counters: Counters
    words: Words
    delay: Delay | DrawnDelay
    faults: Faults
    limits: Limits
    manners: Manners
    store: Store | None = None
    verifier: Verifier | None = None
    dice: random.Random = field(init=False)
    watches: bool = False

    def __post_init__(self) -> None:
        # apart from the dice of the faults, so that what a fault looks like changes nothing of what comes
        self.dice = random.Random(f"looks {self.faults.seed}")  # noqa: S311
        self.review()

    @property
    def region(self) -> str:
        return self.manners.region or REGION

    def review(self) -> None:
        """Find out again what has to be looked at; to be called when any of it has changed."""
        manners = self.manners
        self.watches = (
            bool(self.faults.rules or self.limits.rate or manners.check_clock or manners.region)
            or self.store is not None
            or self.verifier is not None
        )
