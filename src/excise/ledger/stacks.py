"""Where the time went by stack: cells that add up to the ledger."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from excise.batch import SLICE_FAULT, SLICE_KERNEL_MODE
from excise.ledger.classes import CLASSES
from excise.ledger.estimate import Floats, Ints, RunningSplit
from excise.ledger.table import KeyTable
from excise.ledger.threads import Threads
from excise.names import FD_CLASS_ID, FD_CLASSES, KERNEL_STATE_ID, KERNEL_STATES, STATE_ID, STATES
from excise.records import WEIGHT_ONE
from excise.syscalls import syscall_name

CELL_DTYPE: Final = np.dtype([
    ("class_", "u1"),   # of CLASSES
    ("state", "u1"),    # of STATES
    ("whose", "<u4"),   # index into `Whose`
    ("stack", "<u4"),   # 0: without a stack of its own
    ("wait", "<u4"),    # see `wait_words`; 0 on CPU
    ("ns", "<f8"),
    ("count", "<i8"),   # records behind it
])

Whose = tuple[int, str, bool]  # pid, thread name, carrier
RUNNING, RUNNABLE = KERNEL_STATE_ID["running"], KERNEL_STATE_ID["runnable"]
_STATE_OF: Final = np.array([STATE_ID.get(name, 0) for name in KERNEL_STATES])
_FAULT: Final = 1 << 24
_C, _N = len(CLASSES), len(STATES)


def wait_words(code: int) -> str:
    """What a thread waited on, in words ("futex", "read pipe", "page fault"); "" on CPU."""
    if not code:
        return ""
    if code == _FAULT:
        return "page fault"
    number = (code & 0xFFFF) - ((code & 0x8000) << 1)
    fd_class = FD_CLASSES[code >> 16 & 0xFF]
    name = syscall_name(number)
    return name if fd_class in ("none", "unknown") else f"{name} {fd_class}"


def stack_cells(
    slices: NDArray[np.void], of_row: Ints, waits: Ints, runs: Ints, threads: Threads,
    off_cpu: Floats, on_cpu: RunningSplit, scale: Floats,
) -> tuple[NDArray[np.void], tuple[Whose, ...]]:
    """CELL_DTYPE (n,), one for each (class, state, stack, process, thread name, wait), heaviest first; and whose.

    A wait counts as it does in the ledger (`scale`), a sample for the time that one stands for. What the ledger
    (`off_cpu`, `on_cpu`) has beyond that is in cells without a stack: time that was stolen, lost, never sampled, or
    split by the records of other threads.
    """
    number: dict[Whose, int] = {}
    of_thread = np.array(
        [number.setdefault((pid, name, carrier), len(number))
         for (pid, _), name, carrier in zip(threads.keys, threads.names, threads.carrier.tolist(), strict=True)],
        np.int64,
    )
    bearer = of_thread[on_cpu.first] if len(of_thread) else of_thread
    sampled, waited = (np.flatnonzero(m) for m in (slices["state"] == RUNNING, slices["state"] != RUNNING))
    queued = waited[slices["runnable_ns"][waited] != 0]
    s, w, q = slices[sampled], slices[waited], slices[queued]
    weight = s["count"] + s["thinned"] / WEIGHT_ONE
    parts = (
        (runs[sampled], np.where(s["flags"] & SLICE_KERNEL_MODE, STATE_ID["running_kernel"], STATE_ID["running_user"]),
         sampled, np.zeros(len(s), np.int64), weight * on_cpu.sample_ns[of_row[sampled]], bearer),
        (waits[waited], _STATE_OF[w["state"]], waited, _wait_codes(w),
         w["weight_ns"] * scale[of_row[waited], w["state"]], of_thread),
        (runs[queued], np.full(len(q), STATE_ID["runnable"]), queued, np.zeros(len(q), np.int64),
         q["runnable_ns"] * scale[of_row[queued], RUNNABLE], of_thread),
    )
    rest = _ledger(len(number), of_thread, bearer, off_cpu, on_cpu)
    for class_, state, rows, _, ns, bears in parts:
        np.subtract.at(rest, (class_, state, bears[of_row[rows]]), ns)
    class_, state, whose = (x.astype(np.int64) for x in np.nonzero(rest >= 1))
    nothing = np.zeros(len(class_), np.int64)
    columns = [np.concatenate(c) for c in zip(
        *((class_, state, of_thread[of_row[rows]], slices["stack"][rows].astype(np.int64), wait, ns,
           slices["count"][rows].astype(np.int64)) for class_, state, rows, wait, ns, _ in parts),
        (class_, state, whose, nothing, nothing, rest[class_, state, whose], nothing), strict=True)]
    return _folded(columns), tuple(number)


def _folded(columns: list[NDArray[np.generic]]) -> NDArray[np.void]:
    class_, state, whose, stack, wait, ns, count = columns
    words = np.empty((len(class_), 2), np.uint64)
    words[:, 0] = whose.astype(np.uint64) << np.uint64(32) | stack.astype(np.uint64)
    words[:, 1] = (class_.astype(np.uint64) << np.uint64(40) | state.astype(np.uint64) << np.uint64(32)
                   | wait.astype(np.uint64))
    table = KeyTable(2)
    at = table.intern(words)
    out = np.zeros(len(table), CELL_DTYPE)
    first, second = table.keys.T
    out["whose"], out["stack"] = first >> np.uint64(32), first & np.uint64(0xFFFFFFFF)
    out["class_"], out["state"] = second >> np.uint64(40), second >> np.uint64(32) & np.uint64(0xFF)
    out["wait"] = second & np.uint64(0xFFFFFFFF)
    out["ns"] = np.bincount(at, weights=ns.astype(np.float64), minlength=len(table))
    counts = np.zeros(len(table), np.int64)
    np.add.at(counts, at, count)
    out["count"] = counts
    out = out[out["ns"] >= 1]
    return out[np.argsort(-out["ns"], kind="stable")]


def _wait_codes(rows: NDArray[np.void]) -> Ints:
    fd_class = np.where(rows["fd_class"] == FD_CLASS_ID["unknown"], FD_CLASS_ID["none"], rows["fd_class"])
    code = rows["syscall"].astype(np.uint16).astype(np.int64) | fd_class.astype(np.int64) << 16 | 1 << 25
    code[(rows["syscall"] < 0) & (fd_class == FD_CLASS_ID["none"])] = 0
    out: Ints = np.where(rows["flags"] & SLICE_FAULT, _FAULT, code)
    return out


def _ledger(whose: int, of_thread: Ints, bearer: Ints, off_cpu: Floats, on_cpu: RunningSplit) -> Floats:
    """(class, state, whose) ns."""
    out = np.zeros((whose, _N, _C))
    for mode, name in enumerate(("running_user", "running_kernel")):
        np.add.at(out[:, STATE_ID[name]], bearer, on_cpu.ns[:, :, mode])
    for kernel_state, name in enumerate(KERNEL_STATES):
        if kernel_state != RUNNING:
            np.add.at(out[:, STATE_ID[name]], of_thread, off_cpu[:, kernel_state])
    return np.ascontiguousarray(out.transpose(2, 1, 0))
