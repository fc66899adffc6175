"""Every way to wait comes out under its own function, in the right state and with the right kind of descriptor.

Twice: as the snapshot at attach sees a thread that never moves, and as the kernel's hooks see one that was stopped and
let go on (it blocks again under the probes).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from excise.names import FD_CLASSES, KERNEL_STATES

from .conftest import Observe, Seen, until

WAITS = {  # function -> states, descriptor classes
    "pipe_read": ("net", "pipe"),
    "tcp_recv": ("net", "inet"),
    "unix_recv": ("net", "unix"),
    "tcp_accept": ("net", "listen"),
    "epoll_wait": ("net", "epoll"),
    "poll_wait": ("net", "none"),
    "sleeping": ("sleep", "none"),
    "locked": ("lock", "none"),
    "flocked": ("io", "file"),
    "eventfd_read": ("net", "eventfd"),
}


@pytest.fixture
def waiting() -> Iterator[tuple[int, dict[str, int]]]:
    script = Path(__file__).parents[1] / "targets" / "waits.py"
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        tids = json.loads(process.stdout.readline())
        for name, tid in tids.items():
            until(lambda t=tid: Path(f"/proc/{process.pid}/task/{t}/stat").read_text().split(") ")[1][0] == "S", name)
        yield process.pid, tids
        process.kill()


def heaviest(seen: Seen, tid: int) -> tuple[str, str, str]:
    row = max(seen.rows(tid), key=lambda r: int(r["weight_ns"]))
    names = [str(name) for name, _ in seen.named(row) if not str(name).startswith("socket.")]
    return KERNEL_STATES[int(row["state"])], FD_CLASSES[int(row["fd_class"])], names[0] if names else ""


def test_the_hooks_class_every_wait(waiting: tuple[int, dict[str, int]], observe: Observe) -> None:
    pid, tids = waiting

    def stirred(_: Seen) -> bool:
        # a stop and a continuation make every thread go through its wait again
        os.kill(pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGCONT)
        return False

    seen = observe(pid, 1.5, stop=stirred)
    found = {name: heaviest(seen, tid) for name, tid in tids.items()}
    expected = {name: (*wait, name) for name, wait in WAITS.items()}
    expected["poll_wait"] = ("other", "none", "poll_wait")  # goes on as restart_syscall, which does not say what for
    assert found == expected


def test_the_snapshot_classes_every_wait(waiting: tuple[int, dict[str, int]], observe: Observe) -> None:
    pid, tids = waiting
    seen = observe(pid, 0.5)
    for name, (state, fd_class) in WAITS.items():
        found = heaviest(seen, tids[name])
        assert found[0] == state and found[2] == name, (name, found)
        if name != "unix_recv":  # /proc does not tell a socket's family; a wait that moves is classed in the kernel
            assert found[1] == fd_class, (name, found)
