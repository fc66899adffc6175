"""Hashes and addresses into names: Python chains as they come, native and kernel frames when first needed."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from excise.batch import PHASE_GROUPS, SLICE_DTYPE, SLICE_FAULT, SLICE_KERNEL_MODE, SLICE_PHASE_SHIFT
from excise.records import FLAG_FAULT, FLAG_KERNEL_MODE, REC_SAMPLE, WEIGHT_ONE
from excise.ring import Folded
from excise_agent.chains import Chains
from excise_agent.collectors.bpf import StackRecord
from excise_agent.interner import Interner
from excise_agent.kallsyms import KernelSymbols
from excise_agent.native import NativeSymbols
from excise_agent.python_names import PythonNames
from excise_agent.stack_ids import StackIds
from excise_agent.symbol_spans import SymbolSpans

PRELOAD_S = 0.5
MOST_VARIANCE_US2 = 1 << 61  # of one row; more is no time


def stand_for_all(slices: NDArray[np.void], waits: NDArray[np.bool_], factor: float, group: int) -> None:
    """Waits that were seen in a part of the time, times `factor`; `group`: 1 to PHASE_GROUPS."""
    rows = slices[waits]
    rows["flags"] |= group << SLICE_PHASE_SHIFT
    weight = rows["count"].astype(np.float64) + rows["thinned"] / WEIGHT_ONE
    rows["thinned"] = np.rint((weight * factor - rows["count"]) * WEIGHT_ONE)
    for name, power in (("weight_ns", 1), ("runnable_ns", 1), ("weight_var_us2", 2), ("runnable_var_us2", 2)):
        rows[name] = np.minimum(np.rint(rows[name] * factor**power), MOST_VARIANCE_US2).astype(np.int64)
    slices[waits] = rows


class Namer:
    """`stack_lost` counts rows whose chain never came or was lost on its way."""

    def __init__(self, interner: Interner) -> None:
        self.python = PythonNames()
        self.stack_lost = 0
        self._phase = 0
        self._interner = interner
        self._native = NativeSymbols()
        self._spans = SymbolSpans(self._native)
        self._kernel = KernelSymbols()
        self._ids = StackIds()
        self._chains = Chains(self._ids.chains)

    def prepare(self, kernel: bool) -> None:
        """What takes long goes before the window: the kernel's symbols (0.1 s), if there will be samples."""
        if kernel:
            self._kernel.load()

    @property
    def names_kernel(self) -> bool:
        """Whether kernel frames have names on this host."""
        return self._kernel.available

    def preload(self, pids: Sequence[int]) -> None:
        """The symbol tables of what is mapped: 0.1 s for an onnxruntime server; the rest waits until it is needed."""
        until_s = time.monotonic() + PRELOAD_S
        for pid in pids:
            self._native.preload(pid, until_s)

    def name_chain(self, hash_: int, pid: int, frames: Sequence[tuple[int, int, int]]) -> None:
        """A Python chain of (code, key, lasti), leaf first. Soon after it was seen: code objects are freed."""
        self._chains.add(hash_, pid, self.python.chain(pid, frames, self._interner.frame))

    def name_stack(self, record: StackRecord) -> None:
        """A chain that the ring brought."""
        if record.kernel:
            frames = (self._interner.frame(self._kernel.resolve(int(ip))) for ip in record.frames)
            self._chains.add(record.hash, 0, tuple(frames))
        else:
            self.name_chain(record.hash, record.pid, record.frames.tolist())

    def forget(self, pid: int) -> None:
        """The process has ended or has another image: its addresses mean something else now, or nothing."""
        self._native.forget(pid)
        self._spans.forget(pid)
        self._ids.forget(pid)
        self._chains.forget(pid)

    def resolve(self, folded: Folded, period_ns: int, duty_ratio: float = 1.0) -> NDArray[np.void]:
        """Folded rows as slices, SLICE_DTYPE (n,). Samples weigh `period_ns` each. Python runs for new stacks only.

        duty_ratio: share of the time that the switch hooks were on: waits stand for those of all of it.
        """
        rows, sums = folded.rows, folded.sums
        out = np.zeros(len(rows), SLICE_DTYPE)
        if not len(rows):
            return out
        for name in ("pid", "tid", "state", "syscall", "fd_class", "fd", "port", "waker"):
            out[name] = rows[name]
        kernel_mode = (rows["flags"] & FLAG_KERNEL_MODE) != 0
        fault = (rows["flags"] & FLAG_FAULT) != 0
        out["flags"] = np.where(kernel_mode, SLICE_KERNEL_MODE, 0) | np.where(fault, SLICE_FAULT, 0)
        out["count"], out["weight_ns"], out["runnable_ns"], out["thinned"] = sums.T
        sampled = rows["type"] == REC_SAMPLE
        out["weight_ns"][sampled] = sums[sampled, 0] * period_ns + sums[sampled, 3] * period_ns // WEIGHT_ONE
        variances = np.minimum(np.rint(folded.variances / 1e6), MOST_VARIANCE_US2).astype(np.int64)
        out["weight_var_us2"], out["runnable_var_us2"] = variances.T
        out["stack"] = self._stack_ids(rows)
        if duty_ratio < 1:
            self._phase = self._phase % PHASE_GROUPS + 1
            stand_for_all(out, ~sampled, 1 / duty_ratio, self._phase)
        return out

    def close(self) -> None:
        self._native.close()
        self._kernel.close()

    def _stack_ids(self, rows: NDArray[np.void]) -> NDArray[np.uint32]:
        starts = self._starts(rows)
        words = self._ids.words(rows, starts)
        out, new = self._ids.find(words)
        whole = []
        for i in new.tolist():
            row = rows[i]
            out[i], complete = self._name(int(row["pid"]), int(row["stack"]), int(row["kstack"]), int(starts[i]))
            if complete:
                whole.append(i)
        if whole:
            self._ids.learn(words[whole], out[whole])
        return out

    def _starts(self, rows: NDArray[np.void]) -> NDArray[np.uint64]:
        out = np.zeros(len(rows), np.uint64)
        pids, which = np.unique(rows["pid"], return_inverse=True)
        for i, pid in enumerate(pids.tolist()):
            ours = np.flatnonzero(which == i)
            out[ours] = self._spans.starts(pid, rows["ip"][ours])
        return out

    def _name(self, pid: int, stack: int, kstack: int, ip: int) -> tuple[int, bool]:
        """The stack's id, and whether all of its chains were known."""
        python = self._chains.get(stack)
        kernel = self._chains.get(kstack)
        whole = not ((stack and python is None) or (kstack and kernel is None))
        if not whole:
            self.stack_lost += 1
        native = self._spans.frame(pid, ip) if ip else None
        named = (self._interner.frame(native),) if native is not None and (native.file or native.name) else ()
        return self._interner.stack((*(kernel or ()), *named, *(python or ()))), whole
