"""What a plan reckons from a sample of rows: how many there are, their bytes, the requests, their price and their time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from asyncup.config import Config
from asyncup.planning.sampling import Rehearsal, Sample
from asyncup.preflight import (
    COUNTED,
    LIMIT,
    PLANNER,
    RELTUPLES,
    BytesEstimate,
    DestinationFacts,
    KeyColumn,
    KeyFacts,
    Price,
    RowsEstimate,
)
from asyncup.pricing import (
    BILLED_GB,
    DOLLARS_PER_GB_MONTH,
    LISTED_TOGETHER,
    PRICE_SOURCE,
    PRICED_FOR,
    PRICED_ON,
    Requests,
    requests_of,
)
from asyncup.sources.keyset import KeyChoice
from asyncup.sources.planner.survey import Survey

_NEEDS = {
    "overwrite": "nothing is asked first; s3:PutObject is enough",
    "skip": "each PUT asks S3 not to replace anything; s3:PutObject is enough",
    "different": "what is below the prefix is listed first; needs s3:ListBucket, and s3:GetObject where ETags are no MD5",
}
_NEEDS["fail"] = _NEEDS["skip"]
_NEEDS_LOOK = (
    "each object is looked for, until the server has shown that it honours If-None-Match; needs s3:GetObject and "
    "s3:ListBucket"
)


def needs_of(if_exists: str, *, honours: bool | None) -> str:
    """What `--if-exists` asks of S3. `honours`: whether the server is known to refuse a replacement."""
    return _NEEDS_LOOK if if_exists in ("skip", "fail") and not honours else _NEEDS[if_exists]


def key_of(key: KeyChoice, survey: Survey, asked: tuple[str, ...] | None) -> KeyFacts:
    """The pagination key, and who chose it; `asked` is `--key`."""
    columns = tuple(column.name for column in key.columns)
    origin = "primary key" if columns == survey.primary else "unique index"
    if asked is not None:
        origin = "--key" if tuple(dict.fromkeys(asked)) == columns else "--key, and a unique key behind it"
    return KeyFacts(
        tuple(KeyColumn(column.name, column.type, key.proven and not column.not_null) for column in key.columns),
        origin,
        key.proven,
    )


def rows_of(planned: int | None, survey: Survey, sample: Sample, config: Config) -> RowsEstimate:
    """How many rows there are: those of the sample where it has them all, else as the server estimates.

    `reltuples` counts the whole table, so with a condition only the planner can say. `left` is all of them.
    """
    estimate, basis = planned, PLANNER
    if sample.whole:
        estimate, basis = len(sample.rows), COUNTED
    elif survey.rows is not None and (config.where, config.shard, config.incremental) == (None, None, None):
        estimate, basis = survey.rows, RELTUPLES
    if config.limit is not None and (estimate is None or config.limit <= estimate):
        estimate, basis = config.limit, LIMIT
    elif estimate is not None:
        estimate = max(estimate, len(sample.rows))
    return RowsEstimate(estimate, sample.whole, basis, estimate, survey.analyzed, survey.changed)


def bytes_of(rows: int | None, rehearsal: Rehearsal, sample: Sample) -> BytesEstimate:
    """The bytes of `rows` rows, as those of the sample are."""
    where = "all of them" if sample.whole else "from all over the table" if sample.spread else "the first page"
    tried, sizes = rehearsal.trial.rows, rehearsal.sizes
    basis = f"{tried:,} row{'s' * (tried != 1)}, {where}"
    if not sizes:
        return BytesEstimate(None if rows is None else 0, basis=basis)
    total = None if rows is None else round(sum(sizes) / tried * rows)
    return BytesEstimate(total, sum(sizes) / len(sizes), max(sizes), basis)


def groups_of(sample: Sample, by: Sequence[int], rows: int) -> int:
    """How often at least `--pack-by`, whose columns lie at `by` in a row, cuts `rows` rows, as it does those of a sample.

    Where hardly any two rows of the sample are of one group, it is taken to be so everywhere.
    """
    groups = sum(1 for _ in groupby(sample.rows, key=lambda row: [row[place] for place in by])) if by else 1
    seen = len(sample.rows)
    return groups if sample.whole or 2 * groups <= seen else round(rows * groups / seen)


def packs_of(rows: int, size: int | None, config: Config, groups: int = 1) -> int:
    """About how many packs, and indexes of packs, rows of so many bytes come to, of which `--pack-by` makes `groups`."""
    most_rows, most_bytes = config.pack_limits
    packs = max(
        groups if rows else 0,
        0 if most_rows is None else math.ceil(rows / most_rows),
        0 if most_bytes is None else math.ceil((size or 0) / most_bytes),
    )
    return packs * (1 + config.pack_index)


def requests_for(
    rows: int,
    rehearsal: Rehearsal,
    to: DestinationFacts,
    part_bytes: int,
    packs: tuple[int, int | None] | None = None,
) -> Requests:
    """The requests that S3 would get for `rows` rows, or for so many `packs` of so many bytes; without those repeated."""
    if packs is None:
        made = requests_of(rows, rehearsal.trial.rows, rehearsal.sizes, part_bytes)
    else:
        made = requests_of(packs[0], 1, ((packs[1] or 0) // max(1, packs[0]),), part_bytes)
    found = replace(made, list=0, look=0)
    if to.if_exists != "different":
        return found
    there = to.listed or 0
    if to.more:  # nobody knows how many; about as many as there are rows
        there = max(there, rows)
    return replace(found, list=max(1, math.ceil(there / LISTED_TOGETHER)))


def price_of(requests: Requests, size: int | None, *, priced: bool, storage_class: str | None) -> Price:
    """The list price of requests and of keeping `size` bytes; none where the destination's prices are not these."""
    if not priced:
        return Price(basis="the prices of this destination are not known")
    if storage_class not in (None, "STANDARD"):
        return Price(basis=f"{storage_class} has prices of its own", source=PRICE_SOURCE)
    month = None if size is None else size / BILLED_GB * DOLLARS_PER_GB_MONTH
    return Price(requests.dollars, month, PRICED_FOR, PRICED_ON, PRICE_SOURCE)
