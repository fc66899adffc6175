"""The whole path of a record on one core: drain, name, fold into the session, account. Sizes as the demo server's mix.

`rows()` is for the bench; `python tests/bench/plane_rates.py` prints them. CPU time of this thread: what others run
beside it does not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
from drains import KINDS, ROWS, full_ring
from numbers_of import Row, median
from numpy.typing import NDArray

from excise.batch import SLICE_DTYPE, TOTALS_DTYPE, Batch, Definitions, Totals
from excise.frames import Frame, Process, Thread
from excise.ledger.account import account
from excise.ledger.accumulate import Sums
from excise.ledger.attribute import Attributor
from excise.ledger.definitions import Known
from excise.ledger.tally import Tally
from excise.ledger.threads import Memory
from excise.names import KERNEL_STATE_ID, KERNEL_STATES
from excise.records import REC_SAMPLE, REC_WAIT
from excise.ring import Fold, Folded
from excise.stages import Rules, ThreadContext
from excise_agent.interner import Interner
from excise_agent.stack_ids import StackIds

REPEATS = 15
THREADS = 20
DRAINS_A_WINDOW = 40  # 2 MiB each: a window of 10 s at 100 000 records/s


def rows() -> Iterator[Row]:
    """Records, rows of folded records, or both, by second."""
    data, used, records = full_ring()
    producer = np.array([used], np.uint64)
    producer.flags.writeable = False
    fold, ids = Fold(), StackIds()
    known, stack_of = _known()
    attributor, memory = Attributor(Rules.load()), Memory()

    def drained() -> Folded:
        fold.drain(data, producer, np.zeros(1, np.uint64))
        fold.take_side()
        return fold.take_rows()

    first = drained()
    ids.learn(ids.words(first.rows), stack_of(first.rows))
    totals = _totals(first.rows)

    def whole() -> float:
        """Of a window: records come in DRAINS_A_WINDOW drains, each its own batch."""
        began = time.thread_time()
        tally = Tally()
        for _ in range(DRAINS_A_WINDOW):
            folded = drained()
            slices = _slices(folded)
            slices["stack"], _ = ids.find(ids.words(folded.rows))
            tally.take_batch(Batch(0, 1, slices, {}, folded.lengths))
        tally.take_totals(totals)
        account(tally, known, attributor, memory)
        return time.thread_time() - began

    whole()  # asks the rules
    took = _median(whole)
    yield Row("drain, attribute and accumulate", f"{records * DRAINS_A_WINDOW / took / 1e6:,.2f}", "million records/s",
              f"median of {REPEATS}; a window of {DRAINS_A_WINDOW} full rings, {len(first)} rows each, one core")
    took = _median(lambda: _timed(drained))
    yield Row("drain and fold alone", f"{records / took / 1e6:,.2f}", "million records/s",
              f"median of {REPEATS}, lengths and weights included")

    slices = np.tile(_slices(first), 25)
    slices["stack"] = np.tile(stack_of(first.rows), 25)
    contexts = np.full(len(slices), attributor.context(ThreadContext("worker", True, False, True)))
    ports = np.array([8000])
    classes = attributor.classes(slices, contexts, known, ports)
    took = _median(lambda: _timed(lambda: attributor.classes(slices, contexts, known, ports)))
    yield Row("attribute", f"{len(slices) / took / 1e6:,.2f}", "million rows/s",
              f"median of {REPEATS}; {len(slices)} rows, verdicts known")
    threads = slices["tid"].astype(np.int64) % THREADS
    sums = Sums(THREADS)
    took = _median(lambda: _timed(lambda: sums.add(slices, threads, *classes)))
    yield Row("accumulate", f"{len(slices) / took / 1e6:,.2f}", "million rows/s", f"median of {REPEATS}")


def _median(measure: Callable[[], float]) -> float:
    return median([measure() for _ in range(REPEATS)])


def _timed(run: Callable[[], object]) -> float:
    began = time.thread_time()
    run()
    return time.thread_time() - began


def _slices(folded: Folded) -> NDArray[np.void]:
    """As the agent's namer makes them, without the stacks."""
    out = np.zeros(len(folded), SLICE_DTYPE)
    for name in ("pid", "tid", "syscall", "fd_class", "fd", "port", "waker"):
        out[name] = folded.rows[name]
    waits = folded.rows["type"] == REC_WAIT
    out["state"] = np.where(waits, KERNEL_STATE_ID["lock"], KERNEL_STATE_ID["running"])
    out["count"], out["weight_ns"], out["runnable_ns"], out["thinned"] = folded.sums.T
    return out


def _known() -> tuple[Known, Callable[[NDArray[np.void]], NDArray[np.uint32]]]:
    """Definitions for `full_ring`, and a number for each row's stack."""
    interner, known = Interner(), Known()
    site = "/opt/venv/lib/python3.11/site-packages"
    files = (f"{site}/PIL/Image.py", f"{site}/torch/nn/modules/module.py", "/srv/app.py", "/usr/lib/logging.py")
    for i in range(ROWS):
        own = interner.frame(Frame("python", files[i % len(files)], f"f{i}", i))
        interner.stack((own, *(interner.frame(Frame("python", "/srv/app.py", f"caller{j}", j)) for j in range(17))))
    interner.define(process=Process(1000, 5, "python3", "3.11.7"))
    for tid in range(1000, 1000 + THREADS):
        interner.define(thread=Thread(tid, 1000, f"worker-{tid}", True))
    known.define(interner.flush() or Definitions())
    return known, lambda raw: (1 + np.unique(raw["stack"], return_inverse=True)[1] % ROWS).astype(np.uint32)


def _totals(raw: NDArray[np.void]) -> Totals:
    tids = np.unique(raw["tid"])
    out = np.zeros(len(tids), TOTALS_DTYPE)
    out["pid"], out["tid"] = 1000, tids
    out["state_ns"] = 10**9
    out["lifetime_ns"] = 10**9 * len(KERNEL_STATES)
    return Totals(0, 1, out)


assert {kind for kind, _ in KINDS} >= {REC_SAMPLE, REC_WAIT}

if __name__ == "__main__":
    for row in rows():
        print(row)
