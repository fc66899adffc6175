"""Watches a parent of many short-lived children and says what that took, at equal steps: `make soak`.

In a process of its own: its memory is the agent's. Prints a table, or with --json one reading a line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
from dataclasses import asdict, fields
from pathlib import Path

from excise_agent._numba_cache import pin_numba_cache

pin_numba_cache()

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np  # noqa: E402

from bpf.dialogue import Dialogue  # noqa: E402
from excise.batch import Batch, Definitions, Item, Totals  # noqa: E402
from excise_agent.attach import Options, Watch  # noqa: E402
from soak.readings import Reading, complaints, take_reading  # noqa: E402

SETTLE_S = 60.0  # until the last children of a step have left every table: a window, and a batch or two


class Soak:
    """One watch of a churning parent. The stream is counted and dropped, as if it had been written out."""

    def __init__(self, children: int, over_s: float, steps: int, budget_ratio: float | None) -> None:
        self.readings: list[Reading] = []
        self.processes = self.slices = 0
        self.lost: dict[str, int] = {}
        self._children, self._over_s, self._steps = children, over_s, steps
        self._budget_ratio = budget_ratio
        self._names = self._windows = 0
        self._batch = threading.Condition()

    def run(self, show: bool) -> None:
        with Dialogue("churn.py") as target:
            target.hear()
            options = Options(pid=target.pid, duration_s=None, budget_ratio=self._budget_ratio)
            watch = Watch(options, self._take)
            failed: list[BaseException] = []

            def drive() -> None:
                try:
                    self._drive(target, watch, show)
                except BaseException as err:  # noqa: BLE001 - a thread's top frame; told below
                    failed.append(err)
                with contextlib.suppress(OSError):  # it has failed by itself and is closed
                    watch.stop()

            try:
                watch.start()
                touch_buffers(watch)
                driver = threading.Thread(target=drive, daemon=True)
                driver.start()
                watch.run()
                driver.join()
            finally:
                watch.close()
            if failed:
                raise failed[0]

    def _take(self, item: Item) -> None:
        match item:
            case Definitions():
                self._names += len(item.frames) + len(item.stacks)
                self.processes += len({p.pid for p in item.processes})
            case Batch():
                self.slices += len(item.slices)
                for name, n in item.lost.items():
                    self.lost[name] = self.lost.get(name, 0) + n
            case Totals():
                self._windows += 1
        with self._batch:
            self._batch.notify_all()

    def _drive(self, target: Dialogue, watch: Watch, show: bool) -> None:
        self._read(0, watch, show)
        for step in range(self._steps):
            children = self._children * (step + 1) // self._steps - self._children * step // self._steps
            target.say(json.dumps({"children": children, "seconds": self._over_s / self._steps}))
            done = target.hear(600 + 2 * self._over_s / self._steps)
            self._read(done["children"], watch, show)

    def _read(self, children: int, watch: Watch, show: bool) -> None:
        """When all but the parent have left, and the window with their totals; looks after each batch."""
        targets, probes = watch._targets, watch._probes
        assert probes is not None
        with self._batch:
            self._batch.wait_for(lambda: len(targets.pids(alive=False)) == 1, SETTLE_S)
            windows = self._windows
            self._batch.wait_for(lambda: self._windows > windows, SETTLE_S)
        reading = take_reading(children, probes, len(targets.pids(alive=False)), self._names)
        self.readings.append(reading)
        if show:
            print(row(reading), flush=True)


def touch_buffers(watch: Watch) -> None:
    """Makes the fold's buffers present: they are of fixed size, and else show as growth whenever a batch is the largest
    so far."""
    for field in fields(watch._collector.fold):
        buffer = getattr(watch._collector.fold, field.name)
        if isinstance(buffer, np.ndarray):
            buffer += buffer.dtype.type(0)


COLUMNS = ("children", "PSS MB", "dirty MB", "fds", "maps MB", "procs", "threads", "processes", "names", "blocks")


def row(r: Reading) -> str:
    cells = (r.children, f"{r.pss_bytes / 1e6:.2f}", f"{r.private_dirty_bytes / 1e6:.2f}", r.descriptors,
             f"{r.map_bytes / 1e6:.2f}", r.procs, r.threads, r.processes, r.names, r.blocks)
    return "".join(f"{cell!s:>10}" for cell in cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--children", type=int, default=10_000)
    parser.add_argument("--over", type=float, default=0.0, metavar="SECONDS", help="0: as fast as they come")
    parser.add_argument("--steps", type=int, default=8, help="readings after the first")
    parser.add_argument("--budget", type=float, metavar="RATIO", help="of the target's CPU; without: no limit")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    soak = Soak(options.children, options.over, options.steps, options.budget)
    if not options.json:
        print("".join(f"{name:>10}" for name in COLUMNS))
    soak.run(show=not options.json)
    if options.json:
        print(json.dumps({"readings": [asdict(r) for r in soak.readings], "processes": soak.processes,
                          "slices": soak.slices, "lost": soak.lost}))
        return
    print(f"processes seen: {soak.processes}; lost: {soak.lost or 'nothing'}")
    print("PSS is of others' doing too: of whoever maps the same files")
    if found := complaints(soak.readings):
        sys.exit("soak: " + "; ".join(found))


if __name__ == "__main__":
    main()
