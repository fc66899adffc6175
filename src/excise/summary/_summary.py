"""The summary: what is shipped. One process tree, one window; merged: many windows, many hosts, the same type."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from excise.frames import Frame
from excise.names import STAGES
from excise.summary._names import stage_of
from excise.summary._parts import (
    NO_TAX_ERROR,
    Cell,
    CellKey,
    Helper,
    HelperKey,
    LengthKey,
    Program,
    Source,
    Span,
    StackKey,
    StackTime,
    TaxError,
)
from excise.summary.histogram import Histogram
from excise.summary.numbers import TABLES, Numbers, check_numbers


@dataclass(frozen=True, slots=True)
class Summary:
    """Ids are of `excise.summary.ids`. `Summary()` is the identity of `merge`. Make one with `SummaryBuilder`.

    The time of a cell that is in none of its `stacks` is its `other_ns`.
    """

    windows: int = 0  # how many were merged
    observed_ns: int = 0  # their lengths, monotonic clock, added up
    roots: frozenset[int] = frozenset()  # the processes that were asked for; the others are their children
    sources: Mapping[int, Source] = field(default_factory=dict)
    spans: Mapping[int, tuple[Span, ...]] = field(default_factory=dict)  # by source; sorted, apart from each other
    capabilities: Mapping[int, tuple[str, ...]] = field(default_factory=dict)  # sorted names
    processes: Mapping[int, Program] = field(default_factory=dict)
    cells: Mapping[CellKey, Cell] = field(default_factory=dict)
    stage_variances_us2: Numbers = field(default_factory=dict)  # of a stage's sum over all its cells; None: unknown
    tax_error: TaxError | None = NO_TAX_ERROR  # None: unknown
    helpers: Mapping[HelperKey, Helper] = field(default_factory=dict)
    lengths: Mapping[LengthKey, Histogram] = field(default_factory=dict)
    stacks: Mapping[StackKey, StackTime] = field(default_factory=dict)
    stack_frames: Mapping[int, tuple[int, ...]] = field(default_factory=dict)  # stack -> frames, leaf first
    frames: Mapping[int, Frame] = field(default_factory=dict)
    kpis: Numbers = field(default_factory=dict)  # of numbers.KPIS
    quality: Numbers = field(default_factory=dict)  # of numbers.QUALITY
    cost: Numbers = field(default_factory=dict)  # of numbers.COST
    lost: Mapping[str, int] = field(default_factory=dict)  # names.DROPS -> count
    steps: Mapping[str, int] = field(default_factory=dict)  # step of the governor -> ns spent in it

    def total_ns(self) -> int:
        """All carrier time."""
        return sum(cell.ns for cell in self.cells.values())

    def stages_ns(self) -> dict[str, int]:
        """Carrier time by stage: every one of STAGES, then those of other versions."""
        out = dict.fromkeys(STAGES, 0)
        for key, cell in self.cells.items():
            stage = stage_of(key.cls)
            out[stage] = out.get(stage, 0) + cell.ns
        return out

    def busy_ns(self) -> int:
        """All carrier time but idle and handoff: what the AI tax divides by."""
        stages = self.stages_ns()
        return sum(stages.values()) - stages["idle"] - stages["handoff"]

    def ai_tax_ratio(self) -> float | None:
        """None when there is nothing to divide by."""
        busy = self.busy_ns()
        return 1 - self.stages_ns()["compute"] / busy if busy else None

    def ai_tax_se(self) -> float | None:
        """Standard error of the ratio; None unknown."""
        busy_us = self.busy_ns() / 1e3
        error = self.tax_error
        if error is None or not busy_us:
            return None
        c = self.stages_ns()["compute"] / 1e3 / busy_us
        t = 1 - c
        variance = t * t * error.compute_us2 + c * c * error.tax_us2 - 2 * t * c * error.covariance_us2
        return math.sqrt(max(variance, 0.0)) / busy_us

    def stages_se_ns(self) -> dict[str, float | None]:
        """Standard error of each stage's sum; None unknown."""
        known = self.stage_variances_us2
        return {stage: None if (v := known.get(stage, None if ns else 0)) is None else 1e3 * math.sqrt(v)
                for stage, ns in self.stages_ns().items()}

    def unattributed_ns(self) -> dict[str, int]:
        """By reason: no_rule, no_sample, lost, no_stack."""
        out: dict[str, int] = {}
        for key, cell in self.cells.items():
            stage, _, reason = key.cls.partition(".")
            if stage == "unattributed":
                out[reason] = out.get(reason, 0) + cell.ns
        return out

    def other_ns(self) -> dict[CellKey, int]:
        """Of every cell, the time that is in none of its stacks: in lighter ones, or without any."""
        out = {key: cell.ns for key, cell in self.cells.items()}
        for key, stack in self.stacks.items():
            out[CellKey(*key[:3])] -= stack.ns
        return out

    def frames_of(self, stack: int) -> tuple[Frame, ...]:
        """Of a stack's id, leaf first."""
        return tuple(self.frames[f] for f in self.stack_frames[stack])

    def check(self) -> None:
        """ValueError when it contradicts itself: an id that is not defined, stacks beyond their cell, time below 0."""
        defined = self.processes.keys()
        keyed = (self.cells, self.helpers, self.lengths)
        if any(k[0] not in defined for keys in keyed for k in keys):
            raise ValueError("a process is not defined")
        if not self.roots <= defined or self.sources.keys() != self.spans.keys():
            raise ValueError("a root or a source is not defined")
        if any(s.capabilities not in self.capabilities for s in self.sources.values()):
            raise ValueError("a source's capabilities are not defined")
        if {k.stack for k in self.stacks} != self.stack_frames.keys():
            raise ValueError("stacks and their definitions differ")
        if {f for frames in self.stack_frames.values() for f in frames} != self.frames.keys():
            raise ValueError("frames and their definitions differ")
        if any(CellKey(*key[:3]) not in self.cells for key in self.stacks):
            raise ValueError("a stack has no cell")
        if any(ns < 0 for ns in self.other_ns().values()):
            raise ValueError("a cell has less time than its stacks")
        for section in TABLES:
            check_numbers(section, getattr(self, section))
