"""What is exposed of one workload: sums over its windows as integers, and the last window's values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

from excise.names import DROPS, STAGES, STATES, SUBSTAGES, UNATTRIBUTED
from excise.summary import ALL_STATES, Histogram, Summary, stage_of
from excise_agent.sinks.prometheus_labels import FewNames, label_value
from excise_agent.sinks.prometheus_names import FAMILIES, NUMBERS, Fed
from excise_agent.sinks.prometheus_waits import Waits

MOST_LIBRARIES: Final = 16
MOST_REASONS: Final = len(DROPS) + 4
MOST_PARTS: Final = len(SUBSTAGES) + len(UNATTRIBUTED) + 1
UNKNOWN: Final = "unknown"  # a stage or a state that this version does not know
_STAGES, _STATES = frozenset(STAGES), frozenset(STATES)

Value: TypeAlias = float | Waits
VARIANCE: Final = "excise_stage_variance_seconds_squared_total"


class Point(NamedTuple):
    """One series' value; labels in the order of the metric's."""

    metric: str
    labels: tuple[str, ...]
    value: Value


class WorkloadSums:
    """`add` a summary; `counters` and `gauges` give what is known. What was never known is absent."""

    def __init__(self, label: str, kind: str) -> None:
        self.label = label
        self._kind = kind
        self._windows = self._observed_ns = 0
        self._cells_ns: defaultdict[tuple[str, str], int] = defaultdict(int)  # stage, state
        self._parts_ns: defaultdict[tuple[str, str], int] = defaultdict(int)  # stage, part
        self._variances_us2: defaultdict[str, int] = defaultdict(int)
        self._helpers_ns: defaultdict[str, int] = defaultdict(int)
        self._lost: defaultdict[str, int] = defaultdict(int)
        self._waits: defaultdict[str, Waits] = defaultdict(Waits)
        self._numbers: defaultdict[Fed, int] = defaultdict(int)
        self._unknown: defaultdict[str, int] = defaultdict(int)
        self._library, self._reason, self._part = FewNames(MOST_LIBRARIES), FewNames(MOST_REASONS), FewNames(MOST_PARTS)
        self._last: list[Point] = []

    def add(self, summary: Summary) -> None:
        self._windows += summary.windows
        self._observed_ns += summary.observed_ns
        for key, cell in summary.cells.items():
            stage, _, part = key.cls.partition(".")
            self._cells_ns[_known(stage, _STAGES), _known(key.state, _STATES)] += cell.ns
            if stage in ("compute", "unattributed"):
                self._parts_ns[stage, self._part(part or "other")] += cell.ns
        for (_, library), helper in summary.helpers.items():
            self._helpers_ns[self._library(library)] += helper.states_ns.get("running", 0)
        self._add_waits(summary)
        for name, count in summary.lost.items():
            self._lost[self._reason(name)] += count
        self._add_variances(summary)
        self._add_numbers(summary)

    def counters(self) -> Iterator[Point]:
        """A state that was seen in one stage is measured, so that every other stage has it, if as 0."""
        mine = (self.label,)
        yield Point("excise_windows_total", mine, self._windows)
        yield Point("excise_observed_seconds_total", mine, self._observed_ns / 1e9)
        stages = dict.fromkeys((*STAGES, *(stage for stage, _ in self._cells_ns)))
        for state in dict.fromkeys(state for _, state in self._cells_ns):
            for stage in stages:
                ns = self._cells_ns.get((stage, state), 0)
                yield Point("excise_stage_seconds_total", (self.label, stage, state), ns / 1e9)
        for (stage, part), ns in self._parts_ns.items():
            yield Point(f"excise_{stage}_seconds_total", (self.label, part), ns / 1e9)
        for stage, us2 in self._variances_us2.items():
            yield Point(VARIANCE, (self.label, stage), us2 / 1e12)
        for library, ns in self._helpers_ns.items():
            yield Point("excise_helper_cpu_seconds_total", (self.label, library), ns / 1e9)
        for stage, waits in self._waits.items():
            yield Point("excise_wait_seconds", (self.label, stage), waits)
        for reason, count in self._lost.items():
            yield Point("excise_losses_total", (self.label, reason), count)
        for fed, value in self._numbers.items():
            yield Point(fed.metric, (self.label, fed.part) if fed.part else mine, value / fed.per)
        for metric, count in self._unknown.items():
            yield Point("excise_unknown_windows_total", (self.label, metric), count)

    def gauges(self) -> list[Point]:
        """Of the last window."""
        return self._last

    def _add_waits(self, summary: Summary) -> None:
        alike: defaultdict[tuple[str, int], list[Histogram]] = defaultdict(list)
        for key, histogram in summary.lengths.items():
            if key.state == ALL_STATES:
                alike[_known(stage_of(key.cls), _STAGES), histogram.scale].append(histogram)
        for (stage, scale), histograms in alike.items():
            self._waits[stage].add(scale, histograms)

    def _add_variances(self, summary: Summary) -> None:
        """A stage without time has no error; a window is not known when any stage's is not."""
        whole = True
        for stage, ns in summary.stages_ns().items():
            us2 = summary.stage_variances_us2.get(stage, None if ns else 0)
            if us2 is None:
                whole = False
            else:
                self._variances_us2[_known(stage, _STAGES)] += us2
        if not whole:
            self._unknown[VARIANCE] += summary.windows

    def _add_numbers(self, summary: Summary) -> None:
        self._last = list(self._of_last(summary))
        for fed in NUMBERS:
            section = getattr(summary, fed.section)
            if fed.number not in section:  # it was not asked for
                continue
            value = section[fed.number]
            if FAMILIES[fed.metric].kind == "gauge":
                if value is not None:
                    self._last.append(Point(fed.metric, (self.label,), value / fed.per))
            elif value is not None:
                self._numbers[fed] += value
            else:
                self._unknown[fed.metric] += summary.windows

    def _of_last(self, summary: Summary) -> Iterator[Point]:
        mine = (self.label,)
        collectors = sorted({source.collector for source in summary.sources.values()})
        pythons = sorted({program.python for program in summary.processes.values() if program.python})
        found = (label_value(", ".join(names)) if names else "" for names in (collectors, pythons))  # "": no label
        yield Point("excise_workload_info", (self.label, self._kind, *found), 1)
        ends = [span.end_wall_ns for spans in summary.spans.values() for span in spans]
        if ends:
            yield Point("excise_last_window_timestamp_seconds", mine, max(ends) / 1e9)
        yield Point("excise_workload_processes", mine, len(summary.processes))
        tax, error = summary.ai_tax_ratio(), summary.ai_tax_se()
        if tax is not None:
            yield Point("excise_ai_tax_ratio", mine, tax)
        if error is not None:
            yield Point("excise_ai_tax_standard_error_ratio", mine, error)


def _known(name: str, names: frozenset[str]) -> str:
    return name if name in names else UNKNOWN
