"""What a thread that existed before the probes was doing when they came: it may not switch for the whole window.

Its state, system call and stack are read from /proc and from its memory. The thread goes on meanwhile; the kernel's
own records take over from its next switch, so an error here lasts that long at most.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from excise.names import FD_CLASS_ID, KERNEL_STATE_ID
from excise.records import FLAG_FAULT

_FUTEX = (202, 449, 455)
_POLL = (7, 23, 270, 271)
_SLEEP = (35, 230)
_EPOLL = (232, 281, 441)
# calls whose first argument is the descriptor that they block on; the probes' list is takes_fd() in waits.bpf.h
_TAKES_FD = frozenset(
    (
        0,
        1,
        16,
        17,
        18,
        19,
        20,
        40,
        *range(42, 48),
        *range(72, 79),
        217,
        221,
        232,
        275,
        277,
        281,
        285,
        288,
        295,
        296,
        299,
        307,
        326,
        327,
        328,
        441,
    )
)
_NVIDIA_MAJOR = 195


@dataclass(frozen=True, slots=True)
class ThreadSnapshot:
    """`state` is an index of KERNEL_STATES; `running` threads want or have a CPU."""

    state: int
    syscall: int
    fd_class: int
    fd: int
    flags: int
    ip: int


def snapshot_thread(pid: int, tid: int, runtime: tuple[int, int], proc: Path = Path("/proc")) -> ThreadSnapshot | None:
    """None when the thread has gone or is a zombie, as a leader is whose other threads live on.

    `runtime`: address and size of _PyRuntime, where a futex is the GIL.
    """
    task = proc / str(pid) / "task" / str(tid)
    try:
        letter = (task / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return None
    words: list[str] = []
    with contextlib.suppress(OSError):
        words = (task / "syscall").read_text().split()
    running = KERNEL_STATE_ID["running"]
    none = FD_CLASS_ID["none"]
    if letter in "XZ":
        return None
    if letter == "R":
        return ThreadSnapshot(running, -1, none, 255, 0, 0)
    if letter in "Tt":
        return ThreadSnapshot(KERNEL_STATE_ID["stopped"], -1, none, 255, 0, 0)
    if not words or words[0] == "running":
        return ThreadSnapshot(KERNEL_STATE_ID["other"] if letter == "S" else KERNEL_STATE_ID["io"], -1, none, 255, 0, 0)
    number, ip = int(words[0]), int(words[-1], 16)
    if number < 0:
        state = KERNEL_STATE_ID["io" if letter == "D" else "other"]
        return ThreadSnapshot(state, -1, none, 255, FLAG_FAULT if letter == "D" else 0, ip)
    arg0 = int(words[1], 16)
    name, fd_class, fd = "io" if letter == "D" else "other", none, 255
    if number in _FUTEX:
        name = "gil" if runtime[0] <= arg0 < runtime[0] + runtime[1] else "lock"
    elif number in _POLL:
        fds = int(words[2], 16) if number in (7, 271) else arg0
        name = "net" if fds & 0xFFFFFFFF else "sleep"  # nothing to wait for but the time
    elif number in _SLEEP:
        name = "sleep"
    elif number in _TAKES_FD:
        fd = min(arg0 & 0xFFFFFFFF, 254)
        fd_class, state_name = _descriptor(proc / str(pid) / "fd" / str(arg0 & 0xFFFFFFFF), number)
        name = state_name or name
    return ThreadSnapshot(KERNEL_STATE_ID[name], number, fd_class, fd, 0, ip)


def _descriptor(path: Path, syscall: int) -> tuple[int, str]:
    """(index of FD_CLASSES, state) of a descriptor; ("unknown", "") when it cannot be seen. Nothing is opened."""
    try:
        info = path.stat()
        target = str(path.readlink())
    except OSError:
        return FD_CLASS_ID["unknown"], ""
    mode = info.st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return FD_CLASS_ID["file"], "io"
    if stat.S_ISBLK(mode):
        return FD_CLASS_ID["block"], "io"
    if stat.S_ISFIFO(mode):
        return FD_CLASS_ID["pipe"], "net"
    if stat.S_ISSOCK(mode):
        return FD_CLASS_ID["listen" if syscall in (43, 288) else "inet"], "net"
    if stat.S_ISCHR(mode):
        major = os.major(info.st_rdev)
        if major == _NVIDIA_MAJOR or target.startswith("/dev/nvidia"):
            return FD_CLASS_ID["nvidia"], "gpu"
        if major in (4, 5) or 136 <= major <= 143:
            return FD_CLASS_ID["tty"], "io"
        return FD_CLASS_ID["chardev"], ""
    if syscall in _EPOLL:
        return FD_CLASS_ID["epoll"], "net"
    return FD_CLASS_ID["eventfd" if syscall <= 1 else "anon"], "net"
