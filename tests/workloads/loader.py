"""Worker processes read and decode into a multiprocessing.Queue, the main process runs the model on it.

The main process' wait for a batch is timed apart, as `loader_wait`; a worker that waits for room in the queue
is in `handoff`; the queue's feeder threads are in `serving` at work and in `handoff` while they wait.
"""

import argparse
import contextlib
import itertools
import multiprocessing
import multiprocessing.queues
import threading
from typing import Any

import _common
import numpy as np
from server import announce
from stopwatch import Stopwatch

BATCH = 4


class Bell(threading.Condition):
    """Wakes a queue's feeder thread, and times it: only that thread calls `acquire` by name, and waits."""

    watch: Stopwatch

    def __init__(self, lock: Any) -> None:
        super().__init__(lock)
        self.acquire = self._come  # type: ignore[method-assign]

    def _come(self) -> bool:
        self.watch.switch("serving")
        return bool(self._lock.acquire())  # type: ignore[attr-defined]

    def wait(self, timeout: float | None = None) -> bool:
        with self.watch("handoff"):
            return super().wait(timeout)


class Belt(multiprocessing.queues.Queue):  # type: ignore[type-arg]
    def _reset(self, *args: Any, **kwargs: Any) -> None:
        super()._reset(*args, **kwargs)  # type: ignore[misc]
        self._notempty = Bell(threading.Lock())


def worker(options: argparse.Namespace, belt: Belt, first: int) -> None:
    workload = _common.Workload(options)
    pipeline, watch = workload.pipeline(), workload.watch
    take, shape = workload.named(pipeline, "take"), workload.named(pipeline, "shape")
    Bell.watch = watch
    watch.register()
    with _common.until_stopped():
        for number in itertools.count(first * 1000, BATCH):
            pixels = [shape(take(number + i)[0]) for i in range(BATCH)]
            with watch("preprocess"):
                batch = np.concatenate(pixels)
            with watch("handoff"):
                belt.put(batch)
            workload.after()


def consume(workload: _common.Workload, belt: Belt) -> None:
    pipeline, watch = workload.pipeline(), workload.watch
    pipeline.start(workload.options.model_threads, channels=12)  # the workers are slower, so it waits
    ask, note, reply = (workload.named(pipeline, name) for name in ("ask", "note", "reply"))
    watch.register()
    for number in itertools.count():
        with watch("loader_wait"):
            batch = belt.get()
        scores = ask(batch, 0.0)
        note(number, scores)
        reply(number, scores)
        workload.after()
        if number == 0:
            announce(watch, None)


def main() -> None:
    parser = _common.parser(__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--start-method", choices=["fork", "spawn"], default="fork")
    options = parser.parse_args()
    workload = _common.Workload(options)
    workload.pipeline()  # makes the files before the workers look for them
    context = multiprocessing.get_context(options.start_method)
    belt = Belt(4, ctx=context)
    workers = [context.Process(target=worker, args=(options, belt, i), daemon=True)
               for i in range(options.workers)]
    for process in workers:
        process.start()
    workload.contend()
    with contextlib.suppress(KeyboardInterrupt):
        consume(workload, belt)
    for process in workers:
        process.terminate()
        process.join(10)


if __name__ == "__main__":
    main()
