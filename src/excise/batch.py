"""What flows from a collector, or from a recording, into a session. Arrays with their losses and their span."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from excise.frames import Frame, Process, Stack, Thread
from excise.names import KERNEL_STATES

SLICE_DTYPE = np.dtype(
    [
        ("pid", "<u4"),
        ("tid", "<u4"),
        ("state", "u1"),      # index into KERNEL_STATES; running rows are timer samples
        ("flags", "u1"),      # SLICE_* below
        ("syscall", "<i2"),   # x86-64 number; -1: none (page fault, or interrupted in user mode)
        ("fd_class", "u1"),   # index into FD_CLASSES
        ("fd", "u1"),         # 0..253; 254: larger; 255: none
        ("port", "<u2"),      # local port of an inet or listen socket, else 0
        ("stack", "<u4"),     # index into the definitions' stacks; 0 is the empty stack (none was walked)
        ("waker", "<u4"),     # tid of who ended the wait; 0 unknown; WAKER_IRQ an interrupt
        ("count", "<u4"),     # records folded into this row
        ("weight_ns", "<i8"),   # blocked (or, for state runnable, preempted) ns; samples: count x period. May be
                                # negative: a wait that began before the window has its earlier part taken off
        ("runnable_ns", "<i8"),  # run-queue delay after the wakings, same stack
        ("thinned", "<i8"),      # records that these stand for beyond `count`, in 1/WEIGHT_ONE; 0: none was left out
        ("weight_var_us2", "<i8"),    # variance of weight_ns from leaving records out, us^2; 0: exact
        ("runnable_var_us2", "<i8"),  # the same of runnable_ns
    ],
    align=True,
)
"""A folded row: records of one thread that differ in time only. Folded per tick (1 s), exact sums.

Where the governor left records out, those that came stand for them: times are sums of weight x time (unbiased), and
the variances say how far off they may be.
"""

LENGTH_DTYPE = np.dtype(
    [
        ("row", "<u4"),     # index into the batch's slices
        ("bucket", "<i2"),  # of a base-2 exponential histogram at scale 4: (2^(b/16), 2^((b+1)/16)] ns; 0 ns is in -1
        ("weight", "<i8"),  # ended waits of that length, in 1/WEIGHT_ONE
    ],
    align=True,
)
"""How long the waits of a folded row were: the time in its state, without the run queue after it."""

SLICE_KERNEL_MODE = 1  # the sample interrupted kernel code
SLICE_FAULT = 2        # the wait was a page fault (no syscall)
SLICE_PHASE_SHIFT = 4  # above: 0, or 1 to PHASE_GROUPS: seen while the switch hooks were on for a part of the time only
PHASE_GROUPS = 8       # phases are put into so many groups in turn: how much those differ is the error
WAKER_IRQ = 0xFFFFFFFF

TOTALS_DTYPE = np.dtype(
    [
        ("pid", "<u4"),
        ("tid", "<u4"),
        ("state_ns", "<i8", (len(KERNEL_STATES),)),
        ("lifetime_ns", "<i8"),       # of the thread within the span; equals the sum of state_ns
        ("sched_running_ns", "<i8"),  # the same from /proc/PID/task/TID/schedstat; -1 not measured
        ("sched_runnable_ns", "<i8"),
        ("se_ns", "<i8", (len(KERNEL_STATES),)),  # standard error of each state's total; 0: exact
    ],
    align=True,
)
"""Kernel totals of one thread within a span: exact, but for states with a standard error."""

SliceArray: TypeAlias = NDArray[np.void]
LengthArray: TypeAlias = NDArray[np.void]
TotalsArray: TypeAlias = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Header:
    """First item of every stream. `host` and `target` are as in the JSON report."""

    boot_id: str
    host: dict[str, Any]
    target: dict[str, Any]      # pid, comm, collector
    start_wall_ns: int
    start_mono_ns: int
    rate_hz: float              # samples per second and CPU; 0: no sampling
    capabilities: dict[str, Any] = field(default_factory=dict)
    version: str = ""


@dataclass(frozen=True, slots=True)
class Definitions:
    """Names for the ids used from here on. Ids count up from the stream's start; each list continues the last one.

    Stack 0 is the empty stack and is never defined. Processes and threads may come again with more known.
    """

    frames: list[Frame] = field(default_factory=list)
    stacks: list[Stack] = field(default_factory=list)   # the first one defined is stack 1
    processes: list[Process] = field(default_factory=list)
    threads: list[Thread] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Batch:
    """Folded slices of a span, CLOCK_MONOTONIC, what was lost in it (names of DROPS -> count), how long waits were."""

    start_ns: int
    end_ns: int
    slices: SliceArray
    lost: dict[str, int] = field(default_factory=dict)
    lengths: LengthArray = field(default_factory=lambda: np.zeros(0, LENGTH_DTYPE))


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals of a span; one row a thread. Ends a window: batches, host sample and cost since the last are of it."""

    start_ns: int
    end_ns: int
    rows: TotalsArray


@dataclass(frozen=True, slots=True)
class HostSample:
    """Counters of the target's tree over a span. None: not measured.

    Keys: cpu_ns, cpus_used (ratio of one CPU, summed), throttled_ns, rss_bytes, disk_read_bytes, disk_write_bytes,
    net_in_bytes, net_out_bytes, listen_ports.
    """

    start_ns: int
    end_ns: int
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cost:
    """What watching cost over a span. Comes before the totals of the same span.

    Values: agent_ns (our processes' CPU), bpf_ns, tick_ns, target_ns (for comparison), and what else was measured:
    numbers in ns or counts, strings, None (not measured), or a dictionary of those (the governor's steps by name).
    """

    start_ns: int
    end_ns: int
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class End:
    """Last item: how it ended, what it cost us."""

    end_mono_ns: int
    reason: str                 # "duration", "interrupted", "target exited", ...
    overhead: dict[str, Any]    # agent_cpu_ratio, bpf_cpu_ratio, startup_cpu_s, ... (of the target's CPU)


Item: TypeAlias = Header | Definitions | Batch | Totals | HostSample | Cost | End
