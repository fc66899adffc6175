"""Hashes and addresses into names: Python chains as they come, native and kernel frames when first needed."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from excise.batch import SLICE_DTYPE, SLICE_FAULT, SLICE_KERNEL_MODE
from excise.frames import Stack
from excise.records import FLAG_FAULT, FLAG_KERNEL_MODE, REC_SAMPLE
from excise_agent.collectors.bpf import StackRecord
from excise_agent.interner import Interner
from excise_agent.kallsyms import KernelSymbols
from excise_agent.native import NativeSymbols
from excise_agent.python_names import PythonNames

PRELOAD_S = 0.5
_Key = tuple[int, int, int, int, bool]  # pid, Python chain, kernel chain, user ip, kernel mode


class Namer:
    """`stack_lost` counts rows whose chain never came or was lost on its way."""

    def __init__(self, interner: Interner) -> None:
        self.python = PythonNames()
        self.stack_lost = 0
        self._interner = interner
        self._native = NativeSymbols()
        self._kernel = KernelSymbols()
        self._chains: dict[int, Stack] = {}
        self._stacks: dict[_Key, int] = {}

    def prepare(self, kernel: bool) -> None:
        """What takes long goes before the window: the kernel's symbols (0.1 s), if there will be samples."""
        if kernel:
            self._kernel.load()

    def preload(self, pids: Sequence[int]) -> None:
        """The symbol tables of what is mapped: 0.1 s for an onnxruntime server; the rest waits until it is needed."""
        until_s = time.monotonic() + PRELOAD_S
        for pid in pids:
            self._native.preload(pid, until_s)

    def name_chain(self, hash_: int, pid: int, frames: Sequence[tuple[int, int, int]]) -> None:
        """A Python chain of (code, key, lasti), leaf first. Soon after it was seen: code objects are freed."""
        self._chains[hash_] = self.python.chain(pid, frames, self._interner.frame)

    def name_stack(self, record: StackRecord) -> None:
        """A chain that the ring brought."""
        if record.kernel:
            frames = (self._interner.frame(self._kernel.resolve(int(ip))) for ip in record.frames)
            self._chains[record.hash] = tuple(frames)
        else:
            self.name_chain(record.hash, record.pid, record.frames.tolist())

    def forget(self, pid: int) -> None:
        """The process has ended or has another image: its addresses mean something else now, or nothing."""
        self._native.forget(pid)
        self._stacks = {key: stack for key, stack in self._stacks.items() if key[0] != pid}

    def resolve(self, rows: NDArray[np.void], sums: NDArray[np.int64], period_ns: int) -> NDArray[np.void]:
        """Folded rows (ROW_DTYPE (n,), sums (n, 3)) as slices, SLICE_DTYPE (n,). Samples weigh `period_ns` each."""
        out = np.zeros(len(rows), SLICE_DTYPE)
        for name in ("pid", "tid", "state", "syscall", "fd_class", "fd", "port", "waker"):
            out[name] = rows[name]
        kernel_mode = (rows["flags"] & FLAG_KERNEL_MODE) != 0
        fault = (rows["flags"] & FLAG_FAULT) != 0
        out["flags"] = np.where(kernel_mode, SLICE_KERNEL_MODE, 0) | np.where(fault, SLICE_FAULT, 0)
        out["count"], out["weight_ns"], out["runnable_ns"] = sums[:, 0], sums[:, 1], sums[:, 2]
        sampled = rows["type"] == REC_SAMPLE
        out["weight_ns"][sampled] = sums[sampled, 0] * period_ns
        columns = (rows[name].tolist() for name in ("pid", "stack", "kstack", "ip"))
        out["stack"] = [self._stack_id(key) for key in zip(*columns, kernel_mode.tolist(), strict=True)]
        return out

    def close(self) -> None:
        self._native.close()

    def _stack_id(self, key: _Key) -> int:
        known = self._stacks.get(key)
        if known is not None:
            return known
        pid, stack, kstack, ip, _ = key
        python = self._chains.get(stack)
        whole = not ((stack and python is None) or (kstack and kstack not in self._chains))
        if not whole:
            self.stack_lost += 1
        native = self._native.resolve(pid, ip) if ip else None
        named = (self._interner.frame(native),) if native is not None and (native.file or native.name) else ()
        made = self._interner.stack((*self._chains.get(kstack, ()), *named, *(python or ())))
        if whole:
            self._stacks[key] = made
        return made
