"""What /proc says of a thread that was there before the probes, in the probes' words."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from excise.names import FD_CLASS_ID, KERNEL_STATE_ID
from excise.records import FLAG_FAULT
from excise_agent.paths import probes_dir
from excise_agent.snapshot import _TAKES_FD, ThreadSnapshot, snapshot_thread

RUNTIME = (0x7F0000000000, 0x1000)


def seen(proc: Path, letter: str, syscall: str | None, fd: str | None = None) -> ThreadSnapshot | None:
    """As of thread 8 of process 7, whose name tries its best."""
    task = proc / "7" / "task" / "8"
    task.mkdir(parents=True)
    (task / "stat").write_text(f"8 (odd) R ) name) {letter} 1 2 3\n")
    if syscall is not None:
        (task / "syscall").write_text(syscall + "\n")
    if fd is not None:
        (proc / "7" / "fd").mkdir()
        (proc / "7" / "fd" / "3").symlink_to(fd)
    return snapshot_thread(7, 8, RUNTIME, proc)


def state(found: ThreadSnapshot | None) -> str:
    assert found is not None
    return next(name for name, number in KERNEL_STATE_ID.items() if number == found.state)


@pytest.mark.parametrize(("letter", "syscall", "expected"), [
    ("R", None, "running"),
    ("T", "0 0x3 0x0 0x0 0x0 0x0 0x0 0x7ffe 0x7f12", "stopped"),
    ("t", None, "stopped"),
    ("S", None, "other"),           # this user may not read it
    ("S", "running", "other"),
    ("D", "running", "io"),
    ("S", "202 0x7f0000000ff8 0x80 0x0 0x0 0x0 0x0 0x7ffe 0x7f12", "gil"),
    ("S", "202 0x7f0000001000 0x80 0x0 0x0 0x0 0x0 0x7ffe 0x7f12", "lock"),
    ("S", "7 0x7ffe 0x1 0x0 0x0 0x0 0x0 0x7ffe 0x7f12", "net"),
    ("S", "230 0x1 0x0 0x0 0x0 0x0 0x0 0x7ffe 0x7f12", "sleep"),
    ("S", "61 0xffffffffffffffff 0x0 0x0 0x0 0x0 0x0 0x7ffe 0x7f12", "other"),
    ("D", "-1 0x7ffe 0x7f12", "io"),
    ("S", "-1 0x7ffe 0x7f12", "other"),
])
def test_a_thread_is_in_the_state_that_its_call_means(
    tmp_path: Path, letter: str, syscall: str | None, expected: str
) -> None:
    assert state(seen(tmp_path, letter, syscall)) == expected


@pytest.mark.parametrize("letter", ["Z", "X"])
def test_a_thread_that_ended_is_not_seen(tmp_path: Path, letter: str) -> None:
    assert seen(tmp_path, letter, "-1 0x0 0x0") is None


def test_a_thread_that_has_gone_is_not_seen(tmp_path: Path) -> None:
    assert snapshot_thread(7, 8, RUNTIME, tmp_path) is None


def test_a_page_that_had_to_be_read_is_a_fault(tmp_path: Path) -> None:
    assert seen(tmp_path, "D", "-1 0x7ffe 0x7f12") == ThreadSnapshot(
        KERNEL_STATE_ID["io"], -1, FD_CLASS_ID["none"], 255, FLAG_FAULT, 0x7F12)


def test_a_descriptor_says_what_a_read_waits_for(tmp_path: Path) -> None:
    fifo, plain = tmp_path / "fifo", tmp_path / "plain"
    os.mkfifo(fifo)
    plain.touch()
    call = "0 0x3 0x7ffe 0x10 0x0 0x0 0x0 0x7ffe 0x7f12"
    for name, target, expected, kind in (("a", fifo, "net", "pipe"), ("b", plain, "io", "file"),
                                         ("c", Path("/nowhere"), "other", "unknown")):
        found = seen(tmp_path / name, "S", call, str(target))
        assert found is not None and (state(found), found.fd, found.fd_class) == (expected, 3, FD_CLASS_ID[kind])


def test_the_calls_that_block_on_a_descriptor_are_the_probes_own(tmp_path: Path) -> None:
    """takes_fd() of waits.bpf.h, asked for every number."""
    source = (probes_dir() / "bpf" / "waits.bpf.h").read_text()
    found = re.search(r"^static inline int takes_fd\(s64 nr\)\n\{.*?^\}", source, re.DOTALL | re.MULTILINE)
    assert found
    (tmp_path / "ask.c").write_text(f"""#include <stdio.h>
typedef long long s64;
{found[0]}
int main(void) {{ for (s64 nr = 0; nr < 1024; nr++) if (takes_fd(nr)) printf("%lld\\n", nr); return 0; }}
""")
    subprocess.run([shutil.which("cc") or "gcc", "-o", "ask", "ask.c"], cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "ask"], check=True, capture_output=True, text=True).stdout
    assert set(map(int, printed.split())) == _TAKES_FD
