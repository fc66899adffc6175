"""Threads that do nothing but switch, in known stages: pairs, one a CPU, that hand a token to and fro.

Arguments: the compiled pingpong.c, and the CPUs. Says {"pid"} when it is ready. For each line "SECONDS SWITCHES_PER_S"
(0: as many as it can) on standard input it switches so long, in turns inside `preprocess`, `compute` and `log`, and
says {"trips", "switches", "seconds"}. Ends with its input.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
import threading
import time
from typing import Any

FOREVER = 1 << 62
TURN_NS = 2_000_000  # of one stage; 3 : 2 : 1 turns
_lib = ctypes.CDLL(sys.argv[1])
_lib.ping.argtypes = [ctypes.c_int, ctypes.c_int, *[ctypes.c_int64] * 3]
_lib.ping.restype = ctypes.c_int64


def preprocess(*arguments: int) -> int:
    return int(_lib.ping(*arguments))


def compute(*arguments: int) -> int:
    return int(_lib.ping(*arguments))


def log(*arguments: int) -> int:
    return int(_lib.ping(*arguments))


TURNS = (preprocess, compute, log, preprocess, compute, preprocess)


class Pair:
    def __init__(self, cpu: int) -> None:
        self._cpu, self._there, self._back = cpu, os.eventfd(0), os.eventfd(0)
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        os.sched_setaffinity(0, {self._cpu})
        _lib.pong(self._there, self._back)

    def switch(self, seconds: float, period_ns: int, out: list[int]) -> None:
        os.sched_setaffinity(0, {self._cpu})
        end, trips, turn = time.monotonic_ns() + int(seconds * 1e9), 0, 0
        while (now := time.monotonic_ns()) < end:
            trips += TURNS[turn % len(TURNS)](self._there, self._back, FOREVER, period_ns, min(end, now + TURN_NS))
            turn += 1
        out.append(trips)


def switches() -> int:
    """Context switches of all threads that there are and were: the kernel's count, exact."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_nvcsw + usage.ru_nivcsw


def burst(pairs: list[Pair], seconds: float, switches_per_s: float) -> dict[str, Any]:
    period_ns = round(2e9 * len(pairs) / switches_per_s) if switches_per_s else 0
    trips: list[int] = []
    threads = [threading.Thread(target=pair.switch, args=(seconds, period_ns, trips)) for pair in pairs]
    began, before = time.monotonic(), switches()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    return {"trips": sum(trips), "switches": switches() - before, "seconds": took}


def main() -> None:
    pairs = [Pair(int(cpu)) for cpu in sys.argv[2:]]
    print(json.dumps({"pid": os.getpid()}), flush=True)
    for line in sys.stdin:
        seconds, rate = (float(word) for word in line.split())
        print(json.dumps(burst(pairs, seconds, rate)), flush=True)


if __name__ == "__main__":
    main()
