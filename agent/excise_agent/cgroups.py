"""CPU limits of a process's control group, versions 1 and 2, along the whole path up."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Literal

PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class CpuLimits:
    """What the groups from the process's own up to the root allow, and how long they held it back."""

    version: Literal[1, 2]
    path: str                       # the process's group, as it reads in /proc/PID/cgroup
    quota_cpus: float | None        # the tightest limit, in CPUs; None: no limit anywhere
    throttled_ns: dict[str, int]    # group -> time it was throttled since it was made; groups that say so


def read_cpu_limits(pid: int, proc: Path = PROC) -> CpuLimits | None:
    """None: no cpu controller is mounted here, or the process is gone."""
    try:
        groups = (proc / str(pid) / "cgroup").read_text(errors="surrogateescape")
        mounts = (proc / "self" / "mountinfo").read_text(errors="surrogateescape")
    except OSError:
        return None
    one, two = _group_of(groups, "cpu"), _group_of(groups, "")
    # A hybrid host mounts version 2 too, without controllers: the one with the cpu controller counts.
    if one is not None and (place := _mount_of(mounts, "cgroup", "cpu")):
        return _read(1, one, *place)
    if two is not None and (place := _mount_of(mounts, "cgroup2", "")):
        return _read(2, two, *place)
    return None


def throttled_ns(before: CpuLimits | None, after: CpuLimits | None) -> int | None:
    """Time that the most throttled group on the path was held back in between."""
    if before is None or after is None:
        return None
    old = before.throttled_ns
    spans = [now - old[group] for group, now in after.throttled_ns.items() if group in old]
    return max(0, *spans) if spans else None


def _group_of(text: str, controller: str) -> str | None:
    """Path of the group that carries a controller; "" asks for version 2's."""
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if (controller in names.split(",")) if controller else (number == "0" and not names):
            return path
    return None


def _mount_of(text: str, kind: str, option: str) -> tuple[str, Path] | None:
    """(root, mount point) of a cgroup filesystem: the group that is seen at its top, and where."""
    for line in text.splitlines():
        left, dash, right = line.partition(" - ")
        before, after = left.split(" "), right.split(" ")
        if not dash or len(before) < 5 or len(after) < 3 or after[0] != kind:
            continue
        if not option or option in after[2].split(","):
            return _unescape(before[3]), Path(_unescape(before[4]))
    return None


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), text)


def _read(version: Literal[1, 2], group: str, root: str, mount: Path) -> CpuLimits | None:
    path = PurePosixPath(group)
    if ".." in path.parts:  # outside of our cgroup namespace
        return None
    if root != "/":  # a container that is shown its own part only
        top = PurePosixPath("/")
        path = top / path.relative_to(root) if path.is_relative_to(root) else top
    quotas: list[float] = []
    throttled: dict[str, int] = {}
    while True:
        folder = mount / str(path).lstrip("/")
        quota = _quota_v2(folder) if version == 2 else _quota_v1(folder)
        if quota is not None:
            quotas.append(quota)
        if (spent := _throttled(folder)) is not None:
            throttled[str(path)] = spent
        if path == path.parent:
            break
        path = path.parent
    return CpuLimits(version, group, min(quotas, default=None), throttled)


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return None


def _quota_v2(folder: Path) -> float | None:
    fields = (_text(folder / "cpu.max") or "").split()
    return _ratio(fields[0], fields[1]) if len(fields) == 2 else None


def _quota_v1(folder: Path) -> float | None:
    return _ratio(_text(folder / "cpu.cfs_quota_us") or "", _text(folder / "cpu.cfs_period_us") or "")


def _ratio(quota: str, period: str) -> float | None:
    """None: "max", -1, or not a number."""
    try:
        allowed, each = int(quota), int(period)
    except ValueError:
        return None
    return allowed / each if allowed > 0 and each > 0 else None


def _throttled(folder: Path) -> int | None:
    """Version 2 counts throttled_usec, version 1 throttled_time in ns."""
    for line in (_text(folder / "cpu.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if value.isdigit() and name in ("throttled_usec", "throttled_time"):
            return int(value) * (1000 if name == "throttled_usec" else 1)
    return None


