"""Metrics in the text formats of Prometheus and OpenMetrics.

They are made when somebody asks, of what the last events said; in a registry of their own, since a process has one that belongs to
whoever uses asyncup as a library.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/, https://prometheus.io/docs/specs/om/open_metrics_spec/
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from asyncup.operations.metrics import COUNTER, HISTOGRAM, INFO, OF_JOBS, Metric, latencies
from asyncup.operations.states import States
from asyncup.version import __version__


class Exposition:
    """The metrics of a run, and those of its process."""

    def __init__(self, states: States) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Jobs(states))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def text(self, accept: str) -> tuple[bytes, str]:
        """All of them now, in the format that the header `Accept` asks for; and the content type of that."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


def _bound(seconds: float) -> str:
    return "+Inf" if seconds == math.inf else str(seconds)


class _Jobs(Collector):
    def __init__(self, states: States) -> None:
        self._states = states

    def describe(self) -> list[Family]:
        """None is asked for before there is a run."""
        return []

    def collect(self) -> Iterable[Family]:
        info = GaugeMetricFamily(INFO.name, INFO.help, labels=INFO.labels)
        info.add_metric((__version__,), 1)
        yield info
        yield from map(self._family, OF_JOBS)

    def _family(self, metric: Metric) -> Family:
        jobs = self._states.jobs
        if metric.kind == HISTOGRAM:
            spread = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
            for job in jobs:
                buckets, seconds = latencies(job)
                spread.add_metric((job.name,), [(_bound(end), count) for end, count in buckets], seconds)
            return spread
        kind = CounterMetricFamily if metric.kind == COUNTER else GaugeMetricFamily
        family = kind(metric.name, metric.help, labels=metric.labels)
        for job in jobs:
            for values, number in metric.values(job):
                family.add_metric((job.name, *values), number)
        return family
