"""Code addresses of the kernel, named from /proc/kallsyms, or by the kernel itself where that hides them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from excise.frames import Frame
from excise_agent.kernel_names import KernelNames

MAX_BYTES: Final = 64 << 20      # a distribution kernel with all modules has 12 MB
MAX_GAP: Final = 1 << 20         # how far the last function of a block reaches; there are no sizes
LOWEST: Final = 0xFFFF_8000_0000_0000
_UNKNOWN: Final = Frame("kernel", "", "")
_HEX: Final = np.full(256, 255, dtype=np.uint8)
_HEX[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)
_TEXT: Final = np.zeros(256, dtype=np.bool_)
_TEXT[np.frombuffer(b"tTwW", np.uint8)] = True


class KernelSymbols:
    """Reads the file when first asked. Addresses all zero (kptr_restrict, no CAP_SYSLOG): the kernel prints each that
    is asked for. Where it may not either, every name is ""."""

    def __init__(
        self, proc: Path = Path("/proc"), printer: Callable[[], KernelNames] | None = KernelNames
    ) -> None:
        """`printer` raises OSError where there is none."""
        self._path = proc / "kallsyms"
        self._make_printer = printer
        self._printer: KernelNames | None = None
        self._loaded = False
        self._addrs: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._names = b""                                         # "name\n" or "name\t[module]\n", by address
        self._starts: NDArray[np.uint32] = np.empty(0, np.uint32)

    @property
    def available(self) -> bool:
        """Whether addresses can be named on this host."""
        self.load()
        return len(self._addrs) > 0 or self._printer is not None

    def resolve(self, addr: int) -> Frame:
        """A module's function is named "function [module]"."""
        self.load()
        if not LOWEST <= addr < 1 << 64:
            return _UNKNOWN
        if self._printer is not None:
            return Frame("kernel", "", self._printer.name(addr))
        at = int(self._addrs.searchsorted(np.uint64(addr), side="right")) - 1
        if at < 0 or addr - int(self._addrs[at]) > MAX_GAP:
            return _UNKNOWN
        start = int(self._starts[at])
        raw = self._names[start : self._names.index(b"\n", start)]
        name, _, module = raw.decode("utf-8", "replace").partition("\t")
        return Frame("kernel", "", f"{name} {module}" if module else name)

    def load(self) -> None:
        """Reads the table, once. Else done when it is first asked for."""
        if self._loaded:
            return
        self._loaded = True
        try:
            with self._path.open("rb") as file:
                raw = file.read(MAX_BYTES)
        except OSError:
            raw = b""
        self._addrs, self._names, self._starts = parse_kallsyms(raw)
        if not len(self._addrs) and self._make_printer is not None:
            with contextlib.suppress(OSError):
                self._printer = self._make_printer()

    def close(self) -> None:
        """May be called twice."""
        if self._printer is not None:
            self._printer.close()
            self._printer = None


def parse_kallsyms(raw: bytes) -> tuple[NDArray[np.uint64], bytes, NDArray[np.uint32]]:
    """Sorted addresses of functions, the block of their names, and where each name starts in it.

    Of several names for an address the file's first is kept, as the kernel does. 0.05 s for 5.4 MB.
    """
    nothing = np.empty(0, np.uint64), b"", np.empty(0, np.uint32)
    data = np.frombuffer(raw, np.uint8)
    ends = np.flatnonzero(data == 10)
    if not len(ends):
        return nothing
    starts = np.concatenate((np.zeros(1, np.int64), ends[:-1] + 1))
    shaped = ends - starts >= 20   # 16 digits, blank, type, blank, a name
    starts, ends = starts[shaped], ends[shaped]
    functions = _TEXT[data[starts + 17]] & (data[starts + 16] == 32) & (data[starts + 18] == 32)
    starts, ends = starts[functions], ends[functions]
    addrs = np.zeros(len(starts), np.uint64)
    valid = np.ones(len(starts), np.bool_)
    for digit in range(16):
        value = _HEX[data[starts + digit]]
        valid &= value < 16
        addrs = addrs << np.uint64(4) | value
    valid &= addrs >= LOWEST
    starts, ends, addrs = starts[valid], ends[valid], addrs[valid]
    if not len(addrs):
        return nothing
    # Pack the names: one block, in the file's order; `at` is where each begins.
    inside = np.zeros(len(data) + 1, np.int8)
    inside[starts + 19] = 1
    inside[ends + 1] -= 1
    names = data[np.cumsum(inside[:-1], dtype=np.int8).view(np.bool_)].tobytes()
    at = np.cumsum(ends - starts - 18) - (ends - starts - 18)
    addrs, first = np.unique(addrs, return_index=True)
    return addrs, names, at[first].astype(np.uint32)
