"""Rows: from exec to the first sample."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hosts import Demo, idle_process
from numbers_of import Row, median, spread
from plan import Plan
from watching import Watching

WINDOW_S = 0.3


def rows(plan: Plan, demo: Demo) -> Iterator[Row]:
    with idle_process() as pid:
        for name, target in (("idle host", pid), ("saturated host", demo.pid)):
            with demo.paused() if target == pid else contextlib.nullcontext():
                runs = [Watching(target, WINDOW_S).wait() for _ in range(plan.starts)]
            ready = [r["ready_s"] for r in runs]
            how = f"median of {plan.starts}, caches warm; from exec of the interpreter; {spread(ready, seconds)}"
            yield Row(f"start to sampling, {name}", seconds(median(ready)), "s", how)
            cpu = median([r["startup_cpu_s"] for r in runs])
            yield Row("  CPU of it", seconds(cpu), "CPU-s", "times(2), children included")
        if plan.cold:
            with tempfile.TemporaryDirectory(prefix="excise-cold-") as cache, demo.paused():
                run = Watching(pid, WINDOW_S, cache=Path(cache)).wait()
            how = "one run, empty cache: numba and bcc compile"
            yield Row("start to sampling, cold", f"{run['ready_s']:.1f}", "s", how)
            yield Row("  CPU of it", f"{run['startup_cpu_s']:.1f}", "CPU-s", "same")


def seconds(value: float) -> str:
    return f"{value:.2f}"
