"""Which CPUs need a timer: those that a watched thread may run on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from excise_agent.host import PROC, parse_cpu_list, read_allowed_cpus, read_status_field

MOST_THREADS = 256  # looked at, evenly spread: 30 us each


def usable_cpus(threads: Sequence[tuple[int, int]], proc: Path = PROC) -> list[int]:
    """Sorted. A thread's mask is what its control group and its affinity leave; a program that binds its main thread
    (OMP_PROC_BIND) has others elsewhere, so every thread counts. Where none can be read: what we may use."""
    step = max(1, -(-len(threads) // MOST_THREADS))
    cpus: set[int] = set()
    for pid, tid in threads[::step]:
        text = read_status_field(pid, "Cpus_allowed_list", proc, tid)
        cpus |= (parse_cpu_list(text) if text else None) or set()
    if step > 1:
        for pid in {pid for pid, _ in threads}:
            cpus |= read_allowed_cpus(pid, proc) or set()
    return sorted(cpus or os.sched_getaffinity(0))
