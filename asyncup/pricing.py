"""What a run would ask of S3: requests, their price and their time, by arithmetic alone. Each constant has its source."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

#: List prices of S3 Standard in us-east-1, US dollars, and the month in which they were last looked at.
PRICE_SOURCE = "https://aws.amazon.com/s3/pricing/"
PRICED_ON = "2025-01"
PRICED_FOR = "S3 Standard, us-east-1"
#: For 1,000 PUT, COPY, POST or LIST requests; for 1,000 GET, HEAD and others; for a GB kept for a month, the first 50 TB.
DOLLARS_PER_1000_PUTS = 0.005
DOLLARS_PER_1000_GETS = 0.0004
DOLLARS_PER_GB_MONTH = 0.023
#: A GB on the bill (https://aws.amazon.com/s3/faqs/, "How will I be charged and billed for my use of Amazon S3?").
BILLED_GB = 1 << 30

#: Writes a second that each partition of a bucket takes, at least.
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html
PREFIX_RATE = 3_500
#: Objects of 2 KB a second that one core sent to a server on the same machine; the README says how that was measured.
CORE_RATE, CORE_MEASURED = 16_500, "2026-11-21"
#: Bytes a second that no machine sends more of, as far as a plan is concerned, and what a rate is called that it bounds.
NETWORK_BYTES, NETWORK = 1_250_000_000, "a network of 10 Gbit/s"
#: Entries of one page of a listing (https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html).
LISTED_TOGETHER = 1_000


@dataclass(frozen=True, slots=True)
class Requests:
    """What is asked of a destination, counted.

    `put` counts objects that go in one request; `multipart` those in parts, each of which takes two requests beside its
    `parts`; `list` pages of a listing, `look` questions for one object.
    """

    put: int | None = None
    multipart: int | None = None
    parts: int | None = None
    list: int | None = None
    look: int | None = None

    @property
    def total(self) -> int | None:
        if self.put is None:
            return None
        return sum(getattr(self, entry.name) or 0 for entry in fields(self)) + (self.multipart or 0)

    @property
    def dollars(self) -> float | None:
        """Their list price; None where they are not known."""
        if self.total is None:
            return None
        looks = self.look or 0
        return ((self.total - looks) * DOLLARS_PER_1000_PUTS + looks * DOLLARS_PER_1000_GETS) / 1000


def requests_of(rows: int, tried: int, sizes: Sequence[int], part_bytes: int) -> Requests:
    """The requests that send `rows` rows, as those of a sample go: `sizes` are of those among `tried` that have an object.

    Objects from `part_bytes` on go in parts of that size.
    """
    if not tried:
        return Requests(put=rows, multipart=0, parts=0)
    large = [size for size in sizes if size >= part_bytes]
    return Requests(
        put=round(rows * (len(sizes) - len(large)) / tried),
        multipart=round(rows * len(large) / tried),
        parts=round(rows * sum(math.ceil(size / part_bytes) for size in large) / tried),
    )


@dataclass(frozen=True, slots=True)
class Rate:
    """How long `objects` of `size` bytes altogether take at `rate` objects a second; `basis` says why that rate."""

    rate: float
    basis: str
    seconds: float
    bytes_per_second: float | None


def times_at(objects: int, size: int | None, *, max_rate: float | None, max_bandwidth: int | None) -> tuple[Rate, ...]:
    """The time at several rates, the slowest first. Where `--max-rate`, `--max-bandwidth` or a network allow less, theirs is
    the last.
    """
    if not objects:
        return ()
    rates: list[tuple[float, str]] = [
        (100.0, "a slow server, or far away"),
        (1_000.0, "a usual one"),
        (float(PREFIX_RATE), "what S3 takes of one prefix"),
        (float(CORE_RATE), f"what one core sent when measured on {CORE_MEASURED}, objects of 2 KB"),
    ]
    bounds = [] if max_rate is None else [(max_rate, "--max-rate")]
    if max_bandwidth is not None and size:
        bounds.append((max_bandwidth * objects / size, "--max-bandwidth"))
    if size and rates[-1][0] * size > NETWORK_BYTES * objects:
        bounds.append((NETWORK_BYTES * objects / size, NETWORK))
    if bounds:
        least = min(bounds)
        rates = [*(one for one in rates if one[0] < least[0]), least]
    return tuple(
        Rate(rate, basis, objects / rate, None if size is None else size / objects * rate) for rate, basis in rates
    )
