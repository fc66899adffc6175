"""The whole path of a record on one core: drain, name, fold into the session, account. Sizes as the demo server's mix.

`rows()` is for the bench; `python tests/bench/plane_rates.py` prints them. CPU time of this thread: what others run
beside it does not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
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
from excise.records import (
    RAW_PY_FRAME_DTYPE,
    RAW_SLICE_DTYPE,
    RAW_STACK_DTYPE,
    REC_SAMPLE,
    REC_STACK,
    REC_WAIT,
    WEIGHT_ONE,
)
from excise.ring import Fold, Folded
from excise.stages import Rules, ThreadContext
from excise_agent.interner import Interner
from excise_agent.stack_ids import StackIds

RING_BYTES = 2 << 20  # the agent's
KINDS = ((REC_WAIT, 0.83), (REC_SAMPLE, 0.14), (REC_STACK, 0.03))  # of the records of 10 s of the demo server
FRAMES = 18  # a stack there
ROWS = 400  # different rows a second there
REPEATS = 15
THREADS = 20
DRAINS, BATCHES = 4, 10  # full rings a batch, batches a window: 10 s at 88 000 records/s, a batch a second


def rows() -> Iterator[Row]:
    """Records, rows of folded records, or both, by second."""
    data, used, records = full_ring()
    producer = np.array([used], np.uint64)
    producer.flags.writeable = False
    fold, ids = Fold(), StackIds()
    known, stack_of = _known()
    attributor, memory = Attributor(Rules.load()), Memory()

    def drained() -> Folded:
        for _ in range(DRAINS):
            fold.drain(data, producer, np.zeros(1, np.uint64))
            fold.take_side()
        return fold.take_rows()

    first = drained()
    ids.learn(ids.words(first.rows, first.rows["ip"]), stack_of(first.rows))
    totals = _totals(first.rows)

    def whole() -> float:
        """Of a window."""
        began = time.thread_time()
        tally = Tally()
        for _ in range(BATCHES):
            folded = drained()
            slices = _slices(folded)
            slices["stack"], _ = ids.find(ids.words(folded.rows, folded.rows["ip"]))
            tally.take_batch(Batch(0, 1, slices, {}, folded.lengths))
        tally.take_totals(totals)
        account(tally, known, attributor, memory)
        return time.thread_time() - began

    whole()  # asks the rules
    took = _median(whole)
    yield Row("drain, attribute and accumulate", f"{records * DRAINS * BATCHES / took / 1e6:,.2f}", "million records/s",
              f"median of {REPEATS}; a window of {BATCHES} batches of {DRAINS} full rings, {len(first)} rows and "
              f"{len(first.lengths)} lengths each; CPU time of one core")
    took = _median(lambda: _timed(drained))
    yield Row("drain and fold alone", f"{records * DRAINS / took / 1e6:,.2f}", "million records/s",
              f"median of {REPEATS}; a batch, lengths and weights included")

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


def full_ring() -> tuple[NDArray[np.uint64], int, int]:
    """The data pages twice, as the kernel maps them; bytes in use; records. Waits differ in length, log-normally."""
    rng = np.random.default_rng(3)
    slices = np.zeros(ROWS, RAW_SLICE_DTYPE)
    slices["tid"] = rng.integers(1000, 1020, ROWS)
    slices["pid"], slices["stack"], slices["weight"] = 1000, rng.integers(1, 1 << 60, ROWS), WEIGHT_ONE
    lengths = np.exp(rng.normal(11, 1, 40_000)).astype(np.uint64)
    stack = np.zeros((), RAW_STACK_DTYPE)
    stack["type"], stack["count"] = REC_STACK, FRAMES
    definition = stack.tobytes() + bytes(FRAMES * RAW_PY_FRAME_DTYPE.itemsize)
    out, records = bytearray(), 0
    for i, kind in enumerate(rng.choice([k for k, _ in KINDS], 40_000, p=[p for _, p in KINDS]).tolist()):
        one = slices[i % ROWS]
        one["type"], one["value_ns"] = kind, lengths[i] if kind == REC_WAIT else 0
        body = definition if kind == REC_STACK else one.tobytes()
        step = 8 + (len(body) + 7) // 8 * 8
        if len(out) + step > RING_BYTES:
            break
        out += len(body).to_bytes(8, "little") + body.ljust(step - 8, b"\0")
        records += 1
    used = len(out)
    page = np.frombuffer(bytes(out.ljust(RING_BYTES, b"\0")), np.uint64)
    data = np.concatenate((page, page))
    data.flags.writeable = False
    return data, used, records


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


if __name__ == "__main__":
    for row in rows():
        print(row)
