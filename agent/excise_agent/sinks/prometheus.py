"""Prometheus: what is exposed of the workloads and of the agent, kept in plain sums until a scrape asks for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from excise.summary import Summary
from excise.workload import Workload
from excise_agent.sinks.prometheus_labels import digest, label_value
from excise_agent.sinks.prometheus_names import FAMILIES, Family
from excise_agent.sinks.prometheus_status import AgentStatus, status_points
from excise_agent.sinks.prometheus_sums import Point, WorkloadSums
from excise_agent.sinks.prometheus_waits import Waits

MOST_WORKLOADS: Final = 64
GAUGES_S: Final = 30.0  # three windows: what a workload was like so long ago, it is not any more
COUNTERS_S: Final = 180.0  # three scrapes of a slow Prometheus: so long its last sums are there to be read


class Metrics(Collector):
    """`take` is for the daemon's thread, `collect` for the endpoint's.

    A workload without a window for GAUGES_S, or that was forgotten, shows its sums only, and nothing after COUNTERS_S;
    when it comes back later it counts from 0, which `rate` and `increase` know how to read.
    `status`: the agent's state, now; None: not known yet. `clock`: seconds, monotonic.
    """

    def __init__(
        self,
        status: Callable[[], AgentStatus | None],
        most_workloads: int = MOST_WORKLOADS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._status = status
        self._most = most_workloads
        self._clock = clock
        self._lock = threading.Lock()
        self._sums: dict[Workload, WorkloadSums] = {}
        self._taken_s: dict[Workload, float] = {}  # when its last window came
        self._gone: set[Workload] = set()
        self._unexposed = 0
        self._dropped: dict[str, int] = {}

    def take(self, workload: Workload, summary: Summary) -> None:
        """Adds a window. Workloads beyond `most_workloads` are only counted, unless another has been silent."""
        with self._lock:
            now = self._clock()
            self._expire(now)
            sums = self._sums.get(workload) or self._admit(workload, now)
            if sums is None:
                self._unexposed += summary.windows
                return
            sums.add(summary)
            self._taken_s[workload] = now
            self._gone.discard(workload)

    def forget(self, workload: Workload) -> None:
        """It is not watched any more."""
        with self._lock:
            if workload in self._sums:
                self._gone.add(workload)

    def drop_connection(self, reason: str) -> None:
        """The endpoint had to leave a client without an answer."""
        with self._lock:
            self._dropped[reason] = self._dropped.get(reason, 0) + 1

    def collect(self) -> Iterator[Metric]:
        """Every metric that has a value, in the order of docs/metrics.md."""
        found: dict[str, list[Point]] = {name: [] for name in FAMILIES}
        for point in self._points():
            found[point.metric].append(point)
        for name, points in found.items():
            if points:
                yield _metric(FAMILIES[name], points)

    def _points(self) -> Iterator[Point]:
        status = self._status()
        if status is not None:
            yield from status_points(status)
        with self._lock:
            self._expire(self._clock())
            workloads = list(self._sums)
            yield Point("excise_windows_unexposed_total", (), self._unexposed)
            dropped = list(self._dropped.items())
        yield from (Point("excise_endpoint_dropped_connections_total", (reason,), n) for reason, n in dropped)
        for workload in workloads:
            yield from self._of(workload)

    def _of(self, workload: Workload) -> list[Point]:
        """The lock is held for one workload at a time: the daemon's windows do not wait for a scrape."""
        with self._lock:
            sums = self._sums.get(workload)
            if sums is None:
                return []
            points = list(sums.counters())
            return points if self._silent(workload, self._clock()) else points + sums.gauges()

    def _silent(self, workload: Workload, now_s: float) -> bool:
        return workload in self._gone or now_s - self._taken_s[workload] > GAUGES_S

    def _expire(self, now_s: float) -> None:
        for workload in [w for w, taken_s in self._taken_s.items() if now_s - taken_s > COUNTERS_S]:
            self._remove(workload)

    def _admit(self, workload: Workload, now_s: float) -> WorkloadSums | None:
        if len(self._sums) >= self._most:
            silent = [w for w in self._sums if self._silent(w, now_s)]
            if not silent:
                return None
            self._remove(min(silent, key=self._taken_s.__getitem__))
        sums = self._sums[workload] = WorkloadSums(self._label(workload), workload.kind)
        return sums

    def _remove(self, workload: Workload) -> None:
        del self._sums[workload], self._taken_s[workload]
        self._gone.discard(workload)

    def _label(self, workload: Workload) -> str:
        """Its name; with its kind where another has it. Two series that are alike would fail the whole scrape."""
        used = {sums.label for sums in self._sums.values()}
        label = label_value(workload.name)
        for more in (f" ({workload.kind})", f" {digest(workload.name)}"):
            if label in used:
                label += more
        while label in used:
            label += "+"
        return label


def _metric(family: Family, points: list[Point]) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.what, labels=family.labels)
        for _, labels, waits in points:
            assert isinstance(waits, Waits)
            histogram.add_metric(labels, waits.buckets(), waits.sum_ns / 1e9)
        return histogram
    if family.kind == "info":
        info = InfoMetricFamily(family.name.removesuffix("_info"), family.what, labels=())
        for _, labels, _ in points:
            info.add_metric((), dict(zip(family.labels, labels, strict=True)))
        return info
    make = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = make(family.name, family.what, labels=family.labels)
    for _, labels, value in points:
        assert not isinstance(value, Waits)
        metric.add_metric(labels, float(value))
    return metric
