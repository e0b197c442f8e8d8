"""What is asked of the simulator and not of S3: its counters, and to do otherwise from now on."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from asyncup.bench.simulator.answers import Answer
from asyncup.bench.simulator.asked import CONTROL
from asyncup.bench.simulator.delay import make_delay, parse_latency
from asyncup.bench.simulator.faults import FAULTS, make_fault
from asyncup.bench.simulator.framing import Head
from asyncup.bench.simulator.store import Store
from asyncup.bench.simulator.world import World
from asyncup.values import parse_duration

_HELP = """there is
GET  /-/counters
POST /-/reset                      begin to count anew
GET  /-/faults
POST /-/faults?NAME=SHARE&times=N&skip=N&after=DURATION&for=DURATION&on=put+part&key=TEXT   without a name: none from now on
GET  /-/limit
POST /-/limit?rate=N&split-after=DURATION&cold=N
POST /-/latency?value=20ms         or lognormal:20ms,0.5
POST /-/clock?offset=SECONDS
POST /-/expire?access=KEY          what is signed with it is answered with ExpiredToken from now on
GET  /-/objects?bucket=NAME&prefix=TEXT    how many, and a digest of keys and ETags; with list=1 a line of JSON for each
DELETE /-/objects                  forget them, and all uploads
"""


class Control:
    """Answers below `/-/`. What is wrong with a request is said in plain text, with 400."""

    def __init__(self, world: World, loop: asyncio.AbstractEventLoop) -> None:
        self._world = world
        self._loop = loop
        self._ways: dict[tuple[str, str], Callable[[dict[str, str]], Any]] = {
            ("GET", "counters"): lambda _: world.counters.as_json(),
            ("POST", "reset"): self._reset,
            ("GET", "faults"): lambda _: self._rules(),
            ("POST", "faults"): self._set_faults,
            ("GET", "limit"): lambda _: world.limits.as_json(),
            ("POST", "limit"): self._set_limit,
            ("POST", "latency"): self._set_latency,
            ("POST", "clock"): self._set_clock,
            ("POST", "expire"): self._expire,
            ("GET", "objects"): self._objects,
            ("DELETE", "objects"): self._forget,
        }

    def answer(self, head: Head) -> Answer:
        words = self._world.words
        words.tick()
        path, _, query = head.target.partition("?")
        way = self._ways.get((head.method, path.removeprefix(CONTROL)))
        if way is None:
            return words.make(404, _HELP, kind="text/plain")._replace(is_control=True)
        try:
            value = way(dict(parse_qsl(query, keep_blank_values=True)))
        except KeyError as exc:
            return words.make(400, f"{exc} is missing or unknown\n", kind="text/plain")._replace(is_control=True)
        except ValueError as exc:
            return words.make(400, f"{exc}\n", kind="text/plain")._replace(is_control=True)
        self._world.review()
        if isinstance(value, Answer):
            return value._replace(is_control=True)
        return words.make(200, json.dumps(value) + "\n", kind="application/json")._replace(is_control=True)

    def _reset(self, _: dict[str, str]) -> Any:
        self._world.counters.reset()
        return self._world.counters.as_json()

    def _rules(self) -> Any:
        return [rule.as_json() for rule in self._world.faults.rules]

    def _set_faults(self, query: dict[str, str]) -> Any:
        shares = {name: share for name, share in query.items() if name in FAULTS}
        options = {name: value for name, value in query.items() if name not in FAULTS}
        if not shares and options:
            raise ValueError(f"there is no fault {' or '.join(options)}; there are {', '.join(FAULTS)}")
        now = time.monotonic()
        rules = [make_fault(name, share, options, now) for name, share in shares.items()]
        if rules:
            self._world.faults.put(rules)
        else:
            self._world.faults.rules = []
        return self._rules()

    def _set_limit(self, query: dict[str, str]) -> Any:
        limits = self._world.limits
        known: dict[str, Callable[[str], float]] = {"rate": float, "cold": float, "split-after": parse_duration}
        values = {name: known[name](value) for name, value in query.items()}
        limits.cold = values.get("cold", limits.cold)
        limits.split_after = values.get("split-after", limits.split_after)
        if "rate" in values:
            limits.set_rate(values["rate"])
        return limits.as_json()

    def _set_latency(self, query: dict[str, str]) -> Any:
        world = self._world
        world.delay = make_delay(self._loop, parse_latency(query["value"]), world.faults.seed, world.counters)
        return query

    def _set_clock(self, query: dict[str, str]) -> Any:
        self._world.words.set_offset(float(query["offset"]))
        return query

    def _expire(self, query: dict[str, str]) -> Any:
        verifier, access = self._world.verifier, query["access"]
        if verifier is None or access not in verifier.accounts:
            raise ValueError(f"there is no access key {access!r}; --verify names them")
        verifier.expired.add(access)
        return query

    def _objects(self, query: dict[str, str]) -> Any:
        bucket, prefix = query.get("bucket"), query.get("prefix", "")
        if query.get("list"):
            return self._world.words.stream(self._store().lines(bucket, prefix), "application/jsonl")
        return self._store().summary(bucket, prefix)

    def _forget(self, _: dict[str, str]) -> Any:
        self._store().forget()
        return self._store().summary(None, "")

    def _store(self) -> Store:
        if self._world.store is None:
            raise ValueError("nothing is kept; start the simulator with --keep digest or --keep all")
        return self._world.store
