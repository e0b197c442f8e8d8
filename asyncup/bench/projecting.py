"""What all rows would take, by arithmetic on what was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from asyncup.benchmark import DATABASE, DESTINATION, MACHINE, TRANSFORM, Benchmark, Projection, StartUp, Whole
from asyncup.pricing import BILLED_GB, DOLLARS_PER_1000_PUTS, DOLLARS_PER_GB_MONTH, PREFIX_RATE, requests_of


@dataclass(frozen=True, slots=True)
class Sampled:
    """What `rows` came to: so many `objects` and bytes of them altogether, of which these are some `sizes`."""

    rows: int
    objects: int
    bytes: int
    sizes: tuple[int, ...]

    @property
    def objects_per_row(self) -> float:
        return self.objects / self.rows if self.rows else 1.0


def rates_of(found: Benchmark, sample: Sampled, *, transforms: bool) -> dict[str, float]:
    """Rows a second that each of what may bound a run allows by itself.

    The machine's are what one core does by the CPU that each stage took at its own pace: everything on the event loop is one
    core's; and no more than it has sent. Of a row that is not alone in its object that is its part.
    """
    rates: dict[str, float] = {}
    if found.read is not None:
        rates[DATABASE] = found.read.rate
    if transforms and found.render is not None:
        rates[TRANSFORM] = found.render.rate
    stages = [(found.read, 1.0), (found.render, 1.0), (found.send, sample.objects_per_row)]
    spent = sum(pace.cpu_us * share for pace, share in stages if pace is not None)
    if spent:
        rates[MACHINE] = 1e6 / spent
    if spent and found.send is not None and sample.objects_per_row:  # it did no more than that, whatever it cost
        rates[MACHINE] = min(rates[MACHINE], found.send.rate / sample.objects_per_row)
    if found.sweep is not None and sample.objects_per_row:
        rates[DESTINATION] = found.sweep.best / sample.objects_per_row
    return {name: rate for name, rate in rates.items() if rate}


def project(
    rows: int,
    basis: str,
    start_up: StartUp,
    whole: Whole,
    sample: Sampled,
    *,
    part_bytes: int,
    priced: bool,
    target: float | None,
    machine_rate: float | None,
) -> Projection:
    """Time, requests and price of `rows` rows, as those went that were measured; for a `target` in seconds also what it takes."""
    requests = requests_of(rows, sample.rows, sample.sizes, part_bytes) if sample.objects == len(sample.sizes) else None
    objects = round(rows * sample.objects_per_row)
    size = round(rows * sample.bytes / sample.rows) if sample.rows else 0
    asked = (requests.total if requests is not None else None) or objects
    seconds = start_up.seconds + whole.seconds_for(rows)
    sending = seconds - start_up.seconds
    wanted = None if target is None or target <= start_up.seconds else rows / (target - start_up.seconds)
    return Projection(
        rows=rows,
        basis=basis,
        seconds=seconds,
        objects=objects,
        bytes=size,
        requests=asked,
        dollars=(requests.dollars if requests is not None else asked * DOLLARS_PER_1000_PUTS / 1000)
        if priced
        else None,
        dollars_per_month=size / BILLED_GB * DOLLARS_PER_GB_MONTH if priced else None,
        prefix_rate=PREFIX_RATE,
        prefixes_now=max(1, math.ceil(asked / sending / PREFIX_RATE)) if sending else 1,
        target=target,
        prefixes=None if wanted is None or not rows else max(1, math.ceil(wanted * asked / rows / PREFIX_RATE)),
        machines=None if wanted is None or not machine_rate else max(1, math.ceil(wanted / machine_rate)),
    )
