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


def growth_per_child(readings: list[Reading], field: str) -> float:
    """Slope of the straight line through the readings (least squares), per child."""
    xs = [r.children for r in readings]
    ys = [getattr(r, field) for r in readings]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / sum((x - mean_x) ** 2 for x in xs)
