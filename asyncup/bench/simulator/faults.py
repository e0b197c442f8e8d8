"""Which fault happens to which request: drawn from a seed, in the order in which requests come."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from asyncup.bench.simulator.asked import OPERATIONS, WRITES, Asked
from asyncup.values import parse_duration

_ALL = frozenset(OPERATIONS)
_WITH_BODY = frozenset({"put", "part"})

#: The faults there are, and the operations that they happen to unless `on=` says otherwise.
FAULTS: dict[str, frozenset[str]] = {
    "slowdown": _ALL,
    "error": _ALL,
    "unavailable": _ALL,
    "reset": _ALL,
    "reset-after": _ALL,
    "hang": _ALL,
    "hang-after": _ALL,
    "slow-read": _WITH_BODY,
    "truncated": _ALL,
    "garbage": _ALL,
    "html": _ALL,
    "request-timeout": _WITH_BODY,
    "bad-digest": _WITH_BODY,
    "skew": _ALL,
    "expired-token": _ALL,
    "redirect-301": _ALL,
    "redirect-307": _ALL,
    "wrong-etag": _WITH_BODY,
    "complete-error": frozenset({"complete"}),
    "conflict": WRITES,
    "aborted": WRITES,
    "access-denied": _ALL,
    "kms-throttle": WRITES | {"get"},
}


@dataclass(slots=True)
class Fault:
    """One rule: `share` of the requests for `on` whose key contains `key`, between two times of the caller's clock.

    The first `skip` of them are left alone; from then on it happens at most `times` times.
    """

    name: str
    share: float
    on: frozenset[str]
    times: float = math.inf
    skip: int = 0
    begins: float = -math.inf
    ends: float = math.inf
    key: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "share": self.share,
            "on": sorted(self.on),
            "times": None if math.isinf(self.times) else int(self.times),
            "skip": self.skip,
            "key": self.key,
        }


@dataclass(slots=True)
class Faults:
    """The rules in force. Shares are of all requests that a rule is for, so that two of 15 % and 5 % hit a fifth.

    At most one fault happens to a request; a rule that has happened its `times` is gone.
    """

    seed: int = 0
    rules: list[Fault] = field(default_factory=list)
    dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)  # noqa: S311 - to be drawn again, not to be secret

    def put(self, rules: Iterable[Fault]) -> None:
        """Add rules; each takes the place of those with its name, and with a share of 0 only removes them."""
        new = list(rules)
        names = {rule.name for rule in new}
        self.rules = [rule for rule in self.rules if rule.name not in names] + [rule for rule in new if rule.share]

    def draw(self, asked: Asked, now: float) -> str | None:
        """The fault that happens to this request, if any."""
        point = self.dice.random()
        for rule in self.rules:
            if asked.op not in rule.on or rule.key not in asked.key or not rule.begins <= now < rule.ends:
                continue
            if rule.skip:
                rule.skip -= 1
                continue
            if point < rule.share:
                rule.times -= 1
                if rule.times < 1:
                    self.rules = [other for other in self.rules if other is not rule]
                return rule.name
            point -= rule.share
        return None


def parse_fault(text: str, now: float) -> Fault:
    """A rule from `NAME=SHARE[,times=N][,skip=N][,after=DURATION][,for=DURATION][,on=put+part][,key=TEXT]`.

    Raises:
        ValueError: it is none; says why.
    """
    first, *more = text.split(",")
    name, _, share = first.partition("=")
    return make_fault(name, share, dict(_pair(option) for option in more), now)


def make_fault(name: str, share: str, options: Mapping[str, str], now: float) -> Fault:
    """A rule from its parts, as text; `after` and `for` count from `now`.

    Raises:
        ValueError: there is no such fault or option, or its value makes no sense.
    """
    if name not in FAULTS:
        raise ValueError(f"there is no fault {name!r}; there are {', '.join(FAULTS)}")
    rule = Fault(name, parse_share(share), FAULTS[name])
    for option, value in options.items():
        match option:
            case "times":
                rule.times = int(value)
            case "skip":
                rule.skip = int(value)
            case "after":
                rule.begins = now + parse_duration(value)
            case "for":
                continue
            case "key":
                rule.key = value
            case "on":
                rule.on = _operations(value)
            case _:
                raise ValueError(f"a fault has no option {option!r}; it has times, skip, after, for, on and key")
    if "for" in options:
        rule.ends = max(rule.begins, now) + parse_duration(options["for"])
    return replace(rule, share=rule.share if rule.times >= 1 else 0)


def parse_share(text: str) -> float:
    """From `15%` or `0.15`. Raises ValueError."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise ValueError(f"{text!r} is not a share; write it as 15% or 0.15")
    return share


def _operations(text: str) -> frozenset[str]:
    names = frozenset(text.replace(" ", "+").split("+"))  # a query turns + into a blank
    if not names <= _ALL:
        raise ValueError(f"{text!r} names no operations; write on=put+part, from {', '.join(OPERATIONS)}")
    return names


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value
