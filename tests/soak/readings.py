"""What a watch holds at a moment: memory, descriptors, entries of its tables and of the kernel's maps."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from excise.records import PROC_DTYPE, THREAD_DTYPE
from excise_agent.loader import Probes

MOST_PSS_BYTES, MOST_DIRTY_BYTES, MOST_MAP_BYTES = 200_000_000, 110_000_000, 32 << 20
LATE_GROWTH_BYTES = 2_000_000
"""In the later half. Measured over 5 000 children: 0.2 MB, of new names, and at times one arena of Python's allocator
(1 MB), when a batch is the largest so far."""
BLOCKS_PER_NAME = 10  # a new frame or stack; 3 to 6, measured
BLOCKS_PER_CHILD = 0.5  # a child that were kept, in one table only, would have several
SPARE_DESCRIPTORS = 3  # open for a moment


@dataclass(frozen=True, slots=True)
class Reading:
    """At the moment when `children` had come and gone."""

    children: int
    pss_bytes: int
    private_dirty_bytes: int
    descriptors: int
    map_bytes: int       # kernel memory of all maps, as their fdinfo tells it
    procs: int           # entries of the kernel's map
    threads: int
    processes: int       # that the agent keeps
    names: int           # frames and stacks that the stream has ids for
    blocks: int          # that Python's allocator has handed out, garbage collected: objects, about


def memory_bytes() -> dict[str, int]:
    """Of this process, by the names of smaps_rollup."""
    out = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        out[name] = int(rest.split()[0]) * 1024
    return out


def map_bytes(fds: Iterable[int]) -> dict[int, int]:
    """Kernel memory of each map, by descriptor."""
    out = {}
    for fd in fds:
        for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines():
            if line.startswith("memlock:"):
                out[fd] = int(line.split()[1])
    return out


def take_reading(children: int, probes: Probes, processes: int, names: int) -> Reading:
    gc.collect()
    memory = memory_bytes()
    return Reading(
        children=children,
        pss_bytes=memory["Pss"],
        private_dirty_bytes=memory["Private_Dirty"],
        descriptors=len(os.listdir("/proc/self/fd")),
        map_bytes=sum(map_bytes(m.fd for m in probes.maps.values()).values()),
        procs=len(probes.maps["procs"].dump(PROC_DTYPE)[0]),
        threads=len(probes.maps["threads"].dump(THREAD_DTYPE)[0]),
        processes=processes,
        names=names,
        blocks=sys.getallocatedblocks(),
    )


def complaints(readings: list[Reading]) -> list[str]:
    """What was not flat, or beyond its bound; the first quarter is for warming up."""
    early, late, last = readings[len(readings) // 4], readings[len(readings) // 2], readings[-1]
    names, children = last.names - early.names, last.children - early.children
    checks = {
        "processes that have ended are kept": {(r.processes, r.procs, r.threads) for r in readings} == {(1, 1, 1)},
        "descriptors are kept": last.descriptors <= early.descriptors + SPARE_DESCRIPTORS,
        "the kernel's maps have grown": {r.map_bytes for r in readings} == {last.map_bytes},
        "the kernel's maps are too large": last.map_bytes <= MOST_MAP_BYTES,
        "PSS is too large": max(r.pss_bytes for r in readings) <= MOST_PSS_BYTES,
        "private dirty memory is too large": max(r.private_dirty_bytes for r in readings) <= MOST_DIRTY_BYTES,
        "private dirty memory grows": last.private_dirty_bytes - late.private_dirty_bytes <= LATE_GROWTH_BYTES,
        "objects are kept": last.blocks - early.blocks <= BLOCKS_PER_NAME * names + BLOCKS_PER_CHILD * children,
    }
    return [claim for claim, held in checks.items() if not held]
