"""A /proc of processes as discovery reads it, and a clock that is set by hand."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from excise_agent.config.schema import DiscoveryConfig, WorkloadRule
from excise_agent.discovery import Changes, Discovery

LIBC = "/usr/lib/libc.so.6"
TORCH = "/opt/venv/lib/torch/lib/libtorch_cpu.so"
ID = "4a6f" * 16
ID2 = "b3d1" * 16
UID = "3f5b2c1a-9d8e-4f70-8a1b-0c2d3e4f5a6b"


class FakeHost:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 1000.0
        self._made: list[Discovery] = []
        root.mkdir()

    def add(
        self, pid: int, parent: int = 1, comm: str = "python3", group: int = 0, cgroup: str = "0::/", flags: int = 0,
        maps: tuple[str, ...] = (LIBC,), pages: int = 20_000, start: int = 0, state: str = "S", threads: int = 1,
        argv: tuple[str, ...] = ("python3",), exe: str = "", uid: int = 1000,
    ) -> None:  # fmt: skip
        fields = [state, parent, group or pid, *[0] * 3, flags, *[0] * 10, threads, 0, start or 100 + pid, pages * 4096]
        self.write(pid, "stat", f"{pid} ({comm}) {' '.join(map(str, fields))} 0\n")
        self.write(pid, "comm", f"{comm}\n")
        self.write(pid, "statm", f"{pages} 17 5 1 0 20 0\n")
        self.write(pid, "status", f"Name:\t{comm}\nTgid:\t{pid}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
        self.write(pid, "cgroup", cgroup + "\n")
        self.write(pid, "cmdline", "\0".join(argv) + "\0")
        self.map(pid, *maps)
        link = self.root / str(pid) / "exe"
        link.unlink(missing_ok=True)
        link.symlink_to(exe or f"/usr/bin/{argv[0].rpartition('/')[2]}")

    def write(self, pid: int, name: str, text: str | bytes) -> None:
        file = self.root / str(pid) / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)

    def map(self, pid: int, *paths: str) -> None:
        self.write(pid, "maps", "".join(
            f"7f{n:010x}-7f{n + 1:010x} r-xp 00000000 08:01 {n + 9}                  {path}\n"
            for n, path in enumerate(paths)
        ))

    def grow(self, pid: int, pages: int, *paths: str) -> None:
        self.map(pid, *paths)
        fields = (self.root / f"{pid}/stat").read_text().split()
        self.write(pid, "stat", " ".join([*fields[:-2], str(pages * 4096), "0\n"]))
        self.write(pid, "statm", f"{pages} 17 5 1 0 20 0\n")

    def remove(self, pid: int) -> None:
        shutil.rmtree(self.root / str(pid))

    def discovery(self, *rules: WorkloadRule, **more: Any) -> Discovery:
        config = DiscoveryConfig(workloads=rules, most_workloads=more.pop("most_workloads", 64))
        passwd = self.root.parent / "passwd"
        passwd.write_text("root:x:0:0::/:/bin/sh\nserve:x:1000:1000::/:/bin/sh\n")
        self._made.append(Discovery(config, self.root, clock=lambda: self.now, passwd=passwd, **more))
        return self._made[-1]

    def close(self) -> None:
        for discovery in self._made:
            discovery.close()

    def look(self, discovery: Discovery) -> Changes:
        self.now += 1.0
        return discovery.look()


def by_pid(changes: Changes) -> dict[int, tuple[str, str]]:
    return {found.pid: (found.workload.kind, found.workload.name) for found in changes.found}
