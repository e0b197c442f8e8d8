"""docs/reference/metrics.md: what `--metrics` serves, as the table of metrics and the answer of `/healthz` have it."""

from __future__ import annotations

from asyncup.events import Planned
from asyncup.operations.endpoint import health
from asyncup.operations.metrics import BOUNDS, METRICS
from asyncup.operations.states import States
from tests.reference import meanings
from tests.reference.fields import PLAN, fields_table
from tests.reference.flags import plain
from tests.reference.tables import code, page, table

INTRODUCTION = """`--metrics [HOST]:PORT` serves these for Prometheus at `/metrics` while a run lasts; [operations](../operations.md) says how, with \
queries and alerts. Names and labels stay as they are; metrics and labels may be added. Every metric of a job has the label `job`."""


def text() -> str:
    rows = [(code(one.name), one.kind, ", ".join(map(code, one.labels)), plain(one.help)) for one in METRICS]
    bounds = ", ".join(f"{bound:.6g}" for bound in BOUNDS)
    states = States()
    states.on_event(Planned(PLAN))
    return page(
        "Metrics",
        INTRODUCTION,
        table(("metric", "kind", "labels", "meaning"), rows),
        f"The buckets of `asyncup_put_latency_seconds` end at {bounds} seconds.",
        "## /healthz",
        "One JSON object; status 200, or 503 when a job is stuck.",
        fields_table(health(states), meanings.HEALTH),
    )
