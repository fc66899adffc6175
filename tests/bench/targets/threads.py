"""Many threads, or processes with one thread each, that each do a little and sleep.

Arguments: how many threads a process, how many processes, seconds asleep. Says {"pid"} of the first when all run.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1
_WORK = range(300)  # about 5 us


def preprocess() -> int:
    return sum(_WORK)


def live(asleep_s: float, started: threading.Barrier | None) -> None:
    if started is not None:
        started.wait()
    while True:
        preprocess()
        time.sleep(asleep_s)


def main() -> None:
    threads, processes, asleep_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    root = os.getpid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    for _ in range(processes - 1):
        if os.fork() == 0:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            live(asleep_s, None)
    threading.stack_size(256 << 10)
    started = threading.Barrier(threads)
    for _ in range(threads - 1):
        threading.Thread(target=live, args=(asleep_s, started), daemon=True).start()
    started.wait()
    print(json.dumps({"pid": root}), flush=True)
    live(asleep_s, None)


if __name__ == "__main__":
    main()
