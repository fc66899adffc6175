"""Gets the probes into the kernel: compiled by a short-lived child or taken from the cache, loaded, attached.

Nothing is pinned. The kernel frees programs, maps and links with the last descriptor, which is ours: however Excise
ends, nothing of it stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from excise.names import DROPS
from excise.records import CONTROL_DTYPE, COST_DTYPE, WATCHED_SLOTS, WEIGHT_ONE, c_header
from excise_agent import bpf
from excise_agent.paths import cache_dir, probes_dir

TRACEPOINTS = {
    "on_fork": "sched_process_fork",
    "on_wakeup_new": "sched_wakeup_new",
    "on_exec": "sched_process_exec",
    "on_exit": "sched_process_exit",
}
"""In the order of attaching: births are seen before the switches that need them."""

SWITCH_HOOKS = {"on_waking": "sched_waking", "on_wakeup": "sched_wakeup", "on_switch": "sched_switch"}
"""What runs at every switch of the host. They can be taken out and put on again while the rest goes on."""

PAGE = mmap.PAGESIZE
COMPILE_TIMEOUT_S = 120
KEPT_MODULES = 7  # 18 kB each; other kernels, sizes and installations of this host


class LoadError(Exception):
    """The probes could not be compiled or loaded; the text says why and what helps."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Room in the kernel. Together about 6 MB."""

    ring_bytes: int = 2 << 20
    procs: int = 1024
    threads: int = 10240
    stacks: int = 16384
    drop_one_in: int = 0  # for tests: loses one record in so many, as a full ring would; 0: none

    def defines(self) -> dict[str, int]:
        return {
            "RING_PAGES": self.ring_bytes // PAGE,
            "MAX_PROCS": self.procs,
            "MAX_THREADS": self.threads,
            "MAX_STACKS": self.stacks,
            **({"DROP_ONE_IN": self.drop_one_in} if self.drop_one_in else {}),
        }


def nvidia_uvm_major(devices: Path = Path("/proc/devices")) -> int:
    """The dynamic major number of /dev/nvidia-uvm; 0 without the driver."""
    with contextlib.suppress(OSError):
        for line in devices.read_text().splitlines():
            if line.endswith(" nvidia-uvm"):
                return int(line.split()[0])
    return 0


HOST_PID_NS_INO = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h


def pid_namespace(link: Path = Path("/proc/self/ns/pid")) -> dict[str, int]:
    """Defines for the probes: device and inode of our pid namespace; zeros in the host's own."""
    info = link.stat()
    if info.st_ino == HOST_PID_NS_INO:
        return {"NS_DEV": 0, "NS_INO": 0}
    return {"NS_DEV": info.st_dev, "NS_INO": info.st_ino}


def _cache_key(defines: dict[str, int]) -> str:
    digest = hashlib.sha256()
    for source in sorted((probes_dir() / "bpf").iterdir()):
        digest.update(source.read_bytes())
    digest.update(c_header().encode())
    digest.update(Path(__file__).with_name("_compile.py").read_bytes())
    btf = Path("/sys/kernel/btf/vmlinux")
    digest.update(
        repr(
            (sorted(defines.items()), os.uname().release, os.uname().version, btf.stat().st_size if btf.exists() else 0)
        ).encode()
    )
    return digest.hexdigest()[:32]


def _compile(defines: dict[str, int]) -> bytes:
    # never from the current folder, which -m would put first: it may be anyone's
    isolation = "-I" if sys.flags.isolated else "-P"
    command = [sys.executable, isolation, "-m", "excise_agent._compile", *(f"{k}={v}" for k, v in defines.items())]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMPILE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as err:
        raise LoadError(f"compiling the probes took over {COMPILE_TIMEOUT_S} s") from err
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace")
        if "No module named 'bcc'" in words:
            raise LoadError(
                "bcc is missing: apt install python3-bpfcc (Debian, Ubuntu) or dnf install python3-bcc; "
                "PyPI's package of that name is another project"
            )
        raise LoadError(f"compiling the probes failed:\n{words[-3000:]}")
    return done.stdout


def _bytecode(defines: dict[str, int], notice: Callable[[str], None]) -> dict[str, Any]:
    try:
        path: Path | None = cache_dir() / f"probes-{_cache_key(defines)}.msgpack"
    except OSError as err:
        notice(f"no cache: {err}")
        path = None
    if path is not None:
        with contextlib.suppress(OSError, ValueError):
            loaded: dict[str, Any] = msgpack.unpackb(path.read_bytes())
            if loaded.get("programs"):
                return loaded
    notice("compiling the kernel probes (once for this kernel)")
    blob = _compile(defines)
    if path is not None:
        with contextlib.suppress(OSError):
            kept = sorted(path.parent.glob("probes-*.msgpack"), key=lambda p: p.stat().st_mtime)
            for old in kept[:-KEPT_MODULES]:
                old.unlink()
            part = path.with_suffix(f".{os.getpid()}")
            part.write_bytes(blob)
            part.replace(path)
    compiled: dict[str, Any] = msgpack.unpackb(blob)
    return compiled


@dataclass(slots=True)
class Probes:
    """The loaded module: maps by name, programs, what is attached. `close` takes all of it out of the kernel."""

    maps: dict[str, bpf.Map] = field(default_factory=dict)
    programs: dict[str, int] = field(default_factory=dict)
    links: list[int] = field(default_factory=list)
    switch_links: list[int] = field(default_factory=list)
    typed: bool = False  # whether the switch hooks were loaded with the kernel's types
    control: NDArray[np.void] = field(default_factory=lambda: np.zeros(1, CONTROL_DTYPE))
    timers: dict[int, int] = field(default_factory=dict)  # cpu -> perf event
    ring: Ring | None = None

    @classmethod
    def load(cls, sizes: Sizes, notice: Callable[[str], None] = lambda _: None) -> Probes:
        """Compiles or takes from the cache, and loads. Nothing is attached yet.

        Raises LoadError.
        """
        defines = {**sizes.defines(), "NVIDIA_UVM_MAJOR": nvidia_uvm_major(), **pid_namespace()}
        refused: OSError | None = None
        for typed in (1, 0):  # a kernel that gives no types still has the tracepoints
            try:
                return cls._load(_bytecode({**defines, "TYPED": typed}, notice), bool(typed))
            except OSError as err:
                refused = err
        assert refused is not None
        raise LoadError(f"the kernel refused the probes: {refused.strerror}. Run `excise doctor`.") from refused

    @classmethod
    def _load(cls, module: dict[str, Any], typed: bool) -> Probes:
        self = cls(typed=typed)
        try:
            fds = []
            for m in module["maps"]:
                made = bpf.Map.create(
                    m["name"], m["type"], m["key_size"], m["value_size"], m["max_entries"], m["flags"]
                )
                self.maps[made.name] = made
                fds.append(made.fd)
            for name, program in module["programs"].items():
                code = bytearray(program["code"])
                for at, index in program["maps"]:
                    struct.pack_into("<i", code, at + 4, fds[index])
                kind = bpf.PROG_PERF_EVENT if name == "on_cpu" else bpf.PROG_RAW_TRACEPOINT
                if program["type_id"]:
                    kind = bpf.PROG_TRACING
                self.programs[name] = bpf.load_program(name, kind, bytes(code), program["type_id"])
            self.ring = Ring(self.maps["ring"])
            self.thin()
        except OSError:
            self.close()
            raise
        return self

    def attach(self) -> None:
        """Turns the tracepoints on. Raises LoadError."""
        try:
            for program, tracepoint in TRACEPOINTS.items():
                self.links.append(bpf.attach_raw_tracepoint(tracepoint, self.programs[program]))
            self._attach_switch_hooks()
        except OSError as err:
            self.detach()
            raise LoadError(f"{err.strerror}. Run `excise doctor`.") from err

    def _attach_switch_hooks(self) -> None:
        for program, tracepoint in SWITCH_HOOKS.items():
            self.switch_links.append(bpf.attach_raw_tracepoint(tracepoint, self.programs[program], self.typed))

    def switch_off(self) -> None:
        """Takes the switch hooks out: a switch costs the host nothing then, and nothing is known of it."""
        while self.switch_links:
            os.close(self.switch_links.pop())

    def switch_on(self, now_ns: int) -> None:
        """Puts them on again: a new phase. Raises OSError."""
        self.control["phase"] += 1
        self.control["phase_ns"] = now_ns
        self._send_control()
        self._attach_switch_hooks()

    def thin(self, walk_one_in: int = 1, block_ns: int = 0, sample_weight: float = 1.0) -> None:
        """What is walked and sent from now on; see `struct control`."""
        self.control["walk_one_in"] = walk_one_in
        self.control["block_ns"] = block_ns
        self.control["sample_weight"] = round(sample_weight * WEIGHT_ONE)
        self._send_control()

    def _send_control(self) -> None:
        self.maps["controls"].update(struct.pack("<I", 0), self.control.tobytes())

    def mark_watched(self, tid: int, watched: bool = True) -> None:
        """Whether the hooks look for this thread at all. Slots are shared, so clearing one wants a second look."""
        self.maps["watched"].update(struct.pack("<I", tid % WATCHED_SLOTS), struct.pack("<Q", watched))

    def set_timers(self, cpus: list[int], period_ns: int) -> None:
        """Samples on these CPUs and on no others; the first ticks of new ones are spread over one period.

        Raises LoadError.
        """
        for cpu in self.timers.keys() - set(cpus):
            os.close(self.timers.pop(cpu))
        new = [cpu for cpu in cpus if cpu not in self.timers]
        try:
            for i, cpu in enumerate(new):
                # a first period of its own staggers the CPUs; set_period then gives them the common one
                first = period_ns * (i + 1) // len(new)
                self.timers[cpu] = bpf.open_cpu_clock(cpu, max(first, 100_000), self.programs["on_cpu"])
            for cpu in new:
                bpf.enable_event(self.timers[cpu])
        except OSError as err:
            self.detach()
            raise LoadError(f"{err.strerror}. Run `excise doctor`.") from err

    def set_period(self, cpu: int, period_ns: int) -> None:
        bpf.set_period(self.timers[cpu], period_ns)

    def drops(self) -> dict[str, int]:
        """Counts by name of DROPS, summed over CPUs."""
        return {name: int(np.frombuffer(self._array("drops", i), np.uint64).sum()) for i, name in enumerate(DROPS)}

    def costs(self) -> NDArray[np.void]:
        """COST_DTYPE by program (PROG_*), summed over CPUs; shape (programs,)."""
        entries = self.maps["costs"].max_entries
        out = np.zeros(entries, COST_DTYPE)
        for i in range(entries):
            per_cpu = np.frombuffer(self._array("costs", i), COST_DTYPE)
            for name in COST_DTYPE.names or ():
                out[name][i] = per_cpu[name].sum()
        return out

    def runs(self, program: int) -> int:
        """Of one program (PROG_*), summed over CPUs."""
        return int(np.frombuffer(self._array("costs", program), COST_DTYPE)["runs"].sum())

    def _array(self, name: str, index: int) -> bytes:
        value = self.maps[name].lookup(struct.pack("<I", index))
        if value is None:
            raise MapEntryError(f"map {name} has no entry {index}")
        return bytes(value)

    def detach(self) -> None:
        """Takes the probes out; maps and the ring stay readable."""
        self.switch_off()
        for fd in (*self.timers.values(), *self.links):
            os.close(fd)
        self.timers.clear()
        self.links.clear()

    def close(self) -> None:
        """Leaves nothing in the kernel. May be called twice."""
        self.detach()
        if self.ring is not None:
            self.ring.close()
            self.ring = None
        for fd in self.programs.values():
            os.close(fd)
        self.programs.clear()
        for m in self.maps.values():
            m.close()
        self.maps.clear()


class MapEntryError(Exception):
    """A map entry that must exist does not."""


class Ring:
    """The mmapped ring: `data` u64 words of the pages mapped twice, `producer` and `consumer` positions (1,)."""

    def __init__(self, ring: bpf.Map) -> None:
        size = ring.max_entries
        self._consumer_page = mmap.mmap(ring.fd, PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._pages = mmap.mmap(ring.fd, PAGE + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=PAGE)
        self.size = size
        self.consumer: NDArray[np.uint64] = np.frombuffer(self._consumer_page, np.uint64, 1)
        self.producer: NDArray[np.uint64] = np.frombuffer(self._pages, np.uint64, 1)
        self.data: NDArray[np.uint64] = np.frombuffer(self._pages, np.uint64, offset=PAGE)

    def backlog(self) -> int:
        """Bytes waiting."""
        return int(self.producer[0]) - int(self.consumer[0])

    def close(self) -> None:
        del self.consumer, self.producer, self.data
        for pages in (self._consumer_page, self._pages):
            with contextlib.suppress(BufferError):  # a view lives on in a traceback: unmapped with it
                pages.close()
