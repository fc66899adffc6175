"""Facts about processes, threads and the host, from /proc. None: not measured (gone, or not permitted).

`proc` is the directory to read, so that tests bring their own. Nothing here stops or slows a target: no
smaps, no ptrace; read_pss is the one exception and says so.
"""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from excise_agent.cgroups import read_cpu_limits

PROC: Final = Path("/proc")
NS_PER_TICK: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def read_bytes(path: str, size: int = 1 << 16) -> bytes | None:
    """The start of a small file of /proc, with three system calls."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, size)
    except OSError:
        return None
    finally:
        os.close(fd)


# -- the host


def read_boot_id(proc: Path = PROC) -> str:
    """Names this run of the kernel; "" unknown."""
    raw = read_bytes(f"{proc}/sys/kernel/random/boot_id")
    return raw.decode("ascii", "replace").strip() if raw else ""


def count_online_cpus(proc: Path = PROC) -> int | None:
    try:
        text = (proc / "stat").read_bytes()
    except OSError:
        return None
    return len(re.findall(rb"^cpu\d+ ", text, re.MULTILINE)) or None


def describe_host(pid: int, proc: Path = PROC) -> dict[str, Any]:
    """`Header.host`: what the target has to run on. No host name: it would leave the host."""
    limits = read_cpu_limits(pid, proc)
    allowed = read_allowed_cpus(pid, proc)
    return {
        "cpus": count_online_cpus(proc),
        "allowed_cpus": len(allowed) if allowed is not None else None,
        "quota_cpus": limits.quota_cpus if limits else None,   # None: no limit, or not measured; see cgroup
        "cgroup": limits.version if limits else None,          # 1, 2; None: not measured
        "kernel": platform.release(),
        "machine": platform.machine(),
        "net_scope": "namespace",  # net_*_bytes are of the target's network namespace, not of the process
    }


# -- a process


def _stat(pid: int, tid: int | None, proc: Path) -> list[bytes] | None:
    """Fields of stat from the third one (state) on. The name before may hold blanks and brackets."""
    raw = read_bytes(f"{proc}/{pid}/stat" if tid is None else f"{proc}/{pid}/task/{tid}/stat")
    if raw is None:
        return None
    fields = raw.rpartition(b")")[2].split()
    return fields if len(fields) >= 20 else None


def _stat_int(pid: int, tid: int | None, proc: Path, *numbers: int) -> int | None:
    """The sum of numbered fields of stat (as in proc(5), from 3)."""
    fields = _stat(pid, tid, proc)
    if fields is None:
        return None
    try:
        return sum(int(fields[n - 3]) for n in numbers)
    except (ValueError, IndexError):
        return None


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """What one read of /proc/PID/stat says of where a process stands."""

    state: str  # one letter; "Z": it has ended and its parent has not yet asked
    parent: int
    group: int  # process group; 0: of another pid namespace
    flags: int  # the kernel's PF_*
    threads: int
    start_ns: int  # since boot
    size_bytes: int  # address space; 0: it has none (a kernel thread, or it has ended)


def read_stat(pid: int, proc: Path = PROC) -> ProcessStat | None:
    """None: gone."""
    fields = _stat(pid, None, proc)
    if fields is None:
        return None
    try:
        parent, group, flags, threads, start, size = (int(fields[n - 3]) for n in (4, 5, 9, 20, 22, 23))
    except (ValueError, IndexError):
        return None
    return ProcessStat(fields[0].decode("ascii", "replace"), parent, group, flags, threads, start * NS_PER_TICK, size)


def read_start_ns(pid: int, tid: int | None = None, proc: Path = PROC) -> int | None:
    """When it began, ns since boot (CLOCK_BOOTTIME), to a clock tick."""
    ticks = _stat_int(pid, tid, proc, 22)
    return None if ticks is None else ticks * NS_PER_TICK


def read_parent(pid: int, proc: Path = PROC) -> int | None:
    return _stat_int(pid, None, proc, 4)


def read_cpu_ns(pid: int, proc: Path = PROC, children: bool = False) -> int | None:
    """CPU time of all its threads, ended ones too, to a clock tick; on request of the children it has waited
    for."""
    ticks = _stat_int(pid, None, proc, *((14, 15, 16, 17) if children else (14, 15)))
    return None if ticks is None else ticks * NS_PER_TICK


def read_comm(pid: int, tid: int | None = None, proc: Path = PROC) -> str | None:
    """Name of a process or a thread. Written by the target: replaced where it is not printable text."""
    raw = read_bytes(f"{proc}/{pid}/comm" if tid is None else f"{proc}/{pid}/task/{tid}/comm")
    if raw is None:
        return None
    text = raw.removesuffix(b"\n").decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)


def read_allowed_cpus(pid: int, proc: Path = PROC) -> frozenset[int] | None:
    """CPUs that it may run on (affinity and cpuset)."""
    text = read_status_field(pid, "Cpus_allowed_list", proc)
    return parse_cpu_list(text) if text is not None else None


def parse_cpu_list(text: str) -> frozenset[int] | None:
    """ "0-3,8" as a set; None: it is no such list."""
    cpus: set[int] = set()
    try:
        for part in text.split(","):
            low, _, high = part.partition("-")
            cpus.update(range(int(low), int(high or low) + 1))
    except ValueError:
        return None
    return frozenset(cpus)


def read_ns_pid(pid: int, proc: Path = PROC) -> int | None:
    """Its pid in its innermost namespace."""
    text = read_status_field(pid, "NSpid", proc)
    return int(text.split()[-1]) if text and text.split()[-1].isdigit() else None


def read_status_field(pid: int, name: str, proc: Path = PROC, tid: int = 0) -> str | None:
    """A line of /proc/PID/status, or of one of its threads."""
    raw = read_bytes(f"{proc}/{pid}/task/{tid}/status" if tid else f"{proc}/{pid}/status")
    match = re.search(rf"^{name}:\s*(.*)$".encode(), raw, re.MULTILINE) if raw else None
    return match.group(1).decode("ascii", "replace") if match else None


def read_rss_bytes(pid: int, proc: Path = PROC) -> int | None:
    """Resident memory; pages shared with other processes count in each."""
    raw = read_bytes(f"{proc}/{pid}/statm")
    fields = raw.split() if raw else []
    return int(fields[1]) * PAGE_BYTES if len(fields) > 1 and fields[1].isdigit() else None


def read_pss_bytes(pid: int, proc: Path = PROC) -> int | None:
    """Resident memory, shared pages divided. Walks the page tables under the target's mmap lock: a process
    of many GB feels it. Never on a timer."""
    raw = read_bytes(f"{proc}/{pid}/smaps_rollup")
    match = re.search(rb"^Pss:\s+(\d+) kB", raw, re.MULTILINE) if raw else None
    return int(match.group(1)) * 1024 if match else None


def read_disk_bytes(pid: int, proc: Path = PROC) -> tuple[int, int] | None:
    """(read, written) from and to block devices by its threads and by the children it has waited for."""
    raw = read_bytes(f"{proc}/{pid}/io")
    found = dict(re.findall(rb"^(\w+): (\d+)$", raw, re.MULTILINE)) if raw else {}
    try:
        return int(found[b"read_bytes"]), int(found[b"write_bytes"])
    except KeyError:
        return None


# -- its threads and children


def list_threads(pid: int, proc: Path = PROC) -> list[int]:
    """Tids, sorted; empty: gone."""
    try:
        return sorted(int(name) for name in os.listdir(f"{proc}/{pid}/task") if name.isdigit())  # noqa: PTH208
    except OSError:
        return []


def read_schedstat(pid: int, tid: int, proc: Path | str = "/proc") -> tuple[int, int, int] | None:
    """(running, runnable) ns of a thread since it began, by the scheduler's own clock, and how often it ran. 8 us a
    call."""
    raw = read_bytes(f"{proc}/{pid}/task/{tid}/schedstat", 128)
    fields = raw.split() if raw else []
    if len(fields) < 3 or not all(field.isdigit() for field in fields[:3]):
        return None
    return int(fields[0]), int(fields[1]), int(fields[2])


def children_of(pid: int, proc: Path = PROC) -> list[int]:
    """All descendants, parents before their children. One look at every process: new ones may be missing."""
    below: dict[int, list[int]] = {}
    try:
        names = os.listdir(proc)  # noqa: PTH208  a Path per process costs more than reading its stat
    except OSError:
        return []
    for name in names:
        if name.isdigit() and (parent := read_parent(int(name), proc)) is not None:
            below.setdefault(parent, []).append(int(name))
    tree, at = [pid], 0
    seen = {pid}
    while at < len(tree):
        new = [c for c in sorted(below.get(tree[at], ())) if c not in seen]
        seen.update(new)
        tree += new
        at += 1
    return tree[1:]


def process_tree(pid: int, proc: Path = PROC) -> list[int]:
    """The process and all its descendants; empty: gone."""
    return [pid, *children_of(pid, proc)] if read_parent(pid, proc) is not None else []


def may_trace(status: Path = Path("/proc/self/status")) -> bool:
    """Whether this process has CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN. True where that cannot be read."""
    try:
        held = int(status.read_text().partition("CapEff:")[2].split()[0], 16)
    except (OSError, ValueError, IndexError):
        return True
    return bool(held >> 21 & 1) or (held >> 38 & 3) == 3
