"""Frames, stacks, threads and processes: what the integers in a batch stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FrameKind = Literal["python", "native", "kernel"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, named.

    `file` is the code object's co_filename (python), the module's path as mapped (native), or "" (kernel).
    `name` is co_qualname, the demangled symbol, or the kernel symbol; "" when it could not be named.
    `line` is the line being executed (python only), 0 when unknown.
    """

    kind: FrameKind
    file: str
    name: str
    line: int = 0


@dataclass(frozen=True, slots=True)
class Process:
    """A watched process, by its number in the agent's /proc. Identity is (boot_id, pid, start_ns): pids are reused."""

    pid: int
    start_ns: int  # since boot, from /proc/PID/stat field 22; 0 unknown
    comm: str
    python: str | None = None  # "3.11.7"; None: no interpreter found
    parent: int = 0
    ns_pid: int = 0  # its number in its own pid namespace; 0 unknown
    note: str = ""  # why its Python stacks are missing, if they are
    host_pid: int = 0  # the kernel's own number, where the agent runs in another pid namespace; 0 unknown


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread of a watched process. `carrier`: it was seen to run Python (or its process has no interpreter)."""

    tid: int
    pid: int
    name: str
    carrier: bool
    library: str = ""  # whose pool it belongs to, for threads that are no carriers; "" unknown


Stack = tuple[int, ...]
"""Frame ids, leaf first: kernel frames, then the innermost native frame, then the Python chain."""
