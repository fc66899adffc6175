"""Real children that load a library called libtorch_cpu.so when they are told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from excise_agent.discovery import Changes, Discovery

DEADLINE_S = 60.0  # generous: the machine may be busy

SOURCE = "char room[8 << 20] = {1}; int tiny(void) { return room[0]; }\n"

LOADER = """
import ctypes, os, signal, sys
print(os.getpid(), flush=True)
for line in sys.stdin:
    word, _, rest = line.strip().partition(" ")
    if word == "load":
        library = ctypes.CDLL(rest)
    elif word == "fork":
        for _ in range(int(rest)):
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signal.pause()
                os._exit(0)
    elif word == "reap":
        for _ in range(int(rest)):
            os.wait()
    elif word == "exec":
        os.execv(sys.executable, [sys.executable, "-c", rest.replace("@", "\\n")])
    print("done", flush=True)
"""


def build_library(folder: Path) -> Path:
    library = folder / "libtorch_cpu.so"
    source = folder / "tiny.c"
    source.write_text(SOURCE)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


class Child:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.pid = process.pid
        self.inner = int(process.stdout.readline())  # as it sees itself

    def tell(self, words: str, answer: bool = True) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        if answer:
            assert self.process.stdout.readline() == "done\n"


@contextmanager
def child(*before: str) -> Iterator[Child]:
    """In a session, and a process group, of its own; all of the group ends with it."""
    process = subprocess.Popen(
        [*before, sys.executable, "-c", LOADER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield Child(process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def look_until(discovery: Discovery, done: Callable[[], bool]) -> Changes:
    """All changes of the looks until then."""
    every = Changes()
    end = time.monotonic() + DEADLINE_S
    while True:
        changes = discovery.look()
        every.found.extend(changes.found)
        every.gone.extend(changes.gone)
        if done():
            return every
        assert time.monotonic() < end, "not seen in time"
        time.sleep(0.02)


def watches(discovery: Discovery, *pids: int) -> bool:
    return set(pids) <= {found.pid for found in discovery.watched}
