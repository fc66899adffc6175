"""What BPF programs take by the kernel's own clock (bpf_stats): nothing that the agent says of itself."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from excise_agent import bpf

_SYS_BPF = 321
PROG_TEST_RUN = 10
_PROG_GET_FD_BY_ID, _OBJ_GET_INFO_BY_FD, _ENABLE_STATS = 13, 15, 32
_INFO_BYTES, _NAME_AT, _RUN_TIME_AT = 216, 64, 192  # struct bpf_prog_info, include/uapi/linux/bpf.h
RETURN_0 = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)  # r0 = 0; exit
HOOKS = {"on_switch": "sched_switch", "on_waking": "sched_waking", "on_wakeup": "sched_wakeup"}
"""The agent's programs that every thread of the host runs into, watched or not."""


@dataclass(frozen=True)
class Runs:
    """Cumulative, from the program's load on, while the clock was on."""

    ns: int
    count: int

    def since(self, before: Runs) -> Runs:
        return Runs(self.ns - before.ns, self.count - before.count)

    @property
    def mean_ns(self) -> float:
        return self.ns / self.count if self.count else 0.0


def bpf_call(command: int, attr: bytes) -> int:
    """bpf(2) with these attributes. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(ctypes.c_long(_SYS_BPF), ctypes.c_long(command), attr, ctypes.c_long(len(attr)))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf command {command}: {os.strerror(ctypes.get_errno())}")
    return result


@contextlib.contextmanager
def running() -> Iterator[None]:
    """The clock is on: the sysctl kernel.bpf_stats_enabled for as long as a descriptor is open, however we end."""
    fd = bpf_call(_ENABLE_STATS, bytes(8))
    try:
        yield
    finally:
        os.close(fd)


def programs_of(pid: int) -> dict[str, Runs]:
    """The programs that a process holds, by name."""
    ids = set()
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            ids |= {line.split()[1] for line in entry.read_text().splitlines() if line.startswith("prog_id:")}
    return dict(_program(int(number)) for number in ids)


def _program(number: int) -> tuple[str, Runs]:
    fd = bpf_call(_PROG_GET_FD_BY_ID, struct.pack("<III", number, 0, 0))
    try:
        info = ctypes.create_string_buffer(_INFO_BYTES)
        bpf_call(_OBJ_GET_INFO_BY_FD, struct.pack("<IIQ", fd, _INFO_BYTES, ctypes.addressof(info)))
    finally:
        os.close(fd)
    name = info.raw[_NAME_AT : _NAME_AT + 16].rstrip(b"\0").decode()
    return name, Runs(*struct.unpack_from("<QQ", info.raw, _RUN_TIME_AT))


class Empty:
    """A program that does nothing on each of HOOKS, named as the agent's are with `empty` before. The least that any
    tracer costs; by the kernel's clock, what reading it costs."""

    def __init__(self) -> None:
        self._programs = {
            hook: bpf.load_program(f"empty_{name}"[:15], bpf.PROG_RAW_TRACEPOINT, RETURN_0)
            for name, hook in HOOKS.items()
        }
        self._links: list[int] = []

    def attach(self) -> None:
        self._links = [bpf.attach_raw_tracepoint(hook, fd) for hook, fd in self._programs.items()]

    def detach(self) -> None:
        for fd in self._links:
            os.close(fd)
        self._links = []

    def close(self) -> None:
        self.detach()
        for fd in self._programs.values():
            os.close(fd)
        self._programs = {}
