"""`HostSample`: what a target's tree used between two looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from excise.batch import HostSample
from excise_agent.cgroups import CpuLimits, read_cpu_limits, throttled_ns
from excise_agent.host import read_cpu_ns, read_disk_bytes, read_rss_bytes
from excise_agent.network import read_listen_ports, read_net_bytes

PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class HostCounters:
    """Counters of a process tree at a moment, CLOCK_MONOTONIC. None: not measured."""

    at_ns: int
    cpu_ns: int | None          # with children that were waited for, so that one that ends is not lost
    rss_bytes: int | None
    disk: tuple[int, int] | None
    net: tuple[int, int] | None  # of the first process's network namespace
    limits: CpuLimits | None     # of the first process
    listen_ports: list[int] | None


def read_counters(pids: Sequence[int], at_ns: int, proc: Path = PROC, ports: bool = True) -> HostCounters:
    """`pids` is the tree, its root first. Processes that have gone are left out of the sums.
    `ports`: whether to look for listening ones."""
    disk = [d for p in pids if (d := read_disk_bytes(p, proc)) is not None]
    root = pids[0] if pids else 0
    return HostCounters(
        at_ns=at_ns,
        cpu_ns=_sum(pids, lambda p: read_cpu_ns(p, proc, children=True)),
        rss_bytes=_sum(pids, lambda p: read_rss_bytes(p, proc)),
        disk=(sum(d[0] for d in disk), sum(d[1] for d in disk)) if disk else None,
        net=read_net_bytes(root, proc),
        limits=read_cpu_limits(root, proc),
        listen_ports=read_listen_ports(pids, proc) if ports else None,
    )


def host_sample(before: HostCounters, after: HostCounters) -> HostSample:
    """The span between two looks. A counter that went back (a process left the tree unwaited) is not
    measured."""
    span_ns = after.at_ns - before.at_ns
    cpu_ns = _grown(before.cpu_ns, after.cpu_ns)
    values: dict[str, Any] = {
        "cpu_ns": cpu_ns,
        "cpus_used": cpu_ns / span_ns if cpu_ns is not None and span_ns > 0 else None,
        "throttled_ns": throttled_ns(before.limits, after.limits),
        "rss_bytes": after.rss_bytes,
        "disk_read_bytes": _grown_part(before.disk, after.disk, 0),
        "disk_write_bytes": _grown_part(before.disk, after.disk, 1),
        "net_in_bytes": _grown_part(before.net, after.net, 0),
        "net_out_bytes": _grown_part(before.net, after.net, 1),
        "listen_ports": after.listen_ports,
    }
    return HostSample(before.at_ns, after.at_ns, values)


def _sum(pids: Sequence[int], read: Callable[[int], int | None]) -> int | None:
    found = [value for pid in pids if (value := read(pid)) is not None]
    return sum(found) if found else None


def _grown(before: int | None, after: int | None) -> int | None:
    return after - before if before is not None and after is not None and after >= before else None


def _grown_part(before: tuple[int, int] | None, after: tuple[int, int] | None, part: int) -> int | None:
    return _grown(before[part], after[part]) if before is not None and after is not None else None
