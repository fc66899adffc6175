"""The parts of a summary. Every number that merges is an integer, so that merging is exact in any order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """An agent as it was set up: what one must know to compare its numbers with another's."""

    boot_id: str
    version: str  # of Excise
    capabilities: int  # id of the set of names
    collector: str  # "bpf", ...
    rate_millihz: int  # samples per second and CPU, thousandths; 0: not sampled


class Span(NamedTuple):
    """A stretch of time that was watched without a gap, by both clocks: [start, end)."""

    start_wall_ns: int
    end_wall_ns: int
    start_mono_ns: int
    end_mono_ns: int


@dataclass(frozen=True, slots=True)
class Program:
    """A process. Its id is that of (boot_id, pid, start_ns). Nothing that it was started with is here."""

    boot_id: str
    pid: int
    start_ns: int  # since boot
    comm: str
    python: str | None = None  # "3.11.7"; None: no interpreter found
    parent: int = 0  # pid; 0 unknown
    note: str = ""  # why its Python stacks are missing, if they are


class CellKey(NamedTuple):
    process: int  # id
    cls: str  # of CLASS_NAMES
    state: str  # of STATES


@dataclass(frozen=True, slots=True)
class Cell:
    """Carrier time of a process in a class and a state. `variance_us2`: of the estimate, µs²; 0: exact; None: unknown.

    Cells that are split by the same samples vary against each other: their variances do not add up to their stage's.
    """

    ns: int
    variance_us2: int | None = 0


@dataclass(frozen=True, slots=True)
class TaxError:
    """What the AI tax's error is made of: variances and covariance, µs², of compute and of the tax, which is the rest
    but idle and handoff. (Not of busy time, their sum: its terms would cancel out, and leave rounding errors.)"""

    compute_us2: int
    tax_us2: int
    covariance_us2: int  # mostly negative: what is not the one is the other


NO_TAX_ERROR: Final = TaxError(0, 0, 0)


class HelperKey(NamedTuple):
    process: int
    library: str


@dataclass(frozen=True, slots=True)
class Helper:
    """Pool threads without Python. `threads`: the most in a window."""

    threads: int
    states_ns: Mapping[str, int]  # KERNEL_STATES -> ns


class LengthKey(NamedTuple):
    process: int
    cls: str
    state: str  # or ALL_STATES


class StackKey(NamedTuple):
    process: int
    cls: str
    state: str
    stack: int  # id


@dataclass(frozen=True, slots=True)
class StackTime:
    ns: int
    count: int  # records behind it
